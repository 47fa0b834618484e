"""Events, and their deletion from a user's history, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, bindparam, delete, select, update

from palate.serve.store.tables import catalogue, encoded, events, users

AHEAD = 86_400
"""Seconds that an event's time may be ahead of this machine's clock, as clocks and zones differ."""
AT_ONCE = 1000
"""Ids per query, as databases limit the number of parameters."""


T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """A rating of an item, with a permanent id; a missing id or time is assigned by the store."""

    item_id: str
    rating: float
    timestamp: int | None = None
    event_id: str | None = None
    text: str | None = None
    """What the user wrote of it."""


class ItemsRemovedError(Exception):
    """Items have been deleted since the events' items were known."""


@dataclass(frozen=True)
class Appended:
    """Numbers of new and of already stored events of a user."""

    version: int
    new: int
    known: int


def removals_of(connection: Connection) -> int:
    """Count how often stored items have been deleted."""
    return int(connection.execute(select(catalogue.c.removals)).scalar_one())


def in_chunks(
    connection: Connection, found: Select[Any], column: Any, values: Sequence[Any]
) -> Iterator[Row[Any]]:
    """Select the rows whose ``column`` is one of the values, in chunks."""
    for some in split_values(values):
        yield from connection.execute(found.where(column.in_(some)))


def split_values(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split values into as many as a query may have."""
    return (values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE))


@dataclass(frozen=True)
class Deletion:
    """Number of deleted events, and the new version of the history."""

    version: int
    events: int


def remove_events(
    connection: Connection, user: Row[Any], event_ids: Sequence[str], item_ids: Sequence[str]
) -> Deletion:
    """Delete events by their ids and all ratings of some items, of a locked user.

    Where an item's last rating goes and earlier ones are left, the last of those stands again.
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
    # made anew from what is left: taking an event out of a state leaves a millionth of it behind
    connection.execute(delete(encoded).where(encoded.c.user_key == user.key))
    version = user.version + 1
    connection.execute(
        update(users).where(users.c.key == user.key).values(version=version, forgotten=version)
    )
    return Deletion(version, len(gone))


def _restore(connection: Connection, user_key: int, item_ids: Sequence[str]) -> None:
    """Unmark the last remaining rating of each item as superseded."""
    rows = in_chunks(
        connection, select(events).where(events.c.user_key == user_key), events.c.item_id, item_ids
    )
    last = {row.item_id: row.version for row in sorted(rows, key=lambda row: (row.timestamp, row.version))}
    if last:
        one = update(events).where(events.c.user_key == user_key, events.c.version == bindparam("last"))
        connection.execute(one.values(superseded=None), [{"last": version} for version in last.values()])
