"""Counter of skipped rows: those that cannot be split into fields."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SkippedRows:
    """Counts skipped rows, if skipping is allowed."""

    allowed: bool
    _marks: list[None] = field(default_factory=list, repr=False)  # appending is thread-safe

    @property
    def count(self) -> int:
        """Number of rows skipped so far."""
        return len(self._marks)

    def may_skip(self) -> bool:
        """Return whether an invalid row may be skipped, and if so count it."""
        if self.allowed:
            self._marks.append(None)
        return self.allowed
