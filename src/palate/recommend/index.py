"""Approximate candidate retrieval for large catalogues, from ``faiss`` indices of item vectors.

Candidates are the nearest items by the network and by each relation of dense vectors, the best items by each sparse
relation, the most popular items, and new items. Candidates are then scored exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from palate.recommend.event_weights import event_matrix
from palate.recommend.relations import Relation, VectorRelation
from palate.recommend.scorer import Scorer
from palate.schema import Floats, Ints, Windows
from palate.system.extras import missing_extra

if TYPE_CHECKING:
    from palate.recommend.network import ItemNetwork

TRAINED_ON = 64
"""Training items per cluster."""
PROBED = 1 / 16
"""Share of the clusters that a search probes."""


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Retrieves candidate items for the users of one scorer."""

    scorer: Scorer
    size: int
    network: Any  # faiss index of the network's item vectors with the bias appended; None without a network
    relations: dict[str, Any]  # faiss indices of the relations' vectors
    popular: Ints

    @classmethod
    def of(cls, scorer: Scorer, size: int = 1000) -> ItemIndex:
        """Index the item vectors of a scorer.

        Args:
            scorer: Scorer to index.
            size: Number of candidates from each index and from popularity.

        Returns:
            The index.

        Raises:
            MissingExtraError: ``faiss`` is not installed.
        """
        _faiss()
        dense = {
            name: relation.vectors
            for name, relation in scorer.relations.items()
            if scorer.weights.relations[name].weight
            and isinstance(relation, VectorRelation)
            and isinstance(relation.vectors, np.ndarray)
        }
        network = None if scorer.network is None else _indexed(_with_bias(scorer.network))
        popular = np.argsort(-scorer.popularity, kind="stable")[:size]
        return cls(scorer, size, network, {name: _indexed(one) for name, one in dense.items()}, popular)

    def items(self, window: Windows) -> Ints:
        """Return the candidate items for one user's window, ascending."""
        scorer, found = self.scorer, [self.popular, self.scorer.new]
        for name, part in scorer.weights.relations.items():
            if part.weight:
                events = event_matrix(
                    window, part.events.of(window, scorer.deviations), len(scorer.popularity)
                )
                found.append(self._related(name, scorer.relations[name], events))
        if self.network is not None and scorer.network is not None and window.length[0]:
            query = scorer.network.query(scorer.chosen(window), scorer.deviations)
            found.append(self._nearest(self.network, np.append(query, [[np.float32(1)]], axis=1)))
        listed: Ints = np.unique(np.concatenate(found))
        return listed

    def _related(self, name: str, relation: Relation, events: sparse.csr_matrix) -> Ints:
        if name in self.relations and isinstance(relation, VectorRelation):
            return self._nearest(self.relations[name], np.asarray(events @ relation.vectors))
        scores = sparse.csr_matrix(relation.product(events))
        best = np.argsort(-scores.data, kind="stable")[: self.size]
        listed: Ints = scores.indices[best].astype(np.int64)
        return listed

    def _nearest(self, index: Any, query: Floats) -> Ints:
        _, found = index.search(np.ascontiguousarray(query, dtype=np.float32), self.size)
        nearest: Ints = found[0][found[0] >= 0]
        return nearest


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise missing_extra("an index needs faiss", "index") from None
    return faiss


def _with_bias(network: ItemNetwork) -> Floats:
    return np.concatenate([network.vectors, network.bias[:, None]], axis=1)


def _indexed(vectors: Floats) -> Any:
    """Build an inverted-file index of vectors by inner product."""
    faiss = _faiss()
    items, size = vectors.shape
    clusters = max(int(np.sqrt(items)), 1)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, clusters, faiss.METRIC_INNER_PRODUCT)
    rows = np.random.default_rng(0).permutation(items)[: clusters * TRAINED_ON]
    index.train(np.ascontiguousarray(vectors[np.sort(rows)]))
    index.add(np.ascontiguousarray(vectors))
    index.nprobe = max(int(clusters * PROBED), 8)
    return index
