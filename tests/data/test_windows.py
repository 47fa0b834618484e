"""Windows, statistics and examples: which interactions and users a model may read."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.recipe import TaskSettings
from palate.data.windows import draw_windows, draw_with_truth, make_examples, require_training_users
from palate.errors import DataError, LeakageError, PalateError
from palate.schema import SPLITS, Interactions
from palate.tasks import load_task
from palate.tasks.statistics import category_statistics
from small_dataset import small_dataset


def made_up(lengths, items=50, values=5, seed=0):
    """Users with these many interactions; a row's timestamp tells which row it is."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = int(offsets[-1])
    return Interactions(
        offsets,
        rng.integers(items, size=rows).astype(np.int32),
        rng.integers(values, size=rows).astype(np.uint8),
        np.arange(rows, dtype=np.int64) + 100,
    )


lengths = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any)
kinds = st.sampled_from(["recent", "random"])


@given(lengths=lengths, size=st.integers(1, 40), kind=kinds, seed=st.integers(0, 99), data=st.data())
def test_a_window_is_a_part_of_its_users_history_in_the_order_of_time(lengths, size, kind, seed, data):
    interactions = made_up(lengths)
    users = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6)))
    windows = draw_windows(interactions, users, size, kind, np.random.default_rng(seed))
    assert windows.length.tolist() == [min(size, lengths[user]) for user in users]
    assert windows.item_index.shape == (len(users), windows.length.max())
    for row, user in enumerate(users):
        seen = windows.timestamp[row, : windows.length[row]] - 100
        assert (np.diff(seen) > 0).all()  # in order, and none twice
        assert (seen >= interactions.offsets[user]).all()
        assert (seen < interactions.offsets[user + 1]).all()
        shown = slice(windows.length[row])
        assert (windows.item_index[row, shown] == interactions.item_index[seen]).all()
        assert (windows.rating_index[row, shown] == interactions.rating_index[seen]).all()
        for column in (windows.item_index, windows.rating_index, windows.timestamp):
            assert not column[row, windows.length[row] :].any()


@given(lengths=lengths, size=st.integers(1, 40))
def test_recent_windows_are_the_newest_interactions(lengths, size):
    interactions = made_up(lengths)
    users = np.arange(len(lengths))
    windows = draw_windows(interactions, users, size, "recent", np.random.default_rng(0))
    for user in users:
        newest = interactions.timestamp[interactions.offsets[user] : interactions.offsets[user + 1]][-size:]
        assert windows.timestamp[user, : windows.length[user]].tolist() == newest.tolist()


@pytest.mark.parametrize(("available", "size"), [(12, 5), (12, 11), (7, 1)])
def test_random_windows_are_uniform(available, size):
    draws = 6000
    interactions = made_up([3, available, 40])
    windows = draw_windows(interactions, np.full(draws, 1), size, "random", np.random.default_rng(0))
    position = windows.timestamp - 103
    expected = draws * size / available
    single = np.bincount(position.ravel(), minlength=available)
    spread = np.sqrt(expected * (1 - size / available))
    assert np.abs(single - expected).max() < 4.5 * spread
    if size > 1:  # pairs too: no interaction draws its neighbour
        together = np.zeros((available, available))
        for first in range(size):
            for second in range(first + 1, size):
                np.add.at(together, (position[:, first], position[:, second]), 1)
        share = size * (size - 1) / (available * (available - 1))
        pairs = together[np.triu_indices(available, 1)]
        assert np.abs(pairs - draws * share).max() < 5 * np.sqrt(draws * share * (1 - share))


def test_users_of_one_batch_draw_apart():
    windows = draw_windows(made_up([30]), np.zeros(50, dtype=int), 5, "random", np.random.default_rng(0))
    assert len({tuple(row) for row in windows.timestamp.tolist()}) > 45


def test_the_generator_decides_the_windows():
    first, again, other = (
        draw_windows(made_up([30, 30]), np.array([0, 1]), 5, "random", np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert (first.timestamp == again.timestamp).all()
    assert (first.timestamp != other.timestamp).any()


@pytest.mark.parametrize("size", [0, -3])
def test_a_window_of_nothing_is_refused(size):
    with pytest.raises(PalateError, match=f"the window size is {size}"):
        draw_windows(made_up([5]), np.array([0]), size, "recent", np.random.default_rng(0))


@given(lengths=lengths, categories=st.integers(1, 6), seed=st.integers(0, 99))
def test_category_statistics_are_counted_one_by_one(lengths, categories, seed):
    interactions = made_up(lengths, seed=seed)
    matrix = np.random.default_rng(seed).random((50, categories)) < 0.4
    values = np.arange(1, 6, dtype=np.float32) / 2
    statistics = category_statistics(interactions, matrix, values)
    count, total = np.zeros((len(lengths), categories)), np.zeros((len(lengths), categories))
    for user in range(len(lengths)):
        for row in range(interactions.offsets[user], interactions.offsets[user + 1]):
            for category in range(categories):
                if matrix[interactions.item_index[row], category]:
                    count[user, category] += 1
                    total[user, category] += values[interactions.rating_index[row]]
    assert (statistics.count == count).all()
    assert (statistics.total == total).all()  # half stars add up exactly
    assert statistics.count.dtype == np.int64


def test_an_item_that_was_rated_twice_counts_twice():
    twice = Interactions(
        np.array([0, 2]), np.array([3, 3], dtype=np.int32), np.array([0, 4], dtype=np.uint8), np.arange(2)
    )
    statistics = category_statistics(twice, np.eye(5, dtype=bool), np.arange(1, 6, dtype=np.float32))
    assert statistics.count[0].tolist() == [0, 0, 0, 2, 0]
    assert statistics.total[0].tolist() == [0, 0, 0, 6, 0]


@pytest.mark.parametrize("split", SPLITS)
def test_examples_are_of_one_split_with_the_truth_of_full_histories(tiny_data, split):
    task = load_task(TaskSettings(), tiny_data.info)
    examples = make_examples(tiny_data, task, split, 5, "recent", seed=0)
    assert examples.user_index.tolist() == tiny_data.users(split).tolist()
    assert len(examples) == tiny_data.info.split_sizes[split]
    assert (examples.windows.length == 5).all()
    full = category_statistics(tiny_data.interactions, tiny_data.category_matrix, tiny_data.rating_values)
    truth = task.labels(full[examples.user_index])
    assert (examples.truth.liked == truth.liked).all()
    assert (examples.truth.disliked == truth.disliked).all()
    shown = category_statistics(
        examples.windows.interactions(), tiny_data.category_matrix, tiny_data.rating_values
    )
    assert (shown.count <= full.count[examples.user_index]).all()
    assert (task.labels(shown).liked != truth.liked).any()  # the window alone does not tell


def test_the_seed_draws_the_examples(tiny_data):
    task = load_task(TaskSettings(), tiny_data.info)
    first, again, other = (
        make_examples(tiny_data, task, "dev", 5, "random", seed).windows.timestamp for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def counted_one_by_one(dataset, rows):
    """Counts and sums of these rows by category."""
    count, total = np.zeros(len(dataset.categories)), np.zeros(len(dataset.categories))
    for row in rows:
        for category in np.flatnonzero(dataset.category_matrix[dataset.interactions.item_index[row]]):
            count[category] += 1
            total[category] += dataset.rating_values[dataset.interactions.rating_index[row]]
    return count, total


@pytest.mark.parametrize("kind", ["recent", "random"])
@pytest.mark.parametrize("truth", ["labels", "unseen", "future"])
def test_labels_come_from_the_interactions_that_the_truth_says(truth, kind):
    data, size = small_dataset(), 12
    users = np.repeat(data.users("test"), 2)
    windows, told = draw_with_truth(data, users, size, kind, truth, np.random.default_rng(0))
    of = data.interactions
    assert (windows.length == size).all()
    for row, user in enumerate(users):
        own = np.arange(of.offsets[user], of.offsets[user + 1])  # in this data a row's time is its number
        shown = windows.timestamp[row]
        assert np.isin(shown, own).all()
        expected = {
            "labels": own,
            "unseen": own[~np.isin(own, shown)],
            "future": own[own > shown.max()],
        }[truth]
        count, total = counted_one_by_one(data, expected)
        assert (told.count[row] == count).all()
        assert (told.total[row] == total).all()
        assert told.length[row] == len(expected)
        if truth == "future":  # the older half is drawn from, so that as much again comes after
            assert shown.max() < own[0] + max((len(own) + 1) // 2, size)
            assert kind == "random" or len(expected) == min(len(own) // 2, len(own) - size)


def test_interactions_of_the_windows_newest_time_are_not_its_future():
    data = small_dataset()
    same = replace(data.interactions, timestamp=np.zeros_like(data.interactions.timestamp))
    _, told = draw_with_truth(
        replace(data, interactions=same), data.users("test"), 5, "recent", "future", np.random.default_rng(0)
    )
    assert not told.length.any()


@pytest.mark.parametrize("truth", ["labels", "unseen"])
def test_only_users_with_more_than_the_window_are_asked_and_the_others_are_counted(truth):
    data = small_dataset()
    task, lengths = load_task(TaskSettings(), data.info), data.interactions.lengths
    everybody = data.users("test")
    size = int(np.median(lengths[everybody]))
    partly = make_examples(data, task, "test", size, "random", 0, "partly", truth)
    longer = everybody[lengths[everybody] > size]
    told = longer if truth == "labels" else everybody[lengths[everybody] >= size + 3]
    assert partly.user_index.tolist() == told.tolist()
    assert partly.left_out.seen_whole == len(everybody) - len(longer)
    assert partly.left_out.too_few_outside == len(longer) - len(told)
    every = make_examples(data, task, "test", size, "random", 0, "all", truth)
    place = np.isin(every.user_index, partly.user_index)
    assert (every.windows.item_index[place] == partly.windows.item_index).all()  # whoever else is asked
    assert (every.truth.liked[place] == partly.truth.liked).all()


def test_a_window_that_leaves_nobody_is_refused_with_the_longest_history():
    data = small_dataset()
    task, longest = load_task(TaskSettings(), data.info), data.interactions.lengths[data.users("test")].max()
    message = rf"the longest history of the test users of small has {longest} interactions, none more than the window"
    with pytest.raises(DataError, match=rf"{message} of 59; take a smaller window, or all users"):
        make_examples(data, task, "test", 59, "random", 0, "partly")
    with pytest.raises(
        DataError, match=r"none has the 3 that a label takes outside a window of 59; take a smaller"
    ):
        make_examples(data, task, "test", 59, "random", 0, "all", "unseen")


def test_data_without_times_has_no_future():
    data = small_dataset()
    data = replace(data, info=data.info.model_copy(update={"has_times": False}))
    task = load_task(TaskSettings(), data.info)
    with pytest.raises(
        DataError, match=r"small has no times, .*; take the truth 'unseen', or prepare the data with"
    ):
        make_examples(data, task, "test", 5, "random", 0, "partly", "future")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_users_that_are_held_out_may_not_train(tiny_data, split):
    held_out = tiny_data.users(split)[:1]
    users = np.concatenate([tiny_data.users("train"), held_out])
    with pytest.raises(LeakageError) as caught:
        require_training_users(tiny_data, users, "the simulation")
    message = str(caught.value)
    assert message.startswith(
        f"the simulation may only use training users, but 1 of {len(users)} are dev or test"
    )
    assert repr(tiny_data.user_ids[held_out[0]]) in message
    require_training_users(tiny_data, tiny_data.users("train"), "the simulation")
