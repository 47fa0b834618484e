"""Table of items' categories by name, the input of catalogue-free user encoders."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from palate.errors import DataError
from palate.items.probe import TitleProbe
from palate.items.table import ItemTable, index_of, unknown
from palate.schema import Floats, Indices, Ints, Item
from palate.system.files import fresh_folder, read_bytes, write_bytes, write_json
from palate.system.records import Frozen, read_record

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.items.encoder import ItemEncoder

Members: TypeAlias = npt.NDArray[np.int16]
MEMBER = 256
"""Membership of an item that has a category; a smaller value is the probability that it has, in units of 1/256."""
HEADER, MEMBERS, VECTORS = "categories.json", "categories.safetensors", "vectors"


@dataclass(frozen=True, eq=False)
class CategoryTable:
    """Membership of I items in L named categories, and R rating values.

    Membership is an integer in units of 1/:data:`MEMBER`, so that sums over it are exact.

    Items and categories are only ever appended, so that indices, and digests of the items that a state has read
    (:meth:`digest`), stay valid.

    Raises:
        DataError: The shapes of the arrays are inconsistent, or a name occurs twice.
    """

    item_ids: list[str]  # [I], distinct
    titles: list[str]  # [I]
    membership: Members  # [I, L] in units of 1/MEMBER
    categories: tuple[str, ...]  # [L], distinct
    rating_values: Floats  # [R] ascending
    field: str
    """Singular noun for a category."""
    probed_by: TitleProbe | None = dataclasses.field(default=None, repr=False)
    """Predicts the categories of new items without any; fitted to this table's items if None."""
    vectors: ItemTable | None = dataclasses.field(default=None, repr=False)
    """Vectors of the same items, for user encoders with latent queries; None for others."""

    def __post_init__(self) -> None:
        items, labels = len(self.item_ids), len(self.categories)
        if self.membership.shape != (items, labels) or len(self.titles) != items:
            raise DataError(
                f"found {items} item ids, {len(self.titles)} titles and memberships of shape "
                f"{list(self.membership.shape)}; expected [{items}, {labels}]"
            )
        if self.vectors is not None and self.vectors.item_ids != self.item_ids:
            raise DataError(
                "the item vectors are for other items than the categories; build both from one dataset"
            )
        for names, what in ((self.item_ids, "item id"), (self.categories, "category")):
            if len(set(names)) != len(names):
                twice = next(name for number, name in enumerate(names) if name in names[:number])
                raise DataError(f"the {what} {twice!r} occurs twice; expected distinct ones")

    def __len__(self) -> int:
        return len(self.item_ids)

    def index_of(self, item_ids: Sequence[str]) -> Indices:
        """Look up the indices of item ids; raises :class:`DataError` for unknown ids."""
        return index_of(self._index, item_ids)

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Return the distinct ids that are not in the table."""
        return unknown(self._index, item_ids)

    def named(self, item: int) -> tuple[str, ...]:
        """Return the sorted names of an item's categories: those with a membership of at least one half."""
        has = np.flatnonzero(self.membership[item] >= MEMBER // 2)
        return tuple(sorted(self.categories[row] for row in has))

    def part(self, item_ids: Iterable[str]) -> CategoryTable:
        """Select items; unknown ids are ignored."""
        found = [item_id for item_id in dict.fromkeys(item_ids) if item_id in self._index]
        rows = self.index_of(found)
        return replace(
            self,
            item_ids=found,
            titles=[self.titles[row] for row in rows],
            membership=self.membership[rows],
            probed_by=self._probed_by,
            vectors=None if self.vectors is None else self.vectors.part(found),
        )

    def extended(self, items: Sequence[Item], encoder: ItemEncoder | None = None) -> CategoryTable:
        """Append new items and their new categories.

        For an item without categories, a probe on the vector of its title, fitted to the table's items, predicts the
        probability of each.

        Args:
            items: New items; known ones are accepted if their title and categories are the same.
            encoder: Sentence encoder for items without categories; the default one if None.

        Returns:
            The extended table.

        Raises:
            DataError: A known id has other categories, or an item has none and the sentence encoder cannot be loaded.
        """
        new: dict[str, Item] = {}
        for item in items:
            at = self._index.get(item.item_id)
            known = (
                new.setdefault(item.item_id, item)
                if at is None
                else Item("", self.titles[at], self.named(at))
            )
            given = set(item.categories) or (set() if at is None else {*known.categories})
            if known.title != item.title or {*known.categories} != given:
                raise DataError(f"item {item.item_id!r} is already known with other texts; give it a new id")
        own = set(self.categories)
        fresh = dict.fromkeys(name for item in new.values() for name in item.categories if name not in own)
        categories = (*self.categories, *fresh)
        membership = np.zeros((len(self) + len(new), len(categories)), dtype=np.int16)
        membership[: len(self), : len(own)] = self.membership
        place = {name: number for number, name in enumerate(categories)}
        for row, item in enumerate(new.values(), start=len(self)):
            membership[row, [place[name] for name in item.categories]] = MEMBER
        alone = [row for row, item in enumerate(new.values()) if not item.categories]
        titles = [item.title for item in new.values()]
        if alone:
            likely = self._probed_by.likely([titles[row] for row in alone], encoder)
            membership[np.add(alone, len(self)), : len(own)] = np.rint(likely * MEMBER)
        return CategoryTable(
            [*self.item_ids, *new],
            [*self.titles, *titles],
            membership,
            categories,
            self.rating_values,
            self.field,
            self._probed_by,
            self._extended_vectors(list(new.values()), encoder),
        )

    def _extended_vectors(self, items: Sequence[Item], encoder: ItemEncoder | None) -> ItemTable | None:
        if self.vectors is None:
            return None
        from palate.items.encoder import ItemEncoder

        return self.vectors.extended(items, encoder or ItemEncoder.of(self.vectors.encoder))

    @cached_property
    def category_ids(self) -> Ints:
        """Ids of the categories in saved states: the first 8 bytes of the sha256 of each name, [L]."""
        digests = (hashlib.sha256(name.encode()).digest()[:8] for name in self.categories)
        return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)

    def digest(self, items: int | None = None) -> str:
        """Return the sha256 of the ids and categories of the first ``items`` items; of all if None.

        It does not depend on items and categories that were appended later.
        """
        count = len(self) if items is None else items
        return f"sha256:{self._chain[count].hex()}"

    def save(self, folder: Path | str) -> None:
        """Save as ``categories.json`` and ``categories.safetensors``, atomically, to a new or empty folder."""
        items, labels = np.nonzero(self.membership)
        arrays: dict[str, npt.NDArray[np.integer]] = {
            "item": items.astype(np.int32),
            "category": labels.astype(np.int32),
            "part": self.membership[items, labels],
        }
        header = _Header(
            item_ids=self.item_ids,
            titles=self.titles,
            categories=self.categories,
            rating_values=[float(value) for value in self.rating_values],
            field=self.field,
            digest=self.digest(),
        )
        with fresh_folder(folder) as place:
            write_bytes(place / MEMBERS, save(arrays))
            write_json(place / HEADER, header.model_dump())
            if self.vectors is not None:
                self.vectors.save(place / VECTORS)

    @classmethod
    def load(cls, folder: Path | str) -> CategoryTable:
        """Load the files of :meth:`save`; raises :class:`DataError` if one is missing or damaged."""
        path, members = Path(folder) / HEADER, Path(folder) / MEMBERS
        header = read_record(_Header, path, "no items' categories can be read here", "copy the model again")
        content = read_bytes(members, "the items' categories are missing; copy the model again")
        membership = np.zeros((len(header.item_ids), len(header.categories)), dtype=np.int16)
        values = np.array(header.rating_values, dtype=np.float32)
        try:
            arrays = load(content)
            membership[arrays["item"], arrays["category"]] = arrays["part"]
            table = cls(header.item_ids, header.titles, membership, header.categories, values, header.field)
            if (vectors := Path(folder) / VECTORS).is_dir():
                table = replace(table, vectors=ItemTable.load(vectors))
        except (SafetensorError, DataError, KeyError, ValueError, IndexError) as error:
            raise DataError(f"{error}; copy the model again", members) from error
        if table.digest() != header.digest:
            raise DataError(
                f"the content does not match the digest in {HEADER}; copy the model again", members
            )
        return table

    @cached_property
    def _probed_by(self) -> TitleProbe:
        return self.probed_by or TitleProbe(self.titles, self.membership >= MEMBER // 2)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    @cached_property
    def _chain(self) -> list[bytes]:
        """Digest of the first n items for every n, [I + 1]."""
        digest, chain = hashlib.sha256(self.rating_values.astype("<f4").tobytes()), []
        chain.append(digest.digest())
        for item, item_id in enumerate(self.item_ids):
            has = np.flatnonzero(self.membership[item])
            parts = sorted((self.categories[row], int(self.membership[item, row])) for row in has)
            digest.update(json.dumps([item_id, parts]).encode())
            chain.append(digest.digest())
        return chain


class _Header(Frozen):
    """Contents of ``categories.json``."""

    format: Literal[1] = 1
    item_ids: list[str]
    titles: list[str]
    categories: tuple[str, ...]
    rating_values: list[float]
    field: str
    digest: str


def build_category_table(dataset: Dataset, vectors: ItemTable | None = None) -> CategoryTable:
    """Build the category table of a dataset's items, with their vectors if given."""
    return CategoryTable(
        dataset.item_ids,
        dataset.items["title"].to_list(),
        dataset.category_matrix.astype(np.int16) * MEMBER,
        dataset.categories,
        dataset.rating_values,
        dataset.info.category_field,
        vectors=vectors,
    )
