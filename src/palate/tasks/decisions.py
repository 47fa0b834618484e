"""Selection of labels from log-odds by calibrated probabilities and cutoffs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from palate.schema import Bools, Doubles, Ints, Preferences

MARKS = 4
"""Number of marks, inputs of a probability beside the log-odds: whether the label rule applied to the window alone
gives the label and, if so, by what margin and from how many ratings; and whether the window has too few ratings."""
AS_EXPECTED = (0.0, 1.0)
"""Intercept and slope at which the reached F1 equals the expected one."""
BARE_LENGTHS = (1.0, 2.0, 5.0, 12.0, 25.0, 50.0, 100.0, 200.0, 400.0)
"""Window lengths of uncalibrated decisions."""
REACHED = ((2.374, 0.663, 0.316, -0.445, 0.021, -0.146), (2.876, 0.580, 0.197, -0.460, 0.044, -0.315))
"""Regression of the log-odds of the F1 that a category reaches in uncalibrated decisions, for liked and disliked.

Intercept, and coefficients of the log share of users with the label, the log window length, the log of the median
history length, the square of the log window length, and the log number of categories. Fitted to some 200 random
populations by benchmarks/bare_decisions.py."""
PAYS = ((0.241, -0.233, -0.114, -0.055, 0.017, -0.125), (-0.031, -0.223, -0.131, -0.010, 0.019, -0.094))
"""The same regression for the log-odds of a label's worth."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """Parameters of calibrated probabilities and label selection at K window lengths, interpolated between them.

    Selecting category l gains ``worth · (probability - cutoff)``: the change of the weighted F1 (Lipton et al. 2014,
    "Thresholding classifiers to maximize F1 score", for one F1 per category, weighted by its users).
    """

    lengths: Doubles  # [K] window lengths, ascending
    slope: Doubles  # [K, 2] factor of the log-odds, for liked and disliked
    weight: Doubles  # [K, 2, M] factors of the marks
    shift: Doubles  # [K, L, 2] added to the log-odds
    cutoff: Doubles  # [K, L, 2] probability above which selecting a category raises the F1
    worth: Doubles  # [K, L, 2] gain per unit of probability above the cutoff
    kept: Doubles  # [K, 2] reached F1 is kept[0] + kept[1] · expected F1 of independent labels

    @classmethod
    def bare(cls, liked: Doubles, disliked: Doubles, usual_length: float) -> Decisions:
        """Create uncalibrated decisions for a population.

        Args:
            liked: Share of users with each category as a liked label, [L].
            disliked: Share of users with each category as a disliked label, [L].
            usual_length: Median number of interactions of a user.

        Returns:
            The decisions.
        """
        lengths = np.array(BARE_LENGTHS)
        share = np.log(np.maximum(np.stack([liked, disliked], axis=-1), 1e-4))[None]  # [1, L, 2]
        size = np.log(lengths)[:, None, None]
        usual = np.log(max(usual_length, 1.0))
        terms = (1.0, share, size, usual, size**2, np.log(len(liked)))
        cutoff, worth = (
            1
            / (
                1
                + np.exp(-sum(factor * term for factor, term in zip(np.array(factors).T, terms, strict=True)))
            )
            for factors in (REACHED, PAYS)
        )
        shape = (len(lengths), 2)
        return cls(
            lengths=lengths,
            slope=np.ones(shape),
            weight=np.zeros((*shape, MARKS)),
            shift=np.zeros(cutoff.shape),
            cutoff=cutoff / 2,
            worth=worth,
            kept=np.broadcast_to(AS_EXPECTED, shape).copy(),
        )

    def extended(self, more: int) -> Decisions:
        """Append ``more`` categories, with the mean parameters of the others."""

        def longer(table: Doubles) -> Doubles:
            return np.concatenate([table, table.mean(axis=1, keepdims=True).repeat(more, axis=1)], axis=1)

        return replace(self, shift=longer(self.shift), cutoff=longer(self.cutoff), worth=longer(self.worth))

    def probabilities(self, logits: Doubles, marks: Doubles, length: Ints) -> Doubles:
        """Calibrate the log-odds of B windows.

        Args:
            logits: Log-odds that a category is liked and disliked, [B, L, 2].
            marks: Marks of the label rule applied to the windows alone, [B, L, 2, M].
            length: Interactions in the windows, [B].

        Returns:
            Probabilities that a category is liked and disliked, [B, L, 2].
        """
        slope, weight, shift = (self._at(table, length) for table in (self.slope, self.weight, self.shift))
        return sigmoid(logits * slope[:, None] + (marks * weight[:, None]).sum(axis=-1) + shift)

    def decide(self, probabilities: Doubles, length: Ints, most: int) -> Preferences:
        """Select the liked and disliked labels of B users, likeliest first.

        Args:
            probabilities: Calibrated probabilities that a category is liked and disliked, [B, L, 2].
            length: Number of interactions that they were estimated from, [B].
            most: Maximum number of liked, and of disliked, labels.

        Returns:
            The labels; no category is both liked and disliked.
        """
        gain = in_one_half(self._at(self.worth, length) * (probabilities - self._at(self.cutoff, length)))
        return Preferences(*(_best_half(gain[..., half], probabilities[..., half], most) for half in (0, 1)))

    def kept_at(self, length: Ints) -> Doubles:
        """Interpolate the intercept and slope from the expected to the reached F1, [B, 2]."""
        return self._at(self.kept, length)

    def _at(self, table: Doubles, length: Ints) -> Doubles:
        """Interpolate a table [K, ...] at the logarithm of the lengths [B], [B, ...]."""
        place = np.interp(np.log(np.maximum(length, 1)), np.log(self.lengths), np.arange(len(self.lengths)))
        low = np.floor(place).astype(np.int64)
        part = (place - low).reshape(-1, *[1] * (table.ndim - 1))
        return np.asarray(table[low] * (1 - part) + table[np.minimum(low + 1, len(table) - 1)] * part)


def sigmoid(logits: Doubles) -> Doubles:
    """Convert log-odds to probabilities, clipped so that none is 0 or 1."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


def decide(
    logits: Doubles, marks: Doubles, length: Ints, decisions: Decisions, most: int
) -> tuple[Preferences, Doubles]:
    """Calibrate log-odds [B, L, 2] and select labels; returns the labels and calibrated probabilities [B, L, 2]."""
    probabilities = decisions.probabilities(logits, marks, length)
    return decisions.decide(probabilities, length, most), probabilities


def in_one_half(gain: Doubles) -> Doubles:
    """Set the smaller of the two gains [B, L, 2] of each category to minus infinity; the second if they are equal."""
    first = gain[..., 0] >= gain[..., 1]
    return np.where(np.stack([first, ~first], axis=-1), gain, -np.inf)


def best_gains(gain: Doubles, most: int) -> Bools:
    """Return a mask of the ``most`` largest positive gains of each user, liked and disliked, [B, L, 2].

    No category is in both.
    """
    gain = in_one_half(gain)
    last = -np.partition(-gain, min(most, gain.shape[1]) - 1, axis=1)[:, min(most, gain.shape[1]) - 1]
    return np.asarray((gain > 0) & (gain >= last[:, None]))


def _best_half(gain: Doubles, probability: Doubles, most: int) -> Ints:
    """Rank the ``most`` labels with the highest positive gain [B, L] by probability, [B, most]; -1 at empty ranks."""
    best = np.argsort(-gain, axis=1, kind="stable")[:, :most]
    named = np.take_along_axis(gain, best, axis=1) > 0
    order = np.argsort(
        -np.where(named, np.take_along_axis(probability, best, axis=1), -1), axis=1, kind="stable"
    )
    ranked = np.where(np.take_along_axis(named, order, axis=1), np.take_along_axis(best, order, axis=1), -1)
    return np.pad(ranked, ((0, 0), (0, most - ranked.shape[1])), constant_values=-1)
