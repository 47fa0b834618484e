"""Weights of a history's events, and their sums by item."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from palate.schema import Doubles, Floats, Windows
from palate.system.records import Frozen

DAY = 86_400.0
LEAST = 1e-4
"""Absolute weight below which an event is ignored."""


class EventWeights(Frozen):
    """Parameters that weigh the events of a history by age, time, rating and type."""

    decay: float = 0.5
    """Factor for each newer event; 1 ignores order."""
    days: float | None = None
    """Time constant: an event this many days older than the newest is weighted by 1/e. None ignores time."""
    rating: float = 0.0
    """Relative increase per standard deviation of the rating above the mean; clipped so that weights are >= 0."""
    values: tuple[float, ...] = ()
    """Factor for each rating value where events have types; negative for types that count against an item."""

    def of(self, windows: Windows, deviations: Floats) -> Floats:
        """Compute the weights of the events of B windows.

        Args:
            windows: Histories.
            deviations: Each rating value in standard deviations from the mean, [R].

        Returns:
            Weights, [B, P].
        """
        age = np.maximum(windows.length[:, None] - 1 - np.arange(windows.item_index.shape[1]), 0)
        weight: np.ndarray = np.float32(self.decay) ** age
        if self.days is not None:
            newest = np.where(windows.mask, windows.timestamp, 0).max(axis=1, initial=0)
            weight = weight * np.exp(-np.maximum(newest[:, None] - windows.timestamp, 0) / (DAY * self.days))
        if self.rating:
            weight = weight * np.maximum(1 + self.rating * deviations[windows.rating_index], 0)
        if self.values:
            weight = weight * np.array(self.values, dtype=np.float32)[windows.rating_index]
        weights: Floats = np.where(np.abs(weight) < LEAST, 0, weight).astype(np.float32)
        return weights


def event_matrix(windows: Windows, weight: Floats | Doubles, items: int) -> sparse.csr_matrix:
    """Sum the weights [B, P] of events by item, [B, I]; repeated events of an item add up."""
    row, at = np.nonzero(windows.mask & (weight != 0))
    entries = (weight[row, at], (row, windows.item_index[row, at]))
    return sparse.csr_matrix(entries, shape=(len(windows), items))
