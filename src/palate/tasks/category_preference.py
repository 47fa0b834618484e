"""The paper's task: which categories does a user like, and which not (Section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import RecipeError
from palate.schema import Bools, Doubles, Ints, Preferences
from palate.tasks.verbalizer import Verbalizer

if TYPE_CHECKING:
    from palate.config import TaskSettings
    from palate.data.histories import CategoryStatistics


class CategoryPreference:
    """Liked and disliked categories by their mean rating; ``field`` is what one category is called: "genre".

    Raises :class:`RecipeError` for thresholds that overlap, and :class:`DataError` for category names that an
    answer cannot tell apart.
    """

    def __init__(self, categories: tuple[str, ...], field: str, settings: TaskSettings) -> None:
        if settings.like_above < settings.dislike_below:
            raise RecipeError(
                f"task.like_above is {settings.like_above:g}, below task.dislike_below = "
                f"{settings.dislike_below:g}, so a category could be both; set it at least as high"
            )
        self.label_names = categories
        self.settings = settings
        self.instruction = f"Which {plural(field)} does this user like and dislike?"
        self._verbalizer = Verbalizer(categories, field, settings.most_labels)
        self._name_rank = np.argsort(np.argsort(np.array(categories)))  # [L] place by name

    def labels(self, statistics: CategoryStatistics) -> Preferences:
        """The label rule over B users: the best of what is rated high, the worst of what is rated low."""
        count = statistics.count
        seen = count >= self.settings.least_count
        mean = statistics.total / np.maximum(count, 1)
        return Preferences(
            liked=self.best(mean, count, seen & (mean > self.settings.like_above)),
            disliked=self.best(-mean, count, seen & (mean < self.settings.dislike_below)),
        )

    def best(self, score: Doubles, count: Ints, eligible: Bools) -> Ints:
        """The eligible categories of highest score, [B, most_labels]; ties by count, then by name.

        All arguments are [B, L]; -1 stands where no eligible category is left.
        """
        names = np.broadcast_to(self._name_rank, score.shape)
        order = np.lexsort((names, -count, -score, ~eligible), axis=-1)[:, : self.settings.most_labels]
        ranked = np.where(np.take_along_axis(eligible, order, axis=1), order, -1)
        missing = self.settings.most_labels - ranked.shape[1]
        return np.pad(ranked, ((0, 0), (0, missing)), constant_values=-1)

    def target_texts(self, preferences: Preferences) -> list[str]:
        """The sentence "The user likes A, B, C and doesn't like D, E" for each of B users."""
        return self._verbalizer.write(preferences)

    def parse(self, texts: Sequence[str]) -> Preferences:
        """What B answers say, in the order in which they say it."""
        return self._verbalizer.read(texts)


def plural(noun: str) -> str:
    """The regular English plural: genres, categories, classes."""
    if noun.endswith("y") and noun[-2:-1] not in set("aeiou"):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")
