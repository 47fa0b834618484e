"""Datasets: Parquet tables and ``dataset.json`` on disk, columns in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from palate.config.renames import DATASET, renamed_keys
from palate.data.event_types import EventTypes, Unrated
from palate.data.frames import as_hub_datasets, event_frame
from palate.data.label_rules import with_label_statistics
from palate.data.storage import Tables, read_reviews, read_tables
from palate.errors import DataError, did_you_mean, faults
from palate.schema import (
    SPLITS,
    Bools,
    Feedback,
    Floats,
    History,
    Interactions,
    Ints,
    LabelRule,
    RatingIndices,
    Split,
)
from palate.system.files import read_text
from palate.system.records import Frozen
from palate.tasks.rules import ScoreStatistics
from palate.tasks.statistics import CategoryStatistics, category_statistics

INFO_FILE = "dataset.json"
FORMAT = 1


class DatasetInfo(Frozen):
    """Contents of ``dataset.json``: source, statistics and label rule of a dataset."""

    format: int = FORMAT
    name: str
    source: str
    checksums: dict[str, str]  # file name -> "sha256:…" of every source file that was read
    licence: str
    users: int
    items: int
    interactions: int
    rating_values: tuple[float, ...]  # ascending; rating_index points into it
    feedback: Feedback = "ratings"  # or "implicit": rating values are weights, 0 for events against an item
    event_types: EventTypes | None = None  # with implicit feedback: weights by type and dwell time
    has_times: bool = True  # False: the files had no time column; timestamps are row numbers
    repeats: bool = False  # True: all of a user's interactions with an item are kept, not only the last
    rating_text: str = "The {noun} is rated with {rating} stars"  # template that the item encoder reads
    like_above: float = 3.5  # default thresholds of the label rule: on a mean rating, or, with implicit
    dislike_below: float = 3.0  # feedback, on a history share as a multiple of the mean share
    rule: LabelRule = "thresholds"  # default for recipes
    score_statistics: ScoreStatistics | None = None  # of the training users, for the other rules
    item_noun: str = "movie"
    category_field: str  # singular noun used in instructions: "genre"
    categories: tuple[str, ...]  # ascending by name
    category_shares: tuple[float, ...] = ()  # with implicit feedback: mean shares of training histories
    min_ratings: int  # users with fewer were dropped
    split_seed: int
    split_sizes: dict[Split, int]
    described_items: int
    reviewed_interactions: int = 0  # interactions with a text that the user wrote
    report: dict[str, int]  # numbers of dropped or repaired rows, by reason
    fingerprint: str  # sha256 of the tables' content, which identifies the dataset

    @property
    def unrated(self) -> Unrated:
        """Weight of an event without a rating; None if ratings are required."""
        return None if self.feedback == "ratings" else self.event_types or 1.0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared dataset. Indices refer to ``user_ids``, ``item_ids``, ``rating_values`` and ``categories``.

    Example:
        >>> data.info.interactions, len(data.users("test"))
        (288, 6)
        >>> data.histories(["1"])[0].ratings[:3]
        [3.0, 4.0, 2.0]
    """

    info: DatasetInfo
    interactions: Interactions
    user_ids: Sequence[str]
    items: pl.DataFrame  # item_id, title, year (nullable), categories (list of str), description (nullable)
    split_of_user: RatingIndices  # [U] into SPLITS
    path: Path | None = None
    reviews: pl.Series | None = None  # [N] texts of the interactions if in memory; see review_texts
    new_items: Bools | None = None  # [I] items newer than all interactions, if a ranking protocol marks them

    @property
    def tables(self) -> Tables:
        """The tables, without ``dataset.json``."""
        return Tables(self.interactions, self.user_ids, self.split_of_user, self.items, self.reviews)

    @cached_property
    def review_texts(self) -> pl.Series | None:
        """Texts that users wrote, such as reviews, [N], null where there is none; None if the dataset has none.

        The file is read on first access; raises :class:`DataError` if it is damaged.
        """
        if self.info.reviewed_interactions == 0:
            return None
        if self.reviews is not None or self.path is None:
            return self.reviews
        return read_reviews(self.path, self.info.interactions)

    def to_frame(self) -> pl.DataFrame:
        """Return the interactions with the columns user_id, item_id, rating or weight, timestamp, text and split."""
        return event_frame(self)

    def to_datasets(self) -> tuple[Any, Any]:
        """Convert the events and items to objects of the library ``datasets``.

        Returns:
            A ``datasets.DatasetDict`` of events with the splits train, validation and test, and a ``datasets.Dataset``
            of items; each has ``push_to_hub``.

        Raises:
            MissingExtraError: ``datasets`` is not installed.
        """
        return as_hub_datasets(self)

    def holding_out(self, users: Ints) -> Dataset:
        """Return a copy with these users [B] as test users and all others as training users."""
        split = np.zeros_like(self.split_of_user)
        split[users] = SPLITS.index("test")
        sizes = {name: int((split == place).sum()) for place, name in enumerate(SPLITS)}
        return replace(self, split_of_user=split, info=self.info.model_copy(update={"split_sizes": sizes}))

    @cached_property
    def item_ids(self) -> list[str]:
        """Item ids by index, [I]."""
        return self.items["item_id"].to_list()

    @cached_property
    def rating_values(self) -> Floats:
        """Rating scale, ascending, [R]."""
        return np.asarray(self.info.rating_values, dtype=np.float32)

    @property
    def event_weights(self) -> tuple[float, ...]:
        """Signed weight of each rating value, [R], negative against an item; empty if events have no types."""
        types = self.info.event_types
        return () if types is None else types.signed(self.info.rating_values)

    def chosen(self, events: Interactions) -> Bools:
        """Return a mask [N] of the interactions that chose their item: those with a weight above 0."""
        weights = np.array(self.event_weights)
        return (weights > 0)[events.rating_index] if len(weights) else np.ones(len(events), dtype=np.bool_)

    @property
    def categories(self) -> tuple[str, ...]:
        """Category names, sorted, [L]."""
        return self.info.categories

    @cached_property
    def category_matrix(self) -> Bools:
        """Mask of each item's categories, [I, L]."""
        matrix = np.zeros((len(self.items), len(self.categories)), dtype=np.bool_)
        column = {name: index for index, name in enumerate(self.categories)}
        for row, names in enumerate(self.items["categories"].to_list()):
            matrix[row, [column[name] for name in names]] = True
        return matrix

    @cached_property
    def statistics(self) -> CategoryStatistics:
        """Statistics of the full histories of all users, [U, L]."""
        return category_statistics(self.interactions, self.category_matrix, self.rating_values)

    def users(self, split: Split) -> Ints:
        """Return the user indices of a split, ascending."""
        return np.flatnonzero(self.split_of_user == SPLITS.index(split))

    def user_index(self, user_id: str) -> int:
        """Look up the index of a user id; raises :class:`DataError` if it is unknown."""
        try:
            return self._index_of_user[str(user_id)]
        except KeyError:
            raise DataError(
                f"no user {user_id!r} among the {self.info.users} of {self.info.name}"
                f"{did_you_mean(str(user_id), self.user_ids)}; their ids look like "
                f"{self.user_ids[0]!r} and {self.user_ids[-1]!r}; users with fewer than "
                f"{self.info.min_ratings} ratings were left out",
                self.path,
            ) from None

    @cached_property
    def _index_of_user(self) -> dict[str, int]:
        return {user_id: index for index, user_id in enumerate(self.user_ids)}

    def histories(self, user_ids: Sequence[str]) -> list[History]:
        """Return the full histories of the users with these ids."""
        return [self._history(self.user_index(user_id)) for user_id in user_ids]

    def _history(self, user_index: int) -> History:
        events = self.interactions
        rows = slice(int(events.offsets[user_index]), int(events.offsets[user_index + 1]))
        return History(
            user_id=self.user_ids[user_index],
            item_ids=[self.item_ids[index] for index in events.item_index[rows]],
            ratings=[self.info.rating_values[index] for index in events.rating_index[rows]],
            timestamps=events.timestamp[rows].tolist(),
            texts=() if self.review_texts is None else self.review_texts[rows].fill_null("").to_list(),
        )


def load_dataset(path: Path | str) -> Dataset:
    """Read a dataset that :func:`palate.prepare` or ``palate prepare`` wrote.

    Args:
        path: The dataset's folder.

    Returns:
        The dataset; its arrays may be read-only.

    Raises:
        DataError: A file is missing, damaged or of another format, or the files are inconsistent.

    Example:
        >>> data = palate.load_dataset("data/mine")
        >>> data.info.users, data.categories
        (24, ('Crime', 'Poetry', 'Travel'))
    """
    folder = Path(path)
    info = _read_info(folder)
    tables = read_tables(folder)
    _check_together(info, tables, folder)
    if "repeats" not in info.model_fields_set:  # an earlier version wrote it
        info = info.model_copy(update={"repeats": _repeats(tables)})
    dataset = Dataset(info, tables.interactions, tables.user_ids, tables.items, tables.split_of_user, folder)
    return with_label_statistics(dataset) if info.score_statistics is None else dataset


def _check_together(info: DatasetInfo, tables: Tables, folder: Path) -> None:
    """Raise :class:`DataError` unless the tables match ``dataset.json``."""
    highest = int(tables.interactions.rating_index.max(initial=0))
    if highest >= len(info.rating_values):
        raise DataError(
            f"rating_index {highest}, but {INFO_FILE} lists {len(info.rating_values)} rating values", folder
        )
    counts = {
        "users": (info.users, len(tables.user_ids)),
        "items": (info.items, len(tables.items)),
        "interactions": (info.interactions, len(tables.interactions)),
    }
    for position, split in enumerate(SPLITS):
        found = int((tables.split_of_user == position).sum())
        counts[f"{split} users"] = (info.split_sizes.get(split, 0), found)
    for name, (expected, found) in counts.items():
        if found != expected:
            raise DataError(
                f"{INFO_FILE} says {expected} {name}, the tables hold {found}; run palate prepare again",
                folder,
            )
    unknown = set(tables.items["categories"].explode().drop_nulls().unique()) - set(info.categories)
    if unknown:
        raise DataError(f"items have the category {min(unknown)!r} that {INFO_FILE} does not list", folder)


def _repeats(tables: Tables) -> bool:
    """Return whether any user has several interactions with one item."""
    events = tables.interactions
    pairs = np.sort(events.owner * max(len(tables.items), 1) + events.item_index)
    return bool((pairs[1:] == pairs[:-1]).any())


def _read_info(folder: Path) -> DatasetInfo:
    path = folder / INFO_FILE
    text = read_text(path, "the file is missing; give a folder that palate prepare wrote")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"not JSON ({error}); run palate prepare again", path) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise DataError(
            f"format {found}, but this palate reads format {FORMAT}; run palate prepare again", path
        )
    try:
        return DatasetInfo.model_validate(content)
    except ValidationError as error:
        if old := renamed_keys(error, DATASET):
            raise DataError(
                f"{old}; an earlier version wrote this dataset: run palate prepare again", path
            ) from error
        raise DataError(f"{faults(error)}; run palate prepare again", path) from error
