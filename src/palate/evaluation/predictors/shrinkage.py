"""Shrinkage estimator: category means shrunk toward the training users', a reference for small windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from palate.data.windows import draw_with_truth, require_training_users
from palate.evaluation.metrics import weighted_f1
from palate.schema import Bools, Doubles, Ints, Preferences, Truth, WindowKind, Windows, membership
from palate.tasks.statistics import CategoryStatistics, category_statistics

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.tasks.category_preference import CategoryPreference

SHARE_DAMPING = 10.0  # pseudo-interactions of a share for each pseudo-rating of a mean
OFFSET_DAMPING = 8  # pseudo-ratings that shrink a user's overall offset
CHANCE_DAMPING = 5.0  # pseudo-users that shrink a category's probability to that of all categories
MOST_COUNTED = 12  # a category's interactions in a window, above which its probability is constant
MOST_TUNED = 4_000  # maximum number of training users that the strengths are tuned on


class _Strengths(NamedTuple):
    damping: float
    """Strength of the shrinkage, in ratings."""
    caution: float
    """Penalty of a low probability of having a label, in ratings per unit of its logarithm."""
    margin: float
    """Tolerance around the thresholds of the label rule, in ratings."""


_GRID = [
    _Strengths(*one) for one in product((0.25, 0.5, 1, 2, 4), (0.1, 0.2, 0.4, 0.8), (0, 0.1, 0.2, 0.4, 0.8))
]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Parameters fitted for one window size."""

    chance: Doubles  # [N, L] probability that a category with n interactions can have a label
    liked: _Strengths
    disliked: _Strengths


class Shrinkage:
    """Applies the label rule to estimated means of categories that probably have a label.

    A category's mean is shrunk toward the training users' mean plus the user's overall offset. For each window size,
    two strengths and a margin are tuned on windows of training users by weighted F1, with labels of the evaluated
    truth. Windows that contain the whole history use the label rule.

    Raises:
        LeakageError: ``users`` [B], by default all training users, includes other users.
    """

    name = "shrinkage"

    def __init__(
        self,
        dataset: Dataset,
        task: CategoryPreference,
        kind: WindowKind = "recent",
        users: Ints | None = None,
        truth: Truth = "labels",
    ) -> None:
        self._users = dataset.users("train") if users is None else users
        require_training_users(dataset, self._users, "the shrinkage estimator")
        self._dataset, self._task, self._kind, self._truth = dataset, task, kind, truth
        self._full = dataset.statistics[self._users]
        self._mean = _category_means(self._full)
        self._weight = float(
            self._full.whole.sum() / max(self._full.length.sum(), 1)
        )  # mean of an interaction
        if task.shares is not None:
            often = self._full.length[:, None] * task.shares >= task.settings.min_count
            self._chance_to_lack = np.maximum(often.mean(axis=0), 1e-6)  # [L] that a dislike can be detected
        # Strengths are in ratings on a scale from 1 to 5, or in shares relative to the training users'.
        self._unit = 1.0 if task.shares is not None else float(np.ptp(dataset.rating_values)) / 4
        self._fitted: dict[int, _Fitted] = {}

    def with_truth(self, truth: Truth) -> Shrinkage:
        """Return the estimator tuned to labels of this truth."""
        return Shrinkage(self._dataset, self._task, self._kind, self._users, truth)

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict from windows [B, P]; the first call for a window size tunes it (a few seconds)."""
        size = windows.item_index.shape[1]
        if size not in self._fitted:
            self._fitted[size] = self._fit(size)
        fitted, seen = self._fitted[size], self._statistics(windows)
        chance = _chance(fitted.chance, seen.count)
        rule = self._task.labels(seen)
        whole = (windows.length < size)[:, None]
        liked = self._liked(seen, chance, fitted.liked)
        disliked = self._disliked(seen, chance, fitted.disliked)
        return self._task.target_texts(
            Preferences(np.where(whole, rule.liked, liked), np.where(whole, rule.disliked, disliked))
        )

    def _fit(self, size: int) -> _Fitted:
        rng = np.random.default_rng(0)
        windows, told = draw_with_truth(self._dataset, self._users, size, self._kind, self._truth, rng)
        shown = self._statistics(windows)
        table = self._chances(shown, told)
        tuned = np.flatnonzero((windows.length == size) & (told.length >= self._task.settings.min_count))
        if len(tuned) > MOST_TUNED:
            tuned = rng.choice(tuned, MOST_TUNED, replace=False)
        seen, truth = shown[tuned], self._task.labels(told[tuned])
        chance, labels = _chance(table, seen.count), len(self._task.label_names)

        def best(truth: Bools, half: Callable[[CategoryStatistics, Doubles, _Strengths], Ints]) -> _Strengths:
            def f1(strengths: _Strengths) -> float:
                return weighted_f1(truth, membership(half(seen, chance, strengths), labels))

            return max(_GRID, key=f1)

        return _Fitted(
            chance=table,
            liked=best(membership(truth.liked, labels), self._liked),
            disliked=best(membership(truth.disliked, labels), self._disliked),
        )

    def _liked(self, seen: CategoryStatistics, chance: Doubles, strengths: _Strengths) -> Ints:
        score = self._estimate(seen, strengths.damping) + strengths.caution * self._unit * np.log(chance)
        least = self._bounds(seen)[:, :1] - strengths.margin * self._unit
        return self._task.best(score, seen.count, score > least)

    def _disliked(self, seen: CategoryStatistics, chance: Doubles, strengths: _Strengths) -> Ints:
        if self._task.shares is not None:  # a category without interactions can still be disliked
            chance = self._chance_to_lack
        score = strengths.caution * self._unit * np.log(chance) - self._estimate(seen, strengths.damping)
        least = -self._bounds(seen)[:, 1:] - strengths.margin * self._unit
        return self._task.best(score, seen.count, score > least)

    def _bounds(self, seen: CategoryStatistics) -> Doubles:
        """Estimate the thresholds of the full history, [B, 2], with a user's mean shrunk to the training users'."""
        drawn = replace(
            seen,
            length=seen.length + OFFSET_DAMPING,
            whole=seen.whole + OFFSET_DAMPING * self._weight,
        )
        return self._task.thresholds(drawn)

    def _estimate(self, seen: CategoryStatistics, damping: float) -> Doubles:
        """Estimate each category's score over the full history, [B, L]."""
        if (shares := self._task.shares) is not None:
            prior = damping * SHARE_DAMPING * self._weight
            return np.asarray((seen.total / shares + prior) / (seen.whole[:, None] + prior))
        surplus = (seen.total - seen.count * self._mean).sum(axis=1, keepdims=True)
        offset = surplus / (seen.count.sum(axis=1, keepdims=True) + OFFSET_DAMPING)
        return np.asarray((seen.total + damping * (self._mean + offset)) / (seen.count + damping))

    def _chances(self, shown: CategoryStatistics, told: CategoryStatistics) -> Doubles:
        """Estimate the probability that a category with n interactions in a window can have a label, [N, L].

        It can if it has enough interactions among those that labels come from; if these include the window, enough
        interactions there make it certain. The last row is for all larger n.
        """
        least = self._task.settings.min_count
        carried = told.count >= least
        rows = least if self._truth == "labels" else MOST_COUNTED
        chances = np.ones((rows + 1, shown.count.shape[1]))
        for times in range(rows + (self._truth != "labels")):
            here = shown.count == times if times < rows else shown.count >= rows
            common = (carried & here).sum() / max(here.sum(), 1)
            chances[times] = ((carried & here).sum(axis=0) + CHANCE_DAMPING * common) / (
                here.sum(axis=0) + CHANCE_DAMPING
            )
        return np.maximum(chances, 1e-6)

    def _statistics(self, windows: Windows) -> CategoryStatistics:
        dataset = self._dataset
        return category_statistics(windows.interactions(), dataset.category_matrix, dataset.rating_values)


def _category_means(statistics: CategoryStatistics) -> Doubles:
    """Compute each category's mean rating over all users, [L], with the overall mean as one extra rating."""
    count, total = statistics.count.sum(axis=0), statistics.total.sum(axis=0)
    overall = total.sum() / max(count.sum(), 1)
    return np.asarray((total + overall) / (count + 1))


def _chance(table: Doubles, count: Ints) -> Doubles:
    """Look up the probability for each count, [B, L]."""
    return np.asarray(table[np.minimum(count, len(table) - 1), np.arange(table.shape[1])])
