"""Counts and sums of ratings by category, the input of the label rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from palate.schema import Bools, Doubles, Floats, Interactions, Ints

LEAST_SHARE = 1e-6
"""Minimum share of a category, to avoid division by zero for categories that no training user has."""


@dataclass(frozen=True, eq=False)
class CategoryStatistics:
    """Number and sum of ratings of each category for B users, the input of the label rule."""

    count: Ints  # [B, L] number of ratings
    total: Doubles  # [B, L] sum of ratings
    length: Ints  # [B] number of all interactions
    whole: Doubles  # [B] sum of all ratings

    def __getitem__(self, rows: slice | Ints | Bools) -> CategoryStatistics:
        return CategoryStatistics(self.count[rows], self.total[rows], self.length[rows], self.whole[rows])


def category_statistics(
    interactions: Interactions, category_matrix: Bools, rating_values: Floats
) -> CategoryStatistics:
    """Count and sum the ratings of each user by category.

    Sums are float64, so that equal means of half-star ratings compare equal.

    Args:
        interactions: Interactions of U users.
        category_matrix: Mask of each item's categories, [I, L].
        rating_values: The rating scale, [R].

    Returns:
        Statistics with one row per user, [U, L].
    """
    shape = (len(interactions.offsets) - 1, category_matrix.shape[0])
    categories = sparse.csr_matrix(category_matrix.astype(np.float64))

    def per_category(values: Doubles) -> Doubles:
        by_item = sparse.csr_matrix((values, interactions.item_index, interactions.offsets), shape=shape)
        return np.asarray((by_item @ categories).todense())

    ratings = rating_values.astype(np.float64)[interactions.rating_index]
    count, total = per_category(np.ones(len(interactions))), per_category(ratings)
    summed = np.concatenate([[0.0], np.cumsum(ratings)])
    whole = summed[interactions.offsets[1:]] - summed[interactions.offsets[:-1]]
    return CategoryStatistics(count.astype(np.int64), total, interactions.lengths, whole)


def category_scores(statistics: CategoryStatistics, shares: Doubles | None = None) -> Doubles:
    """Compute the score of each category for B users, [B, L].

    Args:
        statistics: Their statistics.
        shares: Shares of the categories in the training users' histories, [L]; None for data with ratings.

    Returns:
        Mean ratings, 0 for categories without any; with ``shares``, the categories' shares of the users' histories as
        multiples of ``shares``.
    """
    if shares is None:
        return np.asarray(statistics.total / np.maximum(statistics.count, 1))
    return np.asarray(
        statistics.total / np.maximum(statistics.whole[:, None], 1e-9) / np.maximum(shares, LEAST_SHARE)
    )


def category_shares(statistics: CategoryStatistics) -> Doubles:
    """Compute each category's share of the users' interactions, weighted by rating, [L]."""
    shares: Doubles = statistics.total.sum(axis=0) / max(statistics.whole.sum(), 1e-9)
    return shares
