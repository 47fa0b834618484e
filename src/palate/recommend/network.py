"""A small network from a history to a query vector, whose inner products with item vectors are next-item logits.

The query is computed from sums of the history's item vectors, one for each pooling (weights of the events): the newest
only, decayed by order or by time, uniform. These sums have a constant size. An item's vector is a learned embedding
plus a projection of its texts and categories; items without training interactions have the projection alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import sparse
from scipy.special import erf

from palate.recommend.event_weights import EventWeights, event_matrix
from palate.schema import Floats, Ints, Windows

NORM_EPSILON = 1e-5
_ITEM_ARRAYS = ("vectors", "bias", "projection", "new_bias")


@dataclass(frozen=True, eq=False)
class QueryNetwork:
    """Maps K pooled sums of size D to a query of size D: a linear map, plus a hidden layer of size H."""

    maps: Floats  # [K * D, D]
    hidden: Floats  # [K * D, H]
    hidden_bias: Floats  # [H]
    output: Floats  # [H, D]

    def __call__(self, sums: Floats) -> Floats:
        """Compute queries [B, D] from sums [B, K * D]."""
        centred = sums - sums.mean(axis=1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + NORM_EPSILON)
        before = normal @ self.hidden + self.hidden_bias
        active = before * (0.5 + 0.5 * erf(before / np.sqrt(2))).astype(np.float32)  # GELU
        query: Floats = sums @ self.maps + active @ self.output
        return query


@dataclass(frozen=True, eq=False)
class ItemNetwork:
    """Computes logits of I items from histories."""

    poolings: tuple[EventWeights, ...]
    """Event weights of each of the K sums."""
    network: QueryNetwork
    vectors: Floats  # [I, D]
    bias: Floats  # [I]
    projection: Floats  # [S, D] from text and category vectors to item vectors; S is 0 without content
    new_bias: Floats  # [1] bias of items without training interactions

    def sums(self, windows: Windows, deviations: Floats) -> Floats:
        """Sum the item vectors of B windows by each pooling, [B, K * D]."""
        matrix = pooled_events(windows, self.poolings, deviations, len(self.vectors))
        sums: Floats = np.hstack(np.split(matrix @ self.vectors, len(self.poolings)))
        return sums

    def query(self, windows: Windows, deviations: Floats) -> Floats:
        """Compute the queries of B windows, [B, D]."""
        return self.network(self.sums(windows, deviations))

    def logits(self, windows: Windows, deviations: Floats, items: Ints | None = None) -> Floats:
        """Compute the logits of items for B windows.

        Args:
            windows: Histories.
            deviations: Each rating value in standard deviations from the mean, [R].
            items: Item indices, [C]; all items if None.

        Returns:
            The logits, [B, C] or [B, I].
        """
        vectors, bias = (
            (self.vectors, self.bias) if items is None else (self.vectors[items], self.bias[items])
        )
        logits: Floats = self.query(windows, deviations) @ vectors.T
        logits += bias
        return logits

    def with_items(self, content: Floats) -> ItemNetwork:
        """Return a network with additional items, given by their content vectors [N, S]."""
        vectors = np.concatenate([self.vectors, content @ self.projection])
        bias = np.concatenate([self.bias, np.repeat(self.new_bias, len(content))])
        return replace(self, vectors=vectors, bias=bias)

    def arrays(self) -> dict[str, Floats]:
        """Return the learned arrays by name."""
        query = {one.name: getattr(self.network, one.name) for one in fields(QueryNetwork)}
        return {**query, **{name: getattr(self, name) for name in _ITEM_ARRAYS}}

    @classmethod
    def of_arrays(cls, poolings: tuple[EventWeights, ...], arrays: dict[str, Floats]) -> ItemNetwork:
        """Build a network from the arrays that :meth:`arrays` returned."""
        query = QueryNetwork(*(arrays[one.name] for one in fields(QueryNetwork)))
        return cls(poolings, query, *(arrays[name] for name in _ITEM_ARRAYS))


def pooled_events(
    windows: Windows, poolings: tuple[EventWeights, ...], deviations: Floats, items: int
) -> sparse.csr_matrix:
    """Compute weights of items for B windows by each of K poolings, [K * B, I]; each row has unit length."""
    weight = np.concatenate([one.of(windows, deviations) for one in poolings])
    matrix = event_matrix(repeated(windows, len(poolings)), weight, items)
    square = sparse.csr_matrix((matrix.data**2, matrix.indices, matrix.indptr), shape=matrix.shape)
    length = np.sqrt(square @ np.ones(items, dtype=np.float32))
    matrix.data /= np.repeat(length, np.diff(matrix.indptr))
    return matrix


def repeated(windows: Windows, times: int) -> Windows:
    """Repeat all B windows, [times * B, P]."""
    return windows[np.tile(np.arange(len(windows)), times)]
