"""Counts and sums of ratings by category: what the label rule reads of a history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from palate.schema import Bools, Doubles, Floats, Interactions, Ints


@dataclass(frozen=True, eq=False)
class CategoryStatistics:
    """What the label rule reads: how often, and with what sum of ratings, each category was rated."""

    count: Ints  # [B, L]
    total: Doubles  # [B, L]
    length: Ints  # [B] interactions of any category
    whole: Doubles  # [B] sum of their ratings

    def __getitem__(self, rows: slice | Ints | Bools) -> CategoryStatistics:
        return CategoryStatistics(self.count[rows], self.total[rows], self.length[rows], self.whole[rows])


def category_statistics(
    interactions: Interactions, category_matrix: Bools, rating_values: Floats
) -> CategoryStatistics:
    """Count and sum the ratings of every user by category.

    ``category_matrix`` is [I, L], ``rating_values`` [R]; the result has one row a user, [U, L]. Sums are in double
    precision, so that equal means of half-star ratings compare equal.
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


def category_shares(statistics: CategoryStatistics) -> Doubles:
    """The share of the B users' histories that each category takes, weighted by rating, [L]."""
    shares: Doubles = statistics.total.sum(axis=0) / max(statistics.whole.sum(), 1e-9)
    return shares
