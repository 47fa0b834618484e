"""Reads event files in batches, and locates the first invalid row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from palate.data.event_types import type_name, weights_of
from palate.data.tabular.columns import find_column, require_column
from palate.data.tabular.faults import Faults
from palate.data.tabular.files import Batch, RowFiles
from palate.data.tabular.ids import check_ids, read_ids
from palate.data.tabular.settings import OwnData
from palate.data.tabular.times import Times, find_times
from palate.data.tabular.values import as_numbers
from palate.errors import DataError
from palate.schema import Feedback, Indices
from palate.words import counted

_SAMPLE = 10_000


@dataclass(frozen=True)
class EventColumns:
    """Column names by role; with implicit feedback, ``value`` is a weight or None, or events have types or dwells."""

    user: str
    item: str
    value: str | None
    time: str | None
    feedback: Feedback
    event_type: str | None = None
    dwell: str | None = None
    review: str | None = None

    @property
    def typed(self) -> bool:
        """Whether events have types or dwell times."""
        return self.event_type is not None or self.dwell is not None

    @property
    def value_role(self) -> str:
        """Name of the value's role: "rating" or "weight"."""
        return "rating" if self.feedback == "ratings" else "weight"

    @property
    def by_role(self) -> dict[str, str]:
        """Names of the columns that are read, by role."""
        roles = {
            "user": self.user,
            "item": self.item,
            self.value_role: self.value,
            "event type": self.event_type,
            "dwell": self.dwell,
            "time": self.time,
            "review": self.review,
        }
        return {role: name for role, name in roles.items() if name is not None}


@dataclass(frozen=True, eq=False)
class Events:
    """Events in file order, with indices into ascending ids."""

    user_ids: list[str]
    item_ids: list[str]
    user_index: Indices  # [N]
    item_index: Indices  # [N]
    table: (
        pl.DataFrame
    )  # [N] value (Float64), time (Int64), type (Categorical, nullable), dwell (Float64, nullable)
    ticks_per_second: int
    bad_rows: int


def find_event_columns(
    files: RowFiles, own: OwnData, faults: Faults, say: Callable[[str], None]
) -> EventColumns | None:
    """Find the columns of the event files.

    Args:
        files: The event files.
        own: Given column names.
        faults: Collects an error for every required column that is not found.
        say: Called with a message about a column that may hold event types but is not read as such.

    Returns:
        The columns; None if there are errors.
    """
    columns, place = list(files.schema), str(files.paths[0])
    before = Faults()
    rating = None
    if _asks_for_types(own):
        before.catch(_check_without_ratings, own)
    elif own.feedback != "implicit":
        find_rating = require_column if own.feedback == "ratings" else find_column
        rating = before.catch(find_rating, "rating", own.rating, columns, place)
    user = before.catch(require_column, "user", own.user, columns, place)
    item = before.catch(require_column, "item", own.item, columns, place)
    event_type, dwell = (None, None) if rating else _find_type_columns(files, own, before, say)
    weight = None
    if not (rating or event_type or dwell):
        weight = before.catch(find_column, "weight", own.weight, columns, place)
    time = before.catch(find_column, "time", own.time, columns, place)
    texts = [name for name in columns if own.review or not files.schema[name].is_nested()]
    review = before.catch(find_column, "review", own.review, texts, place)
    if before and files.first_line_looks_like_data:
        faults.add(files.no_header("name all columns with --columns user_id,item_id,rating,timestamp"))
    elif before or user is None or item is None:
        faults.extend(before)
    else:
        feedback: Feedback = "implicit" if rating is None else "ratings"
        return EventColumns(user, item, rating or weight, time, feedback, event_type, dwell, review)
    return None


def _asks_for_types(own: OwnData) -> bool:
    return not (own.event_type is None and own.event_weights is None and own.dwell is None)


def _check_without_ratings(own: OwnData) -> None:
    """Raise :class:`DataError` if events are to be read both by their types and by another value."""
    other = next((name for name in ("rating", "weight") if getattr(own, name) is not None), None)
    if other is not None:
        raise DataError(
            f"events are weighted by their types and dwell times, or by --{other}-col; give only one of them"
        )
    if own.feedback == "ratings":
        raise DataError(
            "--feedback ratings takes the values of ratings, not of types and dwell times; leave one out"
        )


def _find_type_columns(
    files: RowFiles, own: OwnData, faults: Faults, say: Callable[[str], None]
) -> tuple[str | None, str | None]:
    """Find the columns of event types and dwell times; a type column is inferred only if all its values are known."""
    columns, place = list(files.schema), str(files.paths[0])
    if own.weight is not None:
        return None, None
    event_type = faults.catch(find_column, "event type", own.event_type, columns, place)
    if event_type is not None and own.event_type is None and not _holds_types(files, event_type, own, say):
        event_type = None
    if event_type is None and own.event_weights is not None and not faults:
        faults.add(DataError("which column is the event type? name it with --event-type", place))
    return event_type, faults.catch(find_column, "dwell", own.dwell, columns, place)


def _holds_types(files: RowFiles, column: str, own: OwnData, say: Callable[[str], None]) -> bool:
    """Return whether the first rows have several event types, all with a weight."""
    if files.schema[column].is_nested():
        return False
    sample, _ = files.read([column], lambda batch: batch.table, max_rows=_SAMPLE)
    texts = sample[column].cast(pl.String).drop_nulls().unique().sort()
    weights, unknown = weights_of(
        [type_name(text) for text in texts if text.strip()], own.event_weights or {}
    )
    if weights and unknown:
        say(
            f"{column} is not read as event types, because {unknown[0]!r} has no known weight; if it has event types, "
            f"give --event-type {column} and their --event-weights"
        )
    return len(weights) > 1 and not unknown


def read_events(files: RowFiles, columns: EventColumns, say: Callable[[str], None]) -> Events:
    """Read all events.

    A row is invalid if the user, the item or, if there is such a column, the event type is missing; if the value is
    not a number (or, as a weight, not above 0); if the dwell time is not a number of at least 0; if the time is
    invalid or in another unit than most; or if the number of fields differs from the number of columns.

    Args:
        files: The files, with the setting whether invalid rows are skipped.
        columns: The columns to read.
        say: Called with messages about the format of times and about skipped rows.

    Returns:
        The events, in file order.

    Raises:
        DataError: There are no events, a row is invalid and may not be skipped, or ids have lost digits.
    """
    _check_not_nested(files, columns)
    times = _find_times(files, columns, say)
    wanted = list(dict.fromkeys(columns.by_role.values()))
    table, skipped = files.read(wanted, lambda batch: _converted(batch, columns, times))
    if times is None:
        table = table.with_columns(time=pl.int_range(pl.len(), dtype=pl.Int64))
    table, bad = _without_bad_rows(table, skipped, files, columns, times, say)
    user_ids, user_index = _indexed(table.drop_in_place("user"))
    item_ids, item_index = _indexed(table.drop_in_place("item"))
    for column, ids in ((columns.user, user_ids), (columns.item, item_ids)):
        check_ids(column, ids, files)
    per_second = 1 if times is None else times.per_second
    return Events(user_ids, item_ids, user_index, item_index, table, per_second, bad)


def _find_times(files: RowFiles, columns: EventColumns, say: Callable[[str], None]) -> Times | None:
    if columns.time is None:
        say("there is no time column: events are taken in file order (name the column with --time-col)")
        return None
    sample, _ = files.read([columns.time], lambda batch: batch.table, max_rows=_SAMPLE)
    times = find_times(columns.time, sample[columns.time], files.paths[0])
    say(f"times are {times.told}")
    return times


def _converted(batch: Batch, columns: EventColumns, times: Times | None) -> pl.DataFrame:
    """Convert a batch to the columns user, item, value, time, type, dwell and review; text ids are categoricals."""
    table, path = batch.table, batch.path
    ids = [read_ids(table[name], path) for name in (columns.user, columns.item)]
    user, item = (one.cast(pl.Categorical) if one.dtype == pl.String else one for one in ids)
    value: pl.Expr | pl.Series = (
        pl.lit(1.0) if columns.value is None else as_numbers(table[columns.value], path)
    )
    kind: pl.Expr | pl.Series = pl.lit(None, pl.Categorical)
    if columns.event_type is not None:
        kind = _type_names(table[columns.event_type])
        value = pl.when(pl.lit(kind.is_not_null())).then(1.0)
    dwell = pl.lit(None, pl.Float64) if columns.dwell is None else seconds_of(table[columns.dwell], path)
    time = pl.lit(0, pl.Int64) if times is None or columns.time is None else times.read(table[columns.time])
    parts = {"user": user, "item": item, "value": value, "time": time, "type": kind, "dwell": dwell}
    parts["review"] = pl.lit(None, pl.String) if columns.review is None else _texts(table[columns.review])
    return table.select(one.alias(name) for name, one in parts.items())


def _type_names(column: pl.Series) -> pl.Series:
    """Normalise event types; null where there is none."""
    texts = column.cast(pl.String)
    found = [text for text in texts.unique() if text is not None and text.strip()]
    names = [type_name(text) for text in found]
    named: pl.Series = texts.replace_strict(found, names, default=None, return_dtype=pl.Categorical)
    return named


def _texts(column: pl.Series) -> pl.Series:
    """Strip texts; null where nothing is left."""
    stripped: pl.Series = column.cast(pl.String).str.strip_chars()
    return stripped.set(stripped == "", None)


def seconds_of(column: pl.Series, path: Path) -> pl.Series:
    """Parse dwell times in seconds: null where there is none, NaN where a value is invalid."""
    seconds: pl.Series = as_numbers(column, path).fill_nan(None)
    there = column.is_not_null()
    if column.dtype == pl.String:
        there &= column.str.strip_chars() != ""
    wrong = (there & seconds.is_null()) | (seconds < 0) | seconds.is_infinite()
    marked: pl.Series = seconds.set(wrong.fill_null(False), math.nan)
    return marked


def _check_not_nested(files: RowFiles, columns: EventColumns) -> None:
    for role, name in columns.by_role.items():
        if files.schema[name].is_nested():
            path, line = files.first_nested(name)
            raise DataError(
                f"column {name!r} of the {role} contains lists or objects, expected text or numbers",
                path,
                line,
            )


def _without_bad_rows(
    table: pl.DataFrame,
    skipped: int,
    files: RowFiles,
    columns: EventColumns,
    times: Times | None,
    say: Callable[[str], None],
) -> tuple[pl.DataFrame, int]:
    """Drop invalid rows; returns the table and the number of invalid rows, including ``skipped``."""
    fault = pl.any_horizontal(pl.col("user", "item", "value", "time").is_null())
    fault |= ~pl.col("value").is_finite().fill_null(False)
    fault |= pl.col("dwell").is_nan().fill_null(False)
    if columns.feedback == "implicit":
        fault |= (pl.col("value") <= 0).fill_null(True)
    bad = table.select(fault).to_series()
    rows = bad.arg_true()
    faults = [_fault(int(rows[0]), files, columns, times)] if len(rows) else []
    if faults and not files.skip_bad_rows:
        raise DataError(f"{faults[0]}; correct it, or skip such rows with --skip-bad-rows")
    if skipped:
        faults += [error for error in [files.first_skipped()] if error is not None]
    if not faults and len(table):
        return table, 0
    table = table.filter(~bad)
    if table.is_empty():
        raise DataError("no events; expected at least one row that can be read", files.paths[0])
    order = {path: number for number, path in enumerate(files.paths)}
    first = min(faults, key=lambda error: (order.get(error.path or files.paths[0], 0), error.line or 0))
    say(f"skipped {counted(len(rows) + skipped, 'bad row')}, the first is {first}")
    return table, len(rows) + skipped


def _fault(row: int, files: RowFiles, columns: EventColumns, times: Times | None) -> DataError:
    """Describe an invalid row and its location."""
    path, line = files.line_of(row)
    found = files.row(row, list(dict.fromkeys(columns.by_role.values())))
    where = "" if line is not None else f"row {row + 1:,}: " if len(files.paths) == 1 else "a row: "
    return DataError(where + complaint_of(found, columns, times, path), path, line)


def complaint_of(found: Mapping[str, object], columns: EventColumns, times: Times | None, path: Path) -> str:
    """Describe why the row with the values ``found`` is invalid."""
    for role, name in columns.by_role.items():
        if role in ("dwell", "review"):
            continue  # optional
        if found[name] is None or not str(found[name]).strip() or found[name] != found[name]:
            return f"no {role} in column {name!r}"
    if columns.value is not None:
        number = as_numbers(pl.Series(columns.value, [found[columns.value]]), path)[0]
        if number is None or not np.isfinite(number):
            return f"the {columns.value_role} {found[columns.value]!r} is not a number"
        if columns.feedback == "implicit" and number <= 0:
            return f"the weight {found[columns.value]!r} is not above 0"
    if columns.dwell is not None and seconds_of(pl.Series([found[columns.dwell]]), path).is_nan().any():
        return f"the dwell {found[columns.dwell]!r} is not a number of seconds, at least 0"
    if times is not None and columns.time is not None:
        return times.complaint(found[columns.time])
    return f"cannot be read as an event: {found}"


def _indexed(ids: pl.Series) -> tuple[list[str], Indices]:
    """Return the distinct ids as sorted text, and each row's index."""
    if ids.dtype.is_integer():
        values = ids.unique().sort()
        index = np.searchsorted(values.to_numpy(), ids.to_numpy()).astype(np.int32)
        return values.cast(pl.String).to_list(), index
    used = ids.unique()
    names = pl.DataFrame({"code": used.to_physical(), "name": used.cast(pl.String)}).sort("name")
    rank = np.zeros(int(names["code"].max()) + 1, dtype=np.int32)  # type: ignore[arg-type]
    rank[names["code"].to_numpy()] = np.arange(len(names), dtype=np.int32)
    return names["name"].to_list(), rank[ids.to_physical().to_numpy()]
