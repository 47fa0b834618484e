"""Parquet files of states, one per block of users, sorted by user id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palate.errors import DataError
from palate.fold.state_builder import StateColumns
from palate.system.files import replacing
from palate.system.records import Frozen

_ROWS = 4096
"""Row group size: number of users that are read to look up one."""


class BlockRecord(Frozen):
    """Manifest entry of a block."""

    users: int
    events: int
    """Number of events in the states."""
    rows: int
    """Number of rows in the table of latest events, including deletions."""
    rebuilt: int
    """Number of states that this fold built; the others are copied from the earlier fold."""
    digest: str
    """SHA-256 of the user ids and states."""


def write_states(path: Path, users: pa.Array, columns: StateColumns) -> None:
    """Write the states of users [B]."""
    table = pa.table({"user": users, **{name: _binary(columns, name) for name in columns.parts}})
    with replacing(path) as partial:
        pq.write_table(
            table,
            partial,
            row_group_size=_ROWS,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
        )


def read_columns(path: Path, parts: Sequence[str], users: pa.Array | None = None) -> StateColumns:
    """Read states.

    Args:
        path: The file.
        parts: Names of the parts of a state.
        users: Ids of users in the file, ascending, [B]; all if None.

    Returns:
        The users' states.

    Raises:
        DataError: The file cannot be read, or lacks a user.
    """
    table = _read(path, ["user", *parts])
    if users is not None:
        place = pc.index_in(users, table["user"].combine_chunks())
        if place.null_count:
            missing = users.filter(pc.is_null(place))[0].as_py()
            raise DataError(f"there is no state of user {missing!r}; copy the fold again", path)
        table = table.take(place)
    return StateColumns({name: _rows(table[name]) for name in parts})


def read_users(path: Path) -> list[str]:
    """Read the user ids of a file of states."""
    users: list[str] = _read(path, ["user"])["user"].to_pylist()
    return users


def read_state_of(path: Path, parts: Sequence[str], user_id: str) -> StateColumns | None:
    """Read the state of one user from the row group that may contain it; None if there is none."""
    try:
        table = pq.read_table(path, columns=["user", *parts], filters=[("user", "=", user_id)])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot be read ({error}); copy the fold again", path) from error
    return StateColumns({name: _rows(table[name]) for name in parts}) if len(table) else None


def state_digest(users: pa.Array, columns: StateColumns) -> str:
    """Return the SHA-256 of user ids and states, independent of the file encoding."""
    digest = hashlib.sha256()
    for offsets, content in (_rows(pa.chunked_array([users])), *columns.parts.values()):
        digest.update(np.ascontiguousarray(offsets - offsets[0]).astype("<i8").data)
        digest.update(np.ascontiguousarray(content).data)
    return f"sha256:{digest.hexdigest()}"


def _read(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot be read ({error}); copy the fold again", path) from error


def _binary(columns: StateColumns, name: str) -> pa.Array:
    offsets, content = columns.parts[name]
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(np.ascontiguousarray(content))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(columns), buffers)


def _rows(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets [B + 1] and data of a string or binary column."""
    whole = column.cast(pa.large_binary()).combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], pa.large_binary())
    if not len(whole):
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
    _, at, content = whole.buffers()
    offsets = np.frombuffer(at, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    data = np.zeros(0, np.uint8) if content is None else np.frombuffer(content, np.uint8)
    return offsets - offsets[0], data[offsets[0] : offsets[-1]]
