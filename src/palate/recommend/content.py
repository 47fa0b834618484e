"""What is known of an item without any interaction: its categories and texts as vectors, of new items, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from palate.errors import MismatchError
from palate.items.encoder import EncoderIdentity, ItemEncoder
from palate.items.table import build_item_table, encoded_items
from palate.items.texts import ItemTexts, texts_for
from palate.recommend.relations import VectorRelation, unit_rows
from palate.schema import Bools, Floats, Item
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.config.recipe import ItemSettings, RecommendSettings
    from palate.data.dataset import Dataset


class TextReading(Frozen):
    """How an item's texts are written and encoded."""

    encoder: EncoderIdentity
    texts: ItemTexts


@dataclass(frozen=True, eq=False)
class ItemContent:
    """From categories and texts to vectors, as they were fitted to a catalogue."""

    categories: tuple[str, ...]
    reading: TextReading | None
    """None where items have no texts."""
    rarity: Floats  # [L] what each category counts
    reduction: Floats  # [L, S] from weighted categories to their principal components
    mean: Floats  # [E] of the sentence vectors; E is 0 without texts
    axes: Floats  # [E, S] their principal components

    def relations(
        self, items: Sequence[Item], encoder: ItemEncoder | None = None
    ) -> dict[str, VectorRelation]:
        """Make the vectors of items.

        Args:
            items: Items of any catalogue; categories that are not known count nothing.
            encoder: The encoder that the texts were encoded with, if its files have moved since.

        Returns:
            Relations by name: of ``categories`` and ``texts`` those that were fitted.

        Raises:
            MismatchError: The encoder is another one.
        """
        found: dict[str, VectorRelation] = {}
        if self.categories:
            column = {name: index for index, name in enumerate(self.categories)}
            membership = np.zeros((len(items), len(column)), dtype=np.bool_)
            for row, item in enumerate(items):
                membership[row, [column[name] for name in item.categories if name in column]] = True
            found["categories"] = VectorRelation(self.category_vectors(membership))
        if self.reading is not None:
            encoder = encoder or ItemEncoder.of(self.reading.encoder)
            if encoder.identity != self.reading.encoder:
                raise MismatchError(
                    f"the recommender's items were encoded by {self.reading.encoder.name}, and the encoder is "
                    f"{encoder.identity.name} or another version of it; use the same files"
                )
            vectors, _ = encoded_items(items, self.reading.texts, encoder)
            found["texts"] = self.text_relation(vectors.sum(axis=1))
        return found

    def category_vectors(self, membership: Bools) -> sparse.csr_matrix:
        """Make unit vectors of the items' categories [I, L]; a category counts the more the fewer items have it."""
        return unit_rows(sparse.csr_matrix(membership, dtype=np.float32) @ sparse.diags(self.rarity))

    def text_relation(self, vectors: Floats) -> VectorRelation:
        """Reduce sentence vectors [I, E] to unit vectors of their principal components, [I, S].

        What share of a vector's length these hold is kept: it is more of a text in words that many texts have.
        """
        centred = vectors - self.mean
        reduced = centred @ self.axes
        norm = np.linalg.norm(reduced, axis=1, keepdims=True)
        unit: Floats = np.ascontiguousarray(reduced / np.maximum(norm, 1e-6), dtype=np.float32)
        whole = np.maximum(np.linalg.norm(centred, axis=1), 1e-6)
        return VectorRelation(unit, np.minimum(norm[:, 0] / whole, 1).astype(np.float32))

    def dense(self, relations: Mapping[str, VectorRelation], items: int) -> Floats:
        """Join the vectors of I items, [I, D]; those of categories by their principal components."""
        parts = [np.zeros((items, 0), dtype=np.float32)]
        for name, reduction in (("categories", self.reduction), ("texts", None)):
            if (one := relations.get(name)) is not None:
                parts.append(np.asarray(one.vectors if reduction is None else one.vectors @ reduction))
        return np.hstack(parts)


def fit_content(
    dataset: Dataset, settings: RecommendSettings, items: ItemSettings
) -> tuple[ItemContent, dict[str, VectorRelation]]:
    """Fit the vectors to a catalogue.

    Args:
        dataset: The items.
        settings: Whether texts are read, and the number of principal components.
        items: Settings of the item encoder.

    Returns:
        The content, and the relations of the dataset's items.
    """
    none = np.zeros(0, dtype=np.float32)
    rarity, reduction = none, none[:, None]
    mean, axes, reading = none, none[:, None], None
    if dataset.categories:
        rarity, reduction = _fitted_categories(dataset.category_matrix, settings.text_size)
    table = None
    if settings.texts and has_texts(dataset):
        table = build_item_table(dataset, ItemEncoder(items), texts=texts_for(dataset.info, items.texts))
        reading = TextReading(encoder=table.encoder, texts=table.texts)
        mean, axes = _fitted_texts(table.vectors.sum(axis=1), settings.text_size)
    content = ItemContent(tuple(dataset.categories), reading, rarity, reduction, mean, axes)
    relations: dict[str, VectorRelation] = {}
    if dataset.categories:
        relations["categories"] = VectorRelation(content.category_vectors(dataset.category_matrix))
    if table is not None:
        relations["texts"] = content.text_relation(table.vectors.sum(axis=1))
    return content, relations


def has_texts(dataset: Dataset) -> bool:
    """Whether the titles of a dataset's items say more than their ids."""
    return bool((dataset.items["title"] != dataset.items["item_id"]).any())


def _fitted_categories(membership: Bools, size: int) -> tuple[Floats, Floats]:
    share = membership.sum(axis=0) / len(membership)
    rarity = -np.log(np.maximum(share, 1 / len(membership))).astype(np.float32)
    if membership.shape[1] <= size:
        return rarity, np.eye(membership.shape[1], dtype=np.float32)
    vectors = unit_rows(sparse.csr_matrix(membership, dtype=np.float32) @ sparse.diags(rarity))
    _, _, components = randomized_svd(vectors, min(size, *vectors.shape), random_state=0)
    return rarity, np.ascontiguousarray(components.T, dtype=np.float32)


def _fitted_texts(vectors: Floats, size: int) -> tuple[Floats, Floats]:
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return mean, np.ascontiguousarray(axes[:, ::-1][:, :size], dtype=np.float32)


def item_features(items: pl.DataFrame, described: Mapping[str, VectorRelation]) -> sparse.csr_matrix:
    """Collect what is known of items without ratings: a constant, their year, categories and texts, [I, D].

    Args:
        items: Table of the items.
        described: Relations of the same items by their categories and texts.
    """
    year = items["year"].cast(pl.Float64).to_numpy()
    known = np.isfinite(year)
    columns = [np.ones(len(items)), known, np.where(known, (year - 2000) / 20, 0)]
    blocks = [sparse.csr_matrix(np.stack(columns, axis=1))]
    blocks += [sparse.csr_matrix(one.vectors) for one in described.values()]
    return sparse.hstack(blocks).tocsr().astype(np.float64)
