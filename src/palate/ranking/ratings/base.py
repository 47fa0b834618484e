"""Interface of rating predictors, which predict ratings of items from histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from palate.recommend.rating_calibration import ExpectedRatings
from palate.schema import Indices, Ints, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


class RatingPredictor(Protocol):
    """Predicts ratings from users' histories alone."""

    def fit(self, dataset: Dataset) -> None:
        """Fit to training interactions.

        Args:
            dataset: Dataset that holds all items and only the training interactions.

        Raises:
            DataError: The dataset lacks what the predictor needs; the message names it.
        """

    def predict(self, windows: Windows, candidates: Indices, times: Ints) -> ExpectedRatings:
        """Predict ratings for B users.

        Args:
            windows: Histories, oldest interaction first; a window may be empty.
            candidates: Item indices, [B, C]; -1 is padding.
            times: Times of the ratings, in seconds since 1970, [B, C]; row numbers if the data has no times.

        Returns:
            Finite means, standard deviations above 0 and like probabilities, [B, C], with any value at padding.
        """
        ...
