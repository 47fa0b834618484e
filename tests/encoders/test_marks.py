"""Marks of the labels that the label rule gives for a window alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.data.population import summarise
from palate.data.windows import draw_windows
from palate.encoders.calibration import counts_of
from palate.encoders.counts import CategoryCounts
from palate.encoders.estimates import PopulationInputs, Seen
from palate.encoders.marks import FARTHEST, window_marks
from palate.items.categories import MEMBER
from palate.tasks.decisions import MARKS
from palate.tasks.rules import score_statistics
from palate.tasks.statistics import category_statistics
from small_dataset import small_dataset, small_task


@pytest.fixture(scope="module")
def dataset():
    made = small_dataset()
    ratings = made.rating_values.astype(float)[made.interactions.rating_index]
    known = score_statistics(made.statistics, ratings)
    return replace(made, info=made.info.model_copy(update={"score_statistics": known}))


@pytest.mark.parametrize("rule", ["thresholds", "own-mean", "quantiles"])
def test_the_marked_categories_are_those_of_the_label_rule(dataset, rule):
    task, users = small_task(dataset, rule=rule), np.arange(len(dataset.user_ids))
    inputs = PopulationInputs.of([summarise(dataset, task)])
    windows = draw_windows(dataset.interactions, users, 30, "random", np.random.default_rng(0))
    histories = windows.interactions()
    counts = counts_of(histories, dataset.category_matrix, dataset.info.rating_values)
    seen = category_statistics(histories, dataset.category_matrix, dataset.rating_values)
    named = task.labels(seen).membership(8)
    marks = window_marks(Seen.of(counts, inputs), inputs)
    assert marks.shape == (*named.shape, MARKS)
    same = ((marks[..., 0] > 0) == named).all(axis=(1, 2))
    assert same.mean() > 0.95  # but for ties in mean and count, which the rule breaks by name
    assert named[same].any()
    assert (marks[..., 1:3][marks[..., 0] == 0] == 0).all()
    np.testing.assert_array_equal(marks[..., 3] > 0, (seen.count < 3)[..., None].repeat(2, axis=2))


def test_the_distance_from_the_threshold_is_in_units_of_the_spread(dataset):
    summary = summarise(dataset, small_task(dataset))
    count = torch.zeros(1, 8, dtype=torch.int64)
    count[0, 2] = 3
    steps = round((summary.like_above + 0.4 * summary.spread) / summary.step)
    length, squares = count.sum(dim=1), count * steps**2
    made = CategoryCounts(count * MEMBER, count * steps * MEMBER, squares * MEMBER, length, length * steps)
    inputs = PopulationInputs.of([summary])
    marks = window_marks(Seen.of(made, inputs), inputs)[0]
    expected = (steps * summary.step - summary.like_above) / summary.spread
    np.testing.assert_allclose(marks[2, 0], [1, min(expected, FARTHEST), np.log(4) / 3, 0], atol=1e-5)
    assert not marks[2, 1].any()
    assert (np.delete(marks, 2, axis=0) == [0, 0, 0, 1]).all()


def test_nothing_is_named_of_a_user_of_whom_nothing_was_seen(dataset):
    inputs = PopulationInputs.of([summarise(dataset, small_task(dataset))])
    assert (window_marks(Seen.of(CategoryCounts.empty(2, 8), inputs), inputs) == [0, 0, 0, 1]).all()
