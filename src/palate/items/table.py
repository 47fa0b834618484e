"""Item tables: embeddings of each item's texts and of each rating value, by index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save

from palate.config.renames import ITEM_TABLE, renamed_keys
from palate.data.dataset import Dataset
from palate.errors import DataError, MismatchError, unknown_items
from palate.items.encoder import EncoderIdentity, ItemEncoder, Progress
from palate.items.texts import ItemTexts, dataset_items, texts_for
from palate.schema import Bools, Floats, Indices, Item
from palate.system.arrays import map_arrays
from palate.system.files import fresh_folder, read_bytes, write_bytes, write_json
from palate.system.records import Frozen, parse_record

FIELDS = ("title", "description")
HEADER, VECTORS = "items.json", "items.safetensors"
SAME = 1e-4
"""Tolerance between vectors of one text from different batches or devices."""


@dataclass(frozen=True, eq=False)
class ItemTable:
    """Vectors of I items with F = 2 fields and of R rating values, all of size S.

    Raises:
        DataError: The shapes of the arrays are inconsistent, or a value is not finite.
    """

    item_ids: list[str]  # [I], distinct
    vectors: Floats  # [I, F, S]: title with categories, description; zeros where a text is missing
    present: Bools  # [I, F] false where a text is missing
    rating_values: Floats  # [R] ascending
    rating_vectors: Floats  # [R, S]
    encoder: EncoderIdentity
    texts: ItemTexts = field(default_factory=ItemTexts)

    def __post_init__(self) -> None:
        items, values, size = len(self.item_ids), len(self.rating_values), self.vectors.shape[-1]
        _check("vectors", self.vectors, np.float32, (items, len(FIELDS), size))
        _check("present", self.present, np.bool_, (items, len(FIELDS)))
        _check("rating_values", self.rating_values, np.float32, (values,))
        _check("rating_vectors", self.rating_vectors, np.float32, (values, size))
        if len(self._index) != items:
            raise DataError(f"the item table names {items - len(self._index)} item ids more than once")

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def size(self) -> int:
        """Vector size S."""
        return int(self.vectors.shape[-1])

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of all content as ``sha256:…``, which identifies the table of a trained model."""
        texts = [getattr(self.texts, name) for name in ItemTexts.__dataclass_fields__]
        digest = hashlib.sha256(json.dumps([self.encoder.digest, texts, self.item_ids]).encode())
        for name, array in self._arrays().items():
            digest.update(f"{name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return f"sha256:{digest.hexdigest()}"

    def index_of(self, item_ids: Sequence[str]) -> Indices:
        """Look up the indices of item ids; raises :class:`DataError` for unknown ids."""
        return index_of(self._index, item_ids)

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Return the distinct ids that are not in the table."""
        return unknown(self._index, item_ids)

    def part(self, item_ids: Iterable[str]) -> ItemTable:
        """Select items; unknown ids are ignored."""
        found = [item_id for item_id in dict.fromkeys(item_ids) if item_id in self._index]
        rows = self.index_of(found)
        return replace(self, item_ids=found, vectors=self.vectors[rows], present=self.present[rows])

    def extended(self, items: Sequence[Item], encoder: ItemEncoder) -> ItemTable:
        """Append new items, so that existing indices stay valid.

        Items that are already in the table are skipped if their texts give the same vectors.

        Args:
            items: The new items.
            encoder: The encoder that the table was built with.

        Returns:
            The extended table.

        Raises:
            DataError: A known id has other texts.
            MismatchError: The encoder is not the table's.
        """
        if encoder.identity != self.encoder:
            raise MismatchError(
                f"the table's vectors are from {_described(self.encoder)}, but the new items' would be "
                f"from {_described(encoder.identity)}; use the table's encoder"
            )
        vectors, present = encoded_items(items, self.texts, encoder)
        new: dict[str, int] = {}
        for row, item in enumerate(items):
            if item.item_id in self._index:
                known = self.vectors[self._index[item.item_id]]
            else:
                known = vectors[new.setdefault(item.item_id, row)]
            if not np.allclose(known, vectors[row], atol=SAME):
                raise DataError(f"item {item.item_id!r} is already known with other texts; give it a new id")
        rows = list(new.values())
        return ItemTable(
            [*self.item_ids, *new],
            np.concatenate([self.vectors, vectors[rows]]),
            np.concatenate([self.present, present[rows]]),
            self.rating_values,
            self.rating_vectors,
            self.encoder,
            self.texts,
        )

    def save(self, folder: Path | str) -> None:
        """Save as ``items.json`` and ``items.safetensors``, atomically, to a new or empty folder.

        Raises:
            OutputError: The folder is not empty, or cannot be written.
        """
        header = _Header(
            format=1,
            item_ids=self.item_ids,
            encoder=self.encoder,
            texts=self.texts,
            fingerprint=self.fingerprint,
        )
        with fresh_folder(folder) as place:
            write_bytes(place / VECTORS, save(self._arrays()))
            write_json(place / HEADER, header.model_dump())

    @classmethod
    def load(cls, folder: Path | str) -> ItemTable:
        """Load the files of :meth:`save`, the vectors memory-mapped.

        Raises:
            DataError: A file is missing or damaged.
        """
        header = _read_header(Path(folder) / HEADER)
        vectors_path = Path(folder) / VECTORS
        arrays = map_arrays(vectors_path, "the item vectors", "copy the item table again")
        try:
            table = cls(header.item_ids, encoder=header.encoder, texts=header.texts, **arrays)
        except (DataError, TypeError, IndexError) as error:
            raise DataError(f"{error}; copy the item table again", vectors_path) from error
        if table.fingerprint != header.fingerprint:
            raise DataError(
                f"the content does not match the fingerprint in {HEADER}; copy the item table again",
                vectors_path,
            )
        return table

    @cached_property
    def _index(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "vectors": self.vectors,
            "present": self.present,
            "rating_values": self.rating_values,
            "rating_vectors": self.rating_vectors,
        }


def index_of(index: Mapping[str, int], item_ids: Sequence[str]) -> Indices:
    """Look up the indices of item ids; raises :class:`DataError` for unknown ids."""
    if absent := unknown(index, item_ids):
        raise unknown_items(absent)
    return np.fromiter((index[item_id] for item_id in item_ids), np.int32, len(item_ids))


def unknown(index: Mapping[str, int], item_ids: Iterable[str]) -> list[str]:
    """Return the distinct unknown ids."""
    return list(dict.fromkeys(item_id for item_id in item_ids if item_id not in index))


def off_scale(rating_values: Floats, ratings: Iterable[float]) -> list[float]:
    """Return the distinct ratings that are not on the scale."""
    known = set(rating_values.tolist())
    inexact = [rating for rating in dict.fromkeys(ratings) if rating not in known]
    if not inexact:
        return []
    with np.errstate(over="ignore"):  # a rating too large for float32 is off the scale, too
        return [rating for rating in inexact if float(np.float32(rating)) not in known]


class _Header(Frozen):
    """Contents of ``items.json``."""

    format: Literal[1]
    item_ids: list[str]
    encoder: EncoderIdentity
    texts: ItemTexts
    fingerprint: str


def build_item_table(
    dataset: Dataset, encoder: ItemEncoder, progress: Progress | None = None, texts: ItemTexts | None = None
) -> ItemTable:
    """Encode the items and rating values of a dataset; cached texts are not encoded again.

    Args:
        dataset: The dataset.
        encoder: The item encoder.
        progress: Callback (done, total) with numbers of texts.
        texts: Templates of the item texts; the dataset's if None.

    Returns:
        The item table.
    """
    texts = texts or texts_for(dataset.info)
    rating_values = dataset.rating_values
    rating_vectors = encoder.encode([texts.rating(value) for value in rating_values])
    vectors, present = encoded_items(dataset_items(dataset), texts, encoder, progress)
    return ItemTable(
        dataset.item_ids, vectors, present, rating_values, rating_vectors, encoder.identity, texts
    )


def item_texts_of(dataset: Dataset, texts: ItemTexts) -> list[str]:
    """Return the distinct texts that :func:`build_item_table` encodes."""
    items = dataset_items(dataset)
    written = (text for item in items for text in (texts.title(item), texts.description(item)))
    ratings = (texts.rating(value) for value in dataset.rating_values)
    return list(dict.fromkeys([*ratings, *(text for text in written if text is not None)]))


def encoded_items(
    items: Sequence[Item], texts: ItemTexts, encoder: ItemEncoder, progress: Progress | None = None
) -> tuple[Floats, Bools]:
    """Encode both fields of the items in one pass; returns vectors [I, F, S] and the mask of existing ones [I, F]."""
    written = [(texts.title(item), texts.description(item)) for item in items]
    present = np.array([[text is not None for text in pair] for pair in written], dtype=np.bool_)
    present = present.reshape(len(items), len(FIELDS))
    found = encoder.encode([text for pair in written for text in pair if text is not None], progress)
    vectors = np.zeros((*present.shape, found.shape[1]), dtype=np.float32)
    vectors[present] = found
    return vectors, present


def _read_header(path: Path) -> _Header:
    content = read_bytes(path, "no item table can be read here")
    try:
        return parse_record(_Header, content, path, "copy the item table again")
    except DataError as error:
        if error.path is None:
            raise DataError(str(error), path) from error  # from a template of the item texts
        if old := renamed_keys(error.__cause__, ITEM_TABLE):
            raise DataError(
                f"{old}; an earlier version saved this item table: build it again", path
            ) from error
        raise


def _check(name: str, array: np.ndarray, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise DataError(
            f"the item table's {name} are {array.dtype} {list(array.shape)}; "
            f"expected {np.dtype(dtype)} {list(shape)}"
        )
    if not np.isfinite(array).all():
        raise DataError(f"the item table's {name} contain numbers that are not finite")


def _described(encoder: EncoderIdentity) -> str:
    return f"{encoder.name} ({encoder.content[:8]}, at most {encoder.max_seq_length} tokens)"
