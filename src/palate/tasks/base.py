"""The interface of tasks: instruction, labels, target texts, and parsing of answers."""

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
        """Instruction I: the text after the user prompt."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the L labels."""

    @property
    def rule_in_words(self) -> str:
        """The label rule in words, for tables."""

    def labels(self, statistics: CategoryStatistics) -> Preferences:
        """Compute the labels of B users from their statistics [B, L]."""

    def target_texts(self, preferences: Preferences) -> list[str]:
        """Format the target texts of B users; :meth:`parse` is the inverse."""

    def declines(self, texts: Sequence[str]) -> Bools:
        """Return a mask of the answers that decline, saying that not enough is known, [B]."""

    def parse(self, texts: Sequence[str]) -> Preferences:
        """Parse the labels in B answers; any text is accepted, and only labels that it contains are returned."""
