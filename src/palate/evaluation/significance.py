"""Means over seeds and users with intervals, and paired tests between predictors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from palate.evaluation.label_sets import named_sets, predictions_by_predictor, true_sets
from palate.evaluation.metrics import (
    COVERAGE,
    RESAMPLES,
    Score,
    SetScores,
    outcomes_of,
    resampled_sums,
    weighted_f1,
    weighted_f1_of,
    weighted_scores,
)
from palate.schema import Bools, Doubles

if TYPE_CHECKING:
    from palate.evaluation.evaluate import Evaluation

SWAPS = 9_999
"""Random permutations of a randomisation test; 10,000 with the observed one."""
SIGNIFICANT = 0.05
"""Corrected p-value below which a difference is significant."""
_AT_ONCE = 1_000  # permutations per chunk, which bounds memory


@dataclass(frozen=True)
class PairDifference:
    """Difference of two predictors' mean F1, with the p-value before and after correction."""

    difference: float
    p_value: float
    corrected: float


def mean_scores(truth: Bools, named: Bools, seed: int = 0) -> SetScores:
    """Average weighted precision, recall and F1 over trainings, with intervals.

    Uses a hierarchical bootstrap: each resample draws trainings, and users that are shared by all trainings. With one
    training it is a bootstrap over users.

    Args:
        truth: True labels of B users, [B, L].
        named: Predicted labels of S trainings, [S, B, L].
        seed: Seed of the bootstrap.

    Returns:
        The means, with percentile intervals.
    """
    outcomes = np.stack([outcomes_of(truth, one) for one in named], axis=1)  # [B, S, 3, L]
    rng = np.random.default_rng(seed)
    value = weighted_scores(outcomes.sum(axis=0, dtype=np.float64)).mean(axis=-1)  # [3]
    resampled = weighted_scores(resampled_sums(outcomes, rng))  # [3, RESAMPLES, S]
    trainings = rng.integers(len(named), size=(RESAMPLES, len(named)))
    means = np.take_along_axis(resampled, trainings[None], axis=2).mean(axis=2)  # [3, RESAMPLES]
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=1)
    precision, recall, f1 = (
        Score(value=float(value[at]), low=float(low[at]), high=float(high[at])) for at in range(3)
    )
    return SetScores(precision=precision, recall=recall, f1=f1)


def randomisation_p_value(truth: Bools, first: Bools, second: Bools, seed: int = 0) -> float:
    """Test whether two predictors differ in weighted F1, by paired randomisation over users (Fisher; Noreen 1989).

    Under the null hypothesis, a user's answers could be swapped between the predictors. The p-value is the share of
    random swaps whose difference of mean F1 is at least as large as the observed one, in absolute value. A user's
    answers from all trainings are swapped together: the test generalises to other users, not to other trainings.

    Args:
        truth: True labels of B users, [B, L].
        first: Predicted labels of one predictor's S trainings, [S, B, L].
        second: Predicted labels of the other predictor's S' trainings, [S', B, L]; the larger of S and S' is cut.
        seed: Seed of the swaps.

    Returns:
        The two-sided p-value, at least 1 / (:data:`SWAPS` + 1).
    """
    if len(first) != len(second):  # swapping needs equal numbers of trainings
        least = min(len(first), len(second))
        first, second = first[:least], second[:least]
    one, other = (
        np.stack([outcomes_of(truth, named) for named in several], axis=1).reshape(len(truth), -1)
        for several in (first, second)
    )  # [B, S·3·L]
    shape = (len(first), 3, truth.shape[1])
    moved = other.astype(np.float32) - one.astype(np.float32)  # change of the first's sums by a swap
    start, total = (
        one.sum(axis=0, dtype=np.float64),
        (one.astype(np.int8) + other).sum(axis=0, dtype=np.float64),
    )

    def difference(sums: Doubles) -> Doubles:
        ours, theirs = (part.reshape(-1, *shape) for part in (sums, total - sums))
        return np.asarray((weighted_f1_of(ours) - weighted_f1_of(theirs)).mean(axis=-1))

    observed = abs(difference(start[None])[0])
    rng, as_large, done = np.random.default_rng(seed), 1, 0
    while done < SWAPS:
        rows = min(_AT_ONCE, SWAPS - done)
        exchanged = rng.integers(2, size=(rows, len(truth))).astype(np.float32)
        found = difference(start + (exchanged @ moved).astype(np.float64))
        as_large += int((np.abs(found) >= observed - 1e-12).sum())
        done += rows
    return as_large / (SWAPS + 1)


def compared_pairs(
    truth: Bools, named: Mapping[str, Bools], seed: int = 0
) -> dict[tuple[str, str], PairDifference]:
    """Compare all pairs of predictors on the same users, with Holm's correction.

    Args:
        truth: True labels of B users, [B, L].
        named: Predicted labels of each predictor's trainings, [S, B, L] by name.
        seed: Seed of the tests.

    Returns:
        The first's mean F1 minus the second's, by pair of names.
    """
    pairs = list(combinations(named, 2))
    means = {name: float(np.mean([weighted_f1(truth, one) for one in sets])) for name, sets in named.items()}
    p_values = [randomisation_p_value(truth, named[one], named[other], seed) for one, other in pairs]
    return {
        (one, other): PairDifference(means[one] - means[other], p_value, corrected)
        for (one, other), p_value, corrected in zip(pairs, p_values, holm(p_values), strict=True)
    }


def tested_pairs(
    evaluation: Evaluation, seeds: Mapping[str, Sequence[str]], labels: Sequence[str]
) -> dict[tuple[str, str], PairDifference]:
    """Compare the liked F1 of all pairs of predictors of an evaluation.

    Args:
        evaluation: Answers of all predictors.
        seeds: Groups of predictors that differ only in the training seed, as member names by group name; a group is
            compared in place of its members.
        labels: Names of the labels.

    Returns:
        Differences as of :func:`compared_pairs`.
    """
    answers = predictions_by_predictor(evaluation)
    truth = true_sets(next(iter(answers.values())), labels)[..., 0]
    grouped = {name for names in seeds.values() for name in names}
    members = {name: [name] for name in answers if name not in grouped} | {**seeds}
    named = {
        group: np.stack([named_sets(answers[name], labels)[..., 0] for name in names])
        for group, names in members.items()
    }
    return compared_pairs(truth, named, evaluation.setting.seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests by Holm's step-down method (1979).

    Args:
        p_values: One p-value per test.

    Returns:
        The corrected p-values, in the same order. Rejecting those below a level bounds the probability of any false
            rejection by that level.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]
