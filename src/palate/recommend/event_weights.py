"""How much each event of a history counts, and the sums of that by item."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from palate.schema import Doubles, Floats, Windows
from palate.system.records import Frozen

DAY = 86_400.0
LEAST = 1e-4
"""Weight below which an event of a history counts nothing."""


class EventWeights(Frozen):
    """How much an event of a history counts; the newest counts 1 where all have the same rating."""

    decay: float = 0.5
    """Factor for each newer event."""
    days: float | None = None
    """Days before the newest event after which an event counts 1/e; None where time does not matter."""
    rating: float = 0.0
    """Increase for each standard deviation of the rating above the mean; an event counts at least 0."""
    values: tuple[float, ...] = ()
    """Factor by the event's rating value where events have types; below 0 for what speaks against an item."""

    def of(self, windows: Windows, deviations: Floats) -> Floats:
        """Compute the weights of the events of B windows, [B, P], from the deviation of each rating value [R]."""
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
    """Sum the weights [B, P] of the windows' events by item, [B, I]; repeated events of an item add up."""
    row, at = np.nonzero(windows.mask & (weight != 0))
    entries = (weight[row, at], (row, windows.item_index[row, at]))
    return sparse.csr_matrix(entries, shape=(len(windows), items))
