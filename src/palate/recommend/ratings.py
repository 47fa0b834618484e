"""Ratings of items as Gaussian models: item means, and a low-rank covariance of what users deviate from them by.

A rating is mean + item offset + item factors · user vector + noise. The user vector is normal a priori, so that a
user's own mean, too, is a direction of it, and the posterior of a new user is a sum over events: of two histories'
states the sum is the state of both. Which items a user has rated, whatever the ratings, says something, too: the mean
of the prior is linear in the average vector of these items (after Koren, 2008). Several such models that were fitted
from different starts answer together. A new item gets what its categories and texts say
(:mod:`palate.recommend.rating_fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import sparse

from palate.recommend.rating_calibration import ExpectedRatings, RatingCalibration
from palate.schema import Bools, Doubles, Floats, Indices, Interactions, Ints

SEEN_SHRINKAGE = 5.0
"""Mean items that are added to those of a user."""


@dataclass(frozen=True, eq=False)
class RatingState:
    """Sums over the rated events of B users, which events are added to and removed from exactly, up to rounding."""

    precision: Doubles  # [B, M, K, K] without the prior's
    vector: Doubles  # [B, M, K]
    seen: Doubles  # [B, M, K + 1] of the items' factors and offsets
    count: Doubles  # [B]

    def __len__(self) -> int:
        return len(self.count)

    def plus(self, other: RatingState, sign: int = 1) -> RatingState:
        """Add the events of another state of the same users, or remove them with ``sign`` -1."""
        return RatingState(
            *(getattr(self, one.name) + sign * getattr(other, one.name) for one in fields(RatingState))
        )

    @classmethod
    def stacked(cls, states: Sequence[RatingState]) -> RatingState:
        """Put states of different users one after the other."""
        return cls(*(np.concatenate([getattr(one, field.name) for one in states]) for field in fields(cls)))


@dataclass(frozen=True, eq=False)
class RatingModel:
    """M models of I items with K factors each."""

    mean: float
    like_above: float
    noise: Doubles  # [M] variance of a rating around its expectation
    items: Floats  # [M, I, K + 1] factors, then the offset
    variance: Floats  # [M, I, K + 1] of these
    new: Bools  # [I] whether the item came after all ratings; another that nobody has rated is known by its prior
    content: Floats  # [M, D, K + 1] what a new item's features add to the means of these, before any rating
    content_variance: Floats  # [M, K + 1] of these around what the features say
    centre: Floats  # [M, K + 1] mean item of a rating
    taste: Floats  # [M, K + 1, K] from how a user's items differ from that to the mean of the user's vector
    calibration: RatingCalibration
    new_calibration: RatingCalibration
    """Of new items."""

    @property
    def rank(self) -> int:
        """Number of factors K."""
        return int(self.items.shape[2]) - 1

    def with_items(self, features: sparse.csr_matrix) -> RatingModel:
        """Append new items, which nobody has rated, by their features [J, D]."""
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
        """Replace items by what their features say of new ones.

        Args:
            chosen: Which items, J of them, [I].
            features: Their features, [J, D].
            content: Weights of the features, [M, D, K + 1].
            variance: Variances around what these say, [M, K + 1].

        Returns:
            The models with these items.
        """
        items, own = self.items.copy(), self.variance.copy()
        items[:, chosen] = np.stack([features @ one for one in content])
        own[:, chosen] = variance[:, None]
        return replace(self, items=items, variance=own)

    def state(self, users: Ints | Indices, item_index: Indices, ratings: Doubles, number: int) -> RatingState:
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
        """Sum the histories of users, of ratings [N]."""
        return self.state(events.owner, events.item_index, ratings, len(events.lengths))

    def posterior(self, state: RatingState) -> tuple[Doubles, Doubles]:
        """Compute means [B, M, K] and covariances [B, M, K, K] of the user vectors."""
        covariance: Doubles = np.linalg.inv(np.eye(self.rank) + state.precision).astype(np.float64)
        apart = seen_average(state.seen, state.count[:, None, None], self.centre)
        expected: Doubles = np.einsum("bmw,mwk->bmk", apart, self.taste)
        mean: Doubles = np.einsum("bmij,bmj->bmi", covariance, state.vector + expected)
        return mean, covariance

    def expected(self, state: RatingState, candidates: Indices) -> ExpectedRatings:
        """Predict the ratings of candidates [B, C] by users."""
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
        """Compute means and standard deviations of ratings, before the calibration.

        Args:
            users: Means of the user vectors, [B, M, K].
            covariance: Their covariances, [B, M, K, K].
            candidates: Items, [B, C].

        Returns:
            Both of [B, C]; models that disagree add to the deviation.
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
    """Average how the items of users differ from the mean item, drawn towards 0 where there are few.

    Args:
        seen: Sums of the items' vectors, [..., W].
        count: Numbers of items, [..., 1].
        centre: The mean item, [W] or of a shape like ``seen``.
    """
    apart: Doubles = (seen - count * centre) / (count + SEEN_SHRINKAGE)
    return apart


def second_moments(item: Doubles, variance: Doubles | Floats) -> tuple[Doubles, Doubles]:
    """Compute what a rating of each item adds to a user's precision and takes from the user's vector, times the noise.

    Args:
        item: Factors and offset of I items, [I, K + 1].
        variance: Their variances, [I, K + 1].

    Returns:
        Expected outer products of the factors, [I, K * K], and of factors and offset, [I, K].
    """
    k = item.shape[1] - 1
    factors = item[:, :k]
    outer = factors[:, :, None] * factors[:, None, :]
    diagonal = np.arange(k)
    outer[:, diagonal, diagonal] += variance[:, :k]
    return outer.reshape(len(item), k * k), factors * item[:, k, None]
