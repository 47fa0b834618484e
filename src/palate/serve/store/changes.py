"""Adding and deleting events of a user's history, in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from palate.errors import ConflictError, DataError
from palate.serve.store.tables import catalogue, encoded, events, users

AHEAD = 86_400
"""Seconds that an event's time may be ahead of this machine's clock, as clocks and zones differ."""
AT_ONCE = 1000
"""Ids per query, as databases limit the number of parameters."""


@dataclass(frozen=True)
class Event:
    """A rating of an item, with a permanent id; a missing id or time is assigned by the store."""

    item_id: str
    rating: float
    timestamp: int | None = None
    event_id: str | None = None


class ItemsRemovedError(Exception):
    """Items have been deleted since the events' items were known."""


@dataclass(frozen=True)
class Appended:
    """Numbers of new and of already stored events of a user."""

    version: int
    new: int
    known: int


def append_events(
    connection: Connection, sent: Mapping[str, Sequence[Event]], now: int, removals: int | None = None
) -> dict[str, Appended]:
    """Add events to users' histories, in a transaction that locks the users.

    Args:
        connection: The transaction.
        sent: The events by user id.
        now: The time of events without one, in seconds since 1970.
        removals: How often items had been deleted when the events' items were known; None if it does not matter.

    Raises:
        ConflictError: An id stands for another event.
        DataError: A time lies in the future.
        ItemsRemovedError: Items have been deleted since.
    """
    rows: list[dict[str, Any]] = []
    appended: dict[str, Appended] = {}
    versions: list[dict[str, int]] = []
    locked = _locked_users(connection, sorted(sent))
    if removals is not None and removals_of(connection) != removals:
        raise ItemsRemovedError
    for user in locked:
        current = _current_events(connection, user, sent[user.user_id])
        new = _new_events(connection, user, sent[user.user_id], current, now)
        last = user.version + len(new)
        appended[user.user_id] = Appended(last, len(new), len(sent[user.user_id]) - len(new))
        if new:
            _supersede(connection, user, new, current)
            rows += new
            versions.append({"of": user.key, "last": last})
    if rows:
        connection.execute(insert(events), rows)
        one = update(users).where(users.c.key == bindparam("of")).values(version=bindparam("last"))
        connection.execute(one, versions)
    return appended


def _locked_users(connection: Connection, user_ids: Sequence[str]) -> list[Row[Any]]:
    """Lock the users' rows until the end of the transaction; they are created if missing.

    Rows are made, and then locked, in one order, so that no two writers wait for each other.
    """
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    made = dialect.insert(users).on_conflict_do_nothing()
    of_users = select(users).order_by(users.c.user_id).with_for_update()
    found: dict[str, Row[Any]] = {}
    while missing := [user_id for user_id in user_ids if user_id not in found]:  # or just deleted
        connection.execute(made, [{"user_id": user_id, "version": 0} for user_id in missing])
        found |= {row.user_id: row for row in in_chunks(connection, of_users, users.c.user_id, missing)}
    return [found[user_id] for user_id in user_ids]


def _current_events(
    connection: Connection, user: Row[Any], sent: Sequence[Event]
) -> dict[str, dict[str, Any]]:
    """Read the last stored events of the items of new ones; a user of version 0 has none."""
    item_ids = list(dict.fromkeys(event.item_id for event in sent)) if user.version else []
    found = select(events).where(events.c.user_key == user.key, events.c.superseded.is_(None))
    rows = in_chunks(connection, found, events.c.item_id, item_ids)
    return {row.item_id: dict(row._mapping) for row in rows}


def _new_events(
    connection: Connection,
    user: Row[Any],
    sent: Sequence[Event],
    current: Mapping[str, Mapping[str, Any]],
    now: int,
) -> list[dict[str, Any]]:
    """Make the rows of events whose ids are not stored yet; a user of version 0 has none."""
    ids = [event.event_id for event in sent if event.event_id is not None] if user.version else []
    of_user = select(events).where(events.c.user_key == user.key)
    known: dict[str, tuple[str, float, int]] = {
        row.event_id: (row.item_id, row.rating, row.timestamp)
        for row in in_chunks(connection, of_user, events.c.event_id, ids)
    }
    latest: dict[str, int] = {item_id: last["timestamp"] for item_id, last in current.items()}
    new: list[dict[str, Any]] = []
    for number, event in enumerate(sent):
        event_id = event.event_id or uuid.uuid4().hex
        found = known.get(event_id)
        if event.timestamp is not None:
            timestamp = event.timestamp
            _check_time(timestamp, now, number, event)
        elif found:  # an event without a time is sent again without one
            timestamp = found[2]
        else:  # the clock may have been set back since
            timestamp = max(now, latest.get(event.item_id, now))
        latest[event.item_id] = max(timestamp, latest.get(event.item_id, timestamp))
        content = (event.item_id, event.rating, timestamp)
        if found is None:
            known[event_id] = content
            new.append(
                {
                    "user_key": user.key,
                    "version": user.version + len(new) + 1,
                    "event_id": event_id,
                    "item_id": event.item_id,
                    "rating": event.rating,
                    "timestamp": timestamp,
                    "superseded": None,
                }
            )
        elif found != content:
            raise ConflictError(
                f"event {event_id!r} of user {user.user_id!r} is already there with another item, rating or time; "
                "give a new event a new id"
            )
    return new


def _check_time(timestamp: int, now: int, number: int, event: Event) -> None:
    """Refuse a time that would come before all events of years to come."""
    if timestamp > now + AHEAD:
        raise DataError(
            f"event {event.event_id or number!r} of item {event.item_id!r}: its time {timestamp} lies in the future, "
            f"expected at most {now + AHEAD} seconds since 1970, a day from now; leave it out where it is not known"
        )


def _supersede(
    connection: Connection,
    user: Row[Any],
    new: Sequence[dict[str, Any]],
    current: dict[str, dict[str, Any]],
) -> None:
    """Mark earlier ratings of the same item as superseded, in the new rows and the stored ones of ``current``."""
    there = list(current.values())
    for row in new:
        last = current.get(row["item_id"])
        if last is not None and row["timestamp"] < last["timestamp"]:
            row["superseded"] = row["version"]
        else:
            if last is not None:
                last["superseded"] = row["version"]
            current[row["item_id"]] = row
    changed = [
        {"old": row["version"], "by": row["superseded"]} for row in there if row["superseded"] is not None
    ]
    if changed:
        old = update(events).where(events.c.user_key == user.key, events.c.version == bindparam("old"))
        connection.execute(old.values(superseded=bindparam("by")), changed)


def removals_of(connection: Connection) -> int:
    """Count how often stored items have been deleted."""
    return int(connection.execute(select(catalogue.c.removals)).scalar_one())


def in_chunks(
    connection: Connection, found: Select[Any], column: Any, values: Sequence[str]
) -> Iterator[Row[Any]]:
    """Select the rows whose ``column`` is one of the values, in chunks."""
    for some in split_values(values):
        yield from connection.execute(found.where(column.in_(some)))


def split_values(values: Sequence[str]) -> Iterator[Sequence[str]]:
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
