"""EASE: a linear item-to-item model with a closed-form solution (Steck, 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from palate.config.section import KindSettings
from palate.errors import DataError
from palate.ranking.base import DevNdcg, picked
from palate.ranking.references.histories import decayed_histories
from palate.recommend.relations import ridge_weights
from palate.schema import Floats, Indices, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

MOST_ITEMS = 30_000
"""Maximum number of items: a square matrix of so many takes 3.6 GB, and several are needed."""


class EaseSettings(KindSettings):
    """Settings of :class:`Ease`."""

    kind: str = "ease"
    regularization: float = Field(1000.0, gt=0)
    """L2 penalty, called lambda in the paper."""
    decay: float = Field(1.0, ge=0, le=1)
    """Factor of a history item's weight for each newer one; 1 as in the paper."""


class Ease:
    """Scores items by a history times the matrix that best predicts each item from a user's other items."""

    def __init__(self, settings: EaseSettings) -> None:
        self._settings = settings
        self._weights: Floats = np.empty((0, 0), dtype=np.float32)  # [I, I]

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Solve for the matrix; raises :class:`DataError` for more than :data:`MOST_ITEMS` items."""
        items = len(dataset.items)
        if items > MOST_ITEMS:
            raise DataError(
                f"ease inverts a matrix of {items:,} times {items:,} items, but the maximum is {MOST_ITEMS:,}; leave "
                "the reference out",
                dataset.path,
            )
        self._weights = ridge_weights(dataset.interactions, items, self._settings.regularization)

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Multiply weighted histories by the matrix."""
        histories = decayed_histories(windows, len(self._weights), self._settings.decay)
        return picked(np.asarray(histories.astype(np.float32) @ self._weights), candidates)
