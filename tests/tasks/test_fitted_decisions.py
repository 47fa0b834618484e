"""Calibration of log-odds and cutoffs on users with known labels."""

import numpy as np
import pytest

from palate.tasks.calibration import Sample, fit_decisions, fit_kept
from palate.tasks.decisions import MARKS, decide
from palate.tasks.targets import answer_f1, expected_f1


def drawn(users=4_000, slope=1.0, shift=(0.0, 0.0, 0.0, 0.0), seed=0):
    """Log-odds, and labels whose true log-odds are slope · log-odds + shift."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.5, 1.2, (users, 4, 2))
    true = slope * logits + np.array(shift)[:, None]
    return Sample(logits, unmarked(logits), rng.random(true.shape) < 1 / (1 + np.exp(-true)))


def unmarked(logits):
    """Marks of windows in which the rule names nothing."""
    return np.zeros((*logits.shape, MARKS))


def test_slope_and_shifts_are_found_again():
    found = fit_decisions({10: drawn(slope=0.6, shift=(0.5, 0.5, -0.5, 0.0))}, 3)
    np.testing.assert_allclose(found.slope, 0.6, atol=0.05)
    np.testing.assert_allclose(found.shift[0, :, 0], [0.5, 0.5, -0.5, 0.0], atol=0.15)


def test_that_the_rule_is_right_more_often_than_the_log_odds_say_is_learned():
    rng, logits = np.random.default_rng(3), np.full((3_000, 4, 2), -1.0)
    marks = unmarked(logits)
    marks[..., 0] = rng.random(logits.shape) < 0.3
    true = rng.random(logits.shape) < np.where(marks[..., 0] > 0, 0.6, 0.2)
    found = fit_decisions({10: Sample(logits, marks, true)}, 3)
    chances = found.probabilities(logits, marks, np.full(3_000, 10))
    assert chances[marks[..., 0] > 0].mean() == pytest.approx(0.6, abs=0.02)
    assert chances[marks[..., 0] == 0].mean() == pytest.approx(0.2, abs=0.02)


def test_a_few_users_leave_log_odds_nearly_as_they_are():
    found = fit_decisions({10: drawn(users=5, slope=0.2, shift=(2, 2, 2, 2))}, 3)
    assert np.abs(found.slope - 1).max() < 0.5


def test_windows_of_the_same_users_do_not_count_as_more_users():
    once = drawn(users=200, slope=0.6, shift=(1, 0, 0, -1))
    logits = np.tile(once.logits, (5, 1, 1))
    many = Sample(logits, unmarked(logits), np.tile(once.truth, (5, 1, 1)), repeats=5)
    first, second = (fit_decisions({10: one}, 3) for one in (once, many))
    np.testing.assert_allclose(first.shift, second.shift, atol=1e-6)
    np.testing.assert_allclose(first.cutoff, second.cutoff, atol=1e-6)


def test_the_cutoff_is_half_the_f1_that_it_reaches():
    sample = drawn()
    found = fit_decisions({10: sample}, 4)
    answer, _ = decide(sample.logits, sample.marks, np.full(4_000, 10), found, 4)
    named = (answer.liked[:, :, None] == np.arange(4)).any(1)
    true = sample.truth[..., 0]
    f1 = 2 * (named & true).sum(0) / (named.sum(0) + true.sum(0))
    np.testing.assert_allclose(found.cutoff[0, :, 0], f1 / 2, atol=0.03)


def test_what_answers_reach_is_regressed_on_what_is_expected_of_them():
    rng = np.random.default_rng(0)
    expected = rng.uniform(0.2, 0.8, 5_000)
    reached = 0.1 + 0.6 * expected + rng.normal(0, 0.3, 5_000)
    np.testing.assert_allclose(fit_kept(expected, reached, 1.0), [0.1, 0.6], atol=0.04)
    few = fit_kept(expected[:5], reached[:5], 1.0)
    np.testing.assert_allclose(few[0] + few[1] * expected, expected, atol=0.2)


def test_a_promise_holds_where_labels_are_not_independent():
    rng, logits = np.random.default_rng(1), np.full((4_000, 4, 2), -0.5)
    chances = np.broadcast_to(1 / (1 + np.exp(0.5)), (4_000, 4))
    together = np.stack([rng.random((4_000, 1)) < chances] * 2, axis=-1)  # all labels of a user, or none
    found = fit_decisions({10: Sample(logits, unmarked(logits), together)}, 4)
    answer, calibrated = decide(logits, unmarked(logits), np.full(4_000, 10), found, 4)
    named = (answer.liked[:, :, None] == np.arange(4)).any(1)
    expected = expected_f1(calibrated[..., 0], named, 4)
    constant, factor = found.kept_at(np.full(4_000, 10)).T
    reached = answer_f1(together[..., 0], named).mean()
    assert (constant + factor * expected).mean() == pytest.approx(reached, abs=0.01)
    assert abs(expected.mean() - reached) > 0.05


def test_lengths_are_in_order_and_decisions_between_them_are_finite():
    found = fit_decisions({50: drawn(seed=1), 5: drawn()}, 3)
    assert found.lengths.tolist() == [5, 50]
    logits = drawn().logits[:6]
    answer, chances = decide(logits, unmarked(logits), np.array([1, 5, 9, 20, 50, 900]), found, 3)
    assert np.isfinite(chances).all()
    assert len(answer) == 6


@pytest.mark.parametrize("value", [True, False])
def test_a_label_that_everyone_has_or_no_one_leaves_finite_numbers(value):
    logits = np.zeros((30, 4, 2))
    sample = Sample(logits, unmarked(logits), np.full((30, 4, 2), value))
    found = fit_decisions({10: sample}, 3)
    for part in (found.slope, found.weight, found.shift, found.cutoff, found.worth, found.kept):
        assert np.isfinite(part).all()
