"""Item kNN: items with the same users as those of a history, which are weighted by recency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field
from scipy import sparse

from palate.config.section import KindSettings
from palate.ranking.base import DevNdcg, picked
from palate.ranking.references.histories import decayed_histories
from palate.recommend.relations import membership_matrix
from palate.schema import Floats, Indices, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


class ItemKnnSettings(KindSettings):
    """Settings of :class:`ItemKnn`."""

    kind: str = "item-knn"
    shrinkage: float = Field(5.0, ge=0)
    """Added to the cosine's denominator, which lowers the similarity of items with few users."""
    decay: float = Field(0.5, ge=0, le=1)
    """Factor of a history item's weight for each newer one."""


class ItemKnn:
    """Scores an item by its similarity to the items of a history, the newest weighing most.

    The similarity of two items is the number of training users with both over the root of the product of their
    numbers of users plus the shrinkage.
    """

    def __init__(self, settings: ItemKnnSettings) -> None:
        self._settings = settings
        self._similarity: Any = None  # sparse [I, I], zero on the diagonal

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Compute the similarities."""
        chosen = membership_matrix(dataset.interactions, len(dataset.items)).astype(np.float64)
        users = np.asarray(chosen.sum(axis=0)).ravel()
        both = sparse.coo_matrix(chosen.T @ chosen)
        apart = both.row != both.col
        row, column, together = both.row[apart], both.col[apart], both.data[apart]
        similarity = together / (np.sqrt(users[row] * users[column]) + self._settings.shrinkage)
        self._similarity = sparse.csr_matrix((similarity, (row, column)), shape=both.shape)

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Sum the similarities to a history's items by their weights."""
        weights = decayed_histories(windows, self._similarity.shape[0], self._settings.decay)
        return picked((weights @ self._similarity).toarray(), candidates)
