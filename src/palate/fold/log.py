"""Reads event logs: user, item, value, time and, optionally, event id and deletion flag of each row."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from palate.data.event_types import EventTypes, type_name
from palate.data.tabular.columns import find_column
from palate.data.tabular.events import EventColumns, complaint_of, find_event_columns, seconds_of
from palate.data.tabular.faults import Faults
from palate.data.tabular.files import Batch, RowFiles
from palate.data.tabular.ids import read_ids
from palate.data.tabular.settings import OwnData
from palate.data.tabular.skipped_rows import SkippedRows
from palate.data.tabular.times import Times, find_times
from palate.data.tabular.values import as_numbers
from palate.errors import DataError, rating_off_scale
from palate.fold.last_events import LOG, MICROSECONDS
from palate.schema import Feedback, Floats, Indices
from palate.system.records import Frozen

_SAMPLE = 10_000


@dataclass(frozen=True)
class LogColumns:
    """Columns of a log by role."""

    events: EventColumns
    event_id: str | None
    deleted: str | None

    @property
    def by_role(self) -> dict[str, str]:
        """Names of the columns that are read, by role."""
        more = {"event id": self.event_id, "deleted": self.deleted}
        return {**self.events.by_role, **{role: name for role, name in more.items() if name is not None}}


@dataclass(frozen=True, eq=False)
class LogScale:
    """A model's item ids and rating scale, which the values of a log are mapped to."""

    item_ids: list[str]  # [I]
    rating_values: Floats  # [R]
    event_types: EventTypes | None

    @property
    def items(self) -> pl.DataFrame:
        """Item ids and their indices."""
        return pl.DataFrame(
            {"item": self.item_ids, "number": np.arange(len(self.item_ids), dtype=np.int32)},
            schema={"item": pl.String, "number": pl.Int32},
        )


class LogValues(Frozen):
    """Weights of event types, as stored in a file for the workers."""

    event_types: EventTypes | None


class LogFile(Frozen):
    """Manifest entry of an event file: checksum and row counts."""

    name: str
    bytes: int
    sha256: str
    rows: int
    """Number of rows with known items."""
    unknown_items: int
    """Number of rows skipped because their item is not in the model's catalogue."""
    bad_rows: int
    """Number of rows skipped because they cannot be parsed."""


@dataclass
class LogCount:
    """Counters of a file's rows while it is read."""

    rows: int = 0
    unknown_items: int = 0
    bad_rows: int = 0
    example: str | None = field(default=None)
    """An item id that is not in the model's catalogue."""


def find_log_columns(
    files: RowFiles,
    own: OwnData,
    feedback: Feedback,
    event_id: str | None,
    deleted: str | None,
    say: Callable[[str], None],
) -> LogColumns:
    """Infer the columns of a log from their names.

    Args:
        files: Files of the log.
        own: Columns that the user specified.
        feedback: Kind of feedback that the model reads.
        event_id: Column of event ids; inferred from its name if None.
        deleted: Column of deletion flags; inferred from its name if None.
        say: Called with a message about a column that is not read.

    Returns:
        The columns.

    Raises:
        DataError: A column is missing.
    """
    faults = Faults()
    typed = own.event_type is not None or own.dwell is not None
    given = own if typed else own.model_copy(update={"feedback": feedback})
    columns = find_event_columns(files, given, faults, say)
    names, place = list(files.schema), str(files.paths[0])
    found_id = faults.catch(find_column, "event id", event_id, names, place)
    found_deleted = faults.catch(find_column, "deleted", deleted, names, place)
    faults.check()
    assert columns is not None
    if columns.time is None:
        raise DataError(
            "there is no time column, and a log is folded by the time of its events; name it with --time-col",
            place,
        )
    if columns.review is not None:
        say(f"column {columns.review} is not read: states are folded without texts")
    return LogColumns(replace(columns, review=None), found_id, found_deleted)


def block_of(user_ids: pa.Array, blocks: int) -> Indices:
    """Return the block index of each user [N]: the CRC-32 of the id as UTF-8, modulo ``blocks``."""
    encoded = user_ids.dictionary_encode()
    codes = [binascii.crc32(one.encode()) % blocks for one in encoded.dictionary.to_pylist()]
    return np.asarray(np.array(codes, dtype=np.int32)[encoded.indices.to_numpy(zero_copy_only=False)])


def read_log(files: RowFiles, columns: LogColumns, scale: LogScale, count: LogCount) -> Iterator[pa.Table]:
    """Read a log file in batches with the schema :data:`palate.fold.last_events.LOG`.

    Args:
        files: The file, and whether bad rows are skipped.
        columns: Columns by role.
        scale: The model's items and rating scale.
        count: Counters to update.

    Yields:
        The rows with known items.

    Raises:
        DataError: A row cannot be parsed, or its value is not on the scale, and bad rows are not skipped.
    """
    (path,) = files.paths
    wanted = list(dict.fromkeys(columns.by_role.values()))
    time = columns.events.time
    assert time is not None
    sample, _ = files.read([time], lambda batch: batch.table, max_rows=_SAMPLE)
    times = find_times(time, sample[time], path)
    reader = _Reader(columns, scale, times, scale.items)
    skipped, before = SkippedRows(files.skip_bad_rows), 0
    for batch in files.batches(wanted, skipped):
        table = reader.converted(batch)
        bad = table["bad"]
        if bad.any():
            first = before + int(bad.arg_max() or 0)
            if not files.skip_bad_rows:
                raise reader.fault(files, first)
            count.bad_rows += int(bad.sum())
            table = table.filter(~bad)
        before += len(batch.table)
        unknown = table["item"].is_null()
        if unknown.any():
            count.unknown_items += int(unknown.sum())
            count.example = count.example or str(table.filter(unknown)["item_id"][0])
            table = table.filter(~unknown)
        count.rows += len(table)
        if len(table):
            yield table.select(LOG.names).to_arrow().cast(LOG)
    count.bad_rows += skipped.count


@dataclass(frozen=True, eq=False)
class _Reader:
    columns: LogColumns
    scale: LogScale
    times: Times
    items: pl.DataFrame

    def converted(self, batch: Batch) -> pl.DataFrame:
        """Convert a batch; unknown items become null, and rows that cannot be parsed are marked as bad."""
        table, path, columns = batch.table, batch.path, self.columns.events
        assert columns.time is not None
        rows = len(table)
        user, item_id = (
            read_ids(table[name], path).cast(pl.String).alias(role)
            for role, name in (("user", columns.user), ("item_id", columns.item))
        )
        item = item_id.to_frame("item").join(self.items, on="item", how="left", maintain_order="left")[
            "number"
        ]
        ticks = self.times.read(table[columns.time])
        per_second = self.times.per_second
        finer = per_second > MICROSECONDS
        time = ticks // (per_second // MICROSECONDS) if finer else ticks * (MICROSECONDS // per_second)
        deleted = self._deleted(table, path, rows)
        value, bad = self._values(table, path, rows)
        index = np.searchsorted(self.scale.rating_values, value).clip(max=len(self.scale.rating_values) - 1)
        on_scale = self.scale.rating_values[index] == value
        bad |= ~on_scale
        bad &= ~deleted
        index[deleted] = 0
        bad |= (user.is_null() | item_id.is_null() | time.is_null()).to_numpy()
        return pl.DataFrame(
            {
                "user": user.fill_null(""),
                "item": item,
                "rating": index.astype(np.uint8),
                "time": time.fill_null(0),
                "event": self._numbers(table, path, rows),
                "deleted": deleted,
                "item_id": item_id,
                "bad": bad,
            }
        )

    def _values(self, table: pl.DataFrame, path: Path, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Parse the values: float32 [N], and a mask of missing ones [N]."""
        columns, types = self.columns.events, self.scale.event_types
        if columns.value is not None:
            numbers = as_numbers(table[columns.value], path).fill_nan(None)
            return numbers.fill_null(0).to_numpy().astype(np.float32), numbers.is_null().to_numpy().copy()
        base, bad = np.ones(rows), np.zeros(rows, dtype=np.bool_)
        if columns.event_type is not None and types is not None and types.weights:
            kinds = table[columns.event_type].cast(pl.String)
            there = [one for one in kinds.unique() if one is not None]
            weights = [types.weights.get(type_name(one)) for one in there]
            found = kinds.replace_strict(there, weights, default=None, return_dtype=pl.Float64)
            base, bad = found.fill_null(0).to_numpy().copy(), found.is_null().to_numpy().copy()
        if types is None:
            return base.astype(np.float32), bad
        dwell = None
        if columns.dwell is not None:
            seconds = seconds_of(table[columns.dwell], path)
            bad |= seconds.is_nan().fill_null(False).to_numpy()
            dwell = seconds.fill_null(float("nan")).to_numpy()
        return np.round(types.values(base, dwell), 9).astype(np.float32), bad

    def _deleted(self, table: pl.DataFrame, path: Path, rows: int) -> np.ndarray:
        if self.columns.deleted is None:
            return np.zeros(rows, dtype=np.bool_)
        deleted = as_numbers(table[self.columns.deleted], path).fill_null(0) != 0
        return np.array(deleted.to_numpy(), dtype=np.bool_)

    def _numbers(self, table: pl.DataFrame, path: Path, rows: int) -> np.ndarray:
        if self.columns.event_id is None:
            return np.zeros(rows, dtype=np.int64)
        from palate.encoders.batch import event_number  # imported here because it loads torch

        ids = read_ids(table[self.columns.event_id], path).cast(pl.String)
        return np.fromiter((event_number(one) for one in ids), dtype=np.int64, count=rows)

    def fault(self, files: RowFiles, row: int) -> DataError:
        """Return the error for a row that cannot be read."""
        path, line = files.line_of(row)
        found = files.row(row, list(dict.fromkeys(self.columns.by_role.values())))
        columns = self.columns.events
        said = self._off_scale(found, path) or complaint_of(found, columns, self.times, path)
        where = "" if line is not None else f"row {row + 1:,}: "
        return DataError(f"{where}{said}; correct it, or skip such rows with --skip-bad-rows", path, line)

    def _off_scale(self, found: Mapping[str, object], path: Path) -> str | None:
        """Return a message if a row's value is a number or an event type that is not on the scale, else None."""
        columns, types = self.columns.events, self.scale.event_types
        if columns.value is not None:
            number = as_numbers(pl.Series("value", [found[columns.value]]), path)[0]
            if (
                number is not None
                and np.isfinite(number)
                and np.float32(number) not in self.scale.rating_values
            ):
                return str(rating_off_scale(number, self.scale.rating_values.tolist()))
        if columns.event_type is not None and types is not None:
            kind = str(found[columns.event_type] or "")
            if kind.strip() and type_name(kind) not in types.weights:
                known = ", ".join(types.weights)
                return f"the event type {kind!r} has no weight in the model; expected one of {known}"
        return None
