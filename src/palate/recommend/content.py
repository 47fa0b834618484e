"""Item content: vectors from categories and texts alone, which items without interactions have, too."""

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
    """Templates that write an item's texts, and the sentence encoder that encodes them."""

    encoder: EncoderIdentity
    texts: ItemTexts


@dataclass(frozen=True, eq=False)
class ItemContent:
    """Maps categories and texts to vectors, as fitted to a catalogue."""

    categories: tuple[str, ...]
    reading: TextReading | None
    """None without texts."""
    rarity: Floats  # [L] inverse document frequency of each category
    reduction: Floats  # [L, S] projection of weighted categories to their top singular vectors
    mean: Floats  # [E] mean sentence vector; E is 0 without texts
    axes: Floats  # [E, S] principal components of the sentence vectors

    def relations(
        self, items: Sequence[Item], encoder: ItemEncoder | None = None
    ) -> dict[str, VectorRelation]:
        """Compute the content vectors of items.

        Args:
            items: Items of any catalogue; categories unknown to the fitted one are ignored.
            encoder: Item encoder; by default the one recorded at fitting. Pass it if its files have moved.

        Returns:
            The fitted ones of the relations ``categories`` and ``texts``.

        Raises:
            MismatchError: The encoder is not the one used at fitting.
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
                    f"the recommender's items were encoded by {self.reading.encoder.name}, but the encoder given is "
                    f"{encoder.identity.name} or another version; use the same files"
                )
            vectors, _ = encoded_items(items, self.reading.texts, encoder)
            found["texts"] = self.text_relation(vectors.sum(axis=1))
        return found

    def category_vectors(self, membership: Bools) -> sparse.csr_matrix:
        """Compute unit vectors of the items' categories [I, L], weighted by inverse document frequency."""
        return unit_rows(sparse.csr_matrix(membership, dtype=np.float32) @ sparse.diags(self.rarity))

    def text_relation(self, vectors: Floats) -> VectorRelation:
        """Project sentence vectors [I, E] to their principal components and scale them to unit length, [I, S].

        The share of each vector's length that the projection keeps is stored as ``kept``; it is larger for texts in
        words that many texts share.
        """
        centred = vectors - self.mean
        reduced = centred @ self.axes
        norm = np.linalg.norm(reduced, axis=1, keepdims=True)
        unit: Floats = np.ascontiguousarray(reduced / np.maximum(norm, 1e-6), dtype=np.float32)
        whole = np.maximum(np.linalg.norm(centred, axis=1), 1e-6)
        return VectorRelation(unit, np.minimum(norm[:, 0] / whole, 1).astype(np.float32))

    def dense(self, relations: Mapping[str, VectorRelation], items: int) -> Floats:
        """Concatenate the vectors of I items, [I, D]; categories are reduced by :attr:`reduction` first."""
        parts = [np.zeros((items, 0), dtype=np.float32)]
        for name, reduction in (("categories", self.reduction), ("texts", None)):
            if (one := relations.get(name)) is not None:
                parts.append(np.asarray(one.vectors if reduction is None else one.vectors @ reduction))
        return np.hstack(parts)


def fit_content(
    dataset: Dataset, settings: RecommendSettings, items: ItemSettings
) -> tuple[ItemContent, dict[str, VectorRelation]]:
    """Fit the content vectors to a catalogue.

    Args:
        dataset: Dataset whose items are read.
        settings: Whether texts are used, and the number of components S.
        items: Settings of the item encoder.

    Returns:
        The fitted content, and the content relations of the dataset's items.
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
    """Return whether any title differs from its item id."""
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
    """Build content features of items: a constant, the year, and category and text vectors, [I, D].

    Args:
        items: Table of the items.
        described: Content relations of the same items.
    """
    year = items["year"].cast(pl.Float64).to_numpy()
    known = np.isfinite(year)
    columns = [np.ones(len(items)), known, np.where(known, (year - 2000) / 20, 0)]
    blocks = [sparse.csr_matrix(np.stack(columns, axis=1))]
    blocks += [sparse.csr_matrix(one.vectors) for one in described.values()]
    return sparse.hstack(blocks).tocsr().astype(np.float64)
