"""Gradient boosting on category counts and means: a learned reference that knows the categories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from palate.data.windows import draw_with_truth, require_training_users
from palate.evaluation.metrics import weighted_f1
from palate.schema import Bools, Doubles, Ints, Preferences, Truth, WindowKind, Windows, membership
from palate.tasks.statistics import CategoryStatistics, category_statistics
from palate.tasks.targets import likeliest, only

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.tasks.category_preference import CategoryPreference

MOST_WINDOWS = 16_000
"""Maximum number of training windows per window size."""
TREES = 150
"""Trees per classifier."""
HELD_OUT = 5
"""One in so many training users is held out, to tune how probabilities become answers."""
RARE = 20
"""Minimum number of windows with and without a label for a classifier; below, its frequency is predicted."""
_GRID = list(product((0.0, 0.15, 0.3, 0.5), np.linspace(0.05, 0.6, 23)))
"""Grid of the bonus for rare labels and the minimum probability of a label."""


@dataclass(frozen=True, eq=False)
class _Half:
    """Classifiers (or constant probabilities) of liked or disliked labels, and the thresholds of their answers."""

    classifiers: list[HistGradientBoostingClassifier | float]  # [L]
    frequency: Doubles  # [L]
    rareness: float
    least: float


class Boosting:
    """Gradient-boosted trees, with one classifier per liked and per disliked category.

    Features are those of the label rule on the window: each category's count and its mean rating minus the user's
    threshold, and the overall mean. For each window size, the classifiers are fitted to windows of training users,
    with labels of the evaluated truth; the rule from probabilities to answers is tuned on held-out training users by
    weighted F1. Windows that contain the whole history use the label rule.
    """

    name = "boosting"

    def __init__(
        self,
        dataset: Dataset,
        task: CategoryPreference,
        kind: WindowKind = "recent",
        truth: Truth = "labels",
    ) -> None:
        self._users = dataset.users("train")
        require_training_users(dataset, self._users, "gradient boosting")
        self._dataset, self._task, self._kind, self._truth = dataset, task, kind, truth
        self._fitted: dict[int, tuple[_Half, _Half]] = {}

    def with_truth(self, truth: Truth) -> Boosting:
        """Return the predictor fitted to labels of this truth."""
        return Boosting(self._dataset, self._task, self._kind, truth)

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict from windows [B, P]; the first call for a window size fits the classifiers (about a minute)."""
        size = windows.item_index.shape[1]
        seen, most = self._statistics(windows), self._task.settings.max_labels
        (liked, disliked), rule = self._at(size), self._task.labels(seen)
        chances = self._probabilities(seen, size)
        likes, dislikes = chances[..., 0], chances[..., 1]
        whole = (windows.length < size)[:, None]
        answers = Preferences(
            np.where(whole, rule.liked, _named(np.where(likes >= dislikes, likes, 0.0), liked, most)),
            np.where(whole, rule.disliked, _named(np.where(likes < dislikes, dislikes, 0.0), disliked, most)),
        )
        return self._task.target_texts(answers)

    def probabilities(self, user_index: Ints, windows: Windows) -> Doubles:
        """Predict label probabilities from windows [B, P], [B, L, 2]; 0 or 1 if a window holds the whole history."""
        size, seen = windows.item_index.shape[1], self._statistics(windows)
        rule, labels = self._task.labels(seen), len(self._task.label_names)
        certain = rule.membership(labels)
        whole = (windows.length < size)[:, None, None]
        return np.where(whole, certain, self._probabilities(seen, size))

    def _probabilities(self, seen: CategoryStatistics, size: int) -> Doubles:
        features = self._features(seen)
        return np.stack([_chances(half, features) for half in self._at(size)], axis=-1)

    def _at(self, size: int) -> tuple[_Half, _Half]:
        if size not in self._fitted:
            with threadpool_limits(1):  # on so small a problem, threads would mostly wait for each other
                self._fitted[size] = self._fit(size)
        return self._fitted[size]

    def _fit(self, size: int) -> tuple[_Half, _Half]:
        rng = np.random.default_rng(0)
        users = self._users[self._dataset.interactions.lengths[self._users] >= size]
        if len(users) < HELD_OUT:
            users = self._users
        times = max(1, MOST_WINDOWS // max(len(users), 1)) if self._kind == "random" else 1
        place = np.arange(len(users)).repeat(times)
        windows, told = draw_with_truth(self._dataset, users[place], size, self._kind, self._truth, rng)
        kept = told.length >= self._task.settings.min_count
        windows, told, place = windows[kept], told[kept], place[kept]
        features, held_out = self._features(self._statistics(windows)), place % HELD_OUT == 0
        labels, most = len(self._task.label_names), self._task.settings.max_labels
        true = self._task.labels(told)
        halves = (membership(half, labels) for half in (true.liked, true.disliked))
        liked, disliked = (_fit_half(features, truth, held_out, most) for truth in halves)
        return liked, disliked

    def _features(self, seen: CategoryStatistics) -> Doubles:
        """Compute each category's count, its mean minus the user's threshold, and the overall mean, [B, 2·L + 1].

        Means without ratings are NaN.
        """
        count, total = seen.count.astype(np.float64), seen.total
        both = np.column_stack([count, count.sum(axis=1)]), np.column_stack([total, total.sum(axis=1)])
        mean = np.divide(both[1], both[0], out=np.full_like(both[1], np.nan), where=both[0] > 0)
        mean[:, :-1] -= self._task.thresholds(seen)[:, :1]
        return np.concatenate([count, mean], axis=1)

    def _statistics(self, windows: Windows) -> CategoryStatistics:
        dataset = self._dataset
        return category_statistics(windows.interactions(), dataset.category_matrix, dataset.rating_values)


def _fit_half(features: Doubles, truth: Bools, held_out: Bools, most: int) -> _Half:
    """Fit a classifier for each of L labels, ``truth`` [B, L], and tune the rule from probabilities to answers."""
    fitted = _Half(list(_classifiers(features[~held_out], truth[~held_out])), truth.mean(axis=0), 0.0, 0.5)
    chances, labels = _chances(fitted, features[held_out]), truth.shape[1]

    def f1(setting: tuple[float, float]) -> float:
        ranked = _named(chances, _Half([], fitted.frequency, *setting), most)
        return weighted_f1(truth[held_out], membership(ranked, labels))

    return _Half(fitted.classifiers, fitted.frequency, *max(_GRID, key=f1))


def _classifiers(features: Doubles, truth: Bools) -> Iterator[HistGradientBoostingClassifier | float]:
    for label in truth.T:
        if min(label.sum(), (~label).sum()) < RARE:
            yield float(label.mean()) if len(label) else 0.0
        else:
            trees = HistGradientBoostingClassifier(
                max_iter=TREES, learning_rate=0.06, max_leaf_nodes=8, l2_regularization=1.0, random_state=0
            )
            yield trees.fit(features, label)


def _chances(half: _Half, features: Doubles) -> Doubles:
    """Predict the probability of each label, [B, L]."""
    columns = [
        np.full(len(features), one) if isinstance(one, float) else one.predict_proba(features)[:, 1]
        for one in half.classifiers
    ]
    return np.stack(columns, axis=1)


def _named(chances: Doubles, half: _Half, most: int) -> Ints:
    """Select the labels of each of B users, likeliest first, [B, most]."""
    rank = likeliest(chances, half.frequency, half.rareness, most)
    return only(rank, np.take_along_axis(chances, rank, axis=1) >= half.least, most)
