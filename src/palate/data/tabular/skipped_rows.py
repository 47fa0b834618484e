"""Whether rows that cannot be split into fields are left out, and how many were."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SkippedRows:
    """Counts the rows that are left out, where that is allowed."""

    allowed: bool
    _marks: list[None] = field(
        default_factory=list, repr=False
    )  # appending is safe between a parser's threads

    @property
    def count(self) -> int:
        """How many rows were left out so far."""
        return len(self._marks)

    def may_skip(self) -> bool:
        """Tell whether a bad row may be left out; if so, it is counted."""
        if self.allowed:
            self._marks.append(None)
        return self.allowed
