"""Gaussian rating models: item means plus a low-rank covariance of users' deviations.

A rating is mean + item offset + item factors · user vector + noise. The user vector has a normal prior; a user's own
mean rating is one of its directions. The posterior is computed from sums over events, so states of disjoint histories
add up. The prior mean is linear in the average vector of the rated items, because which items a user rates is
informative whatever the ratings (after Koren, 2008). Several models fitted from different initial values are averaged.
New items get priors from their categories and texts (:mod:`palate.recommend.rating_fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import sparse

from palate.recommend.rating_calibration import ExpectedRatings, RatingCalibration
from palate.schema import Bools, Doubles, Floats, Indices, Interactions, Ints

SEEN_SHRINKAGE = 5.0
"""Pseudo-count that shrinks a user's average item towards the mean item."""


@dataclass(frozen=True, eq=False)
class RatingState:
    """Sufficient statistics of B users' rated events; events are added and removed exactly, up to rounding."""

    precision: Doubles  # [B, M, K, K] posterior precision without the prior's
    vector: Doubles  # [B, M, K]
    seen: Doubles  # [B, M, K + 1] sums of the rated items' factors and offsets
    count: Doubles  # [B] number of ratings

    def __len__(self) -> int:
        return len(self.count)

    def plus(self, other: RatingState, sign: int = 1) -> RatingState:
        """Add the events of another state of the same users, or remove them with ``sign`` -1."""
        return RatingState(
            *(getattr(self, one.name) + sign * getattr(other, one.name) for one in fields(RatingState))
        )

    @classmethod
    def stacked(cls, states: Sequence[RatingState]) -> RatingState:
        """Concatenate states of different users."""
        return cls(*(np.concatenate([getattr(one, field.name) for one in states]) for field in fields(cls)))


@dataclass(frozen=True, eq=False)
class RatingModel:
    """M rating models of I items with K factors each."""

    mean: float
    like_above: float
    noise: Doubles  # [M] variance of a rating around its expectation
    items: Floats  # [M, I, K + 1] posterior means: factors, then the offset
    variance: Floats  # [M, I, K + 1] posterior variances
    new: (
        Bools  # [I] whether the item was added after all ratings; other unrated items keep their fitted prior
    )
    content: Floats  # [M, D, K + 1] feature weights of a new item's prior mean
    content_variance: Floats  # [M, K + 1] variances around that mean
    centre: Floats  # [M, K + 1] mean item vector over ratings
    taste: Floats  # [M, K + 1, K] from a user's average item minus the centre to the user vector's prior mean
    calibration: RatingCalibration
    new_calibration: RatingCalibration
    """Calibration for new items."""

    @property
    def rank(self) -> int:
        """Number of factors K."""
        return int(self.items.shape[2]) - 1

    def with_items(self, features: sparse.csr_matrix) -> RatingModel:
        """Append new, unrated items, given by their features [J, D]."""
        more = features.shape[0]
        room = np.zeros((len(self.items), more, self.rank + 1), dtype=np.float32)
        grown = replace(
            self,
            items=np.concatenate([self.items, room], axis=1),
            variance=np.concatenate([self.variance, room], axis=1),
            new=np.concatenate([self.new, np.ones(more, dtype=np.bool_)]),
        )
        last = np.arange(grown.items.shape[1]) >= self.items.shape[1]
        return grown.with_new(last, features, self.content, self.content_variance)

    def with_new(
        self, chosen: Bools, features: sparse.csr_matrix, content: Floats, variance: Floats
    ) -> RatingModel:
        """Replace items by their priors as new items.

        Args:
            chosen: Mask of the J items to replace, [I].
            features: Their features, [J, D].
            content: Feature weights, [M, D, K + 1].
            variance: Variances around the prior means, [M, K + 1].

        Returns:
            The models with these items replaced.
        """
        items, own = self.items.copy(), self.variance.copy()
        items[:, chosen] = np.stack([features @ one for one in content])
        own[:, chosen] = variance[:, None]
        return replace(self, items=items, variance=own)

    def state(self, users: Ints | Indices, item_index: Indices, ratings: Doubles, number: int) -> RatingState:
        """Compute the states of users from their events.

        Args:
            users: The user of each event, [N] from 0 to ``number`` - 1.
            item_index: Item of each event, [N].
            ratings: Rating of each event, [N].
            number: Number of users B.

        Returns:
            The states of B users.
        """
        k = self.rank
        index, place = np.unique(item_index, return_inverse=True)
        shape = (number, len(index))
        rated = sparse.csr_matrix((np.ones(len(users)), (users, place)), shape=shape)
        told = sparse.csr_matrix((ratings - self.mean, (users, place)), shape=shape)
        precision, vector, seen = [], [], []
        for noise, items, variance in zip(self.noise, self.items, self.variance, strict=True):
            item = items[index].astype(np.float64)
            outer, shift = second_moments(item, variance[index])
            precision.append((rated @ outer).reshape(number, k, k) / noise)
            vector.append((told @ item[:, :k] - rated @ shift) / noise)
            seen.append(rated @ item)
        count = np.bincount(users, minlength=number).astype(np.float64)
        return RatingState(np.stack(precision, 1), np.stack(vector, 1), np.stack(seen, 1), count)

    def states(self, events: Interactions, ratings: Doubles) -> RatingState:
        """Compute the states of users from their histories and ratings [N]."""
        return self.state(events.owner, events.item_index, ratings, len(events.lengths))

    def posterior(self, state: RatingState) -> tuple[Doubles, Doubles]:
        """Compute posterior means [B, M, K] and covariances [B, M, K, K] of the user vectors."""
        covariance: Doubles = np.linalg.inv(np.eye(self.rank) + state.precision).astype(np.float64)
        apart = seen_average(state.seen, state.count[:, None, None], self.centre)
        expected: Doubles = np.einsum("bmw,mwk->bmk", apart, self.taste)
        mean: Doubles = np.einsum("bmij,bmj->bmi", covariance, state.vector + expected)
        return mean, covariance

    def expected(self, state: RatingState, candidates: Indices) -> ExpectedRatings:
        """Predict the calibrated ratings of candidates [B, C]."""
        mean, sd = self.moments(*self.posterior(state), candidates)
        known, new = (
            one.ratings(mean, sd, state.count[:, None], self.like_above)
            for one in (self.calibration, self.new_calibration)
        )
        is_new = self.new[candidates]
        return ExpectedRatings(
            mean, np.where(is_new, new.sd, known.sd), np.where(is_new, new.chance, known.chance)
        )

    def moments(self, users: Doubles, covariance: Doubles, candidates: Indices) -> tuple[Doubles, Doubles]:
        """Compute means and standard deviations of ratings before calibration.

        Args:
            users: Posterior means of the user vectors, [B, M, K].
            covariance: Their covariances, [B, M, K, K].
            candidates: Item indices, [B, C].

        Returns:
            Both of shape [B, C]; disagreement between models adds to the deviation.
        """
        k = self.rank
        means, variances = [], []
        for at, noise in enumerate(self.noise):
            item, own = self.items[at][candidates], self.variance[at][candidates]  # [B, C, K + 1]
            user, spread = users[:, at], covariance[:, at]
            means.append(self.mean + np.einsum("bck,bk->bc", item[..., :k], user) + item[..., k])
            squares = np.einsum("bii->bi", spread) + user**2
            variances.append(
                noise
                + np.einsum("bck,bck->bc", item[..., :k] @ spread, item[..., :k])
                + np.einsum("bck,bk->bc", own[..., :k], squares)
                + own[..., k]
            )
        together = np.stack(means)
        return together.mean(axis=0), np.sqrt(np.mean(variances, axis=0) + together.var(axis=0))


def seen_average(seen: Doubles, count: Doubles, centre: Floats | Doubles) -> Doubles:
    """Average users' items relative to the mean item, shrunk to 0 where there are few.

    Args:
        seen: Sums of the items' vectors, [..., W].
        count: Numbers of items, [..., 1].
        centre: Mean item vector, [W] or broadcastable to ``seen``.
    """
    apart: Doubles = (seen - count * centre) / (count + SEEN_SHRINKAGE)
    return apart


def second_moments(item: Doubles, variance: Doubles | Floats) -> tuple[Doubles, Doubles]:
    """Compute each item's contributions to a user's precision and vector, times the noise variance.

    Args:
        item: Posterior means of factors and offset of I items, [I, K + 1].
        variance: Their variances, [I, K + 1].

    Returns:
        Expected outer products of the factors, [I, K * K], and expected products of factors and offset, [I, K].
    """
    k = item.shape[1] - 1
    factors = item[:, :k]
    outer = factors[:, :, None] * factors[:, None, :]
    diagonal = np.arange(k)
    outer[:, diagonal, diagonal] += variance[:, :k]
    return outer.reshape(len(item), k * k), factors * item[:, k, None]
