"""Tasks: questions about users, their true labels, and parsing of answers.

Public names: ``load_task``, ``base.Task``, ``category_preference.CategoryPreference``,
``statistics.category_statistics``, ``questions.Questioner``, ``wordings.WORDINGS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.config.registry import tasks
from palate.errors import DataError
from palate.tasks.base import Task
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.rules import with_thresholds
from palate.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.config.recipe import TaskSettings
    from palate.data.dataset import DatasetInfo

__all__ = ["CategoryPreference", "Task", "load_task", "too_few_categories"]


def too_few_categories(names: Sequence[str]) -> bool:
    """Return whether there are too few categories for a question about them."""
    return len(names) < 2


def load_task(settings: TaskSettings, info: DatasetInfo) -> CategoryPreference:
    """Create the task of a recipe for a dataset's categories.

    Args:
        settings: The task's settings; a rule and thresholds of None are replaced by the dataset's.
        info: The dataset's categories, label rule and thresholds.

    Returns:
        The task.

    Raises:
        RecipeError: The thresholds overlap, or the rule needs ratings that the data does not have.
        DataError: There are fewer than two categories, their names are ambiguous in an answer, or the dataset lacks
            the rule's statistics.
    """
    if too_few_categories(info.categories):
        raise DataError(
            f"{info.name} has {counted(len(info.categories), info.category_field)} in all, but the task needs at "
            "least 2; prepare it with categories of the items (--items, --category-col), or rank its items with "
            "palate rank"
        )
    shares = None if info.feedback == "ratings" else np.array(info.category_shares)
    return tasks.find(settings.kind).build(
        info.categories, info.category_field, with_thresholds(settings, info), shares
    )
