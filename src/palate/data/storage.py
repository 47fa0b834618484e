"""Tables of a dataset: Parquet files, columns in memory, and a fingerprint of their content."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from palate.errors import DataError
from palate.schema import SPLITS, Interactions, RatingIndices
from palate.system.files import check_readable, write_bytes

INTERACTIONS_FILE = "interactions.parquet"
USERS_FILE = "users.parquet"
ITEMS_FILE = "items.parquet"
REVIEWS_FILE = "reviews.parquet"
"""Written only if users wrote texts, and read on first access to them."""

INTERACTION_COLUMNS = {"item_index": pl.Int32(), "rating_index": pl.UInt8(), "timestamp": pl.Int64()}
USER_COLUMNS = {"user_id": pl.String(), "split": pl.String(), "interactions": pl.Int64()}
ITEM_COLUMNS = {
    "item_id": pl.String(),
    "title": pl.String(),
    "year": pl.Int32(),
    "categories": pl.List(pl.String()),
    "description": pl.String(),
}


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables of a dataset, without ``dataset.json``."""

    interactions: Interactions
    user_ids: Sequence[str]
    split_of_user: RatingIndices  # [U] into SPLITS
    items: pl.DataFrame  # ITEM_COLUMNS
    reviews: pl.Series | None = (
        None  # [N] texts that users wrote, null where there is none; None if there are none at all
    )


def fingerprint(tables: Tables, rating_values: Sequence[float], category_field: str) -> str:
    """Return the sha256 of the content in memory, without review texts; independent of the file format."""
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    for text in (list(rating_values), category_field, list(SPLITS), list(tables.user_ids)):
        add(json.dumps(text).encode())
    events = tables.interactions
    for array, dtype in (
        (tables.split_of_user, "<u1"),
        (events.offsets, "<i8"),
        (events.item_index, "<i4"),
        (events.rating_index, "<u1"),
        (events.timestamp, "<i8"),
    ):
        column = np.ascontiguousarray(array, dtype=dtype)
        digest.update(column.nbytes.to_bytes(8, "little"))
        digest.update(column.data)
    for row in tables.items.select(list(ITEM_COLUMNS)).iter_rows():
        add(json.dumps(row).encode())
    return f"sha256:{digest.hexdigest()}"


def write_tables(folder: Path, tables: Tables) -> None:
    """Write the Parquet files to an existing folder."""
    events = tables.interactions
    interactions = pl.DataFrame(
        {name: getattr(events, name) for name in INTERACTION_COLUMNS}, schema=INTERACTION_COLUMNS
    )
    split = np.asarray(SPLITS, dtype=object)[tables.split_of_user].tolist()
    users = pl.DataFrame(
        {"user_id": tables.user_ids, "split": split, "interactions": events.lengths}, schema=USER_COLUMNS
    )
    named = {INTERACTIONS_FILE: interactions, USERS_FILE: users, ITEMS_FILE: tables.items}
    if tables.reviews is not None:
        named[REVIEWS_FILE] = tables.reviews.alias("text").to_frame()
    for name, table in named.items():
        # Serialise in memory first: polars reports a full disk without the system's error number.
        content = io.BytesIO()
        table.write_parquet(content, compression="zstd", compression_level=1)
        with content.getbuffer() as view:  # released here: Python 3.12.1 crashes when it is garbage-collected
            write_bytes(folder / name, view)


def read_tables(folder: Path) -> Tables:
    """Load the tables; raises :class:`DataError` if one is missing, damaged or inconsistent."""
    interactions = _read(folder / INTERACTIONS_FILE, INTERACTION_COLUMNS)
    users = _read(folder / USERS_FILE, USER_COLUMNS)
    items = _read(folder / ITEMS_FILE, ITEM_COLUMNS)
    offsets = np.concatenate([[0], users["interactions"].to_numpy().cumsum()]).astype(np.int64)
    if offsets[-1] != len(interactions):
        raise DataError(
            f"{len(interactions)} interactions, but {USERS_FILE} counts {offsets[-1]}; "
            "run palate prepare again",
            folder / INTERACTIONS_FILE,
        )
    item_index, rating_index, timestamp = (interactions[name].to_numpy() for name in INTERACTION_COLUMNS)
    events = Interactions(offsets, item_index, rating_index, timestamp)
    for index in (events.item_index.min(initial=0), events.item_index.max(initial=0)):
        if not 0 <= index < len(items):
            raise DataError(
                f"item_index {index}, but {ITEMS_FILE} has {len(items)} items; run palate prepare again",
                folder / INTERACTIONS_FILE,
            )
    unknown = set(users["split"].unique()) - set(SPLITS)
    if unknown:
        raise DataError(f"unknown split {min(unknown)!r}; expected {', '.join(SPLITS)}", folder / USERS_FILE)
    split_of_user = users["split"].replace_strict(
        dict(zip(SPLITS, range(3), strict=True)), return_dtype=pl.UInt8
    )
    return Tables(events, users["user_id"].to_list(), split_of_user.to_numpy(), items)


def read_reviews(folder: Path, interactions: int) -> pl.Series | None:
    """Read the texts that users wrote, [N]; None if the dataset has none.

    Raises:
        DataError: The file is damaged or does not have one row per interaction.
    """
    path = folder / REVIEWS_FILE
    if not path.exists():
        return None
    texts = _read(path, {"text": pl.String()})["text"]
    if len(texts) != interactions:
        raise DataError(
            f"{len(texts)} texts, but {INTERACTIONS_FILE} has {interactions} rows; run palate prepare again",
            path,
        )
    return texts


def _read(path: Path, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    check_readable(path, "the file is missing; run palate prepare again")
    try:
        table = pl.read_parquet(path, columns=list(columns), glob=False).rechunk()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"not a readable Parquet table ({reason}); run palate prepare again", path) from error
    for name, dtype in columns.items():
        if table.schema[name] != dtype:
            raise DataError(f"column {name} is {table.schema[name]}, expected {dtype}", path)
    required = [name for name in columns if name not in ("year", "description", "text")]
    if any(table.select(required).null_count().row(0)):
        raise DataError("a required field is empty; run palate prepare again", path)
    return table
