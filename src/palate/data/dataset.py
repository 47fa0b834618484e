"""A dataset: Parquet tables and ``dataset.json`` on disk, columns in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from palate.errors import DataError
from palate.schema import SPLITS, Bools, Floats, History, Interactions, Ints, RatingIndices, Split


class DatasetInfo(BaseModel):
    """What ``dataset.json`` holds: where the data came from, and what is in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    name: str
    source: str
    checksums: dict[str, str]  # file name -> "sha256:…" of every source file that was read
    licence: str
    users: int
    items: int
    interactions: int
    rating_values: tuple[float, ...]  # ascending; rating_index points into it
    category_field: str  # singular, as the instruction says it: "genre"
    categories: tuple[str, ...]  # ascending by name
    least_ratings: int  # users with fewer were left out
    split_seed: int
    split_sizes: dict[Split, int]
    described_items: int
    report: dict[str, int]  # what was dropped or repaired on the way in, by reason
    fingerprint: str  # sha256 over the tables' content: the dataset's identity


@dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared dataset. Indices run over ``user_ids``, ``item_ids``, ``rating_values`` and ``categories``."""

    info: DatasetInfo
    interactions: Interactions
    user_ids: Sequence[str]
    items: pl.DataFrame  # item_id, title, year (nullable), categories (list of str), description (nullable)
    split_of_user: RatingIndices  # [U] into SPLITS
    path: Path | None = None

    @cached_property
    def item_ids(self) -> list[str]:
        return self.items["item_id"].to_list()

    @cached_property
    def rating_values(self) -> Floats:
        """The scale, ascending, [R]."""
        return np.asarray(self.info.rating_values, dtype=np.float32)

    @property
    def categories(self) -> tuple[str, ...]:
        return self.info.categories

    @cached_property
    def category_matrix(self) -> Bools:
        """Which item has which category, [I, L]."""
        raise NotImplementedError

    def users(self, split: Split) -> Ints:
        """The indices of a split's users, ascending."""
        return np.flatnonzero(self.split_of_user == SPLITS.index(split))

    def user_index(self, user_id: str) -> int:
        """The index of an external id; raises :class:`DataError` for an unknown one."""
        raise NotImplementedError

    def histories(self, user_ids: Sequence[str]) -> list[History]:
        """Whole histories by external ids."""
        raise NotImplementedError


def load_dataset(path: Path | str) -> Dataset:
    """Read a dataset that ``palate prepare`` wrote."""
    raise DataError("not written yet", path)
