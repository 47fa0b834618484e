"""What a language model is asked about a user, and how its answer is read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.tasks.base import Task
from palate.tasks.category_preference import CategoryPreference

if TYPE_CHECKING:
    from palate.config import TaskSettings
    from palate.data.dataset import DatasetInfo

__all__ = ["CategoryPreference", "Task", "load_task"]


def load_task(settings: TaskSettings, info: DatasetInfo) -> CategoryPreference:
    """The task of a recipe over a dataset's categories; raises what :class:`CategoryPreference` raises."""
    return CategoryPreference(info.categories, info.category_field, settings)
