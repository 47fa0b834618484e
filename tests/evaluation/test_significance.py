"""Means over trainings and users, and paired tests, against other libraries and manual calculations."""

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import precision_recall_fscore_support

from palate.evaluation import significance
from palate.evaluation.metrics import score_preferences, weighted_f1
from palate.evaluation.significance import holm, mean_scores, randomisation_p_value
from palate.schema import Preferences


def answers(users=40, labels=6, seeds=3, seed=0, right=0.8):
    """True labels, and those that several trainings name: each right with this probability."""
    rng = np.random.default_rng(seed)
    truth = rng.random((users, labels)) < np.linspace(0.1, 0.6, labels)
    named = np.where(
        rng.random((seeds, users, labels)) < right, truth, rng.random((seeds, users, labels)) < 0.3
    )
    return truth, named


def test_means_are_those_of_another_library():
    truth, named = answers()
    found = mean_scores(truth, named)
    each = [
        precision_recall_fscore_support(truth, one, average="weighted", zero_division=0)[:3] for one in named
    ]
    for score, expected in zip((found.precision, found.recall, found.f1), np.mean(each, axis=0), strict=True):
        assert score.value == pytest.approx(expected)
        assert score.low < score.value < score.high


def test_with_one_training_the_interval_is_that_of_users_alone():
    truth, named = answers(seeds=1)
    order = np.argsort(~truth, axis=1, kind="stable")  # ranked, so that the older function takes them
    of = lambda sets: np.where(np.take_along_axis(sets, order, axis=1), order, -1)  # noqa: E731
    nothing = np.full_like(order, -1)
    older = score_preferences(Preferences(of(truth), nothing), Preferences(of(named[0]), nothing), 6).liked
    assert mean_scores(truth, named).f1 == older.f1


def test_the_interval_of_a_mean_holds_the_mean_and_grows_with_the_spread_of_trainings():
    """A mean of .109 beside an interval of one seed, .12 to .16, cannot be."""
    truth, alike = answers(users=200, seeds=1)
    good, bad = (answers(users=200, seeds=1, seed=0, right=share)[1][0] for share in (0.95, 0.3))
    spread = mean_scores(truth, np.stack([good, bad])).f1
    steady = mean_scores(truth, np.concatenate([alike, alike])).f1
    assert spread.low < spread.value < spread.high
    assert spread.high - spread.low > 3 * (steady.high - steady.low)
    assert spread.low == pytest.approx(
        weighted_f1(truth, bad), abs=0.05
    )  # a resample may draw the bad one twice


def test_the_p_value_is_scipys(monkeypatch):
    monkeypatch.setattr(significance, "SWAPS", 39_999)
    truth, (first, second) = answers(users=9, seeds=2, seed=3)
    truth, named = truth, np.stack([first, second])

    def difference(one, other):
        return weighted_f1(truth, named.reshape(-1, 6)[one]) - weighted_f1(truth, named.reshape(-1, 6)[other])

    exact = permutation_test(
        (np.arange(9), np.arange(9, 18)),
        difference,
        permutation_type="samples",
        vectorized=False,
        n_resamples=512,
    )
    found = randomisation_p_value(truth, first[None], second[None])
    assert found == pytest.approx(exact.pvalue, abs=0.012)


def test_the_same_answers_do_not_differ_and_right_ones_differ_from_wrong_ones():
    truth, named = answers(users=60)
    assert randomisation_p_value(truth, named, named) == 1.0
    assert randomisation_p_value(truth, truth[None], np.roll(truth, 7, axis=0)[None]) < 0.001
    assert randomisation_p_value(truth, named, named[:1]) == 1.0  # as many trainings of each


def test_p_values_of_predictors_that_are_alike_are_spread_evenly():
    found = []
    for seed in range(60):
        truth, (first, second) = answers(users=50, seeds=2, seed=seed)
        found.append(randomisation_p_value(truth, first[None], second[None], seed))
    assert 0.0 < np.mean(np.array(found) < 0.2) < 0.4
    assert 0.35 < np.mean(found) < 0.65


def test_holms_correction_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
