"""palate's recommender as a ranker, trained on what a protocol lets be learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.config.section import KindSettings
from palate.ranking.base import DevNdcg, picked
from palate.recommend.fit import fit_recommender
from palate.schema import Floats, Indices, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.recommend.scorer import Scorer


class RecommenderRankerSettings(KindSettings, RecommendSettings):
    """Settings of :class:`RecommenderRanker`: those of a recipe's section ``recommend``."""

    kind: str = "recommender"
    rating_iterations: int = 1
    """Ratings are not ranked by."""
    seed: int = 0
    """Seed of the held-out users."""


class RecommenderRanker:
    """Scores items as :class:`palate.recommend.recommender.Recommender` does."""

    def __init__(self, settings: RecommenderRankerSettings) -> None:
        self._settings = settings
        self._scorer: Scorer | None = None

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Fit the relations, and learn their weights on held-out users of these interactions."""
        users = np.flatnonzero(dataset.interactions.lengths > 0)
        settings = self._settings
        self._scorer = fit_recommender(dataset, users, settings, ItemSettings(), settings.seed).scorer

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score by the newest interactions of the windows."""
        assert self._scorer is not None
        return picked(self._scorer.scores(newest(windows, self._settings.history)), candidates)


def newest(windows: Windows, most: int) -> Windows:
    """Keep the ``most`` newest interactions of each window."""
    dropped = np.maximum(windows.length - most, 0)
    width = max(min(windows.item_index.shape[1], most), 1)
    at = np.minimum(dropped[:, None] + np.arange(width), max(windows.item_index.shape[1] - 1, 0))

    def kept(column: np.ndarray) -> np.ndarray:
        return np.take_along_axis(column, at, axis=1)

    return Windows(
        kept(windows.item_index),
        kept(windows.rating_index),
        kept(windows.timestamp),
        np.minimum(windows.length, most),
        windows.complete,
    )
