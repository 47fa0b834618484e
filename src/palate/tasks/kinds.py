"""Registers palate's tasks."""

from __future__ import annotations

from palate.config.recipe import TaskSettings
from palate.config.registry import TaskKind, tasks
from palate.tasks.category_preference import CategoryPreference

tasks.register("category-preference", TaskKind(TaskSettings, CategoryPreference))
