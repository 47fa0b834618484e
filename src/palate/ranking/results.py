"""Scores of rankers on the same cases, as they are printed and saved."""

from __future__ import annotations

from typing import Any

from palate.errors import RecipeError
from palate.evaluation.metrics import Score
from palate.schema import RankingProtocol
from palate.system.records import Frozen

PRIMARY = "ndcg@10"
"""The metric that tuning maximises and rankers are compared by."""


class RankerDifference(Frozen):
    """A ranker's NDCG@10 minus the compared one's, on the same users."""

    to: str
    value: float
    low: float
    high: float
    p: float
    """Of a paired two-sided t-test over users."""


class ColdScores(Frozen):
    """Scores of one ranker where only items are ranked that nothing was learned of."""

    metrics: dict[str, Score]
    difference: RankerDifference | None


class RankerScores(Frozen):
    """Scores of one ranker."""

    name: str
    settings: dict[str, Any]
    trials: int
    """How many settings were tried on dev."""
    dev: float
    """NDCG@10 of the dev cases with these settings."""
    metrics: dict[str, Score]
    coverage: float
    novelty: float
    groups: dict[str, dict[str, float]]
    """NDCG@10 by group of cases."""
    difference: RankerDifference | None
    seeds: int = 1
    """How many trainings from different seeds the scores are means of."""
    seed_sd: dict[str, float] | None = None
    """Standard deviation of each metric's means over seeds; None for one."""
    cold: ColdScores | None = None
    """Scores among the cold items alone; None for protocols without."""
    fit_seconds: float
    seconds: float


class RankingTable(Frozen):
    """Scores of rankers on the same cases.

    Example:
        >>> table = palate.rank(["popularity", "item-knn"], data)
        >>> table.users, round(table.score("popularity", "hr@10").high, 1) <= 1
        (24, True)
    """

    format: int = 1
    dataset: str
    fingerprint: str
    protocol: RankingProtocol
    candidates: str
    seed: int
    keep_seen: bool
    users: int
    targets: int
    items: int
    left_out: dict[str, int]
    groups: dict[str, dict[str, int]]
    """Numbers of users by group of cases."""
    cold_items: int | None = None
    """Number of items of the test targets that nothing was learned of; None for protocols without."""
    warnings: tuple[str, ...]
    rankers: tuple[RankerScores, ...]

    def of(self, name: str) -> RankerScores:
        """Return the scores of a ranker; raises :class:`RecipeError` if it was not compared."""
        for one in self.rankers:
            if one.name == name:
                return one
        raise RecipeError(f"no ranker {name!r}; there are {', '.join(one.name for one in self.rankers)}")

    def score(self, name: str, metric: str = PRIMARY) -> Score:
        """Return a ranker's score by the metric's name, such as ``hr@10``."""
        metrics = self.of(name).metrics
        if metric not in metrics:
            raise RecipeError(f"no metric {metric!r}; there are {', '.join(metrics)}")
        return metrics[metric]
