"""Popularity: the items with the most training interactions, the same for every user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.config.section import KindSettings
from palate.ranking.base import DevNdcg, picked
from palate.schema import Floats, Indices, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


class PopularitySettings(KindSettings):
    """Popularity has no settings."""

    kind: str = "popularity"


class Popularity:
    """Scores an item by its number of training interactions."""

    def __init__(self, settings: PopularitySettings) -> None:
        self._counts: Floats | None = None

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Count the interactions of each item."""
        counts = np.bincount(dataset.interactions.item_index, minlength=len(dataset.items))
        self._counts = counts.astype(np.float32)

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Return the counts, the same for all users."""
        assert self._counts is not None, "fit first"
        return picked(np.broadcast_to(self._counts, (len(windows), len(self._counts))), candidates)
