"""Calibration of log-odds and of cutoffs on users whose labels are known; no network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from palate.schema import Bools, Doubles
from palate.tasks.decisions import Decisions, best_gains, sigmoid

SLOPE_PRIOR = 20.0
"""Strength of the prior that the log-odds need no scaling, in users."""
SHIFT_PRIOR = 12.0
"""Precision of the prior that a category's log-odds need no shift of their own, beside the common one."""
NEWTON_STEPS = 12
ROUNDS = 40
"""Iterations between the labels that are named and the F1 that they reach."""
PRIOR_USERS = 3.0
"""Users by whom a category's F1 is drawn to the F1 of all."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Log-odds of N users with windows of one length, and their labels."""

    logits: Doubles  # [N, L, 2]
    truth: Bools  # [N, L, 2]
    repeats: int = 1
    """Windows of each user: N / repeats users are what is known, however many windows show them."""


def fit_decisions(samples: Mapping[int, Sample], most: int) -> Decisions:
    """Calibrate decisions on users.

    Args:
        samples: Samples by the length of the windows.
        most: Maximum number of labels in each half.

    Returns:
        The decisions.
    """
    fitted = [_fit_length(samples[length], most) for length in sorted(samples)]
    slope, shift, cutoff, worth = (np.stack(parts) for parts in zip(*fitted, strict=True))
    return Decisions(np.array(sorted(samples), dtype=np.float64), slope, shift, cutoff, worth)


def _fit_length(sample: Sample, most: int) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    weight = 1 / sample.repeats
    halves = [_fit_logistic(sample.logits[..., half], sample.truth[..., half], weight) for half in (0, 1)]
    slope = np.array([one[0] for one in halves])
    shift = np.stack([one[1] for one in halves], axis=-1)
    chances = sigmoid(sample.logits * slope + shift)
    cutoff, worth = fit_cutoffs(chances, most, weight)
    return slope, shift, cutoff, worth


def _fit_logistic(logits: Doubles, truth: Bools, share: float) -> tuple[float, Doubles]:
    """Fit slope and shifts [L] of log-odds [N, L] by penalised maximum likelihood, with Newton's method.

    The shifts are a common one and one of each category, which a normal prior draws to it.
    """
    slope, common, own = 1.0, 0.0, np.zeros(logits.shape[1])
    for _ in range(NEWTON_STEPS):
        chance = sigmoid(slope * logits + common + own)
        weight, surplus = share * chance * (1 - chance), share * (truth - chance)
        # The categories' own shifts are eliminated from the equations of slope and common shift.
        of_own = weight.sum(axis=0) + SHIFT_PRIOR
        force_own = surplus.sum(axis=0) - SHIFT_PRIOR * own
        cross = np.stack([(weight * logits).sum(axis=0), weight.sum(axis=0)])  # [2, L]
        both = np.array(
            [[(weight * logits**2).sum() + SLOPE_PRIOR, cross[0].sum()], [cross[0].sum(), weight.sum() + 1]]
        )
        force = np.array([(surplus * logits).sum() - SLOPE_PRIOR * (slope - 1), surplus.sum() - common])
        reduced = both - (cross / of_own) @ cross.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(reduced, force - cross @ (force_own / of_own))
        step = np.clip(step, -1, 1)
        own = own + np.clip((force_own - step @ cross) / of_own, -1, 1)
        slope, common = max(slope + step[0], 0.05), common + step[1]
    return float(slope), common + own


def fit_cutoffs(chances: Doubles, most: int, share: float = 1.0) -> tuple[Doubles, Doubles]:
    """Find the cutoffs and worths [L, 2] that belong to the F1 that they reach themselves, by iteration.

    Args:
        chances: Calibrated probabilities, [N, L, 2].
        most: Maximum number of labels in each half.
        share: What each row counts, in users.
    """
    true = share * chances.sum(axis=0)  # [L, 2]
    cutoff = np.full(true.shape, 0.2)
    worth = np.ones_like(cutoff)
    for round_number in range(ROUNDS):
        named = best_gains(worth * (chances - cutoff), most)
        hit, said = share * (chances * named).sum(axis=0), share * named.sum(axis=0)
        common = hit.sum(axis=0) / np.maximum((said + true).sum(axis=0), 1e-9)
        reached = (hit + PRIOR_USERS * common) / (said + true + PRIOR_USERS)
        pays = (true + PRIOR_USERS) / (said + true + 2 * PRIOR_USERS)
        part = 0.5 if round_number < ROUNDS // 2 else 0.1
        cutoff, worth = cutoff + part * (reached - cutoff), worth + part * (pays - worth)
    return cutoff, worth
