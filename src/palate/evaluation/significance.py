"""Means over trainings and users with intervals, and paired tests between two predictors."""

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
    weighted_scores,
)
from palate.schema import Bools, Doubles

if TYPE_CHECKING:
    from palate.evaluation.evaluate import Evaluation

SWAPS = 9_999
"""Random swaps of a randomisation test; with what was observed, 10,000 assignments."""
SIGNIFICANT = 0.05
"""Corrected p-value below which a difference is said to hold."""
_AT_ONCE = 1_000  # bounds the memory of a chunk of swaps


@dataclass(frozen=True)
class PairDifference:
    """Difference of two predictors' mean F1, and the p-value of the test, as it is and corrected."""

    difference: float
    p_value: float
    corrected: float


def mean_scores(truth: Bools, named: Bools, seed: int = 0) -> SetScores:
    """Average weighted precision, recall and F1 over trainings, with intervals of these means.

    A hierarchical bootstrap: each resample draws trainings, and users, which are the same for all trainings, because
    the same users are asked. With one training it is a bootstrap over users.

    Args:
        truth: True labels of B users, [B, L].
        named: Labels that S trainings name, [S, B, L].
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
    """Test that two predictors have the same weighted F1, by paired randomisation over users (Fisher; Noreen 1989).

    If they were the same, the answers about a user could be exchanged between them. The test counts how often the
    difference of the mean F1 after random exchanges is at least as large as it is, on either side. All trainings'
    answers about a user are exchanged together: the test is about other users, with these trainings.

    Args:
        truth: True labels of B users, [B, L].
        first: Labels that a predictor names in S trainings, [S, B, L].
        second: Those of another one, [S', B, L].
        seed: Seed of the exchanges.

    Returns:
        The two-sided p-value, at least 1 / (:data:`SWAPS` + 1).
    """
    if len(first) != len(second):  # only as many trainings of each can be exchanged
        least = min(len(first), len(second))
        first, second = first[:least], second[:least]
    one, other = (
        np.stack([outcomes_of(truth, named) for named in several], axis=1).reshape(len(truth), -1)
        for several in (first, second)
    )  # [B, S·3·L]
    shape = (len(first), 3, truth.shape[1])
    moved = other.astype(np.float32) - one.astype(np.float32)  # what an exchange adds to the first's sums
    start, total = (
        one.sum(axis=0, dtype=np.float64),
        (one.astype(np.int8) + other).sum(axis=0, dtype=np.float64),
    )

    def difference(sums: Doubles) -> Doubles:
        ours, theirs = (part.reshape(-1, *shape) for part in (sums, total - sums))
        return np.asarray((weighted_scores(ours)[2] - weighted_scores(theirs)[2]).mean(axis=-1))

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
    """Compare any two predictors about the same users, with Holm's correction for all pairs.

    Args:
        truth: True labels of B users, [B, L].
        named: Labels that each predictor names in its trainings, [S, B, L] by name.
        seed: Seed of the tests.

    Returns:
        The differences of the first's mean F1 and the second's, by the two names.
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
    """Compare the liked F1 of any two predictors of an evaluation.

    Args:
        evaluation: The answers of all predictors.
        seeds: Names of predictors that differ in the seed of their training alone, by the name of the group, which
            is compared in their place.
        labels: Names of the labels.

    Returns:
        As :func:`compared_pairs`.
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
    """Correct the p-values of several tests for their number, by Holm's step-down method (1979).

    Args:
        p_values: One for each test.

    Returns:
        The corrected p-values, in the same order: where all below a level are taken as differences, the probability
            that any of them is none is at most that level.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]
