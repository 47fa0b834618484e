"""Protocol of tasks: instruction, labels, target texts, and parsing of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from palate.schema import Bools, Preferences

if TYPE_CHECKING:
    from palate.tasks.statistics import CategoryStatistics


class Task(Protocol):
    """A question about a user. Labels are indices into ``label_names``, [L]."""

    @property
    def instruction(self) -> str:
        """Instruction I, the text that the backbone reads after the user prompt."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the L labels."""

    @property
    def rule_in_words(self) -> str:
        """The label rule as tables say it."""

    def labels(self, statistics: CategoryStatistics) -> Preferences:
        """Compute the labels of B users from their statistics [B, L]."""

    def target_texts(self, preferences: Preferences) -> list[str]:
        """Write the target texts of B users, which :meth:`parse` inverts."""

    def declines(self, texts: Sequence[str]) -> Bools:
        """Find the answers that say that not enough is known, [B]."""

    def parse(self, texts: Sequence[str]) -> Preferences:
        """Parse the labels in B answers. Every text can be parsed; only labels that it contains are returned."""
