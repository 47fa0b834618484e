"""Questions of every kind: truth from full histories, and no leakage of the answer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.recipe import TaskSettings
from palate.data.windows import draw_windows
from palate.errors import RecipeError
from palate.schema import Windows
from palate.tasks import load_task
from palate.tasks.questions import Questioner, check_kinds, without
from palate.tasks.statistics import category_statistics
from palate.tasks.wordings import ABOUT_ITEMS, KINDS, NAMING, WORDINGS, wordings_of


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

    def ask(kind, wordings=None, size=8, seed=0, decided=False, rates=None):
        rng, questioner.rates = np.random.default_rng(seed), rates
        windows = draw_windows(tiny_data.interactions, users, size, "random", rng)
        return (
            users,
            windows,
            questioner.draw(
                kind, wordings or wordings_of(kind).trained, users, windows, preferences[users], rng, decided
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


@pytest.mark.parametrize("kind", KINDS)
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
    for row, (user, (item, _), truth) in enumerate(zip(users, asked.items, asked.truth, strict=True)):
        items, ratings = ratings_of(tiny_data, user)
        assert truth == ratings[items == item]
        length = asked.windows.length[row]
        seen = asked.windows.item_index[row, :length]
        assert item not in seen
        # a history that is longer than the window loses nothing of it
        assert length == before.length[row] - (len(items) == before.length[row])
        assert tiny_data.items["title"][int(item)] in asked.instructions[row]


def test_yes_about_an_item_means_that_its_rating_is_above_the_threshold(asking, tiny_data):
    users, _, asked = asking("item-yes-no", size=40)
    for row, (user, (item, _), target) in enumerate(zip(users, asked.items, asked.targets, strict=True)):
        items, ratings = ratings_of(tiny_data, user)
        assert (target == "yes") == (ratings[items == item] > 3.5)
        assert item not in asked.windows.item_index[row, : asked.windows.length[row]]
    assert set(asked.targets) == {"yes", "no"}


def test_of_two_items_the_one_with_the_higher_rating_is_preferred(asking, tiny_data):
    users, _, asked = asking("item-pair", size=40)
    titles = tiny_data.items["title"].to_list()
    for row, (user, pair, target) in enumerate(zip(users, asked.items, asked.targets, strict=True)):
        items, ratings = ratings_of(tiny_data, user)
        known = {titles[item]: float(ratings[items == item][0]) for item in pair}
        assert known[target] == max(known.values())
        assert len(set(known.values())) == 2 or len(set(ratings)) == 1
        assert not {*pair} & {*asked.windows.item_index[row, : asked.windows.length[row]]}
        assert all(title in asked.instructions[row] for title in known)


@pytest.mark.parametrize("kind", ["rating", *ABOUT_ITEMS])
def test_items_come_with_the_ratings_that_are_expected(asking, kind):
    def rates(windows, items):
        return 1.0 + 4.0 * (items % 7) / 7

    for wording in wordings_of(kind).trained:
        _, _, asked = asking(kind, [wording], rates=rates)
        for question, items, expected in zip(asked.asked, asked.items, asked.expected, strict=True):
            named = [item for item in items if item >= 0]
            assert [one.expected for one in question.entities] == pytest.approx([i % 7 / 7 for i in named])
            assert expected[: len(named)] == pytest.approx([1 + 4 * (i % 7) / 7 for i in named])
            assert {one.category for one in question.entities} == {-1}


@pytest.mark.parametrize("kind", ["rating", *ABOUT_ITEMS])
def test_answers_about_items_may_follow_random_expected_ratings(asking, kind):
    answers = []
    for seed in range(8):
        _, _, asked = asking(kind, seed=seed, decided=True)
        answers += zip(asked.expected.tolist(), asked.truth, strict=True)
    for (first, second), truth in answers:
        if kind == "rating":
            assert abs(truth - first) < 1
        elif kind == "item-pair":
            assert truth == (second > first)
    if kind == "item-yes-no":  # drawn, so that they are uncertain near 3.5
        sure = [truth == (first > 3.5) for (first, _), truth in answers if abs(first - 3.5) > 1]
        unsure = [truth == (first > 3.5) for (first, _), truth in answers if abs(first - 3.5) < 0.3]
        assert np.mean(unsure) < 0.85 < 0.9 < np.mean(sure)
    expected = [first for (first, _), _ in answers]
    assert np.mean(expected) == pytest.approx(3, abs=0.25)
    if kind == "rating":  # the answers' mean is the expected ratings'
        assert np.mean([truth for _, truth in answers]) == pytest.approx(np.mean(expected), abs=0.15)


@pytest.mark.parametrize("kind", ["yes-no", "pair", "rating", *ABOUT_ITEMS])
@pytest.mark.parametrize("decided", [False, True])
def test_the_choices_of_an_answer_have_probabilities(asking, kind, decided):
    users, _, asked = asking(kind, seed=2, decided=decided)
    assert asked.chances.shape == (len(users), len(asked.choices[0]))
    assert asked.chances.sum(axis=1) == pytest.approx(1.0)
    said = [names.index(target) for names, target in zip(asked.choices, asked.targets, strict=True)]
    expected = asked.expected[:, 0]
    if decided and kind == "item-yes-no":  # the scale is four stars wide
        assert asked.chances[:, 0] == pytest.approx(1 / (1 + np.exp(-(expected - 3.5) / 0.4)))
    elif decided and kind == "rating":
        assert asked.chances @ asked.values == pytest.approx(expected)
        assert ((asked.chances > 0).sum(axis=1) <= 2).all()
    else:
        assert (asked.chances.argmax(axis=1) == said).all()
        assert set(asked.chances.ravel()) == {0.0, 1.0}
    assert (asked.chances[np.arange(len(users)), said] > 0).all()


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


def test_kinds_that_the_data_cannot_answer_are_named_together(tiny_data):
    views = replace(tiny_data, info=tiny_data.info.model_copy(update={"feedback": "implicit"}))
    check_kinds(["preference", "yes-no", "pair"], views)
    with pytest.raises(RecipeError, match=r"kinds rating, item-pair need .*train\.questions\.rating=null"):
        check_kinds(["preference", "rating", "pair", "item-pair"], views)
