"""Calibration of predicted ratings: standard deviations and chances of a like that hold for histories of any length.

It is learned on training users whose ratings the predictor has not counted: part of each history is shown, and the
rest is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from palate.schema import Doubles, Indices, Interactions, Ints
from palate.system.records import Frozen

HELD_OUT_SHARE, MOST_HELD_OUT = 0.1, 1_000
"""Share of the training users that are held out, and the largest number of them."""
SHOWINGS = 4
"""Histories of different lengths that are shown of each held-out user."""
FEWEST = 50
"""Held-out ratings below which nothing is learned."""
_LEAST_SD = 1e-3


@dataclass(frozen=True, eq=False)
class ExpectedRatings:
    """Distributions of ratings of B users and C items."""

    mean: Doubles  # [B, C]
    sd: Doubles  # [B, C]
    chance: Doubles  # [B, C] that the item is liked


class RatingCalibration(Frozen):
    """What is learned, in readable form; by ``x``, the logarithm of one more than the number of a user's ratings."""

    spread: tuple[float, float] = (0.0, 0.0)
    """The standard deviation's logarithm changes by ``spread[0] + spread[1] x``."""
    chance: tuple[float, float, float, float] = (0.0, 1.702, 0.0, 0.0)
    """Log-odds of a like: ``chance[0] + chance[1] z + chance[2] x + chance[3] z x``, with z the distance of the
    expected rating to the threshold in calibrated standard deviations. As given, nearly a normal distribution's."""

    def sd(self, sd: Doubles, count: Doubles | Ints) -> Doubles:
        """Calibrate standard deviations [...] by the numbers of ratings that they come from."""
        return np.maximum(sd * np.exp(self.spread[0] + self.spread[1] * np.log1p(count)), _LEAST_SD)

    def like(self, z: Doubles, count: Doubles | Ints) -> Doubles:
        """Compute chances of a like [...] from distances to the threshold."""
        x = np.log1p(count)
        chance: Doubles = expit(
            self.chance[0] + self.chance[1] * z + self.chance[2] * x + self.chance[3] * z * x
        )
        return chance

    def ratings(
        self, mean: Doubles, sd: Doubles, count: Doubles | Ints, like_above: float
    ) -> ExpectedRatings:
        """Calibrate predictions [B, C] from histories of some lengths [B, 1]."""
        calibrated = self.sd(sd, count)
        return ExpectedRatings(mean, calibrated, self.like((mean - like_above) / calibrated, count))


@dataclass(frozen=True, eq=False)
class ShownHistories:
    """Histories of B users that are shown, and ratings to be predicted from them: N of both as flat columns."""

    events: Interactions
    values: Doubles  # [N] ratings of the events
    wanted_user: Ints  # [M] from 0 to B - 1
    wanted_item: Indices  # [M]
    wanted_rating: Doubles  # [M]

    @property
    def wanted_count(self) -> Ints:
        """Number of shown ratings that each prediction comes from, [M]."""
        return self.events.lengths[self.wanted_user]


def held_out_users(users: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Divide U users into those to learn from and those to calibrate on, as indices."""
    number = min(max(int(HELD_OUT_SHARE * users), 1), MOST_HELD_OUT)
    order = rng.permutation(users)
    return np.sort(order[number:]), np.sort(order[:number])


def show_parts(events: Interactions, values: Doubles, rng: np.random.Generator) -> ShownHistories:
    """Show parts of histories, of lengths from none to most of a history, and hold the rest out.

    Args:
        events: Histories of U users.
        values: Their ratings, [N].
        rng: Random number generator.

    Returns:
        Each user's history, shown in part several times.
    """
    shown, wanted, owners = [], [], []
    lengths: list[int] = []
    for user in np.flatnonzero(events.lengths >= 2):
        rows = np.arange(events.offsets[user], events.offsets[user + 1])
        most = np.log(len(rows))
        for low in np.arange(SHOWINGS) / SHOWINGS:  # lengths are drawn evenly on a logarithmic scale
            order = rng.permutation(rows)
            length = min(int(np.exp((low + rng.random() / SHOWINGS) * most)) - (low == 0), len(rows) - 1)
            shown.append(np.sort(order[:length]))
            wanted.append(order[max(length, len(rows) // 2) :])
            owners.append(np.full(len(wanted[-1]), len(lengths)))
            lengths.append(length)
    chosen = np.concatenate([*shown, np.empty(0, np.int64)]).astype(np.int64)
    asked = np.concatenate([*wanted, np.empty(0, np.int64)]).astype(np.int64)
    return ShownHistories(
        events.take(chosen, np.array(lengths, dtype=np.int64)),
        values[chosen],
        np.concatenate([*owners, np.empty(0, np.int64)]).astype(np.int64),
        events.item_index[asked],
        values[asked],
    )


def fit_calibration(
    shown: ShownHistories, mean: Doubles, sd: Doubles, like_above: float
) -> RatingCalibration:
    """Learn a calibration from predictions of held-out ratings.

    Args:
        shown: The histories and ratings.
        mean: Expected ratings, [M].
        sd: Their standard deviations, [M].
        like_above: A rating above it is a like.

    Returns:
        The calibration: the spread by least squares of the logarithms of the mean squared deviation, the chances by
        logistic regression. Where there are too few ratings, or only likes or none, what the normal distribution says.
    """
    if len(mean) < FEWEST:
        return RatingCalibration()
    count = shown.wanted_count
    spread = _spread(np.log1p(count), ((shown.wanted_rating - mean) / sd) ** 2)
    found = RatingCalibration(spread=spread)
    liked = shown.wanted_rating > like_above
    if liked.all() or not liked.any():
        return found
    from sklearn.linear_model import LogisticRegression

    x, z = np.log1p(count), (mean - like_above) / found.sd(sd, count)
    fitted = LogisticRegression(C=1e3, tol=1e-8, max_iter=1_000).fit(np.stack([z, x, z * x], axis=1), liked)
    return found.model_copy(
        update={"chance": (float(fitted.intercept_[0]), *(float(one) for one in fitted.coef_[0]))}
    )


def _spread(x: Doubles, squares: Doubles) -> tuple[float, float]:
    """Fit squared standardised deviations as ``exp(2 (a + b x))``, by the likelihood of a normal distribution."""
    design = np.stack([np.ones_like(x), x], axis=1)
    weights = np.array([np.log(max(squares.mean(), _LEAST_SD)), 0.0])
    for _ in range(20):  # Fisher scoring
        excess = squares * np.exp(-design @ weights) - 1
        weights = weights + np.linalg.solve(design.T @ design + 1e-6 * np.eye(2), design.T @ excess)
    return float(weights[0] / 2), float(weights[1] / 2)
