"""Content kNN: items whose texts and categories are similar to those of the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.config.section import KindSettings
from palate.errors import DataError
from palate.ranking.base import DevNdcg, picked
from palate.ranking.references.histories import decayed_histories
from palate.recommend.content import fit_content
from palate.schema import Floats, Indices, Windows

if TYPE_CHECKING:
    from scipy import sparse

    from palate.data.dataset import Dataset
    from palate.recommend.relations import VectorRelation

_ALL_COMPONENTS = 10_000
"""More components than any text encoder has, so that none is dropped."""
_ITEMS_AT_ONCE = 2_000
"""Items per chunk of the cosine matrix."""


class ContentKnnSettings(KindSettings):
    """Settings of :class:`ContentKnn`."""

    kind: str = "content-knn"
    by: Literal["both", "texts", "categories"] = "both"
    """Which similarity is used; ``both`` uses those that the data has."""
    decay: float = Field(1.0, ge=0, le=1)
    """Factor of a history item's weight for each newer one."""
    power: float = Field(1.0, ge=1)
    """Power of the cosines, clipped at 0 if it is above 1; higher values favour the nearest items."""


class ContentKnn:
    """Scores an item by the cosines of its text and categories to those of the history's items.

    It learns nothing from interactions, so items without any are scored like the others. Texts are encoded by the
    packaged sentence encoder and centred; categories are weighted by inverse document frequency.
    """

    def __init__(self, settings: ContentKnnSettings) -> None:
        self._settings = settings
        self._relations: tuple[VectorRelation, ...] = ()
        self._items = 0

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Encode texts and categories; raises :class:`DataError` if items have none of those asked for."""
        by = self._settings.by
        wanted = RecommendSettings(texts=by != "categories", text_size=_ALL_COMPONENTS)
        _, found = fit_content(dataset, wanted, ItemSettings())
        self._relations = tuple(relation for name, relation in found.items() if by in ("both", name))
        self._items = len(dataset.items)
        if not self._relations:
            lacking = "texts or categories" if by == "both" else by
            raise DataError(
                f"content-knn needs items with {lacking}, and {dataset.info.name} has none; leave it out, or prepare "
                "the data with an item file (--items)",
                dataset.path,
            )

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Sum the cosines to the history's items, weighted by order, and average over texts and categories."""
        weights = decayed_histories(windows, self._items, self._settings.decay)
        found: Floats = np.mean([self._by(relation, weights) for relation in self._relations], axis=0)
        return picked(found, candidates)

    def _by(self, relation: VectorRelation, weights: sparse.csr_matrix) -> Floats:
        power = self._settings.power
        if power == 1:
            return relation.scores(weights)
        known, everything = np.unique(weights.indices), np.arange(self._items)
        parts = [
            weights[:, known] @ np.maximum(relation.between(known, some), 0) ** np.float32(power)
            for some in np.array_split(everything, max(len(everything) // _ITEMS_AT_ONCE, 1))
        ]
        return np.concatenate(parts, axis=1)
