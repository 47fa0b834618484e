"""Texts of the catalogue: lookup of items by id, search by words, and a made-up example history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from palate.schema import Item
from palate.serve.explainer import Explainer
from palate.serve.recommending import ServedRecommender

LIKED, DISLIKED = 6, 4
"""Number of items of the example history in a liked and in a disliked category."""


class ServedItems:
    """Items of the language model's dataset, else of the recommender, with those that were added.

    Args:
        explainer: Holds the items of the language model's dataset; None without a language model.
        recommender: The recommender; None without one.
    """

    def __init__(self, explainer: Explainer | None, recommender: ServedRecommender | None) -> None:
        self._explainer, self._recommender = explainer, recommender
        self._named: tuple[Sequence[Item], list[str]] = (), []

    def items(self, item_ids: Sequence[str]) -> list[Item | None]:
        """Look up items; None for those without a text."""
        found: list[Item | None] = [None] * len(item_ids)
        if self._explainer is not None:
            found = self._explainer.items(item_ids)
        if self._recommender is not None and None in found:
            others = self._recommender.items(item_ids)
            found = [one or other for one, other in zip(found, others, strict=True)]
        return found

    def find(self, words: str, most: int) -> list[Item]:
        """Find items whose title, year and categories contain all words; titles that start with them come first.

        Args:
            words: Words or prefixes of words, case-insensitive.
            most: Maximum number of items.
        """
        said = _plain(words).split()
        items, names = self._all()
        found = [at for at, name in enumerate(names) if said and all(f" {word}" in name for word in said)]
        begin = " " + " ".join(said)
        found.sort(key=lambda at: not names[at].startswith(begin))
        return [items[at] for at in found[:most]]

    def example(self, scale: Sequence[float]) -> list[tuple[Item, float]]:
        """Make up a history: highest ratings for items of the most frequent category, lowest ones for another's.

        Args:
            scale: Ratings, ascending.

        Returns:
            The items with their ratings; empty if no item has categories.
        """
        items = [item for item in self._all()[0] if item.categories]
        counts = Counter(name for item in items for name in item.categories)
        if not counts:
            return []
        liked = counts.most_common(1)[0][0]
        good = [item for item in items if liked in item.categories]
        others = [item for item in items if liked not in item.categories]
        apart = Counter(name for item in others for name in item.categories)
        disliked = apart.most_common(1)[0][0] if apart and len(scale) > 1 else None
        good = [item for item in good if disliked not in item.categories]
        bad = [item for item in others if disliked in item.categories]
        return [
            *((item, scale[-1]) for item in good[:LIKED]),
            *((item, scale[0]) for item in bad[:DISLIKED]),
        ]

    def _all(self) -> tuple[Sequence[Item], list[str]]:
        """Return all items, most popular first, with their search texts."""
        items: Sequence[Item] = ()
        if self._explainer is not None:
            items = self._explainer.all_items()
        if not items and self._recommender is not None:
            items = self._recommender.all_items()
        if items != self._named[0]:
            self._named = items, [_words_of(item) for item in items]
        return self._named


def _words_of(item: Item) -> str:
    year = "" if item.year is None else str(item.year)
    return " " + _plain(" ".join((item.title, year, *item.categories)))


def _plain(text: str) -> str:
    """Convert to lower case, and replace all but letters and digits by blanks."""
    return "".join(one if one.isalnum() else " " for one in text.casefold())
