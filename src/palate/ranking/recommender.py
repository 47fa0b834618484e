"""The recommender as a ranker: fitted to a protocol's training data, or loaded from a run trained on it."""

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
    """0, because ratings are not used for ranking."""
    seed: int = 0
    """Seed of the held-out users."""


class TrainedRecommender:
    """Ranks and rates with a trained :class:`palate.recommend.recommender.Recommender`."""

    reads_event_types = True

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg | None = None) -> None:
        """Do nothing; the recommender is already trained."""

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score from the windows' newest interactions, as many as the recommender's history holds."""
        most = self._recommender.facts.history
        return picked(self._recommender.scorer.scores(newest(windows, most)), candidates)

    def predict(self, windows: Windows, candidates: Indices, times: Ints) -> ExpectedRatings:
        """Predict ratings from whole windows; raises :class:`DataError` if the recommender has no rating model."""
        facts, model = self._recommender.facts, self._recommender.rating_model
        return expected_ratings(model, np.asarray(facts.rating_values), windows, candidates)


def expected_ratings(
    model: RatingModel, values: Doubles, windows: Windows, candidates: Indices
) -> ExpectedRatings:
    """Predict ratings of candidates [B, C] from windows with rating values [R]."""
    events = windows.interactions()
    return model.expected(model.states(events, values[events.rating_index]), candidates)


class RecommenderRanker:
    """Fits a recommender to the training data of the ranking."""

    reads_event_types = True

    def __init__(self, settings: RecommenderRankerSettings) -> None:
        self._settings = settings
        self._trained: TrainedRecommender | None = None

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Fit the relations, and tune their weights on held-out training users."""
        settings, users = self._settings, dataset.users("train")
        self._trained = TrainedRecommender(
            fit_recommender(dataset, users, settings, ItemSettings(), settings.seed)
        )

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score with the fitted recommender."""
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
