"""The main reference: the label rule applied to the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.tasks.statistics import category_statistics

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import Ints, Windows
    from palate.tasks.base import Task


class Rule:
    """Applies the label rule to the window as if it were the whole history."""

    name = "rule"

    def __init__(self, dataset: Dataset, task: Task) -> None:
        self._dataset = dataset
        self._task = task

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict the labels of each window."""
        dataset = self._dataset
        seen = category_statistics(windows.interactions(), dataset.category_matrix, dataset.rating_values)
        return self._task.target_texts(self._task.labels(seen))
