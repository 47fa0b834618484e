"""Ratings of items as a Gaussian model: item means, and a low-rank covariance of what users deviate from them by.

A rating is mean + item offset + item factors · user vector + noise. The user vector is standard normal a priori, so
that a user's own mean, too, is a direction of it, and the posterior of a new user is a sum over events: of two
histories' states the sum is the state of both. Items are estimated by variational Bayes with a common Gaussian
prior, whose mean is what an item that nobody has rated gets (after Lim and Teh, 2007).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import sparse
from scipy.special import ndtr

from palate.schema import Doubles, Indices, Interactions

LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class RatingState:
    """Sums over the rated events of B users, which events are added to and removed from exactly, up to rounding."""

    precision: Doubles  # [B, K, K] without the prior's
    vector: Doubles  # [B, K]
    count: Doubles  # [B]

    def __len__(self) -> int:
        return len(self.count)

    def plus(self, other: RatingState, sign: int = 1) -> RatingState:
        """Add the events of another state of the same users, or remove them with ``sign`` -1."""
        return RatingState(
            *(getattr(self, one.name) + sign * getattr(other, one.name) for one in fields(RatingState))
        )


@dataclass(frozen=True, eq=False)
class ExpectedRatings:
    """Normal distributions of ratings of B users and C items."""

    mean: Doubles  # [B, C]
    sd: Doubles  # [B, C]

    def chance_above(self, threshold: float) -> Doubles:
        """Probability that a rating is above a threshold, [B, C]."""
        chance: Doubles = ndtr((self.mean - threshold) / self.sd)
        return chance


@dataclass(frozen=True, eq=False)
class RatingModel:
    """Item offsets and factors with their uncertainty, of I items and K factors."""

    mean: float
    noise: float  # variance of a rating around its expectation
    items: Doubles  # [I, K + 1] factors, then the offset
    covariance: Doubles  # [I, K + 1, K + 1] of these

    @property
    def rank(self) -> int:
        """Number of factors K."""
        return int(self.items.shape[1]) - 1

    def state(self, users: Indices, item_index: Indices, ratings: Doubles, number: int) -> RatingState:
        """Sum the events of users.

        Args:
            users: The user of each event, [N] from 0 to ``number`` - 1.
            item_index: Item of each event, [N].
            ratings: Rating of each event, [N].
            number: Number of users B.

        Returns:
            Their states.
        """
        k = self.rank
        owner = sparse.csr_matrix(
            (np.ones(len(users)), (users, np.arange(len(users)))), shape=(number, len(users))
        )
        f, c = self.items[item_index], self.covariance[item_index]
        outer = f[:, :k, None] * f[:, None, :k] + c[:, :k, :k]
        vector = f[:, :k] * (ratings - self.mean - f[:, k])[:, None] - c[:, :k, k]
        return RatingState(
            (owner @ outer.reshape(len(users), k * k)).reshape(number, k, k) / self.noise,
            owner @ vector / self.noise,
            np.bincount(users, minlength=number).astype(np.float64),
        )

    def posterior(self, state: RatingState) -> tuple[Doubles, Doubles]:
        """Compute means [B, K] and covariances [B, K, K] of the user vectors."""
        covariance: Doubles = np.linalg.inv(np.eye(self.rank) + state.precision).astype(np.float64)
        mean: Doubles = np.einsum("bij,bj->bi", covariance, state.vector)
        return mean, covariance

    def expected(self, state: RatingState, candidates: Indices) -> ExpectedRatings:
        """Predict the ratings of candidates [B, C] by users."""
        mean, covariance = self.posterior(state)
        user = np.concatenate([mean, np.ones((len(mean), 1))], axis=1)
        item = self.items[candidates]  # [B, C, K + 1]
        factors = item[..., : self.rank]
        expected = self.mean + np.einsum("bck,bk->bc", item, user)
        variance = np.einsum("bci,bij,bcj->bc", factors, covariance, factors) + self.noise
        variance += np.einsum("bi,bcij,bj->bc", user, self.covariance[candidates], user)
        return ExpectedRatings(expected, np.sqrt(variance))


def fit_ratings(
    events: Interactions, ratings: Doubles, items: int, rank: int, iterations: int, rng: np.random.Generator
) -> RatingModel:
    """Fit the model by variational Bayes.

    Args:
        events: Interactions of U users.
        ratings: Rating of each, [N].
        items: Number of items I.
        rank: Number of factors K.
        iterations: Passes over users and items.
        rng: Random number generator, for the start.

    Returns:
        The fitted model.
    """
    users = len(events.offsets) - 1
    matrix = sparse.csr_matrix(
        (ratings - ratings.mean(), events.item_index, events.offsets), shape=(users, items)
    )
    rated = matrix.copy()
    rated.data[:] = 1.0
    return _Fit(float(ratings.mean()), matrix, rated, rank, rng).run(iterations)


class _Fit:
    """Working arrays of one fit; the number of values of a row is K + 1 with the constant, called W."""

    def __init__(
        self,
        mean: float,
        matrix: sparse.csr_matrix,
        rated: sparse.csr_matrix,
        rank: int,
        rng: np.random.Generator,
    ) -> None:
        self.mean, self.matrix, self.rated, self.rank = mean, matrix, rated, rank
        width, items = rank + 1, matrix.shape[1]
        variance = max(float(matrix.data.var()), LEAST)
        self.noise = 0.7 * variance
        counts = np.asarray(rated.sum(axis=0)).ravel()
        self.item = rng.normal(0, 0.1 * np.sqrt(variance), (items, width))
        self.item[:, 0] += 0.4 * np.sqrt(variance)
        self.item[:, rank] = np.asarray(matrix.sum(axis=0)).ravel() / (counts + 5)
        self.item_cov = np.zeros((items, width, width))
        self.prior_mean = self.item.mean(axis=0)
        self.prior_var = np.full(width, 0.1 * variance)

    def run(self, iterations: int) -> RatingModel:
        for _ in range(iterations):
            user, second = self._users()
            self._items(user, second)
            self._noise(user, second)
        return RatingModel(self.mean, self.noise, self.item, self.item_cov)

    def _users(self) -> tuple[Doubles, Doubles]:
        """Posterior of the users: means with a constant [U, W], second moments [U, W, W]."""
        k, (users, items) = self.rank, self.matrix.shape
        f = self.item[:, :k]
        outer = f[:, :, None] * f[:, None, :] + self.item_cov[:, :k, :k]
        precision = (self.rated @ outer.reshape(items, k * k)).reshape(users, k, k) / self.noise + np.eye(k)
        shift = f * self.item[:, k, None] + self.item_cov[:, :k, k]
        covariance = np.linalg.inv(precision)
        mean = np.einsum("uij,uj->ui", covariance, (self.matrix @ f - self.rated @ shift) / self.noise)
        user = np.concatenate([mean, np.ones((users, 1))], axis=1)
        second = user[:, :, None] * user[:, None, :]
        second[:, :k, :k] += covariance
        return user, second

    def _items(self, user: Doubles, second: Doubles) -> None:
        """Posterior of the items, and their prior's moments."""
        items, width = self.item.shape
        moments = (self.rated.T @ second.reshape(len(user), width * width)).reshape(items, width, width)
        precision = moments / self.noise + np.diag(1 / self.prior_var)
        self.item_cov = np.linalg.inv(precision)
        told = self.matrix.T @ user / self.noise + self.prior_mean / self.prior_var
        self.item = np.einsum("iab,ib->ia", self.item_cov, told)
        known = np.asarray(self.rated.sum(axis=0)).ravel() > 0
        if known.any():
            self.prior_mean = self.item[known].mean(axis=0)
            spread = (self.item[known] - self.prior_mean) ** 2
            own = np.diagonal(self.item_cov[known], axis1=1, axis2=2)
            self.prior_var = np.maximum((spread + own).mean(axis=0), LEAST)

    def _noise(self, user: Doubles, second: Doubles) -> None:
        """Set the noise to the expected squared residual of a rating."""
        items, width = self.item.shape
        moments = self.item[:, :, None] * self.item[:, None, :] + self.item_cov
        per_user = (self.rated @ moments.reshape(items, width * width)).reshape(second.shape)
        squares = float(self.matrix.data @ self.matrix.data)
        cross = float(np.einsum("uw,uw->", self.matrix @ self.item, user))
        explained = float(np.einsum("uab,uab->", per_user, second))
        self.noise = max((squares - 2 * cross + explained) / max(self.matrix.nnz, 1), LEAST)
