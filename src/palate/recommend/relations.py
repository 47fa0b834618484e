"""Relations between items: how much an event with one item raises the score of another.

A relation is either a matrix of items by items, of which each row may keep only its largest entries, or the inner
products of item vectors, which items without interactions have, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from palate.schema import Floats, Interactions, Ints

REACH = 10
"""Maximum distance in a history at which an item counts as following another."""
FOLLOWING_DECAY = 0.5


@dataclass(frozen=True, eq=False)
class PairRelation:
    """Relation between items of the training data, as a sparse or dense matrix [I, I]; rows are a history's items."""

    matrix: sparse.csr_matrix | Floats

    def product(self, events: sparse.csr_matrix) -> sparse.csr_matrix | Floats:
        """Score every item, [B, I]; sparse if the matrix is."""
        return events @ self.matrix

    def scores(self, events: sparse.csr_matrix) -> Floats:
        """Score every item, [B, I], from the event weights of items [B, I]."""
        return _dense(self.product(events))

    def of_items(self, events: sparse.csr_matrix, items: Ints) -> Floats:
        """Score the given items [C], [B, C], as :meth:`scores` does."""
        if isinstance(self.matrix, np.ndarray):
            return _dense(events @ self.matrix[:, items])
        return _dense(self.product(events)[:, items])

    def padded(self, new: int) -> PairRelation:
        """Append ``new`` items that are related to none."""
        if isinstance(self.matrix, np.ndarray):
            return PairRelation(np.pad(self.matrix, (0, new)))
        items = self.matrix.shape[0] + new
        offsets = np.pad(self.matrix.indptr, (0, new), mode="edge")
        return PairRelation(
            sparse.csr_matrix((self.matrix.data, self.matrix.indices, offsets), shape=(items, items))
        )

    def among(self, items: Ints) -> Floats:
        """Return the relations among the given items, [C, C]."""
        return _dense(self.matrix[items][:, items])


@dataclass(frozen=True, eq=False)
class VectorRelation:
    """Relation by inner products of item vectors [I, S], dense or sparse."""

    vectors: Floats | sparse.csr_matrix
    kept: Floats | None = (
        None  # [I] lengths of the vectors before they were scaled to 1; None if not meaningful
    )

    def product(self, events: sparse.csr_matrix) -> sparse.csr_matrix | Floats:
        """Score every item, [B, I]; sparse if the vectors are."""
        return (events @ self.vectors) @ self.vectors.T

    def scores(self, events: sparse.csr_matrix) -> Floats:
        """Score every item, [B, I], from the event weights of items [B, I]."""
        return _dense(self.product(events))

    def of_items(self, events: sparse.csr_matrix, items: Ints) -> Floats:
        """Score the given items [C], [B, C], as :meth:`scores` does."""
        return _dense((events @ self.vectors) @ self.vectors[items].T)

    def followed_by(self, other: VectorRelation) -> VectorRelation:
        """Append the vectors of further items."""
        kept = None
        if self.kept is not None and other.kept is not None:
            kept = np.concatenate([self.kept, other.kept])
        if isinstance(self.vectors, np.ndarray):
            return VectorRelation(np.concatenate([self.vectors, other.vectors]), kept)
        return VectorRelation(sparse.vstack([self.vectors, other.vectors], format="csr"), kept)

    def among(self, items: Ints) -> Floats:
        """Return the relations among the given items, [C, C]."""
        return self.between(items, items)

    def between(self, items: Ints, others: Ints) -> Floats:
        """Return the relations of items to others, [C, N]."""
        return _dense(self.vectors[items] @ self.vectors[others].T)


Relation: TypeAlias = "PairRelation | VectorRelation"


def membership_matrix(events: Interactions, items: int) -> sparse.csr_matrix:
    """Build the user-item matrix, [U, I], of zeros and ones."""
    content = (np.ones(len(events), dtype=np.float32), events.item_index, events.offsets)
    shape = (len(events.offsets) - 1, items)
    matrix = sparse.csr_matrix(
        content, shape=shape, copy=True
    )  # sum_duplicates sorts the indices in place, and the events must keep their order
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def cooccurrence(events: Interactions, items: int, damping: float, keep: int) -> PairRelation:
    """Compute the cosine of two items' sets of users, with ``damping`` added to the denominator."""
    matrix = membership_matrix(events, items)
    together = (matrix.T @ matrix).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    return PairRelation(keep_largest(_damped(together, events, damping), keep))


def succession(events: Interactions, items: int, damping: float, keep: int) -> PairRelation:
    """Count how often the column's item follows the row's, each step of distance counting half, damped as a cosine."""
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
    """Fit :func:`ridge_weights` as a relation."""
    return PairRelation(np.ascontiguousarray(ridge_weights(events, items, penalty)))


def ridge_weights(events: Interactions, items: int, penalty: float) -> Floats:
    """Fit a ridge regression of each item on all others (EASE, Steck 2019).

    Args:
        events: The training interactions.
        items: Number of items I; memory grows with its square.
        penalty: L2 penalty, called lambda in the paper.

    Returns:
        The weights [I, I], zero on the diagonal, in float32.
    """
    matrix = membership_matrix(events, items)
    gram = (matrix.T @ matrix).toarray(order="F")
    gram[np.diag_indices(items)] += penalty
    factor, _ = lapack.spotrf(gram, lower=True, overwrite_a=True)
    inverse, _ = lapack.spotri(factor, lower=True, overwrite_c=True)
    inverse += np.tril(inverse, -1).T - np.triu(inverse, 1)  # only the lower half was computed
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0.0)
    return np.asarray(inverse)


def keep_largest(matrix: sparse.csr_matrix, keep: int) -> sparse.csr_matrix:
    """Drop all but the ``keep`` entries of each row with the largest absolute value."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-np.abs(matrix.data), rows))
    place = (
        np.arange(len(order)) - matrix.indptr[rows]
    )  # position within the row: lexsort keeps rows together
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
    """Add a relation's product to ``total`` [B, I], in place."""
    if isinstance(scores, np.ndarray):
        total += scores
    else:  # sparse scores of a large catalogue: touch their entries only
        rows = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
        total[rows, scores.indices] += scores.data


def unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale the rows of a matrix to unit length; rows of zeros stay zero."""
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags(1.0 / np.maximum(norm, 1e-6)) @ matrix).tocsr().astype(np.float32)
