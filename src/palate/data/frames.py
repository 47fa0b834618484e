"""Conversion from and to tables of other libraries: polars, pandas, pyarrow and datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from palate.errors import DataError
from palate.schema import SPLITS
from palate.system.extras import missing_extra, missing_modules

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

TableLike: TypeAlias = Any
"""A table of polars, pandas, pyarrow or datasets: any object with Arrow's PyCapsule interface."""
IN_MEMORY = "a table in memory"
"""Source name of a dataset that was prepared from a table."""
HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
"""Split names on the Hugging Face hub."""


def is_table(source: object) -> bool:
    """Return whether a source is a table rather than a file name or a list of file names."""
    return not isinstance(source, str | Path | Sequence) or hasattr(source, "__arrow_c_stream__")


@contextmanager
def in_files(source: TableLike, items: TableLike | None) -> Iterator[tuple[Any, Any]]:
    """Write tables to temporary Parquet files for the event file reader; file names are passed through.

    Args:
        source: A table of events, or any other source of :func:`palate.prepare`.
        items: A table of items, a file name, or None.

    Raises:
        DataError: ``source`` or ``items`` is neither a table nor a file name.
    """
    with TemporaryDirectory(prefix="palate-") as place:
        given = {"events": source, "items": items}
        for name, one in given.items():
            if one is not None and is_table(one):
                given[name] = Path(place) / f"{name}.parquet"
                pyarrow.parquet.write_table(_arrow(one, name), given[name])
        yield given["events"], given["items"]


def _arrow(table: TableLike, name: str) -> pa.Table:
    if hasattr(table, "__arrow_c_stream__"):
        return pa.table(table)
    if hasattr(table, "with_format") and hasattr(table, "column_names"):  # a datasets.Dataset
        if isinstance(table.column_names, dict):
            raise DataError(f"{name}: several splits ({', '.join(table)}); give one of them, or join them")
        if hasattr(table, "num_rows"):
            return table.with_format("arrow")[:]
    raise DataError(
        f"{name}: found a {type(table).__name__}, expected a file name, or an in-memory table of polars, pandas, "
        "pyarrow or datasets"
    )


def event_frame(dataset: Dataset) -> pl.DataFrame:
    """Return the interactions with the columns user_id, item_id, rating or weight, timestamp, text and split.

    Users are in the order of the dataset, each user's events oldest first. ``timestamp``, in seconds since 1970, is
    present if the data has times, and ``text`` if users wrote texts.
    """
    events, info = dataset.interactions, dataset.info
    users = pl.Series(dataset.user_ids, dtype=pl.String)
    values = pl.Series(info.rating_values, dtype=pl.Float64)
    columns = {
        "user_id": users.gather(events.owner),
        "item_id": dataset.items["item_id"].gather(events.item_index),
        "rating" if info.feedback == "ratings" else "weight": values.gather(events.rating_index),
    }
    if info.has_times:
        columns["timestamp"] = pl.Series(events.timestamp)
    if dataset.review_texts is not None:
        columns["text"] = dataset.review_texts
    split = pl.Series(SPLITS, dtype=pl.String).gather(dataset.split_of_user[events.owner])
    return pl.DataFrame({**columns, "split": split})


def as_hub_datasets(dataset: Dataset) -> tuple[Any, Any]:
    """Convert events and items to objects of the library ``datasets``.

    Returns:
        A ``datasets.DatasetDict`` of events with those of the splits train, validation and test that have users, and a
        ``datasets.Dataset`` of items.

    Raises:
        MissingExtraError: ``datasets`` is not installed.
    """
    if missing_modules("datasets"):
        raise missing_extra("this needs the library datasets", "datasets")
    import datasets

    events = event_frame(dataset)
    by_split = {
        HUB_SPLITS[split]: datasets.Dataset(events.filter(pl.col("split") == split).drop("split").to_arrow())
        for split in SPLITS
        if dataset.info.split_sizes.get(split)
    }
    return datasets.DatasetDict(by_split), datasets.Dataset(dataset.items.to_arrow())
