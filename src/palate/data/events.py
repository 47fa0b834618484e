"""Event files as columns: one streaming pass, and the line of the first row that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from palate.data.column_roles import find_column, require_column
from palate.data.event_times import Times, find_times
from palate.data.event_values import as_numbers
from palate.data.own_settings import OwnData
from palate.data.row_files import RowFiles
from palate.errors import DataError
from palate.schema import Feedback, Indices

_SAMPLE = 10_000


@dataclass(frozen=True)
class EventColumns:
    """Which column plays which part; without ratings ``value`` is a weight, or nothing."""

    user: str
    item: str
    value: str | None
    time: str | None
    feedback: Feedback


@dataclass(frozen=True, eq=False)
class Events:
    """Events in the order of the files, by indices into ids that ascend."""

    user_ids: list[str]
    item_ids: list[str]
    user_index: Indices  # [N]
    item_index: Indices  # [N]
    table: pl.DataFrame  # value (Float64), time (Int64): [N]
    ticks_per_second: int
    bad_rows: int


def find_event_columns(files: RowFiles, own: OwnData) -> EventColumns:
    """The parts of the columns; raises :class:`DataError` for one that is needed and cannot be told."""
    columns, place = list(files.schema), str(files.paths[0])
    rating = None if own.feedback == "implicit" else find_column("rating", own.rating, columns, place)
    if rating is None and own.feedback == "ratings":
        rating = require_column("rating", own.rating, columns, place)
    return EventColumns(
        user=require_column("user", own.user, columns, place),
        item=require_column("item", own.item, columns, place),
        value=rating or find_column("weight", own.weight, columns, place),
        time=find_column("time", own.time, columns, place),
        feedback="implicit" if rating is None else "ratings",
    )


def read_events(
    files: RowFiles, columns: EventColumns, skip_bad_rows: bool, say: Callable[[str], None]
) -> Events:
    """Read all events.

    A row is bad without a user or an item, with a value that is no number (or, as a weight, not above 0), or with a
    time that is none. Raises :class:`DataError` that names the first one's line, unless they are to be skipped.
    """
    times = None
    if columns.time is not None:
        sample = files.collect(files.scan().select(columns.time).head(_SAMPLE))[columns.time]
        times = find_times(columns.time, sample)
        say(f"times are {times.told}")
    else:
        say(
            "there is no column of times: the order of the files is the order of time (name it with --time-col)"
        )
    table = files.collect(files.scan().select(*_expressions(files, columns, times)))
    table, bad = _without_bad_rows(table, files, columns, skip_bad_rows, say)
    user_ids, user_index = _indexed(table.drop_in_place("user"))
    item_ids, item_index = _indexed(table.drop_in_place("item"))
    per_second = 1 if times is None else times.per_second
    return Events(user_ids, item_ids, user_index, item_index, table, per_second, bad)


def _expressions(files: RowFiles, columns: EventColumns, times: Times | None) -> list[pl.Expr]:
    value = pl.lit(1.0) if columns.value is None else as_numbers(columns.value, files.schema[columns.value])
    return [
        _id(columns.user, files).alias("user"),
        _id(columns.item, files).alias("item"),
        value.alias("value"),
        (pl.int_range(pl.len(), dtype=pl.Int64) if times is None else times.ticks).alias("time"),
    ]


def _id(column: str, files: RowFiles) -> pl.Expr:
    """Text as a category, which keeps each id once; whole numbers, also those that were written as floats."""
    dtype = files.schema[column]
    if dtype.is_numeric():
        return pl.col(column).cast(pl.Int64, strict=False)
    if dtype != pl.String and not isinstance(dtype, (pl.Categorical, pl.Enum)):
        raise DataError(
            f"column {column!r} holds {dtype}, expected ids: text or whole numbers", files.paths[0]
        )
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text).cast(pl.Categorical)


def _without_bad_rows(
    table: pl.DataFrame, files: RowFiles, columns: EventColumns, skip: bool, say: Callable[[str], None]
) -> tuple[pl.DataFrame, int]:
    """The rows that can be read, and how many cannot; blank lines count as neither."""
    fault = pl.any_horizontal(pl.col("user", "item", "value", "time").is_null())
    fault |= ~pl.col("value").is_finite().fill_null(False)
    if columns.feedback == "implicit":
        fault |= (pl.col("value") <= 0).fill_null(True)
    bad = table.select(fault).to_series()
    if not bad.any():
        return table, 0
    rows = table.select(fault & ~_blank(files, columns)).to_series().arg_true()
    if len(rows):
        error = _first_fault(int(rows[0]), files, columns)
        if not skip:
            raise DataError(f"{error}; put it right, or leave such rows out with --skip-bad-rows")
        say(f"left out {len(rows):,} bad rows, the first is {error}")
    table = table.filter(~bad)
    if table.is_empty():
        raise DataError("no events; expected at least one row that can be read", files.paths[0])
    return table, len(rows)


def _blank(files: RowFiles, columns: EventColumns) -> pl.Expr:
    """Whether a row may be a blank line, which polars takes for a row of nothing."""
    names = (
        ["user", "item"]
        + ([] if columns.value is None else ["value"])
        + ([] if columns.time is None else ["time"])
    )
    return pl.all_horizontal(pl.col(names).is_null()) if files.format == "csv" else pl.lit(False)


def _first_fault(row: int, files: RowFiles, columns: EventColumns) -> DataError:
    """What is wrong with a row, and where it stands."""
    path, line = files.line_of(row)
    value = "rating" if columns.feedback == "ratings" else "weight"
    roles = {"user": columns.user, "item": columns.item, value: columns.value, "time": columns.time}
    named = {role: name for role, name in roles.items() if name is not None}
    found = files.collect(files.scan().select(named.values()).slice(row, 1)).row(0, named=True)
    for role, name in named.items():
        if found[name] is None or not str(found[name]).strip():
            return DataError(f"no {role} in column {name!r}", path, line)
    if columns.value is not None:
        number = pl.DataFrame({columns.value: [found[columns.value]]})
        as_number = number.select(as_numbers(columns.value, number.schema[columns.value])).item()
        if as_number is None or not np.isfinite(as_number):
            return DataError(f"the {value} {found[columns.value]!r} is not a number", path, line)
        if value == "weight" and as_number <= 0:
            return DataError(f"the weight {found[columns.value]!r} is not above 0", path, line)
    read_as = "a time like the others" if columns.time and found[columns.time] else "an event"
    shown = ", ".join(f"{name} {found[name]!r}" for name in named.values())
    return DataError(f"cannot be read as {read_as}: {shown}", path, line)


def _indexed(ids: pl.Series) -> tuple[list[str], Indices]:
    """The distinct ids in ascending order as text, and every row's index among them."""
    if ids.dtype == pl.Int64:
        values = ids.unique().sort()
        index = np.searchsorted(values.to_numpy(), ids.to_numpy()).astype(np.int32)
        return values.cast(pl.String).to_list(), index
    used = ids.unique()
    names = pl.DataFrame({"code": used.to_physical(), "name": used.cast(pl.String)}).sort("name")
    rank = np.zeros(int(names["code"].max()) + 1, dtype=np.int32)  # type: ignore[arg-type]
    rank[names["code"].to_numpy()] = np.arange(len(names), dtype=np.int32)
    return names["name"].to_list(), rank[ids.to_physical().to_numpy()]
