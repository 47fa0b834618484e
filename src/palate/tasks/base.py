"""The protocol of a task: the instruction, the labels, the target text, and the verbalizer that reads it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from palate.schema import Preferences

if TYPE_CHECKING:
    from palate.tasks.statistics import CategoryStatistics


class Task(Protocol):
    """What is asked about a user. Labels are indices into ``label_names``, [L]."""

    @property
    def instruction(self) -> str:
        """The text I that the backbone reads after the user prompt."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the L labels."""

    def labels(self, statistics: CategoryStatistics) -> Preferences:
        """The labels of B users from their statistics [B, L]."""

    def target_texts(self, preferences: Preferences) -> list[str]:
        """The targets of B users, which :meth:`parse` reads back without loss."""

    def parse(self, texts: Sequence[str]) -> Preferences:
        """The labels that B answers name. Any text can be read; no label is returned that is not in it."""
