"""Metrics against scikit-learn's, and properties of their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import f1_score, precision_recall_fscore_support

from palate.evaluation.metrics import (
    label_f1,
    mean_difference,
    outcomes_of,
    paired_difference,
    score_preferences,
    weighted_f1,
)
from palate.schema import Preferences, membership

SHAPES = st.tuples(st.just(2), st.integers(1, 12), st.integers(2, 6))


@given(arrays.arrays(bool, SHAPES))
def test_f1_is_that_of_scikit_learn(both):
    truth, predicted = both
    expected = f1_score(truth, predicted, average="weighted", zero_division=0)
    assert weighted_f1(truth, predicted) == pytest.approx(expected)
    by_label = f1_score(truth, predicted, average=None, zero_division=0)
    np.testing.assert_allclose(label_f1(truth, predicted), by_label)


def preferences(users, labels=6, seed=0, most=3):
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((users, labels)), axis=1)
    gaps = rng.random((users, 2 * most)) < 0.3
    ranked = np.where(gaps, -1, order[:, : 2 * most])
    return Preferences(ranked[:, :most], ranked[:, most:])


def test_membership_forgets_order_and_empty_ranks():
    np.testing.assert_array_equal(
        membership(np.array([[2, 0, -1], [-1, -1, -1]]), 3), [[True, False, True], [False, False, False]]
    )


def test_the_three_sets_are_scored_apart_and_together():
    truth, predicted = preferences(50), preferences(50, seed=1)
    scores = score_preferences(truth, predicted, 6)
    sets = [
        [membership(half, 6) for half in (one.liked, one.disliked)] for one in (truth, predicted)
    ]  # truth and predicted, each liked and disliked
    expected = {
        "liked": (sets[0][0], sets[1][0]),
        "disliked": (sets[0][1], sets[1][1]),
        "joint": (np.concatenate(sets[0], axis=1), np.concatenate(sets[1], axis=1)),
    }
    for name, pair in expected.items():
        found = getattr(scores, name)
        expected_values = precision_recall_fscore_support(*pair, average="weighted", zero_division=0)
        for score, value in zip((found.precision, found.recall, found.f1), expected_values, strict=False):
            assert score.value == pytest.approx(value)
            assert score.low < score.value < score.high


def test_the_interval_is_that_of_a_plain_bootstrap():
    truth, predicted = preferences(60), preferences(60, seed=1)
    score = score_preferences(truth, predicted, 6).liked.f1
    rng = np.random.default_rng(99)
    t, p = membership(truth.liked, 6), membership(predicted.liked, 6)
    rows = rng.integers(60, size=(1000, 60))
    low, high = np.quantile([weighted_f1(t[row], p[row]) for row in rows], [0.025, 0.975])
    assert (score.low, score.high) == pytest.approx((low, high), abs=0.02)


def test_more_users_make_the_interval_narrower():
    def width(users):
        score = score_preferences(preferences(users), preferences(users, seed=1), 6).liked.f1
        return score.high - score.low

    assert width(1600) < width(100) / 2


def test_the_seed_decides_the_interval_and_nothing_else():
    truth, predicted = preferences(40), preferences(40, seed=1)
    first, again, other = (score_preferences(truth, predicted, 6, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.liked.f1.value == other.liked.f1.value
    assert first != other


def test_perfect_answers_score_one_and_empty_ones_zero():
    truth = preferences(30)
    nothing = Preferences(np.full((30, 3), -1), np.full((30, 3), -1))
    for predicted, expected in ((truth, 1.0), (nothing, 0.0)):
        score = score_preferences(truth, predicted, 6).joint.f1
        assert (score.value, score.low, score.high) == (expected, expected, expected)
    assert score_preferences(nothing, truth, 6).liked.f1.value == 0


def test_a_mean_difference_over_windows_leaves_out_absent_users_and_draws_users_with_all_their_windows():
    rng = np.random.default_rng(0)
    truth, first, second = rng.random((3, 80, 5)) < 0.4
    present = np.stack([np.ones(80, bool), np.arange(80) < 30])
    one, other = (
        np.stack([outcomes_of(truth, said) * rows[:, None, None] for rows in present])
        for said in (first, second)
    )
    found = mean_difference(one, other)
    parts = [
        weighted_f1(truth[rows], first[rows]) - weighted_f1(truth[rows], second[rows]) for rows in present
    ]
    assert found.value == pytest.approx(np.mean(parts))
    assert found.low < found.value < found.high
    twice = mean_difference(one[:1].repeat(2, axis=0), other[:1].repeat(2, axis=0))
    assert twice == paired_difference(
        truth, first, second
    )  # a second window of the same outcomes tells nothing more
