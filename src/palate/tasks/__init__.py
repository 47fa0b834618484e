"""What a language model is asked about a user, the true labels, and how its answer is read back.

Public names: ``load_task``, ``base.Task``, ``category_preference.CategoryPreference``,
``statistics.category_statistics``, ``questions.Questioner``, ``wordings.WORDINGS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.config.registry import tasks
from palate.tasks.base import Task
from palate.tasks.category_preference import CategoryPreference

if TYPE_CHECKING:
    from palate.config.recipe import TaskSettings
    from palate.data.dataset import DatasetInfo

__all__ = ["CategoryPreference", "Task", "load_task"]


def load_task(settings: TaskSettings, info: DatasetInfo) -> CategoryPreference:
    """Create the task of a recipe over a dataset's categories.

    Args:
        settings: The task's settings; thresholds that are None are the dataset's.
        info: The dataset's categories and thresholds.

    Returns:
        The task.

    Raises:
        RecipeError: The thresholds overlap.
        DataError: Category names cannot be told apart in an answer.
    """
    own = {"like_above": info.like_above, "dislike_below": info.dislike_below}
    given = settings.model_dump(exclude_none=True)
    shares = None if info.feedback == "ratings" else np.array(info.category_shares)
    return tasks.find(settings.kind).build(
        info.categories, info.category_field, settings.model_copy(update={**own, **given}), shares
    )
