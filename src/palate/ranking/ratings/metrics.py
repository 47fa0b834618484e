"""Metrics of predicted ratings: errors, order and calibration, with intervals and paired differences over users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from scipy.special import ndtri

from palate.evaluation.calibration import BINS
from palate.evaluation.metrics import COVERAGE, RESAMPLES, Score, area_under_curve
from palate.schema import Bools, Doubles, Ints

RATING_METRICS = ("rmse", "mae", "pairs", "auc", "uauc", "like_ece", "interval_ece")
"""Names of the metrics, in the order of :meth:`PredictedRatings.values`.

``pairs`` is the share of pairs of one user's items with different ratings that are ordered correctly, ties counting
half; ``uauc`` the mean AUC of users with both liked and other items; ``like_ece`` the expected calibration error of
the like probability; ``interval_ece`` the mean distance between the coverage of intervals and their level.
"""
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Levels of the intervals whose coverage is checked."""
_CELLS = 1 << 22
"""Maximum number of array elements per chunk of resamples."""

Metrics: TypeAlias = dict[str, Score]


@dataclass(frozen=True, eq=False)
class PredictedRatings:
    """N ratings of U users, with a predictor's distributions of them."""

    users: int
    user: Ints  # [N] from 0 to U - 1
    rating: Doubles  # [N]
    liked: Bools  # [N]
    mean: Doubles  # [N] used unclipped for order, clipped to the scale for errors
    sd: Doubles  # [N]
    chance: Doubles  # [N] probability that the item is liked
    scale: tuple[float, float]
    """Lowest and highest rating."""

    def values(self, weights: Doubles) -> Doubles:
        """Compute the metrics with users weighted; NaN where a metric is undefined.

        Args:
            weights: Weight of each user in each of R weightings, [R, U].

        Returns:
            Metrics in the order of :data:`RATING_METRICS`, [R, M].
        """
        number = weights @ self._sum(np.ones(len(self.user)))
        error = self.error
        squares, absolute = (weights @ self._sum(one) / number for one in (error**2, np.abs(error)))
        right, pairs = self._pairs.T
        curve, both = self._curves.T
        with np.errstate(invalid="ignore", divide="ignore"):
            columns = (
                np.sqrt(squares),
                absolute,
                weights @ right / (weights @ pairs),
                self._area(weights),
                weights @ curve / (weights @ both),
                self._like_error(weights, number),
                self._interval_error(weights, number),
            )
        return np.stack(columns, axis=1)

    @property
    def error(self) -> Doubles:
        """Ratings minus clipped predictions, [N]."""
        error: Doubles = self.rating - np.clip(self.mean, *self.scale)
        return error

    @property
    def pairs(self) -> int:
        """Number of pairs of items with different ratings by the same user."""
        return int(self._pairs[:, 1].sum())

    @property
    def users_with_both(self) -> int:
        """Number of users with both liked and other items, over whom ``uauc`` is averaged."""
        return int(self._curves[:, 1].sum())

    def _sum(self, values: Doubles) -> Doubles:
        """Sum values [N] or [N, C] by user, [U] or [U, C]."""
        total: Doubles = np.zeros((self.users, *values.shape[1:]))
        np.add.at(total, self.user, values)
        return total

    @cached_property
    def _rows(self) -> list[Ints]:
        order = np.argsort(self.user, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.user, minlength=self.users))[:-1])

    @cached_property
    def _pairs(self) -> Doubles:
        """Count correctly ordered pairs, and all pairs with different ratings, by user, [U, 2]."""
        found = np.zeros((self.users, 2))
        for user, rows in enumerate(self._rows):
            higher = self.rating[rows, None] > self.rating[rows]
            apart = self.mean[rows, None] - self.mean[rows]
            right = (higher & (apart > 0)).sum() + (higher & (apart == 0)).sum() / 2
            found[user] = right, higher.sum()
        return found

    @cached_property
    def _curves(self) -> Doubles:
        """Compute each user's AUC and 1, or zeros for users with one class, [U, 2]."""
        found = np.zeros((self.users, 2))
        for user, rows in enumerate(self._rows):
            area = area_under_curve(self.liked[rows], self.chance[rows])
            if np.isfinite(area):
                found[user] = area, 1
        return found

    def _area(self, weights: Doubles) -> Doubles:
        """Compute the AUC over all users' ratings, [R]."""
        order = np.argsort(self.chance, kind="stable")
        sorted_chance, liked = self.chance[order], self.liked[order]
        starts = np.flatnonzero(np.r_[True, sorted_chance[1:] > sorted_chance[:-1]])
        found = []
        step = max(_CELLS // max(len(order), 1), 1)
        for at in range(0, len(weights), step):
            weight = weights[at : at + step, self.user[order]]
            true = np.add.reduceat(weight * liked, starts, axis=1)
            false = np.add.reduceat(weight * ~liked, starts, axis=1)
            below = np.cumsum(false, axis=1) - false / 2
            found.append((true * below).sum(axis=1) / (true.sum(axis=1) * false.sum(axis=1)))
        return np.concatenate(found)

    def _like_error(self, weights: Doubles, number: Doubles) -> Doubles:
        """Compute the expected calibration error over bins of equal size, [R]."""
        apart = np.zeros((len(self.user), min(BINS, len(self.user))))
        for place, rows in enumerate(np.array_split(np.argsort(self.chance, kind="stable"), apart.shape[1])):
            apart[rows, place] = self.chance[rows] - self.liked[rows]
        error: Doubles = np.abs(weights @ self._sum(apart)).sum(axis=1) / number
        return error

    def _interval_error(self, weights: Doubles, number: Doubles) -> Doubles:
        """Compute the mean distance between the intervals' coverage and their level, [R]."""
        width = ndtri(0.5 + np.array(LEVELS) / 2) * self.sd[:, None]
        inside = np.abs(self.rating - self.mean)[:, None] <= width
        covered = weights @ self._sum(inside.astype(np.float64)) / number[:, None]
        error: Doubles = np.abs(covered - LEVELS).mean(axis=1)
        return error


@dataclass(frozen=True, eq=False)
class Resamples:
    """Bootstrap resamples of users, shared by all predictors, so that differences are paired."""

    weights: Doubles  # [R, U] number of times that each user is drawn

    @classmethod
    def drawn(cls, users: int, seed: int) -> Resamples:
        """Draw bootstrap resamples of U users."""
        rng = np.random.default_rng(seed)
        return cls(rng.multinomial(users, np.full(users, 1 / users), RESAMPLES).astype(np.float64))

    def scores(self, values: Mapping[str, Doubles]) -> Metrics:
        """Compute scores with percentile intervals.

        Args:
            values: Values by metric of S trainings, [S, 1 + R]; the first column is of all users. Each resample
                averages S trainings drawn with replacement.

        Returns:
            Scores by metric; metrics that are not finite are left out.
        """
        found = {}
        for name, one in values.items():
            if np.isfinite(one[:, 0]).all():
                trainings, resamples = len(one), one.shape[1] - 1
                drawn = np.random.default_rng(0).integers(trainings, size=(trainings, resamples))
                means = np.take_along_axis(one[:, 1:], drawn, axis=0).mean(axis=0)
                low, high = np.nanquantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
                found[name] = Score(value=float(one[:, 0].mean()), low=float(low), high=float(high))
        return found

    def values(self, predicted: PredictedRatings) -> dict[str, Doubles]:
        """Compute each metric for all users and for each resample, [1 + R] by name."""
        whole = np.ones((1, predicted.users))
        table = np.concatenate([predicted.values(whole), predicted.values(self.weights)])
        return dict(zip(RATING_METRICS, table.T, strict=True))
