"""Table of text blocks, from which histories are written as text, as in the paper's text baselines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from palate.errors import DataError
from palate.items.table import index_of, unknown
from palate.items.texts import dataset_items
from palate.schema import Floats, Indices, Item
from palate.system.files import fresh_folder, write_json
from palate.system.records import Frozen, read_record

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

FILE = "blocks.json"
END_OF_BLOCK = "\n---\n"


@dataclass(frozen=True, eq=False)
class BlockTable:
    """Text blocks of I items, split at the rating, and texts of R rating values.

    A block has one line each for ``title``, ``genre``, ``rating`` and ``description``, and a line of three dashes;
    lines of missing fields are omitted.
    """

    item_ids: list[str]  # [I], distinct
    before: list[str]  # [I] text before the rating
    after: list[str]  # [I] text after the rating
    rating_values: Floats  # [R] ascending
    field: str
    """Singular noun for a category."""

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def ratings(self) -> list[str]:
        """Texts of the rating values, [R]."""
        return [f" {value:g}" for value in self.rating_values]

    def index_of(self, item_ids: Sequence[str]) -> Indices:
        """Look up the indices of item ids; raises :class:`DataError` for unknown ids."""
        return index_of(self._index, item_ids)

    def block(self, item: int, rating: int) -> str:
        """Return the text of one interaction, by the indices of item and rating."""
        return self.before[item] + self.ratings[rating] + self.after[item]

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Return the distinct ids that are not in the table."""
        return unknown(self._index, item_ids)

    def part(self, item_ids: Iterable[str]) -> BlockTable:
        """Select items; unknown ids are ignored."""
        found = [item_id for item_id in dict.fromkeys(item_ids) if item_id in self._index]
        rows = self.index_of(found)
        return replace(
            self,
            item_ids=found,
            before=[self.before[row] for row in rows],
            after=[self.after[row] for row in rows],
        )

    def extended(self, items: Sequence[Item]) -> BlockTable:
        """Append new items; raises :class:`DataError` for a known id with another text."""
        new: dict[str, tuple[str, str]] = {}
        for item in items:
            parts = _around_the_rating(item, self.field)
            known = self._index.get(item.item_id)
            there = new.setdefault(item.item_id, parts) if known is None else self._parts(known)
            if there != parts:
                raise DataError(f"item {item.item_id!r} is already known with other texts; give it a new id")
        return BlockTable(
            [*self.item_ids, *new],
            [*self.before, *(before for before, _ in new.values())],
            [*self.after, *(after for _, after in new.values())],
            self.rating_values,
            self.field,
        )

    def save(self, folder: Path | str) -> None:
        """Save as ``blocks.json``, atomically, to a new or empty folder."""
        content = _Content(
            item_ids=self.item_ids,
            before=self.before,
            after=self.after,
            rating_values=[float(value) for value in self.rating_values],
            field=self.field,
        )
        with fresh_folder(folder) as place:
            write_json(place / FILE, content.model_dump())

    @classmethod
    def load(cls, folder: Path | str) -> BlockTable:
        """Load the file of :meth:`save`; raises :class:`DataError` if it is missing or damaged."""
        path = Path(folder) / FILE
        content = read_record(_Content, path, "no item blocks can be read here", "copy the model again")
        items = len(content.item_ids)
        if not len(content.before) == len(content.after) == len(set(content.item_ids)) == items:
            raise DataError(
                "the columns differ in length, or an item id occurs twice; copy the model again", path
            )
        values = np.array(content.rating_values, dtype=np.float32)
        return cls(content.item_ids, content.before, content.after, values, content.field)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    def _parts(self, item: int) -> tuple[str, str]:
        return self.before[item], self.after[item]


class _Content(Frozen):
    """Contents of ``blocks.json``."""

    format: Literal[1] = 1
    item_ids: list[str]
    before: list[str]
    after: list[str]
    rating_values: list[float]
    field: str


def build_block_table(dataset: Dataset, descriptions: bool = True) -> BlockTable:
    """Build the blocks of a dataset's items, with or without descriptions."""
    items = dataset_items(dataset)
    if not descriptions:
        items = [replace(item, description=None) for item in items]
    field = dataset.info.category_field
    return BlockTable([], [], [], dataset.rating_values, field).extended(items)


def _around_the_rating(item: Item, field: str) -> tuple[str, str]:
    before = f"title: {_one_line(item.title)}\n"
    if item.categories:
        before += f"{field}: {_one_line(', '.join(item.categories))}\n"
    description = _one_line(item.description or "")
    return before + "rating:", (f"\ndescription: {description}" if description else "") + END_OF_BLOCK


def _one_line(text: str) -> str:
    return " ".join(text.split())
