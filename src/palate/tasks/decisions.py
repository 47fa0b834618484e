"""Which categories are named, given the log-odds of each: calibrated on a population's training users or not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from palate.schema import Bools, Doubles, Ints, Preferences

MARKS = 4
"""Inputs of a probability beside the log-odds: whether the label rule names the category by the window alone and, if
so, by what distance and from how many ratings; and whether the window has too few ratings of it."""
AS_EXPECTED = (0.0, 1.0)
"""Constant and factor of the F1 that answers reach, where it is the expected one."""
BARE_LENGTHS = (1.0, 2.0, 5.0, 12.0, 25.0, 50.0, 100.0, 200.0, 400.0)
"""Window lengths of decisions that were not calibrated."""
REACHED = ((2.374, 0.663, 0.316, -0.445, 0.021, -0.146), (2.876, 0.580, 0.197, -0.460, 0.044, -0.315))
"""Log-odds of the F1 that a category reaches where nothing was calibrated, for liked and disliked.

A constant, and factors of the logs of the share of users with the label, of the window's length and of the usual
history's, of the square of the second, and of the number of categories. Fitted to some 200 random
populations; benchmarks/bare_decisions.py fits them to others."""
PAYS = ((0.241, -0.233, -0.114, -0.055, 0.017, -0.125), (-0.031, -0.223, -0.131, -0.010, 0.019, -0.094))
"""Log-odds of a label's worth, likewise."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """Calibrated probabilities and cutoffs at K window lengths, interpolated between them.

    Naming category l is worth ``worth · (probability - cutoff)``: the change of the weighted F1 (Lipton et al. 2014,
    "Thresholding classifiers to maximize F1 score", for one F1 per category, weighted by its users).
    """

    lengths: Doubles  # [K] window lengths, ascending
    slope: Doubles  # [K, 2] factor of the log-odds, for liked and disliked
    weight: Doubles  # [K, 2, M] factors of the marks of what the label rule names by the window alone
    shift: Doubles  # [K, L, 2] added to the log-odds
    cutoff: Doubles  # [K, L, 2] probability above which naming a category pays
    worth: Doubles  # [K, L, 2] how much it pays for each unit above
    kept: (
        Doubles  # [K, 2] F1 that answers reached is kept[0] + kept[1] · the F1 expected of independent labels
    )

    @classmethod
    def bare(cls, liked: Doubles, disliked: Doubles, usual_length: float) -> Decisions:
        """Create the decisions for a population on which nothing was calibrated.

        Args:
            liked: Share of users who like each category, [L].
            disliked: Share of users who dislike it, [L].
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
        """Append categories, which are decided on as the others are on average."""

        def longer(table: Doubles) -> Doubles:
            return np.concatenate([table, table.mean(axis=1, keepdims=True).repeat(more, axis=1)], axis=1)

        return replace(self, shift=longer(self.shift), cutoff=longer(self.cutoff), worth=longer(self.worth))

    def probabilities(self, logits: Doubles, marks: Doubles, length: Ints) -> Doubles:
        """Calibrate the log-odds of B windows.

        Args:
            logits: Log-odds that a category is liked and disliked, [B, L, 2].
            marks: Marks of what the label rule names by the windows alone, [B, L, 2, M].
            length: Interactions in the windows, [B].

        Returns:
            Probabilities that a category is liked and disliked, [B, L, 2].
        """
        slope, weight, shift = (self._at(table, length) for table in (self.slope, self.weight, self.shift))
        return sigmoid(logits * slope[:, None] + (marks * weight[:, None]).sum(axis=-1) + shift)

    def decide(self, probabilities: Doubles, length: Ints, most: int) -> Preferences:
        """Select at most ``most`` labels in each half for B users, likeliest first.

        Args:
            probabilities: Calibrated probabilities that a category is liked and disliked, [B, L, 2].
            length: Interactions that they were estimated from, [B].
            most: Maximum number of labels in each half.

        Returns:
            The labels; a category stands in one half at most.
        """
        gain = in_one_half(self._at(self.worth, length) * (probabilities - self._at(self.cutoff, length)))
        return Preferences(*(_best_half(gain[..., half], probabilities[..., half], most) for half in (0, 1)))

    def kept_at(self, length: Ints) -> Doubles:
        """Interpolate what the F1 that answers reach is of the expected one: constant and factor, [B, 2]."""
        return self._at(self.kept, length)

    def _at(self, table: Doubles, length: Ints) -> Doubles:
        """Interpolate a table [K, ...] at the logarithm of the lengths [B], [B, ...]."""
        place = np.interp(np.log(np.maximum(length, 1)), np.log(self.lengths), np.arange(len(self.lengths)))
        low = np.floor(place).astype(np.int64)
        part = (place - low).reshape(-1, *[1] * (table.ndim - 1))
        return np.asarray(table[low] * (1 - part) + table[np.minimum(low + 1, len(table) - 1)] * part)


def sigmoid(logits: Doubles) -> Doubles:
    """Convert log-odds to probabilities, none of which is 0 or 1."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


def decide(
    logits: Doubles, marks: Doubles, length: Ints, decisions: Decisions, most: int
) -> tuple[Preferences, Doubles]:
    """Calibrate log-odds [B, L, 2] and select labels: the labels, and the calibrated probabilities [B, L, 2]."""
    probabilities = decisions.probabilities(logits, marks, length)
    return decisions.decide(probabilities, length, most), probabilities


def in_one_half(gain: Doubles) -> Doubles:
    """Set the smaller of the two gains [B, L, 2] of each category to minus infinity; the second if they are equal."""
    first = gain[..., 0] >= gain[..., 1]
    return np.where(np.stack([first, ~first], axis=-1), gain, -np.inf)


def best_gains(gain: Doubles, most: int) -> Bools:
    """Mark the ``most`` largest positive gains of each user in each half, one half per category, [B, L, 2]."""
    gain = in_one_half(gain)
    last = -np.partition(-gain, min(most, gain.shape[1]) - 1, axis=1)[:, min(most, gain.shape[1]) - 1]
    return np.asarray((gain > 0) & (gain >= last[:, None]))


def _best_half(gain: Doubles, probability: Doubles, most: int) -> Ints:
    """Rank the labels with the highest positive gain [B, L] by probability, [B, most]; -1 at empty ranks."""
    best = np.argsort(-gain, axis=1, kind="stable")[:, :most]
    named = np.take_along_axis(gain, best, axis=1) > 0
    order = np.argsort(
        -np.where(named, np.take_along_axis(probability, best, axis=1), -1), axis=1, kind="stable"
    )
    ranked = np.where(np.take_along_axis(named, order, axis=1), np.take_along_axis(best, order, axis=1), -1)
    return np.pad(ranked, ((0, 0), (0, most - ranked.shape[1])), constant_values=-1)
