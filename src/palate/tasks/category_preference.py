"""The paper's task (section 3): predict the categories that a user likes and dislikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import RecipeError
from palate.schema import Bools, Doubles, Ints, Preferences, QuestionKind
from palate.tasks.statistics import LEAST_SHARE, category_scores
from palate.tasks.verbalizer import verbalizer_of
from palate.tasks.wordings import WORDINGS
from palate.words import plural

if TYPE_CHECKING:
    from palate.config.recipe import TaskSettings
    from palate.tasks.statistics import CategoryStatistics

LIKE_ABOVE, DISLIKE_BELOW = 3.5, 3.0
"""Thresholds of the paper, on a scale from 1 to 5."""


class CategoryPreference:
    """Task of naming a user's liked and disliked categories, labelled by score.

    The score of a category is its mean rating. With ``shares``, for implicit feedback, it is the category's share of
    the history, as a multiple of its share of all training users' histories. A category is liked if its score is above
    one threshold and disliked if below another. With the rule ``own-mean`` the thresholds are relative to the user's
    mean rating; with other rules they are equal for all users.

    Args:
        categories: Names of the L categories.
        field: Singular noun for a category, such as "genre".
        settings: Label rule with its thresholds, minimum count and maximum number of labels.
        shares: Shares of the categories in the training users' histories, [L]; None for data with ratings.

    Raises:
        RecipeError: The thresholds overlap.
        DataError: Category names are ambiguous in an answer.
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
        self.shares = None if shares is None else np.maximum(shares, LEAST_SHARE)
        self.instruction = WORDINGS["preference"].trained[0].format(fields=plural(field))
        self._verbalizer = verbalizer_of(categories, field, settings.max_labels)
        self._name_rank = np.argsort(np.argsort(np.array(categories)))  # [L] place by name

    def labels(self, statistics: CategoryStatistics) -> Preferences:
        """Label B users: the highest scores above one threshold, the lowest below the other.

        Only categories with enough interactions are eligible. With implicit feedback, absence is evidence of dislike:
        a category is eligible as disliked if an average history of the same length has enough interactions with it.
        """
        count, least = statistics.count, self.settings.min_count
        score, bounds = self.scores(statistics), self.thresholds(statistics)
        expected = count if self.shares is None else statistics.length[:, None] * self.shares
        return Preferences(
            liked=self.best(score, count, (count >= least) & (score > bounds[:, :1])),
            disliked=self.best(-score, expected, (expected >= least) & (score < bounds[:, 1:])),
        )

    def thresholds(self, statistics: CategoryStatistics) -> Doubles:
        """Compute the upper threshold (liked above) and the lower one (disliked below) of B users, [B, 2]."""
        bounds = np.tile([self.like_above, self.dislike_below], (len(statistics.length), 1))
        if self.settings.rule == "own-mean":
            rated = statistics.length > 0
            own = statistics.whole[rated] / statistics.length[rated]
            bounds[rated] += (own - (self.like_above + self.dislike_below) / 2)[:, None]
        return bounds

    @property
    def rule_in_words(self) -> str:
        """The label rule in words, for tables."""
        rule, like, dislike = self.settings.rule or "thresholds", self.like_above, self.dislike_below
        if rule == "own-mean":
            margin = f"{(like - dislike) / 2:.3g}"
            return f"{rule} (liked: mean rating over {margin} above the user's own; disliked: over {margin} below)"
        score = (
            "mean rating" if self.shares is None else "share of the history, over the training users' share,"
        )
        return f"{rule} (liked: {score} above {like:.4g}; disliked: below {dislike:.4g})"

    def scores(self, statistics: CategoryStatistics) -> Doubles:
        """Compute the score of each category for B users, [B, L]."""
        return category_scores(statistics, self.shares)

    def best(self, score: Doubles, count: Ints | Doubles, eligible: Bools) -> Ints:
        """Rank the eligible categories by score, then by count, then by name.

        Args:
            score: Scores, [B, L].
            count: Numbers of interactions, [B, L].
            eligible: Mask of the categories that may be returned, [B, L].

        Returns:
            Category indices [B, max_labels], best first; -1 at empty ranks.
        """
        names = np.broadcast_to(self._name_rank, score.shape)
        order = np.lexsort((names, -count, -score, ~eligible), axis=-1)[:, : self.settings.max_labels]
        ranked = np.where(np.take_along_axis(eligible, order, axis=1), order, -1)
        missing = self.settings.max_labels - ranked.shape[1]
        return np.pad(ranked, ((0, 0), (0, missing)), constant_values=-1)

    def target_texts(self, preferences: Preferences) -> list[str]:
        """Format "The user likes A, B, C and doesn't like D, E" for each of B users."""
        return self._verbalizer.write(preferences)

    def texts(self, kind: QuestionKind, preferences: Preferences) -> list[str]:
        """Format the targets of B users for a kind of question that names categories: liked, disliked or both."""
        if kind == "preference":
            return self.target_texts(preferences)
        return self._verbalizer.write_half(preferences, kind)

    def declines(self, texts: Sequence[str]) -> Bools:
        """Return a mask of the answers that decline, saying that not enough is known, [B]."""
        return self._verbalizer.declines(texts)

    def parse(self, texts: Sequence[str]) -> Preferences:
        """Parse the labels of B answers, in the order of the text."""
        return self._verbalizer.read(texts)
