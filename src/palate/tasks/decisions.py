"""Which categories are named, given the log-odds of each: calibrated on a population's training users or not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from palate.schema import Bools, Doubles, Ints, Preferences

BARE_CUTOFF = 0.22
"""Probability above which a category is named where nothing was calibrated: half the F1 that is usual."""
BARE_RARENESS = 0.3
"""Strength of the preference for rare categories where nothing was calibrated."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """Calibrated probabilities and cutoffs at K window lengths, interpolated between them.

    Naming category l is worth ``worth · (probability - cutoff)``: the change of the weighted F1 (Lipton et al. 2014,
    "Thresholding classifiers to maximize F1 score", for one F1 per category, weighted by its users).
    """

    lengths: Doubles  # [K] window lengths, ascending
    slope: Doubles  # [K, 2] factor of the log-odds, for liked and disliked
    shift: Doubles  # [K, L, 2] added to the log-odds
    cutoff: Doubles  # [K, L, 2] probability above which naming a category pays
    worth: Doubles  # [K, L, 2] how much it pays for each unit above

    @classmethod
    def bare(cls, liked: Doubles, disliked: Doubles) -> Decisions:
        """Create the decisions for a population of which only the shares of users [L] with each label are known."""
        worth = (np.stack([liked, disliked], axis=-1)[None] + 0.02) ** -BARE_RARENESS
        return cls(
            lengths=np.ones(1),
            slope=np.ones((1, 2)),
            shift=np.zeros_like(worth),
            cutoff=np.full_like(worth, BARE_CUTOFF),
            worth=worth,
        )

    def extended(self, more: int) -> Decisions:
        """Append categories, which are decided on as the others are on average."""

        def longer(table: Doubles) -> Doubles:
            return np.concatenate([table, table.mean(axis=1, keepdims=True).repeat(more, axis=1)], axis=1)

        return replace(self, shift=longer(self.shift), cutoff=longer(self.cutoff), worth=longer(self.worth))

    def probabilities(self, logits: Doubles, length: Ints) -> Doubles:
        """Calibrate the log-odds [B, L, 2] of windows of ``length`` [B] interactions; probabilities [B, L, 2]."""
        slope, shift = self._at(self.slope, length), self._at(self.shift, length)
        scaled = logits * slope[:, None] + shift
        return np.asarray(1 / (1 + np.exp(-np.clip(scaled, -30, 30))))

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

    def _at(self, table: Doubles, length: Ints) -> Doubles:
        """Interpolate a table [K, ...] at the logarithm of the lengths [B], [B, ...]."""
        place = np.interp(np.log(np.maximum(length, 1)), np.log(self.lengths), np.arange(len(self.lengths)))
        low = np.floor(place).astype(np.int64)
        part = (place - low).reshape(-1, *[1] * (table.ndim - 1))
        return np.asarray(table[low] * (1 - part) + table[np.minimum(low + 1, len(table) - 1)] * part)


def decide(logits: Doubles, length: Ints, decisions: Decisions, most: int) -> tuple[Preferences, Doubles]:
    """Calibrate log-odds [B, L, 2] and select labels: the labels, and the calibrated probabilities [B, L, 2]."""
    probabilities = decisions.probabilities(logits, length)
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
