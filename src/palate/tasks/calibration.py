"""Calibration of log-odds and decision cutoffs on users with known labels, without training a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from palate.schema import Bools, Doubles
from palate.tasks.decisions import AS_EXPECTED, Decisions, best_gains, sigmoid
from palate.tasks.targets import answer_f1, expected_f1

SLOPE_PRIOR = 20.0
"""Precision of the prior that the factor of the log-odds is 1."""
MARK_PRIOR = 5.0
"""Precision of the prior that the weights of the window's marks are 0."""
SHIFT_PRIOR = 12.0
"""Precision of the prior that a category's shift equals the common one."""
LEAST_SLOPE = 0.05
NEWTON_STEPS = 12
ROUNDS = 40
"""Fixed-point iterations between the selected labels and the F1 that they reach."""
PARTS = 3
"""Number of folds of the users; each fold is answered with decisions fitted to the others."""
PROMISE_USERS = 20.0
"""Prior weight, in users, with which the reached F1 is shrunk to the expected one."""
USUAL_VARIANCE = 0.02
"""Variance of the expected F1 between the users of this prior."""
PRIOR_USERS = 3.0
"""Prior weight, in users, with which a category's F1 is shrunk to that of all categories."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Log-odds and marks of N users with windows of one length, and their labels."""

    logits: Doubles  # [N, L, 2]
    marks: Doubles  # [N, L, 2, M], see :func:`palate.encoders.marks.window_marks`
    truth: Bools  # [N, L, 2]
    repeats: int = 1
    """Number of windows per user; N / repeats is the number of independent users."""

    @property
    def inputs(self) -> Doubles:
        """The log-odds and the marks, [N, L, 2, 1 + M]."""
        return np.concatenate([self.logits[..., None], self.marks], axis=-1)

    def __getitem__(self, rows: Bools) -> Sample:
        """Select windows; either all or none of a user's."""
        return Sample(self.logits[rows], self.marks[rows], self.truth[rows], self.repeats)


def fit_decisions(samples: Mapping[int, Sample], most: int) -> Decisions:
    """Calibrate decisions on users.

    Args:
        samples: Samples by window length.
        most: Maximum number of liked, and of disliked, labels.

    Returns:
        The decisions.
    """
    lengths = sorted(samples)
    fitted = [_Fitted.to(samples[length], most) for length in lengths]
    factors, shift, cutoff, worth = (
        np.stack([getattr(one, column.name) for one in fitted]) for column in fields(_Fitted)
    )
    kept = np.stack([_kept(samples[length], most) for length in lengths])
    at = np.array(lengths, dtype=np.float64)
    return Decisions(at, factors[..., 0], factors[..., 1:], shift, cutoff, worth, kept)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Decisions for windows of one length."""

    factors: Doubles  # [2, 1 + M]
    shift: Doubles  # [L, 2]
    cutoff: Doubles  # [L, 2]
    worth: Doubles  # [L, 2]

    @classmethod
    def to(cls, sample: Sample, most: int) -> _Fitted:
        """Fit decisions to a sample."""
        share, inputs = 1 / sample.repeats, sample.inputs
        halves = [_fit_logistic(inputs[:, :, half], sample.truth[..., half], share) for half in (0, 1)]
        factors, shift = np.stack([one[0] for one in halves]), np.stack([one[1] for one in halves], axis=-1)
        chances = sigmoid((inputs * factors).sum(axis=-1) + shift)
        return cls(factors, shift, *fit_cutoffs(chances, most, share))

    def expected_and_reached(self, sample: Sample, most: int) -> tuple[Doubles, Doubles]:
        """Compute the expected and the reached F1 of the liked labels in a sample, [N] each."""
        chances = sigmoid((sample.inputs * self.factors).sum(axis=-1) + self.shift)
        named = best_gains(self.worth * (chances - self.cutoff), most)[..., 0]
        return expected_f1(chances[..., 0], named, most), answer_f1(sample.truth[..., 0], named)


def _kept(sample: Sample, most: int) -> Doubles:
    """Fit the reached to the expected F1 by cross-fitting over users, [2]."""
    users = len(sample.logits) // sample.repeats
    part = np.arange(len(sample.logits)) % users % PARTS
    if users < PARTS:
        return np.array(AS_EXPECTED)
    found = [
        _Fitted.to(sample[part != one], most).expected_and_reached(sample[part == one], most)
        for one in range(PARTS)
    ]
    expected, reached = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return fit_kept(expected, reached, 1 / sample.repeats)


def _fit_logistic(inputs: Doubles, truth: Bools, share: float) -> tuple[Doubles, Doubles]:
    """Fit factors [1 + M] and shifts [L] of log-odds and marks by penalised maximum likelihood, with Newton's method.

    Each category's shift is shrunk by a normal prior to a common one; the factors are shrunk to 1 for the log-odds and
    to 0 for the marks.

    Args:
        inputs: The log-odds, and the marks, [N, L, 1 + M].
        truth: The labels, [N, L].
        share: Weight of each row, in users.

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
        # Block elimination of the categories' shifts from the equations of the factors and the common shift.
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


def fit_kept(expected: Doubles, reached: Doubles, share: float) -> Doubles:
    """Regress the reached on the expected F1, with shrinkage to equality.

    Args:
        expected: Expected F1 of independent labels, [N].
        reached: Reached F1, [N].
        share: Weight of each row, in users.

    Returns:
        Intercept and slope, [2].
    """
    surplus, middle = reached - expected, expected.mean()
    constant = share * surplus.sum() / (share * len(surplus) + PROMISE_USERS)
    from_middle = expected - middle
    factor = (
        share
        * (from_middle * surplus).sum()
        / (share * (from_middle**2).sum() + PROMISE_USERS * USUAL_VARIANCE)
    )
    return np.array([constant - factor * middle, 1 + factor])


def fit_cutoffs(chances: Doubles, most: int, share: float = 1.0) -> tuple[Doubles, Doubles]:
    """Find cutoffs and worths by fixed-point iteration with the F1 that they reach.

    Args:
        chances: Calibrated probabilities, [N, L, 2].
        most: Maximum number of liked, and of disliked, labels.
        share: Weight of each row, in users.

    Returns:
        Cutoffs and worths, [L, 2] each; see :class:`Decisions`.
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
