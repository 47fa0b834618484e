"""Metrics of predicted ratings: errors, order and calibration, with intervals and differences over resampled users."""

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
"""Names of the metrics of :meth:`PredictedRatings.values`, in its order.

``pairs`` is the share of pairs of one user's items with different ratings that are in the right order, ties half;
``uauc`` the mean AUC of the users who like some items and not others; ``like_ece`` the expected calibration error of
the chance of a like; ``interval_ece`` the mean distance of the intervals' coverage to what they promise.
"""
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Coverage that is promised by the intervals that are checked."""
_CELLS = 1 << 22
"""Numbers of a chunk of resamples."""

Metrics: TypeAlias = dict[str, Score]


@dataclass(frozen=True, eq=False)
class PredictedRatings:
    """N ratings of U users, and what a predictor said of them."""

    users: int
    user: Ints  # [N] from 0 to U - 1
    rating: Doubles  # [N]
    liked: Bools  # [N]
    mean: Doubles  # [N]; it orders items as it is, and errors are those of the nearest rating on the scale
    sd: Doubles  # [N]
    chance: Doubles  # [N] that the item is liked
    scale: tuple[float, float]
    """The lowest and the highest rating."""

    def values(self, weights: Doubles) -> Doubles:
        """Compute the metrics with weighted users; NaN where one is undefined.

        Args:
            weights: How often each user counts, [R, U].

        Returns:
            The metrics of each weighting, [R, M].
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
        """Ratings minus expected ones, [N]."""
        error: Doubles = self.rating - np.clip(self.mean, *self.scale)
        return error

    @property
    def pairs(self) -> int:
        """Number of pairs of one user's items with different ratings."""
        return int(self._pairs[:, 1].sum())

    @property
    def users_with_both(self) -> int:
        """Number of users who like some items and not others: those that count for ``uauc``."""
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
        """Pairs in the right order and all pairs with different ratings, [U, 2]."""
        found = np.zeros((self.users, 2))
        for user, rows in enumerate(self._rows):
            higher = self.rating[rows, None] > self.rating[rows]
            apart = self.mean[rows, None] - self.mean[rows]
            right = (higher & (apart > 0)).sum() + (higher & (apart == 0)).sum() / 2
            found[user] = right, higher.sum()
        return found

    @cached_property
    def _curves(self) -> Doubles:
        """AUC of each user and 1, or zeros for users with one class, [U, 2]."""
        found = np.zeros((self.users, 2))
        for user, rows in enumerate(self._rows):
            area = area_under_curve(self.liked[rows], self.chance[rows])
            if np.isfinite(area):
                found[user] = area, 1
        return found

    def _area(self, weights: Doubles) -> Doubles:
        """AUC over the ratings of all users, [R]."""
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
        """Compute the expected calibration error over bins of equally many chances, [R]."""
        apart = np.zeros((len(self.user), min(BINS, len(self.user))))
        for place, rows in enumerate(np.array_split(np.argsort(self.chance, kind="stable"), apart.shape[1])):
            apart[rows, place] = self.chance[rows] - self.liked[rows]
        error: Doubles = np.abs(weights @ self._sum(apart)).sum(axis=1) / number
        return error

    def _interval_error(self, weights: Doubles, number: Doubles) -> Doubles:
        """Mean distance of the intervals' coverage to their level, [R]."""
        width = ndtri(0.5 + np.array(LEVELS) / 2) * self.sd[:, None]
        inside = np.abs(self.rating - self.mean)[:, None] <= width
        covered = weights @ self._sum(inside.astype(np.float64)) / number[:, None]
        error: Doubles = np.abs(covered - LEVELS).mean(axis=1)
        return error


@dataclass(frozen=True, eq=False)
class Resamples:
    """Users drawn with replacement, the same for all predictors, so that differences are paired."""

    weights: Doubles  # [R, U]

    @classmethod
    def drawn(cls, users: int, seed: int) -> Resamples:
        """Draw the users of a bootstrap of U users."""
        rng = np.random.default_rng(seed)
        return cls(rng.multinomial(users, np.full(users, 1 / users), RESAMPLES).astype(np.float64))

    def scores(self, values: Mapping[str, Doubles]) -> Metrics:
        """Make scores with percentile intervals.

        Args:
            values: By name, of S trainings [S, 1 + R], the first of each that of all users. Each resample is of the
                mean over as many drawn trainings.

        Returns:
            The scores; a metric that is not finite is left out.
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
        """Compute each metric for all users, and for each resample: [1 + R] by name."""
        whole = np.ones((1, predicted.users))
        table = np.concatenate([predicted.values(whole), predicted.values(self.weights)])
        return dict(zip(RATING_METRICS, table.T, strict=True))
