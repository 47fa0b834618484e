"""Results of a comparison of rankers, as printed and saved."""

from __future__ import annotations

from typing import Any

from palate.errors import RecipeError
from palate.evaluation.metrics import Score
from palate.schema import RankingProtocol
from palate.system.records import Frozen

PRIMARY = "ndcg@10"
"""Metric that is tuned on dev and that rankers are compared by."""


class RankerDifference(Frozen):
    """Paired difference: a ranker's NDCG@10 minus another's, on the same users."""

    to: str
    value: float
    low: float
    high: float
    p: float
    """p-value of a two-sided paired t-test over users."""


class ColdScores(Frozen):
    """Scores of one ranker among cold items alone, which training had no interactions of."""

    metrics: dict[str, Score]
    difference: RankerDifference | None


class RankerScores(Frozen):
    """Scores of one ranker."""

    name: str
    settings: dict[str, Any]
    trials: int
    """Number of settings tried on dev."""
    dev: float | None
    """NDCG@10 on dev with the best settings; None if there was only one choice."""
    metrics: dict[str, Score]
    coverage: float
    novelty: float
    groups: dict[str, dict[str, float]]
    """NDCG@10 by group of cases."""
    difference: RankerDifference | None
    """From the best other ranker, or the one in ``versus``."""
    differences: tuple[RankerDifference, ...] = ()
    """From each other ranker."""
    seeds: int = 1
    """Number of trainings from different seeds that scores are averaged over."""
    seed_sd: dict[str, float] | None = None
    """Standard deviation of each metric over seeds; None for one seed."""
    cold: ColdScores | None = None
    """Scores among cold items alone; None for other protocols."""
    fit_seconds: float
    seconds: float


class RankingTable(Frozen):
    """Results of a comparison of rankers.

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
    """Number of users by group of cases."""
    cold_items: int | None = None
    """Number of cold items in the test; None for other protocols."""
    warnings: tuple[str, ...]
    rankers: tuple[RankerScores, ...]

    def of(self, name: str) -> RankerScores:
        """Return the scores of a ranker; raises :class:`RecipeError` if it was not compared."""
        for one in self.rankers:
            if one.name == name:
                return one
        raise RecipeError(f"no ranker {name!r}; there are {', '.join(one.name for one in self.rankers)}")

    def score(self, name: str, metric: str = PRIMARY) -> Score:
        """Return a ranker's score by metric name, such as ``hr@10``; raises :class:`RecipeError` for unknown names."""
        metrics = self.of(name).metrics
        if metric not in metrics:
            raise RecipeError(f"no metric {metric!r}; there are {', '.join(metrics)}")
        return metrics[metric]
