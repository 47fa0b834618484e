"""The recommender's rating model as a rating predictor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.config.section import KindSettings
from palate.ranking.recommender import expected_ratings
from palate.recommend.fit import fit_ratings_of
from palate.recommend.rating_calibration import ExpectedRatings
from palate.schema import Indices, Ints, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.recommend.ratings import RatingModel


class RecommenderRatingsSettings(KindSettings, RecommendSettings):
    """Settings of :class:`RecommenderRatings`: those of a recipe's section ``recommend``."""

    kind: str = "recommender"
    seed: int = 0
    """Seed of the initial values and of held-out users."""


class RecommenderRatings:
    """Predicts ratings as :class:`palate.recommend.recommender.Recommender` does."""

    def __init__(self, settings: RecommenderRatingsSettings) -> None:
        self._settings = settings
        self._model: RatingModel | None = None
        self._values = np.empty(0)  # [R]

    def fit(self, dataset: Dataset) -> None:
        """Fit the rating model."""
        settings = self._settings
        self._values = dataset.rating_values.astype(np.float64)
        self._model = fit_ratings_of(dataset, dataset.users("train"), settings, ItemSettings(), settings.seed)

    def predict(self, windows: Windows, candidates: Indices, times: Ints) -> ExpectedRatings:
        """Predict from all ratings of the windows."""
        assert self._model is not None, "fit first"
        return expected_ratings(self._model, self._values, windows, candidates)
