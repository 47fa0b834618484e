"""The paper's task: which categories does a user like, and which not (Section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import RecipeError
from palate.schema import Bools, Doubles, Ints, Preferences, QuestionKind
from palate.tasks.verbalizer import Verbalizer
from palate.tasks.wordings import WORDINGS
from palate.words import plural

if TYPE_CHECKING:
    from palate.config.recipe import TaskSettings
    from palate.tasks.statistics import CategoryStatistics

LIKE_ABOVE, DISLIKE_BELOW = 3.5, 3.0
"""The paper's thresholds, on a scale from 1 to 5."""
_LEAST_SHARE = 1e-6
"""Of a category that no training user has: nothing is a multiple of zero."""


class CategoryPreference:
    """Liked and disliked categories by a score; ``field`` is what one category is called: "genre".

    The score of a category is its mean rating. With ``shares`` [L], for histories without ratings, it is the share of
    the history that the category takes, as a multiple of its share of all training users' histories.

    Raises :class:`RecipeError` for thresholds that overlap, and :class:`DataError` for category names that an
    answer cannot tell apart.
    """

    def __init__(
        self, categories: tuple[str, ...], field: str, settings: TaskSettings, shares: Doubles | None = None
    ) -> None:
        self.like_above = LIKE_ABOVE if settings.like_above is None else settings.like_above
        self.dislike_below = DISLIKE_BELOW if settings.dislike_below is None else settings.dislike_below
        if self.like_above < self.dislike_below:
            raise RecipeError(
                f"task.like_above is {self.like_above:g}, below task.dislike_below = "
                f"{self.dislike_below:g}, so a category could be both; set it at least as high"
            )
        self.label_names = categories
        self.settings = settings
        self.shares = None if shares is None else np.maximum(shares, _LEAST_SHARE)
        self.instruction = WORDINGS["preference"].trained[0].format(fields=plural(field))
        self._verbalizer = Verbalizer(categories, field, settings.max_labels)
        self._name_rank = np.argsort(np.argsort(np.array(categories)))  # [L] place by name

    def labels(self, statistics: CategoryStatistics) -> Preferences:
        """The label rule over B users: the best of what has a high score, the worst of what has a low one.

        A category counts when it was met often enough; without ratings, where it is not being chosen that speaks
        against a category, it can be disliked when it would have been met often enough in an average history.
        """
        count, least = statistics.count, self.settings.min_count
        score = self.scores(statistics)
        expected = count if self.shares is None else statistics.length[:, None] * self.shares
        return Preferences(
            liked=self.best(score, count, (count >= least) & (score > self.like_above)),
            disliked=self.best(-score, expected, (expected >= least) & (score < self.dislike_below)),
        )

    def scores(self, statistics: CategoryStatistics) -> Doubles:
        """The score of each category for each of B users, [B, L]."""
        if self.shares is None:
            return np.asarray(statistics.total / np.maximum(statistics.count, 1))
        return np.asarray(statistics.total / np.maximum(statistics.whole[:, None], 1e-9) / self.shares)

    def best(self, score: Doubles, count: Ints | Doubles, eligible: Bools) -> Ints:
        """The eligible categories of highest score, [B, max_labels]; ties by count, then by name.

        All arguments are [B, L]; -1 stands where no eligible category is left.
        """
        names = np.broadcast_to(self._name_rank, score.shape)
        order = np.lexsort((names, -count, -score, ~eligible), axis=-1)[:, : self.settings.max_labels]
        ranked = np.where(np.take_along_axis(eligible, order, axis=1), order, -1)
        missing = self.settings.max_labels - ranked.shape[1]
        return np.pad(ranked, ((0, 0), (0, missing)), constant_values=-1)

    def target_texts(self, preferences: Preferences) -> list[str]:
        """The sentence "The user likes A, B, C and doesn't like D, E" for each of B users."""
        return self._verbalizer.write(preferences)

    def texts(self, kind: QuestionKind, preferences: Preferences) -> list[str]:
        """Targets of B users for a kind of question that names categories: both halves, or one."""
        if kind == "preference":
            return self.target_texts(preferences)
        return self._verbalizer.write_half(preferences, kind)

    def parse(self, texts: Sequence[str]) -> Preferences:
        """What B answers say, in the order in which they say it."""
        return self._verbalizer.read(texts)
