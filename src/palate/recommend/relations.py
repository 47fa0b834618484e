"""Relations between items: how much an event with one item speaks for another.

A relation is a matrix of items by items, of which each row may keep only its largest entries, or the inner products of
item vectors, which items that nobody has interacted with have, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from palate.schema import Floats, Interactions, Ints

REACH = 10
"""Interactions after an item that still count as following it."""
FOLLOWING_DECAY = 0.5


@dataclass(frozen=True, eq=False)
class PairRelation:
    """Relation of items of the training data, as a matrix [I, I], sparse or dense: rows are a history's items."""

    matrix: sparse.csr_matrix | Floats

    def product(self, events: sparse.csr_matrix) -> sparse.csr_matrix | Floats:
        """Score every item, [B, I], sparse where the matrix is."""
        return events @ self.matrix

    def scores(self, events: sparse.csr_matrix) -> Floats:
        """Score every item, [B, I], from the weights of the events' items [B, I]."""
        return _dense(self.product(events))

    def of_items(self, events: sparse.csr_matrix, items: Ints) -> Floats:
        """Score some items, [B, C], as :meth:`scores` does."""
        if isinstance(self.matrix, np.ndarray):
            return _dense(events @ self.matrix[:, items])
        return _dense(self.product(events)[:, items])

    def padded(self, new: int) -> PairRelation:
        """Add ``new`` items that nothing is related to."""
        if isinstance(self.matrix, np.ndarray):
            return PairRelation(np.pad(self.matrix, (0, new)))
        items = self.matrix.shape[0] + new
        offsets = np.pad(self.matrix.indptr, (0, new), mode="edge")
        return PairRelation(
            sparse.csr_matrix((self.matrix.data, self.matrix.indices, offsets), shape=(items, items))
        )

    def among(self, items: Ints) -> Floats:
        """Relate some items to each other, [C, C]."""
        return _dense(self.matrix[items][:, items])


@dataclass(frozen=True, eq=False)
class VectorRelation:
    """Relation by the inner product of item vectors [I, S], dense or sparse."""

    vectors: Floats | sparse.csr_matrix
    kept: Floats | None = (
        None  # [I] lengths that vectors had before they were made 1; None if that says nothing
    )

    def product(self, events: sparse.csr_matrix) -> sparse.csr_matrix | Floats:
        """Score every item, [B, I], sparse where the vectors are."""
        return (events @ self.vectors) @ self.vectors.T

    def scores(self, events: sparse.csr_matrix) -> Floats:
        """Score every item, [B, I], from the weights of the events' items [B, I]."""
        return _dense(self.product(events))

    def of_items(self, events: sparse.csr_matrix, items: Ints) -> Floats:
        """Score some items, [B, C], as :meth:`scores` does."""
        return _dense((events @ self.vectors) @ self.vectors[items].T)

    def followed_by(self, other: VectorRelation) -> VectorRelation:
        """Append the vectors of other items."""
        kept = None
        if self.kept is not None and other.kept is not None:
            kept = np.concatenate([self.kept, other.kept])
        if isinstance(self.vectors, np.ndarray):
            return VectorRelation(np.concatenate([self.vectors, other.vectors]), kept)
        return VectorRelation(sparse.vstack([self.vectors, other.vectors], format="csr"), kept)

    def among(self, items: Ints) -> Floats:
        """Relate some items to each other, [C, C]."""
        return self.between(items, items)

    def between(self, items: Ints, others: Ints) -> Floats:
        """Relate some items to others, [C, N]."""
        return _dense(self.vectors[items] @ self.vectors[others].T)


Relation: TypeAlias = "PairRelation | VectorRelation"


def membership_matrix(events: Interactions, items: int) -> sparse.csr_matrix:
    """Which user has interacted with which item, [U, I], as zeros and ones."""
    content = (np.ones(len(events), dtype=np.float32), events.item_index, events.offsets)
    shape = (len(events.offsets) - 1, items)
    matrix = sparse.csr_matrix(
        content, shape=shape, copy=True
    )  # its indices are sorted in place, and order counts
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def cooccurrence(events: Interactions, items: int, damping: float, keep: int) -> PairRelation:
    """Cosine of the sets of users of two items, with ``damping`` added to its denominator."""
    matrix = membership_matrix(events, items)
    together = (matrix.T @ matrix).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    return PairRelation(keep_largest(_damped(together, events, damping), keep))


def succession(events: Interactions, items: int, damping: float, keep: int) -> PairRelation:
    """How often the column's item followed the row's soon after: the next counts 1, each later one half as much."""
    user = events.owner
    total = sparse.csr_matrix((items, items), dtype=np.float32)
    for distance in range(1, REACH + 1):
        same = user[:-distance] == user[distance:]
        if not same.any():
            break
        first, second = events.item_index[:-distance][same], events.item_index[distance:][same]
        weight = np.full(len(first), FOLLOWING_DECAY ** (distance - 1), dtype=np.float32)
        total = total + sparse.csr_matrix((weight, (first, second)), shape=(items, items))
    return PairRelation(keep_largest(_damped(total, events, damping), keep))


def regression(events: Interactions, items: int, penalty: float) -> PairRelation:
    """Ridge regression of each item on all others (EASE, Steck 2019), in memory for a square of the items."""
    matrix = membership_matrix(events, items)
    gram = (matrix.T @ matrix).toarray(order="F")
    gram[np.diag_indices(items)] += penalty
    factor, _ = lapack.spotrf(gram, lower=True, overwrite_a=True)
    inverse, _ = lapack.spotri(factor, lower=True, overwrite_c=True)
    inverse += np.tril(inverse, -1).T - np.triu(inverse, 1)  # only the lower half was computed
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0.0)
    return PairRelation(np.ascontiguousarray(inverse))


def keep_largest(matrix: sparse.csr_matrix, keep: int) -> sparse.csr_matrix:
    """Drop all but the ``keep`` entries of each row with the largest absolute value."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-np.abs(matrix.data), rows))
    place = np.arange(len(order)) - matrix.indptr[rows]  # rows are sorted already: the order keeps them
    chosen = np.sort(order[place < keep])
    found = (matrix.data[chosen], (rows[chosen], matrix.indices[chosen]))
    kept = sparse.csr_matrix(found, shape=matrix.shape, dtype=np.float32)
    kept.eliminate_zeros()
    return kept


def _damped(counts: sparse.csr_matrix, events: Interactions, damping: float) -> sparse.csr_matrix:
    number = np.bincount(events.item_index, minlength=counts.shape[0]).astype(np.float32)
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    scaled = counts.data / (np.sqrt(number[rows] * number[counts.indices]) + damping)
    return sparse.csr_matrix((scaled.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)


def _dense(matrix: sparse.csr_matrix | Floats) -> Floats:
    found: Floats = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
    return found


def add_scores(total: Floats, scores: sparse.csr_matrix | Floats) -> None:
    """Add the product of a relation to ``total`` [B, I], in place."""
    if isinstance(scores, np.ndarray):
        total += scores
    else:  # few entries in a large catalogue: only those are touched
        rows = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
        total[rows, scores.indices] += scores.data


def unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale the rows of a matrix to length 1; rows of zeros stay."""
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags(1.0 / np.maximum(norm, 1e-6)) @ matrix).tocsr().astype(np.float32)
