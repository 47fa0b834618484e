"""Calibration of log-odds and of cutoffs on users whose labels are known; no network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from palate.schema import Bools, Doubles
from palate.tasks.decisions import Decisions, best_gains, sigmoid

SLOPE_PRIOR = 20.0
"""Precision of the prior that the log-odds need no scaling."""
MARK_PRIOR = 5.0
"""Precision of the prior that what the label rule names by the window alone adds nothing."""
SHIFT_PRIOR = 12.0
"""Precision of the prior that a category's log-odds need no shift of their own, beside the common one."""
LEAST_SLOPE = 0.05
NEWTON_STEPS = 12
ROUNDS = 40
"""Iterations between the labels that are named and the F1 that they reach."""
PRIOR_USERS = 3.0
"""Users by whom a category's F1 is drawn to the F1 of all."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Log-odds and marks of N users with windows of one length, and their labels."""

    logits: Doubles  # [N, L, 2]
    marks: Doubles  # [N, L, 2, M], see :func:`palate.encoders.marks.window_marks`
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
    factors, shift, cutoff, worth = (np.stack(parts) for parts in zip(*fitted, strict=True))
    lengths = np.array(sorted(samples), dtype=np.float64)
    return Decisions(lengths, factors[..., 0], factors[..., 1:], shift, cutoff, worth)


def _fit_length(sample: Sample, most: int) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    share = 1 / sample.repeats
    inputs = np.concatenate([sample.logits[..., None], sample.marks], axis=-1)  # [N, L, 2, 1 + M]
    halves = [_fit_logistic(inputs[:, :, half], sample.truth[..., half], share) for half in (0, 1)]
    factors, shift = np.stack([one[0] for one in halves]), np.stack([one[1] for one in halves], axis=-1)
    chances = sigmoid((inputs * factors).sum(axis=-1) + shift)
    cutoff, worth = fit_cutoffs(chances, most, share)
    return factors, shift, cutoff, worth


def _fit_logistic(inputs: Doubles, truth: Bools, share: float) -> tuple[Doubles, Doubles]:
    """Fit factors [1 + M] and shifts [L] of log-odds and marks by penalised maximum likelihood, with Newton's method.

    The shifts are a common one and one of each category, which a normal prior draws to it; the factors are drawn to
    one of the log-odds and none of the marks.

    Args:
        inputs: The log-odds, and the marks, [N, L, 1 + M].
        truth: The labels, [N, L].
        share: What each row counts, in users.

    Returns:
        The factors and the shifts.
    """
    number = inputs.shape[2]
    usual, precision = np.eye(number)[0], np.array([SLOPE_PRIOR] + [MARK_PRIOR] * (number - 1))
    factors, common, own = usual, 0.0, np.zeros(inputs.shape[1])
    for _ in range(NEWTON_STEPS):
        chance = sigmoid(inputs @ factors + common + own)
        weight, surplus = share * chance * (1 - chance), share * (truth - chance)
        weighted = weight[..., None] * inputs  # [N, L, 1 + M]
        # The categories' own shifts are eliminated from the equations of factors and common shift.
        of_own = weight.sum(axis=0) + SHIFT_PRIOR
        force_own = surplus.sum(axis=0) - SHIFT_PRIOR * own
        cross = np.concatenate([weighted.sum(axis=0).T, weight.sum(axis=0)[None]])  # [1 + M + 1, L]
        squares = np.tensordot(weighted, inputs, axes=((0, 1), (0, 1))) + np.diag(precision)
        whole = np.block([[squares, cross[:-1].sum(axis=1)[:, None]], [cross.sum(axis=1)[None]]])
        whole[-1, -1] += 1
        pull = np.tensordot(surplus, inputs, axes=((0, 1), (0, 1))) - precision * (factors - usual)
        force = np.append(pull, surplus.sum() - common)
        reduced = whole - (cross / of_own) @ cross.T + 1e-9 * np.eye(number + 1)
        step = np.clip(np.linalg.solve(reduced, force - cross @ (force_own / of_own)), -1, 1)
        own = own + np.clip((force_own - step @ cross) / of_own, -1, 1)
        factors, common = factors + step[:-1], common + step[-1]
        factors[0] = max(factors[0], LEAST_SLOPE)
    return factors, common + own


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
