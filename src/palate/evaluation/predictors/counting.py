"""Counting baseline of the paper (Table 1): the most frequent categories are liked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.schema import Ints, Preferences, Windows
from palate.tasks.statistics import category_statistics

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.tasks.category_preference import CategoryPreference


class Counting:
    """Predicts the most frequent categories of the user's FULL history as liked, and none as disliked."""

    name = "counting"

    def __init__(self, dataset: Dataset, task: CategoryPreference) -> None:
        count = category_statistics(
            dataset.interactions, dataset.category_matrix, dataset.rating_values
        ).count
        self._task = task
        self._liked = task.best(count.astype(np.float64), count, count > 0)  # [U, max_labels]

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict from the full histories, ignoring the windows."""
        liked = self._liked[user_index]
        return self._task.target_texts(Preferences(liked, np.full_like(liked, -1)))
