"""Formats the fields of prompts: ids of items and users, histories, candidates and stars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palate.schema import Windows

SEPARATOR = " "
# A comma would be one token more for each item, and the whole-word embeddings tell the ids apart.


@dataclass(frozen=True)
class Wording:
    """Formats items, users and rating values as text."""

    items: Sequence[str]
    users: Sequence[str]
    noun: str
    stars: tuple[str, ...]
    """Rating values, ascending."""

    def listed(self, items: Sequence[int]) -> str:
        """Format a list of items."""
        return SEPARATOR.join(self.items[item] for item in items)

    def rated(self, items: Sequence[int], ratings: Sequence[int]) -> str:
        """Format rated items, each followed by its rating value."""
        pairs = zip(items, ratings, strict=True)
        return SEPARATOR.join(f"{self.items[item]} {self.stars[rating]}" for item, rating in pairs)

    def of_window(self, windows: Windows, row: int) -> str:
        """Name a user by the interactions of a window, with their rating values where there are several."""
        shown = slice(0, int(windows.length[row]))
        items, ratings = windows.item_index[row, shown].tolist(), windows.rating_index[row, shown].tolist()
        return self.who(None, self.rated(items, ratings) if len(self.stars) > 1 else self.listed(items))

    def who(self, user: int | None, chosen: str = "") -> str:
        """Name a user by the id or, if it is None, by what was ``chosen``, if anything."""
        if user is not None:
            return self.users[user]
        return f"a user of {chosen}" if chosen else "somebody"
