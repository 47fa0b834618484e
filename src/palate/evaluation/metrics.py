"""Metrics of label sets: weighted precision, recall and F1, with bootstrap intervals over users."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, ttest_1samp

from palate.schema import Bools, Doubles, Floats, Preferences, membership
from palate.system.records import Frozen

RESAMPLES = 1_000
COVERAGE = 0.95
_DRAWS_AT_ONCE = 500_000  # bounds the memory of a chunk of resamples

_Sums: TypeAlias = npt.NDArray[Any]


class Score(Frozen):
    """A score and its 95% bootstrap interval over users."""

    value: float
    low: float
    high: float


class SetScores(Frozen):
    """Weighted precision, recall and F1 of one set of labels."""

    precision: Score
    recall: Score
    f1: Score


class PreferenceScores(Frozen):
    """Scores of the liked labels (the primary metric), the disliked labels, and both as 2L classes."""

    liked: SetScores
    disliked: SetScores
    joint: SetScores


def label_frequencies(preferences: Preferences, labels: int) -> Doubles:
    """Compute the shares of users with each liked and disliked label, [L, 2]."""
    return np.asarray(preferences.membership(labels).mean(axis=0))


def weighted_f1(truth: Bools, predicted: Bools) -> float:
    """Compute the F1 of L classes over B users, weighted by each class's number of true users.

    Both arguments are [B, L]. Equals scikit-learn's ``f1_score(average="weighted", zero_division=0)``.
    """
    return float(weighted_f1_of(outcomes_of(truth, predicted).sum(axis=0, dtype=np.float64)))


def label_f1(truth: Bools, predicted: Bools) -> Doubles:
    """Compute the F1 of each of L labels over B users, [L]; 0 for a label that is neither true nor predicted."""
    hit, named, true = outcomes_of(truth, predicted).sum(axis=0, dtype=np.float64)
    return _ratio(2 * hit, named + true)


def area_under_curve(truth: Bools, score: Doubles) -> float:
    """Compute the ROC AUC over B examples, ties counting half; NaN with only one class."""
    true, false = int(truth.sum()), int((~truth).sum())
    if not true or not false:
        return float("nan")
    return float((rankdata(score)[truth].sum() - true * (true + 1) / 2) / (true * false))


def score_preferences(
    truth: Preferences, predicted: Preferences, labels: int, seed: int = 0
) -> PreferenceScores:
    """Score the predicted labels of B users, with percentile bootstrap intervals over users."""
    liked = outcomes_of(membership(truth.liked, labels), membership(predicted.liked, labels))
    disliked = outcomes_of(membership(truth.disliked, labels), membership(predicted.disliked, labels))
    outcomes = np.concatenate([liked, disliked], axis=2)  # [B, 3, 2L]
    total = outcomes.sum(axis=0, dtype=np.float64)
    resampled = resampled_sums(outcomes, np.random.default_rng(seed))  # [RESAMPLES, 3, 2L]

    def scores(classes: slice) -> SetScores:
        values = weighted_scores(total[:, classes])
        low, high = np.quantile(
            weighted_scores(resampled[:, :, classes]), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=-1
        )
        precision, recall, f1 = (
            Score(value=float(value), low=float(lowest), high=float(highest))
            for value, lowest, highest in zip(values, low, high, strict=True)
        )
        return SetScores(precision=precision, recall=recall, f1=f1)

    return PreferenceScores(
        liked=scores(slice(labels)), disliked=scores(slice(labels, None)), joint=scores(slice(None))
    )


def paired_difference(truth: Bools, first: Bools, second: Bools, seed: int = 0) -> Score:
    """Compare the weighted F1 of two predictors on the same users.

    Args:
        truth: True labels of B users, [B, L].
        first: Labels of the first predictor, [B, L].
        second: Labels of the second predictor, [B, L].
        seed: Seed of the bootstrap.

    Returns:
        The first's F1 minus the second's, with a percentile interval of a paired bootstrap over users.
    """
    return mean_difference(outcomes_of(truth, first)[None], outcomes_of(truth, second)[None], seed)


def mean_difference(first: Bools, second: Bools, seed: int = 0) -> Score:
    """Compare the mean weighted F1 of two predictors over W windows of the same B users.

    Args:
        first: Outcomes of the first predictor by window, [W, B, 3, L]; False for users that a window leaves out.
        second: Outcomes of the second predictor.
        seed: Seed of the bootstrap.

    Returns:
        The first's mean F1 minus the second's, with a percentile interval of a paired bootstrap over users, who are
        drawn together with all their windows.
    """
    labels = first.shape[-1]
    total: list[_Sums] = []
    resampled: list[_Sums] = []
    for outcomes in np.concatenate([first, second], axis=3):  # [B, 3, 2L]
        sums = outcomes.sum(axis=0, dtype=np.float64), resampled_sums(outcomes, np.random.default_rng(seed))
        for of_window, one in zip((total, resampled), sums, strict=True):
            of_window.append(weighted_f1_of(one[..., :labels]) - weighted_f1_of(one[..., labels:]))
    low, high = np.quantile(np.mean(resampled, axis=0), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Score(value=float(np.mean(total)), low=float(low), high=float(high))


def score_means(values: Doubles, seed: int = 0) -> list[Score]:
    """Average M values over B users [B, M], with percentile bootstrap intervals from shared resamples of users."""
    resampled = resampled_sums(values, np.random.default_rng(seed)) / len(values)
    return _with_intervals(values.mean(axis=0), resampled)


def score_means_of_seeds(values: Doubles, seed: int = 0) -> list[Score]:
    """Average M values over S trainings and B users [S, B, M], with intervals of a bootstrap over both.

    Each resample draws users, shared by all trainings, and trainings. With one training it equals
    :func:`score_means`.
    """
    trainings, users, _ = values.shape
    rng = np.random.default_rng(seed)
    resampled = resampled_sums(values.transpose(1, 0, 2), rng) / users  # [RESAMPLES, S, M]
    drawn = rng.integers(trainings, size=(RESAMPLES, trainings, 1))
    means = np.take_along_axis(resampled, drawn, axis=1).mean(axis=1)
    return _with_intervals(values.mean(axis=(0, 1)), means)


def paired_p_value(differences: Doubles) -> float:
    """Compute the p-value of a two-sided t-test that B users' differences [B] have mean 0; 1 if all are 0."""
    return float(ttest_1samp(differences, 0.0).pvalue) if differences.any() else 1.0


def _with_intervals(means: Doubles, resampled: Floats | Doubles) -> list[Score]:
    """Score M means [M] with percentile intervals of their resamples [RESAMPLES, M]."""
    low, high = np.quantile(resampled, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=0)
    return [
        Score(value=float(value), low=float(lowest), high=float(highest))
        for value, lowest, highest in zip(means, low, high, strict=True)
    ]


def outcomes_of(truth: Bools, predicted: Bools) -> Bools:
    """Stack true positives, predicted labels and true labels, [B, 3, L]."""
    return np.stack([truth & predicted, predicted, truth], axis=1)


def weighted_scores(sums: _Sums) -> _Sums:
    """Compute weighted precision, recall and F1, [3, ...], from sums of outcomes [..., 3, L]."""
    hit, named, true = np.moveaxis(sums, -2, 0)
    by_label = np.stack([_ratio(hit, named), _ratio(hit, true)])
    precision, recall = _ratio((by_label * true).sum(axis=-1), true.sum(axis=-1))
    return np.stack([precision, recall, weighted_f1_of(sums)])


def weighted_f1_of(sums: _Sums) -> _Sums:
    """Compute weighted F1 [...] from sums of outcomes [..., 3, L], as :func:`weighted_scores`."""
    hit, named, true = np.moveaxis(sums, -2, 0)
    return _ratio((_ratio(2 * hit, named + true) * true).sum(axis=-1), true.sum(axis=-1))


def _ratio(numerator: _Sums, denominator: _Sums) -> _Sums:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=np.asarray(denominator) > 0)


def resampled_sums(outcomes: Bools | Doubles, rng: np.random.Generator) -> Floats:
    """Sum outcomes [B, ...] over users drawn with replacement, [RESAMPLES, ...]."""
    users, *shape = outcomes.shape
    flat = outcomes.reshape(users, -1).astype(np.float32)  # sums of ones stay exact up to 16 million users
    sums = np.empty((RESAMPLES, flat.shape[1]), dtype=np.float32)
    chunk = max(1, _DRAWS_AT_ONCE // max(users, 1))
    for start in range(0, RESAMPLES, chunk):
        rows = min(chunk, RESAMPLES - start)
        drawn = rng.integers(users, size=(rows, users)) + users * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        sums[start : start + rows] = times.astype(np.float32) @ flat
    return sums.reshape(RESAMPLES, *shape)
