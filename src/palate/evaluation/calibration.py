"""Calibration of probabilities: expected calibration error, Brier score and skill, and F1 under a promised minimum."""

from __future__ import annotations

import numpy as np

from palate.schema import Bools, Doubles
from palate.system.records import Frozen
from palate.tasks.targets import answer_f1

BINS = 15
"""Bins of the expected calibration error; each has the same number of probabilities."""


class ReliabilityBin(Frozen):
    """One bin: mean predicted probability and observed frequency of true labels."""

    predicted: float
    observed: float
    number: int


class HalfCalibration(Frozen):
    """Calibration of the probabilities of the liked or the disliked labels."""

    error: float
    """Expected calibration error: mean distance between predicted and observed over the bins, weighted by size."""
    brier: float
    """Brier score: mean squared difference of probability and label."""
    population_brier: float
    """Brier score of the labels' frequencies among training users, as constant probabilities."""
    skill: float
    """Brier skill score: 1 minus the Brier score over the population's; 1 is perfect."""
    bins: tuple[ReliabilityBin, ...]
    """Bins in order of probability, lowest first."""


class Calibration(Frozen):
    """Calibration of a predictor's probabilities."""

    liked: HalfCalibration
    disliked: HalfCalibration


class KeptPromise(Frozen):
    """Scores of a predictor that abstains where an answer's expected F1 is below a promised minimum.

    An answer's F1 is that of its liked labels; it is 1 if there are none and none are named.
    """

    least: float
    """Promised minimum of an answer's expected F1."""
    answered: int
    """Number of users with an answer."""
    coverage: float
    """Share of users with an answer."""
    promised: float | None
    """Mean expected F1 of the answers; None without answers."""
    reached: float | None
    """Mean true F1 of the answers; None without answers."""


def calibration_of(chances: Doubles, truth: Bools, frequency: Doubles) -> Calibration:
    """Compute the calibration of probabilities against labels.

    Args:
        chances: Probabilities that each label is liked and disliked, [B, L, 2].
        truth: True labels, [B, L, 2].
        frequency: Frequencies of the labels among training users, [L, 2].

    Returns:
        The calibration of the liked and of the disliked labels, each over B·L probabilities.
    """
    liked, disliked = (_half(chances[..., half], truth[..., half], frequency[:, half]) for half in range(2))
    return Calibration(liked=liked, disliked=disliked)


def _half(chances: Doubles, truth: Bools, frequency: Doubles) -> HalfCalibration:
    bins = tuple(_bins(chances.ravel(), truth.ravel()))
    brier = float(((chances - truth) ** 2).mean())
    population = float(((frequency - truth) ** 2).mean())
    return HalfCalibration(
        error=sum(one.number * abs(one.predicted - one.observed) for one in bins) / chances.size,
        brier=brier,
        population_brier=population,
        skill=1 - brier / population if population > 0 else 0.0,
        bins=bins,
    )


def _bins(chances: Doubles, truth: Bools) -> list[ReliabilityBin]:
    order = np.argsort(chances, kind="stable")
    return [
        ReliabilityBin(
            predicted=float(chances[rows].mean()), observed=float(truth[rows].mean()), number=len(rows)
        )
        for rows in np.array_split(order, min(BINS, len(order)))
    ]


def kept_promise(least: float, expected: Doubles, truth: Bools, named: Bools) -> KeptPromise:
    """Score the answers whose expected F1 [B] is at least ``least``; ``truth`` and ``named`` are [B, L]."""
    answered = expected >= least
    some = bool(answered.any())
    return KeptPromise(
        least=least,
        answered=int(answered.sum()),
        coverage=float(answered.mean()),
        promised=float(expected[answered].mean()) if some else None,
        reached=float(answer_f1(truth, named)[answered].mean()) if some else None,
    )
