"""P5 and POD runs as rankers and rating predictors of ``palate rank``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.schema import Floats, Indices, Ints, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.generative.recommender import GenerativeRecommender
    from palate.ranking.base import DevNdcg
    from palate.recommend.rating_calibration import ExpectedRatings


class TrainedGenerative:
    """Scores items as a trained :class:`palate.generative.recommender.GenerativeRecommender` does."""

    reads_event_types = True

    def __init__(self, recommender: GenerativeRecommender, users: Ints | None = None) -> None:
        self._recommender, self._users = recommender, users

    def of_users(self, user_index: Ints) -> TrainedGenerative:
        """Return the ranker for these users [B], whose ids a prompt names."""
        return TrainedGenerative(self._recommender, user_index)

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg | None = None) -> None:
        """Do nothing; the model is already trained."""

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score by the ids' log-probabilities."""
        return self._recommender.item_scores(windows, self._users, candidates)

    def predict(self, windows: Windows, candidates: Indices, times: Ints) -> ExpectedRatings:
        """Predict ratings from the probabilities of the rating values."""
        return self._recommender.expected_ratings(windows, self._users, candidates)
