"""Calibration of predicted ratings: standard deviations and like probabilities for histories of any length.

It is fitted on training users that the predictor was not fitted on: part of each history is shown, and the rest is
predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from palate.schema import Doubles, Indices, Interactions, Ints
from palate.system.records import Frozen

HELD_OUT_SHARE, MOST_HELD_OUT = 0.1, 1_000
"""Share of the training users that are held out, and the maximum number of them."""
SHOWINGS = 4
"""Shown histories of different lengths for each held-out user."""
FEWEST = 50
"""Held-out ratings below which no calibration is fitted."""
_LEAST_SD = 1e-3


@dataclass(frozen=True, eq=False)
class ExpectedRatings:
    """Predicted rating distributions for B users and C items."""

    mean: Doubles  # [B, C]
    sd: Doubles  # [B, C]
    chance: Doubles  # [B, C] probability that the item is liked


class RatingCalibration(Frozen):
    """Calibration parameters; ``x`` is log(1 + number of the user's ratings)."""

    spread: tuple[float, float] = (0.0, 0.0)
    """Log of the standard deviation's factor: ``spread[0] + spread[1] x``."""
    chance: tuple[float, float, float, float] = (0.0, 1.702, 0.0, 0.0)
    """Log-odds of a like: ``chance[0] + chance[1] z + chance[2] x + chance[3] z x``, where z is the expected rating
    minus the threshold in calibrated standard deviations. The default is close to the normal distribution."""

    def sd(self, sd: Doubles, count: Doubles | Ints) -> Doubles:
        """Calibrate standard deviations [...] by the number of ratings that each prediction is based on."""
        return np.maximum(sd * np.exp(self.spread[0] + self.spread[1] * np.log1p(count)), _LEAST_SD)

    def like(self, z: Doubles, count: Doubles | Ints) -> Doubles:
        """Compute like probabilities [...] from standardised distances to the threshold."""
        x = np.log1p(count)
        chance: Doubles = expit(
            self.chance[0] + self.chance[1] * z + self.chance[2] * x + self.chance[3] * z * x
        )
        return chance

    def ratings(
        self, mean: Doubles, sd: Doubles, count: Doubles | Ints, like_above: float
    ) -> ExpectedRatings:
        """Calibrate predictions [B, C] from histories with ``count`` ratings [B, 1]."""
        calibrated = self.sd(sd, count)
        return ExpectedRatings(mean, calibrated, self.like((mean - like_above) / calibrated, count))


@dataclass(frozen=True, eq=False)
class ShownHistories:
    """Shown histories of B users (N events), and M held-out ratings to predict from them, as flat columns."""

    events: Interactions
    values: Doubles  # [N] ratings of the events
    wanted_user: Ints  # [M] shown history, from 0 to B - 1
    wanted_item: Indices  # [M]
    wanted_rating: Doubles  # [M]

    @property
    def wanted_count(self) -> Ints:
        """Number of shown ratings behind each prediction, [M]."""
        return self.events.lengths[self.wanted_user]


def held_out_users(users: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Split U users into those to fit on and those to calibrate on, as indices."""
    number = min(max(int(HELD_OUT_SHARE * users), 1), MOST_HELD_OUT)
    order = rng.permutation(users)
    return np.sort(order[number:]), np.sort(order[:number])


def show_parts(events: Interactions, values: Doubles, rng: np.random.Generator) -> ShownHistories:
    """Split histories several times into a shown part, from nothing to most of it, and a held-out part.

    Args:
        events: Histories of U users.
        values: Rating of each event, [N].
        rng: Random number generator.

    Returns:
        The shown histories, :data:`SHOWINGS` per user, and the held-out ratings.
    """
    shown, wanted, owners = [], [], []
    lengths: list[int] = []
    for user in np.flatnonzero(events.lengths >= 2):
        rows = np.arange(events.offsets[user], events.offsets[user + 1])
        most = np.log(len(rows))
        for low in np.arange(SHOWINGS) / SHOWINGS:  # lengths are stratified on a logarithmic scale
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
    """Fit a calibration to predictions of held-out ratings.

    Args:
        shown: Shown histories and held-out ratings.
        mean: Expected ratings, [M].
        sd: Their standard deviations, [M].
        like_above: Ratings above this count as likes.

    Returns:
        The calibration: the spread by maximum likelihood, like probabilities by logistic regression. With too few
        ratings, or only likes or none, the default of the normal distribution.
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
    """Fit squared standardised residuals as ``exp(2 (a + b x))``, by normal maximum likelihood."""
    design = np.stack([np.ones_like(x), x], axis=1)
    weights = np.array([np.log(max(squares.mean(), _LEAST_SD)), 0.0])
    for _ in range(20):  # Fisher scoring
        excess = squares * np.exp(-design @ weights) - 1
        weights = weights + np.linalg.solve(design.T @ design + 1e-6 * np.eye(2), design.T @ excess)
    return float(weights[0] / 2), float(weights[1] / 2)
