"""Fills prompts: ids of items and users, histories, candidates and stars as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SEPARATOR = " "
# A comma would be one token more for each item, and the whole-word embeddings tell the ids apart.


@dataclass(frozen=True)
class Wording:
    """How items, users and rating values are written."""

    items: Sequence[str]
    users: Sequence[str]
    noun: str
    stars: tuple[str, ...]
    """Rating values, ascending."""

    def listed(self, items: Sequence[int]) -> str:
        """Write items one after the other."""
        return SEPARATOR.join(self.items[item] for item in items)

    def rated(self, items: Sequence[int], ratings: Sequence[int]) -> str:
        """Write items, each with its rating value's place on the scale."""
        pairs = zip(items, ratings, strict=True)
        return SEPARATOR.join(f"{self.items[item]} {self.stars[rating]}" for item, rating in pairs)

    def who(self, user: int | None, chosen: str = "") -> str:
        """Name a user by the id or, if it is None, by what was ``chosen``, if anything."""
        if user is not None:
            return self.users[user]
        return f"a user of {chosen}" if chosen else "somebody"
