"""Interface of rating predictors: histories and items to expected ratings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from palate.recommend.rating_calibration import ExpectedRatings
from palate.schema import Indices, Ints, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


class RatingPredictor(Protocol):
    """Predicts ratings by users' histories alone."""

    def fit(self, dataset: Dataset) -> None:
        """Learn from training interactions.

        Args:
            dataset: Items, and only the interactions that may be learned from.

        Raises:
            DataError: It cannot learn from this dataset, with what the dataset lacks.
        """

    def predict(self, windows: Windows, candidates: Indices, times: Ints) -> ExpectedRatings:
        """Predict ratings by B users.

        Args:
            windows: Their histories, oldest first; a window may be empty.
            candidates: Items, [B, C]; -1 where a user has fewer.
            times: When each is rated, in seconds since 1970, [B, C]; the row's number where the data has no times.

        Returns:
            Finite expectations, standard deviations above 0 and chances of a like, [B, C]; whatever at -1.
        """
        ...
