"""palate's recommender as a ranker: trained on what a protocol lets be learned from, here or in a run of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.config.section import KindSettings
from palate.ranking.base import DevNdcg, picked
from palate.recommend.fit import fit_recommender
from palate.schema import Doubles, Floats, Indices, Ints, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.recommend.rating_calibration import ExpectedRatings
    from palate.recommend.ratings import RatingModel
    from palate.recommend.recommender import Recommender


class RecommenderRankerSettings(KindSettings, RecommendSettings):
    """Settings of :class:`RecommenderRanker`: those of a recipe's section ``recommend``."""

    kind: str = "recommender"
    rating_models: int = 0
    """Ratings are not ranked by."""
    seed: int = 0
    """Seed of the held-out users."""


class TrainedRecommender:
    """Scores items as a trained :class:`palate.recommend.recommender.Recommender` does."""

    reads_event_types = True

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg | None = None) -> None:
        """Do nothing: it is trained."""

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score by the newest interactions of the windows."""
        most = self._recommender.facts.history
        return picked(self._recommender.scorer.scores(newest(windows, most)), candidates)

    def predict(self, windows: Windows, candidates: Indices, times: Ints) -> ExpectedRatings:
        """Predict ratings from all of the windows; raises :class:`DataError` where the recommender has none."""
        facts, model = self._recommender.facts, self._recommender.rating_model
        return expected_ratings(model, np.asarray(facts.rating_values), windows, candidates)


def expected_ratings(
    model: RatingModel, values: Doubles, windows: Windows, candidates: Indices
) -> ExpectedRatings:
    """Predict ratings of candidates [B, C] from windows of rating values [R]."""
    events = windows.interactions()
    return model.expected(model.states(events, values[events.rating_index]), candidates)


class RecommenderRanker:
    """A recommender that is trained as the ranking asks."""

    reads_event_types = True

    def __init__(self, settings: RecommenderRankerSettings) -> None:
        self._settings = settings
        self._trained: TrainedRecommender | None = None

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Fit the relations, and learn their weights on held-out users of these interactions."""
        settings, users = self._settings, dataset.users("train")
        self._trained = TrainedRecommender(
            fit_recommender(dataset, users, settings, ItemSettings(), settings.seed)
        )

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score as the trained recommender."""
        assert self._trained is not None, "fit first"
        return self._trained.scores(windows, candidates)


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
