"""Controls: predictions without the user's own history, or with parts of it destroyed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import PalateError
from palate.evaluation.metrics import label_frequencies, weighted_f1
from palate.evaluation.predictors.base import Predictor, fitted_to
from palate.schema import Bools, Doubles, Ints, Preferences, Truth, Windows, membership

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.tasks.category_preference import CategoryPreference


TINY = 1e-6
"""Frequency assumed for labels that no training user has."""
POWERS: tuple[float, ...] = tuple(power / 4 for power in range(17))
"""Candidate exponents of the frequencies; 0 draws uniformly."""


class Population:
    """Predicts the most common labels of the training users' full histories, for all users."""

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


class DrawnByFrequency:
    """Draws labels by their frequency among training users: the floor of all predictions.

    It predicts without the user: as many labels as an answer may hold, drawn without replacement with probabilities
    proportional to a power of the frequencies. The power is tuned on training users; because weighted F1 rewards
    spread, this scores above :class:`Population`.
    """

    name = "floor"

    def __init__(self, dataset: Dataset, task: CategoryPreference) -> None:
        self._task = task
        labels = task.labels(dataset.statistics[dataset.users("train")])
        frequency = label_frequencies(labels, len(task.label_names)).T  # [2, L]
        truth = labels.membership(len(task.label_names))
        self._log = np.log(np.maximum(frequency, TINY))  # [2, L]
        self.powers = tuple(self._best_power(half, truth[..., half]) for half in range(2))
        """Exponents for the liked and for the disliked labels."""

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Draw labels for each of B users; deterministic by user and window."""
        liked, disliked = (
            np.stack(
                [self._drawn(half, self._rng(user, windows, row)) for row, user in enumerate(user_index)]
            )
            for half in range(2)
        )
        disliked = np.where((disliked[:, :, None] == liked[:, None, :]).any(axis=-1), -1, disliked)
        return self._task.target_texts(Preferences(liked, _gathered(disliked)))

    def _best_power(self, half: int, truth: Bools) -> float:
        rng = np.random.default_rng(half)
        noise = rng.gumbel(size=truth.shape)  # shared by all powers, for a steadier comparison
        drawn = {power: self._top(power * self._log[half] + noise) for power in POWERS}
        labels = truth.shape[1]
        return max(POWERS, key=lambda power: weighted_f1(truth, membership(drawn[power], labels)))

    def _drawn(self, half: int, rng: np.random.Generator) -> Ints:
        scores = self.powers[half] * self._log[half]
        return np.asarray(self._top((scores + rng.gumbel(size=scores.shape))[None])[0])

    def _top(self, scores: Doubles) -> Ints:
        """Return the highest-scoring labels [B, L], as many as an answer may hold."""
        return np.asarray(np.argsort(-scores, axis=1, kind="stable")[:, : self._task.settings.max_labels])

    @staticmethod
    def _rng(user: int, windows: Windows, row: int) -> np.random.Generator:
        shown = windows.item_index[row, : windows.length[row]]
        return np.random.default_rng([int(user), int(shown.sum(dtype=np.int64))])


class AnotherUsersHistory:
    """A predictor given another user's history: what it scores is not due to the user's own history."""

    def __init__(self, predictor: Predictor, seed: int = 0) -> None:
        self.name = f"{predictor.name}, another user's history"
        self._predictor = predictor
        self._seed = seed

    def with_truth(self, truth: Truth) -> AnotherUsersHistory:
        """Return the control of the predictor fitted to labels of this truth."""
        return AnotherUsersHistory(fitted_to(self._predictor, truth), self._seed)

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict from another of the B users' windows, each used once.

        Raises:
            PalateError: There are fewer than two users, or a user occurs twice.
        """
        if len(user_index) < 2 or len(np.unique(user_index)) < len(user_index):
            raise PalateError(
                f"{self.name}: needs at least 2 distinct users, but got {len(np.unique(user_index))} "
                f"in {len(user_index)} rows"
            )
        shuffled = np.random.default_rng(self._seed).permutation(len(user_index))
        other = np.empty_like(shuffled)
        other[shuffled] = np.roll(shuffled, 1)  # a single cycle, so that no user keeps the own history
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
    """A predictor given windows with permuted ratings: what it scores is due to the items alone."""

    def __init__(self, predictor: Predictor, seed: int = 0) -> None:
        self.name = f"{predictor.name}, ratings shuffled"
        self._predictor = predictor
        self._seed = seed

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict from windows with permuted ratings."""
        place = np.random.default_rng(self._seed).random(windows.item_index.shape)
        place[~windows.mask] = 2.0  # keeps padding at the end
        order = place.argsort(axis=1)
        shuffled = np.take_along_axis(windows.rating_index, order, axis=1)
        return self._predictor.predict(user_index, replace(windows, rating_index=shuffled))


def _gathered(ranked: Ints) -> Ints:
    """Move the labels of each row [B, R] before the padding (-1)."""
    return np.take_along_axis(ranked, np.argsort(ranked < 0, axis=1, kind="stable"), axis=1)
