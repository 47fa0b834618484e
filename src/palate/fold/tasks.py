"""The two tasks of a fold that engines schedule: partitioning a log file by user, and folding a block of users.

Both are idempotent: the result of a completed task is found under its path and not computed again, and a killed task
can be rerun with the same result.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palate.data.tabular.files import RowFiles
from palate.errors import DataError, MismatchError
from palate.fold.last_events import LOG, LastEvents
from palate.fold.log import LogColumns, LogCount, LogFile, LogScale, LogValues, block_of, read_log
from palate.fold.state_builder import StateBuilder, StateColumns, joined_columns
from palate.fold.state_files import BlockRecord, read_columns, read_users, state_digest, write_states
from palate.schema import Bools
from palate.system.files import fresh_folder, read_bytes, replacing, sha256_of, write_text
from palate.system.records import read_record

BUILDER, SCALE = "builder.safetensors", "scale.json"
STATES, LAST_EVENTS, DONE = "states", "last-events", "done"
AGAIN = "run palate fold again"
_ROWS_AT_ONCE = 2_000_000
"""Number of rows that a worker buffers before it writes them to the blocks."""


@dataclass(frozen=True)
class ReadTask:
    """Partitions an event file into blocks of users."""

    work: Path
    """Folder of the fold, accessible to all workers."""
    number: int
    files: RowFiles
    """The file to partition, as a single entry."""
    columns: LogColumns
    blocks: int

    @property
    def place(self) -> Path:
        """Folder of the result."""
        return self.work / "log" / f"{self.number:06d}"

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return (self.place / "log.json").is_file()

    def run(self) -> LogFile:
        """Partition the file unless that is done; raises :class:`DataError` if it cannot be read."""
        if self.done:
            return read_record(LogFile, self.place / "log.json", "is gone", AGAIN)
        (path,) = self.files.paths
        digest, size, count = sha256_of(path), path.stat().st_size, LogCount()
        with fresh_folder(self.place) as folder:
            parts: list[pa.Table] = []
            written = rows = 0
            for batch in read_log(self.files, self.columns, _scale(self.work), count):
                parts.append(batch)
                rows += len(batch)
                if rows >= _ROWS_AT_ONCE:
                    _write_blocks(parts, folder / f"{written:06d}.arrow", self.blocks)
                    parts, rows, written = [], 0, written + 1
            if rows:
                _write_blocks(parts, folder / f"{written:06d}.arrow", self.blocks)
            read = LogFile(
                name=path.name,
                bytes=size,
                sha256=digest,
                rows=count.rows,
                unknown_items=count.unknown_items,
                bad_rows=count.bad_rows,
            )
            write_text(folder / "log.json", read.model_dump_json() + "\n")
        return read


@dataclass(frozen=True)
class BlockTask:
    """Builds the states of a block of users."""

    work: Path
    number: int
    repeats: bool
    previous: Path | None
    """Folder of the earlier fold that this one extends; None if there is none."""

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self._file(DONE, "json").is_file()

    def run(self) -> BlockRecord:
        """Fold the block unless that is done; raises :class:`DataError` for contradictory events."""
        if self.done:
            return read_record(BlockRecord, self._file(DONE, "json"), "is gone", AGAIN)
        builder = _builder(self.work)
        batch = self._log()
        before = None if self.previous is None else _Before(self.previous, self.number, builder)
        if before is not None and not len(batch) and before.as_it_was:
            record = before.record
            for kind in (STATES, LAST_EVENTS):
                _link(before.file(kind), self._file(kind))
        else:
            record = self._folded(builder, batch, before)
        write_text(self._file(DONE, "json"), record.model_dump_json() + "\n")
        return record

    def _folded(self, builder: StateBuilder, batch: pa.Table, before: _Before | None) -> BlockRecord:
        if before is None or before.changed is None:
            rows = batch if before is None else pa.concat_tables([before.rows, batch])
            events = LastEvents.of(rows, self.repeats)
            live = events.live()
            users = np.unique(live.user)
            names, columns = live.users.take(pa.array(users)), builder.build(live.events(users))
            table, count, rebuilt = events.table(), len(live), len(users)
        else:
            table, names, columns, count, rebuilt = self._added(builder, batch, before, before.changed)
        with replacing(self._file(LAST_EVENTS)) as partial:
            pq.write_table(table, partial, compression="zstd", compression_level=1)
        record = BlockRecord(
            users=len(names),
            events=count,
            rows=len(table),
            rebuilt=rebuilt,
            digest=state_digest(names, columns),
        )
        write_states(self._file(STATES), names, columns)
        return record

    def _added(
        self, builder: StateBuilder, batch: pa.Table, before: _Before, changed: Bools
    ) -> tuple[pa.Table, pa.Array, StateColumns, int, int]:
        """Add events to an earlier fold; rebuilds only users with new events or changed items."""
        old = before.rows
        retagged = old["user"].filter(pa.array(changed[old["item"].to_numpy()]))
        touched = pc.unique(
            pa.chunked_array([*batch["user"].chunks, *retagged.chunks], type=LOG.field(0).type)
        )
        theirs = pc.is_in(old["user"], value_set=touched)
        mine = old.filter(theirs)
        then, now = (LastEvents.of(rows, self.repeats) for rows in (mine, pa.concat_tables([mine, batch])))
        live = now.live()
        users = np.unique(live.user)
        names = live.users.take(pa.array(users))
        kept = before.untouched(names, now, then, changed)
        known = pa.array(read_users(before.file(STATES)), type=LOG.field(0).type)
        others = known.filter(pc.invert(pc.is_in(known, value_set=touched)))
        stay = pa.concat_arrays([others, names.filter(pa.array(kept))])
        fresh = builder.build(live.events(users[~kept]))
        columns = joined_columns([before.columns(stay), fresh])
        every = pa.concat_arrays([stay, names.filter(pa.array(~kept))])
        order = pc.sort_indices(every)
        table = pa.concat_tables([old.filter(pc.invert(theirs)), now.table()])
        count = before.record.events - len(then.live()) + len(live)
        return table, every.take(order), columns.taken(order.to_numpy()), count, int((~kept).sum())

    def _log(self) -> pa.Table:
        found = []
        for file in sorted((self.work / "log").glob("*/*.arrow")):
            with pa.memory_map(str(file)) as source:
                batch = pa.ipc.open_file(source).get_batch(self.number)
                if len(batch):
                    found.append(pa.Table.from_batches([batch]))
        return pa.concat_tables(found).combine_chunks() if found else LOG.empty_table()

    def _file(self, kind: str, ending: str = "parquet") -> Path:
        return self.work / kind / f"{self.number:06d}.{ending}"


class _Before:
    """A block of an earlier fold."""

    def __init__(self, folder: Path, number: int, builder: StateBuilder) -> None:
        self.folder, self.number, self.builder = folder, number, builder
        earlier = _builder(folder)
        self.changed, self.place = _compared(folder, builder, earlier)
        """Mask of the earlier items whose builder entries changed (None if all did), and their current indices."""
        self.values = np.searchsorted(builder.rating_values, earlier.rating_values).astype(np.uint8)
        self.rows: pa.Table = self._rows()

    def file(self, kind: str, ending: str = "parquet") -> Path:
        return self.folder / kind / f"{self.number:06d}.{ending}"

    @property
    def record(self) -> BlockRecord:
        record = read_record(
            BlockRecord, self.file(DONE, "json"), "the file is missing; copy the earlier fold again", AGAIN
        )
        return record.model_copy(update={"rebuilt": 0})

    @property
    def as_it_was(self) -> bool:
        """Whether no item changed and all item indices are the same."""
        return (
            self.changed is not None
            and not self.changed.any()
            and np.array_equal(self.place, np.arange(len(self.place)))
        )

    def _rows(self) -> pa.Table:
        try:
            table = pq.read_table(self.file(LAST_EVENTS), schema=LOG)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"cannot be read ({error}); copy the earlier fold again", self.file(LAST_EVENTS)
            ) from error
        item = self.place[table["item"].to_numpy()]
        rating = self.values[table["rating"].to_numpy()]
        table = table.set_column(1, LOG.field("item"), pa.array(item, pa.int32()))
        return table.set_column(2, LOG.field("rating"), pa.array(rating, pa.uint8()))

    def untouched(self, names: pa.Array, now: LastEvents, then: LastEvents, changed: Bools) -> Bools:
        """Find the users [B] none of whose rows changed, so that their states remain valid."""
        if not len(then.users):
            return np.zeros(len(names), dtype=np.bool_)
        mine = _numbers(now, then.users)
        counts = (np.bincount(one, minlength=len(then.users)) for one in (mine[mine >= 0], then.user))
        alike = np.equal(*counts)
        rows_then, rows_now = np.flatnonzero(alike[then.user]), np.flatnonzero((mine >= 0) & alike[mine])
        differs = np.zeros(len(rows_then), dtype=np.bool_)
        for name in LOG.names[1:]:
            differs |= getattr(then, name)[rows_then] != getattr(now, name)[rows_now]
        alike[then.user[rows_then[differs]]] = False
        alike[then.user[changed[then.item]]] = False
        known = pc.index_in(names, then.users).fill_null(-1).to_numpy(zero_copy_only=False)
        return np.asarray((known >= 0) & alike[known], dtype=np.bool_)

    def columns(self, names: pa.Array) -> StateColumns:
        """Read the states of users [B] in the earlier fold."""
        return read_columns(self.file(STATES), self.builder.parts, names)


def _numbers(events: LastEvents, users: pa.Array) -> np.ndarray:
    """Return the index in ``users`` of the user of each row, -1 if absent."""
    found = pc.index_in(events.users, users).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.asarray(found[events.user], dtype=np.int64)


def _write_blocks(parts: list[pa.Table], path: Path, blocks: int) -> None:
    """Write rows to an Arrow file with one record batch per block."""
    table = pa.concat_tables(parts).combine_chunks()
    block = block_of(table["user"].combine_chunks(), blocks)
    order = np.argsort(block.astype(np.uint16), kind="stable")
    ends = np.searchsorted(block[order], np.arange(blocks + 1))
    table = table.take(pa.array(order)).combine_chunks()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, LOG, options=options) as writer:
        for number in range(blocks):
            rows = table.slice(int(ends[number]), int(ends[number + 1] - ends[number]))
            batches = rows.combine_chunks().to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=LOG))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # on another file system
        with replacing(target) as partial:
            shutil.copyfile(source, partial)


@lru_cache(maxsize=2)
def _builder(work: Path) -> StateBuilder:
    return StateBuilder.from_bytes(read_bytes(work / BUILDER, f"the file is missing; {AGAIN}"))


@lru_cache(maxsize=2)
def _scale(work: Path) -> LogScale:
    """Load the item ids, the rating scale and the weights of event types."""
    builder = _builder(work)
    types = read_record(LogValues, work / SCALE, f"the file is missing; {AGAIN}", AGAIN).event_types
    return LogScale(builder.item_ids, builder.rating_values, types)


@lru_cache(maxsize=2)
def _compared(
    folder: Path, builder: StateBuilder, earlier: StateBuilder
) -> tuple[np.ndarray | None, np.ndarray]:
    """Compare the builder with an earlier fold's; raises :class:`MismatchError` if it lacks items or rating values."""
    number = {one: place for place, one in enumerate(builder.item_ids)}
    if missing := [one for one in earlier.item_ids if one not in number]:
        raise MismatchError(
            f"{folder} holds events of {len(missing):,} items that are not in the model's catalogue, such as "
            f"{missing[0]!r}; fold the whole log without --previous"
        )
    if not np.isin(earlier.rating_values, builder.rating_values).all():
        raise MismatchError(
            f"{folder} holds ratings that are not on the model's scale; fold the whole log without --previous"
        )
    place = np.array([number[one] for one in earlier.item_ids], dtype=np.int64)
    if not np.array_equal(place, np.arange(len(place))):
        return None, place
    return builder.changed_items(earlier), place
