"""Label rules: thresholds that are fixed, relative to the users' mean ratings, or quantiles of the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.errors import DataError, RecipeError
from palate.schema import RULES, Doubles, LabelRule
from palate.system.records import Frozen
from palate.tasks.statistics import CategoryStatistics, category_scores

if TYPE_CHECKING:
    from palate.config.recipe import TaskSettings
    from palate.data.dataset import DatasetInfo

LEAST_RATED = 3
"""Minimum number of ratings of a category for its score to be part of the quantiles."""
PERCENTILES = np.linspace(0, 1, 101)


class ScoreStatistics(Frozen):
    """Statistics of the training users' ratings and category scores, from which thresholds are derived."""

    mean: float
    """Mean of all ratings."""
    spread: float
    """Standard deviation of all ratings."""
    quantiles: tuple[float, ...]
    """Percentiles of the users' category scores, from 0 to 100."""


def score_statistics(
    statistics: CategoryStatistics, ratings: Doubles, shares: Doubles | None = None
) -> ScoreStatistics:
    """Compute the statistics that label rules need.

    Args:
        statistics: Statistics of the training users, [U, L].
        ratings: Their ratings, [N].
        shares: Shares of the categories in their histories, [L]; None for data with ratings.

    Returns:
        Mean and standard deviation of the ratings, and percentiles of the scores of categories that could be labelled.
    """
    told = statistics.count >= LEAST_RATED
    if shares is not None:
        told |= statistics.length[:, None] * shares >= LEAST_RATED
    scores = category_scores(statistics, shares)[told]
    found = np.quantile(scores, PERCENTILES) if len(scores) else np.full(len(PERCENTILES), ratings.mean())
    return ScoreStatistics(
        mean=float(ratings.mean()), spread=float(ratings.std()), quantiles=tuple(found.tolist())
    )


def with_thresholds(settings: TaskSettings, info: DatasetInfo) -> TaskSettings:
    """Fill in the label rule and the thresholds that are None in the settings, from the dataset.

    With the rule ``own-mean`` they are the thresholds of a user whose mean rating equals that of all training users.

    Raises:
        DataError: The dataset lacks the statistics of the rule.
        RecipeError: The rule needs ratings, but the data has none.
    """
    rule = settings.rule or info.rule
    like, dislike = info.like_above, info.dislike_below
    if rule != "thresholds":
        like, dislike = _derived(rule, settings, info)
    own = {"rule": rule, "like_above": like, "dislike_below": dislike}
    return settings.model_copy(update={**own, **settings.model_dump(exclude_none=True)})


def _derived(rule: LabelRule, settings: TaskSettings, info: DatasetInfo) -> tuple[float, float]:
    if (known := info.score_statistics) is None:
        raise DataError(
            f"{info.name} has no statistics for the label rule {rule!r}; run palate prepare again"
        )
    if rule == "quantiles":
        like, dislike = np.interp([1 - settings.share, settings.share], PERCENTILES, known.quantiles)
        return float(like), float(dislike)
    if info.feedback == "implicit":
        raise RecipeError(
            f"the label rule 'own-mean' is relative to a user's mean rating, but {info.name} has no ratings; use "
            "'thresholds' or 'quantiles'"
        )
    margin = settings.margin * known.spread
    return known.mean + margin, known.mean - margin


def check_rule(rule: str) -> None:
    """Raise :class:`DataError` for an unknown label rule."""
    if rule not in RULES:
        raise DataError(f"unknown label rule {rule!r}; expected one of {', '.join(RULES)}")
