"""Questions of every kind: truth from full histories, and no leakage of the answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.recipe import TaskSettings
from palate.data.windows import draw_windows
from palate.schema import Windows
from palate.tasks import load_task
from palate.tasks.questions import Questioner, without
from palate.tasks.statistics import category_statistics
from palate.tasks.wordings import NAMING, WORDINGS


@pytest.fixture
def asking(tiny_data):
    """Asks training users one kind of question; returns the users, the windows before, and what was asked."""
    task = load_task(TaskSettings(), tiny_data.info)
    statistics = category_statistics(
        tiny_data.interactions, tiny_data.category_matrix, tiny_data.rating_values
    )
    questioner, preferences = (
        Questioner(task, tiny_data, tiny_data.interactions, statistics),
        task.labels(statistics),
    )
    users = tiny_data.users("train")

    def ask(kind, wordings=None, size=8, seed=0):
        rng = np.random.default_rng(seed)
        windows = draw_windows(tiny_data.interactions, users, size, "random", rng)
        return (
            users,
            windows,
            questioner.draw(
                kind, wordings or WORDINGS[kind].trained, users, windows, preferences[users], rng
            ),
        )

    return ask


def ratings_of(data, user):
    rows = slice(data.interactions.offsets[user], data.interactions.offsets[user + 1])
    return data.interactions.item_index[rows], data.rating_values[data.interactions.rating_index[rows]]


def mean_of(data, user, category):
    items, ratings = ratings_of(data, user)
    return ratings[data.category_matrix[items, category]].mean()


@pytest.mark.parametrize("kind", WORDINGS)
def test_every_kind_has_wordings_for_training_and_others_that_are_new(kind):
    assert len(set(WORDINGS[kind].all)) == len(WORDINGS[kind].trained) + len(WORDINGS[kind].held_out)
    assert len(WORDINGS[kind].trained) >= 2
    assert WORDINGS[kind].held_out


@pytest.mark.parametrize("kind", WORDINGS)
def test_a_question_is_filled_in_and_its_target_is_among_the_choices(asking, kind):
    _, _, asked = asking(kind)
    assert not any("{" in text or "}" in text for text in asked.instructions)
    assert (not asked.choices[0]) == (kind in NAMING)
    if asked.choices[0]:
        for target, choices, truth in zip(asked.targets, asked.choices, asked.truth, strict=True):
            assert asked.values[choices.index(target)] == truth


def test_yes_means_that_the_mean_of_the_whole_history_is_above_the_threshold(asking, tiny_data):
    users, _, asked = asking("yes-no")
    for user, (category, _), target in zip(users, asked.categories, asked.targets, strict=True):
        assert (target == "yes") == (mean_of(tiny_data, user, category) > 3.5)
    assert set(asked.targets) == {"yes", "no"}


def test_of_a_pair_the_one_with_the_higher_mean_is_preferred(asking, tiny_data):
    users, _, asked = asking("pair")
    for user, pair, target in zip(users, asked.categories, asked.targets, strict=True):
        assert pair[0] != pair[1]
        means = {tiny_data.categories[index]: mean_of(tiny_data, user, index) for index in pair}
        assert means[target] == max(means.values())


@pytest.mark.parametrize("size", [8, 40])
def test_the_item_whose_rating_is_asked_for_is_not_in_the_window(asking, tiny_data, size):
    users, before, asked = asking("rating", size=size)
    for row, (user, item, truth) in enumerate(zip(users, asked.items, asked.truth, strict=True)):
        items, ratings = ratings_of(tiny_data, user)
        assert truth == ratings[items == item]
        length = asked.windows.length[row]
        seen = asked.windows.item_index[row, :length]
        assert item not in seen
        # a history that is longer than the window loses nothing of it
        assert length == before.length[row] - (len(items) == before.length[row])
        assert tiny_data.items["title"][int(item)] in asked.instructions[row]


def test_halves_are_answered_by_halves_that_can_be_read_back(asking, tiny_data):
    task = load_task(TaskSettings(), tiny_data.info)
    both = task.parse(asking("preference")[2].targets)
    liked, disliked = (task.parse(asking(kind)[2].targets) for kind in ("liked", "disliked"))
    np.testing.assert_array_equal(liked.liked, both.liked)
    np.testing.assert_array_equal(disliked.disliked, both.disliked)
    assert (liked.disliked == -1).all()
    assert (disliked.liked == -1).all()


@given(
    rows=st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=4),
    asked=st.lists(st.integers(0, 3), min_size=4, max_size=4),
)
def test_leaving_out_an_item_keeps_the_others_in_their_order(rows, asked):
    width = max(map(len, rows)) or 1
    items = np.array([[*row, *[0] * (width - len(row))] for row in rows], dtype=np.int32)
    place = np.broadcast_to(np.arange(width), items.shape)
    windows = Windows(
        items, place.astype(np.uint8), place.astype(np.int64), np.array([len(row) for row in rows])
    )
    left = without(windows, np.array(asked[: len(rows)]))
    for row, (item, had) in enumerate(zip(asked, rows, strict=False)):
        kept = [(at, one) for at, one in enumerate(had) if one != item]
        length = left.length[row]
        assert left.item_index[row, :length].tolist() == [one for _, one in kept]
        assert left.rating_index[row, :length].tolist() == [at for at, _ in kept]
        assert left.timestamp[row, :length].tolist() == [at for at, _ in kept]
