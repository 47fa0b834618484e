"""Controls: predictions without the user's own history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import PalateError
from palate.evaluation.metrics import label_frequencies
from palate.evaluation.predictors.base import Predictor, fitted_to
from palate.schema import Doubles, Ints, Preferences, Truth, Windows, membership

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.tasks.category_preference import CategoryPreference


class Population:
    """Predicts the training users' most common labels, of their full histories, for all users."""

    name = "population"

    def __init__(self, dataset: Dataset, task: CategoryPreference) -> None:
        labels = task.labels(dataset.statistics[dataset.users("train")])
        self._frequency = label_frequencies(labels, len(task.label_names))

        def most_common(ranked: Ints) -> Ints:
            users = membership(ranked, len(task.label_names)).sum(axis=0, keepdims=True)  # [1, L]
            return task.best(users.astype(np.float64), users, users > 0)

        common = Preferences(most_common(labels.liked), most_common(labels.disliked))
        self._answer = task.target_texts(common)[0]

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Return the same answer B times."""
        return [self._answer] * len(windows)

    def probabilities(self, user_index: Ints, windows: Windows) -> Doubles:
        """Return the training users' frequencies of the labels, [B, L, 2]."""
        return np.broadcast_to(self._frequency, (len(windows), *self._frequency.shape))


class AnotherUsersHistory:
    """A predictor with another user's history, whose score is not due to the user's own."""

    def __init__(self, predictor: Predictor, seed: int = 0) -> None:
        self.name = f"{predictor.name}, another user's history"
        self._predictor = predictor
        self._seed = seed

    def with_truth(self, truth: Truth) -> AnotherUsersHistory:
        """Return the control of the predictor that learns from labels of this truth."""
        return AnotherUsersHistory(fitted_to(self._predictor, truth), self._seed)

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict from another of the B users' windows, each used once.

        Raises:
            PalateError: There are fewer than two users, or a user occurs twice.
        """
        if len(user_index) < 2 or len(np.unique(user_index)) < len(user_index):
            raise PalateError(
                f"{self.name}: needs at least 2 users, all different, and got {len(np.unique(user_index))} "
                f"in {len(user_index)} rows"
            )
        shuffled = np.random.default_rng(self._seed).permutation(len(user_index))
        other = np.empty_like(shuffled)
        other[shuffled] = np.roll(shuffled, 1)  # one cycle through everybody: nobody keeps their own
        return self._predictor.predict(user_index[other], windows[other])


class NoHistory:
    """A predictor with empty windows."""

    def __init__(self, predictor: Predictor) -> None:
        self.name = f"{predictor.name}, no history"
        self._predictor = predictor

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict from B empty windows."""
        nothing = replace(windows, length=np.zeros_like(windows.length))
        return self._predictor.predict(user_index, nothing)


class ShuffledRatings:
    """A predictor with the ratings of each window permuted, whose score is due to the items only."""

    def __init__(self, predictor: Predictor, seed: int = 0) -> None:
        self.name = f"{predictor.name}, ratings shuffled"
        self._predictor = predictor
        self._seed = seed

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict from windows with permuted ratings."""
        place = np.random.default_rng(self._seed).random(windows.item_index.shape)
        place[~windows.mask] = 2.0  # padding stays behind
        order = place.argsort(axis=1)
        shuffled = np.take_along_axis(windows.rating_index, order, axis=1)
        return self._predictor.predict(user_index, replace(windows, rating_index=shuffled))
