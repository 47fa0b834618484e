"""Events, and the deletion of events from a user's history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, bindparam, delete, select, update

from palate.serve.store.tables import catalogue, encoded, events, users
from palate.serve.store.unnest import among

AHEAD = 86_400
"""Tolerance for event times in the future, in seconds, as clocks and time zones differ."""
AT_ONCE = 1000
"""Maximum number of values per query, as databases limit the number of parameters."""


T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """A rating of an item; a missing id or time is assigned by the store."""

    item_id: str
    rating: float
    timestamp: int | None = None
    """Seconds since 1970."""
    event_id: str | None = None
    text: str | None = None
    """The user's review or note."""


class ItemsRemovedError(Exception):
    """Error for items that have been deleted since the events' items were checked."""


@dataclass(frozen=True)
class Appended:
    """Numbers of new and of already stored events of a user."""

    version: int
    new: int
    known: int


def removals_of(connection: Connection) -> int:
    """Return the number of deletions of added items so far, by which servers detect them."""
    return int(connection.execute(select(catalogue.c.removals)).scalar_one())


def in_chunks(
    connection: Connection, found: Select[Any], column: Any, values: Sequence[Any]
) -> Iterator[Row[Any]]:
    """Select the rows whose ``column`` is among the values, on SQLite in chunks of :data:`AT_ONCE`."""
    if connection.dialect.name != "sqlite":
        yield from connection.execute(found.where(among(column, values))) if values else ()
        return
    for some in split_values(values):
        yield from connection.execute(found.where(column.in_(some)))


def split_values(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split values into chunks of :data:`AT_ONCE`."""
    return (values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE))


@dataclass(frozen=True)
class Deletion:
    """Number of deleted events, and the new version of the history."""

    version: int
    events: int


def remove_events(
    connection: Connection, user: Row[Any], event_ids: Sequence[str], item_ids: Sequence[str]
) -> Deletion:
    """Delete events of a locked user by their ids, and all events of some items.

    If the last event of an item is deleted and earlier ones remain, the last of these becomes current again.
    """
    of_user = select(events).where(events.c.user_key == user.key)
    named = ((events.c.event_id, event_ids), (events.c.item_id, item_ids))
    gone = {row.version: row for column, ids in named for row in in_chunks(connection, of_user, column, ids)}
    if not gone:
        return Deletion(user.version, 0)
    one = delete(events).where(events.c.user_key == user.key, events.c.version == bindparam("gone"))
    connection.execute(one, [{"gone": version} for version in gone])
    stood = dict.fromkeys(row.item_id for row in gone.values() if row.superseded is None)
    _restore(connection, user.key, list(stood))
    # encoded again from the remaining events: removing an event from a state leaves rounding residues of about 1e-6
    connection.execute(delete(encoded).where(encoded.c.user_key == user.key))
    version = user.version + 1
    connection.execute(
        update(users).where(users.c.key == user.key).values(version=version, forgotten=version)
    )
    return Deletion(version, len(gone))


def _restore(connection: Connection, user_key: int, item_ids: Sequence[str]) -> None:
    """Clear the superseded mark of the last remaining event of each item."""
    rows = in_chunks(
        connection, select(events).where(events.c.user_key == user_key), events.c.item_id, item_ids
    )
    last = {row.item_id: row.version for row in sorted(rows, key=lambda row: (row.timestamp, row.version))}
    if last:
        one = update(events).where(events.c.user_key == user_key, events.c.version == bindparam("last"))
        connection.execute(one.values(superseded=None), [{"last": version} for version in last.values()])
