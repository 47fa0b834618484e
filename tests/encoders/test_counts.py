"""Category counts: exact addition, removal and merging."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from palate.data.population import rating_steps
from palate.data.windows import draw_windows
from palate.encoders.counts import MEMBER, CategoryCounts
from palate.errors import MismatchError
from palate.tasks.statistics import category_statistics
from small_dataset import small_dataset


def assert_equal(first, second):
    for column in fields(first):
        torch.testing.assert_close(getattr(first, column.name), getattr(second, column.name), rtol=0, atol=0)


@pytest.fixture
def events():
    rng = np.random.default_rng(0)
    membership = torch.from_numpy(rng.integers(0, MEMBER + 1, (30, 7)))
    item, steps = (
        torch.from_numpy(rng.integers(0, 30, (4, 12))),
        torch.from_numpy(rng.integers(-3, 10, (4, 12))),
    )
    return membership, item, steps, torch.from_numpy(rng.random((4, 12)) < 0.8)


def test_counts_are_those_of_a_loop(events):
    membership, item, steps, mask = events
    counts = CategoryCounts.of_events(*events)
    count, total, squares = (torch.zeros(4, 7, dtype=torch.int64) for _ in range(3))
    for user in range(4):
        for place in range(12):
            if mask[user, place]:
                has, rating = membership[item[user, place]], steps[user, place]
                count[user] += has
                total[user] += has * rating
                squares[user] += has * rating * rating
    assert_equal(counts, CategoryCounts(count, total, squares, mask.sum(1), (steps * mask).sum(1)))


def test_parts_of_a_history_merge_to_the_whole_and_can_be_removed_again(events):
    membership, item, steps, mask = events
    halves = (slice(5), slice(5, 12))
    parts = [CategoryCounts.of_events(membership, item[:, at], steps[:, at], mask[:, at]) for at in halves]
    whole = CategoryCounts.of_events(*events)
    assert_equal(parts[1].merge(parts[0]), whole)
    assert_equal(whole.remove(parts[0]), parts[1])
    assert_equal(whole.remove(whole), CategoryCounts.empty(4, 7))


def test_events_that_were_never_added_cannot_be_removed(events):
    with pytest.raises(MismatchError, match="rebuild them from the stored events"):
        CategoryCounts.empty(4, 7).remove(CategoryCounts.of_events(*events))


def test_new_categories_append(events):
    more = CategoryCounts.of_events(*events).extended(9)
    assert more.count.shape == (4, 9)
    assert not more.count[:, 7:].any()


def test_statistics_of_a_catalogue_give_the_same_counts():
    dataset = small_dataset()  # half stars
    windows = draw_windows(dataset.interactions, np.arange(50), 15, "random", np.random.default_rng(0))
    steps = rating_steps(dataset.info.rating_values)
    statistics, squares = (
        category_statistics(windows.interactions(), dataset.category_matrix, values)
        for values in (dataset.rating_values, steps.astype(np.float32) ** 2)
    )
    made = CategoryCounts.of_statistics(statistics, squares.total.astype(np.int64), 0.5)
    membership = torch.from_numpy(dataset.category_matrix.astype(np.int64) * MEMBER)
    item, mask = torch.from_numpy(windows.item_index.astype(np.int64)), torch.from_numpy(windows.mask)
    assert_equal(
        made, CategoryCounts.of_events(membership, item, torch.from_numpy(steps[windows.rating_index]), mask)
    )
