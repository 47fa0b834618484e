"""Adding the events of many requests in one transaction, each of which is accepted or refused independently."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, bindparam, delete, insert, select, tuple_, update
from sqlalchemy.dialects import sqlite

from palate.errors import ConflictError, DataError, PalateError
from palate.serve.store.changes import AHEAD, Appended, Event, ItemsRemovedError, in_chunks, removals_of
from palate.serve.store.pipelined import lock_users, write_events
from palate.serve.store.tables import events, users

Content: TypeAlias = tuple[str, float, int, str | None]
"""Item, rating, time and text of an event."""


@dataclass(frozen=True)
class Addition:
    """Events that are added atomically, all or none.

    Args:
        sent: The events by user id.
        removals: Count of deletions of items at which the events' items were checked; None for no check.
    """

    sent: Mapping[str, Sequence[Event]]
    removals: int | None = None


Outcome: TypeAlias = dict[str, Appended] | PalateError | ItemsRemovedError
"""Results by user id, or the error for which an addition was refused."""


def append_all(
    connection: Connection, additions: Sequence[Addition], now: int, oldest: int | None = None
) -> list[Outcome]:
    """Add events to users' histories, in a transaction that locks the users.

    Additions are applied in order. A refused one changes nothing and does not affect the others.

    Args:
        connection: The transaction.
        additions: The additions.
        now: Time of events without one, in seconds since 1970.
        oldest: Minimum time of events under the store's retention, in seconds since 1970; None for no retention.

    Returns:
        For each addition the results by user id, or its error: :class:`ConflictError` for the id of a different
        stored event, :class:`DataError` for a time in the future or before ``oldest``, and
        :class:`ItemsRemovedError` if items have been deleted since they were checked.
    """
    in_process = connection.dialect.name == "sqlite"
    histories, removals = (_locked if in_process else _locked_at_once)(connection, additions)
    outcomes: list[Outcome] = []
    for one in additions:
        if one.removals not in (None, removals):
            outcomes.append(ItemsRemovedError())
            continue
        try:
            rows = {name: histories[name].rows(one.sent[name], now, oldest) for name in sorted(one.sent)}
        except PalateError as error:
            outcomes.append(error)
        else:
            outcomes.append(
                {name: histories[name].take(some, len(one.sent[name])) for name, some in rows.items()}
            )
    (_write if in_process else _write_at_once)(connection, histories.values())
    return outcomes


@dataclass
class _History:
    """The relevant part of a locked user's history, and the rows to add to it."""

    user: Any
    """A row of the table of users."""
    version: int
    known: dict[str, Content] = field(default_factory=dict)
    """Stored events by id, for the ids in the request."""
    current: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Last event of each item in the request."""
    stored: list[dict[str, Any]] = field(default_factory=list)
    """Those events of ``current`` that were in the store before."""
    new: list[dict[str, Any]] = field(default_factory=list)

    def rows(self, sent: Sequence[Event], now: int, oldest: int | None) -> list[dict[str, Any]]:
        """Create the rows of events whose ids are not stored yet; raises the error of the first invalid event."""
        new: list[dict[str, Any]] = []
        known: ChainMap[str, Content] = ChainMap({}, self.known)
        latest: dict[str, int] = {}
        for number, event in enumerate(sent):
            event_id = event.event_id or os.urandom(16).hex()
            found, stored = known.get(event_id), self.current.get(event.item_id)
            last = latest.get(event.item_id, None if stored is None else stored["timestamp"])
            if event.timestamp is not None:
                timestamp = event.timestamp
                _check_time(timestamp, now, number, event)
            elif found:  # a repeated event without a time keeps its first time
                timestamp = found[2]
            else:  # the new event is the last one, even if the clock was set back
                timestamp = now if last is None else max(now, last)
            latest[event.item_id] = timestamp if last is None else max(timestamp, last)
            content = (event.item_id, event.rating, timestamp, event.text or None)
            if found is None:
                _check_age(timestamp, oldest, number, event)
                known[event_id] = content
                new.append(
                    {
                        "user_key": self.user.key,
                        "version": self.version + len(new) + 1,
                        "event_id": event_id,
                        "item_id": event.item_id,
                        "rating": event.rating,
                        "timestamp": timestamp,
                        "superseded": None,
                        "text": event.text or None,
                    }
                )
            elif found != content:
                raise ConflictError(
                    f"event {event_id!r} of user {self.user.user_id!r} is already stored with another item, rating, "
                    "time or text; give a new event a new id"
                )
        return new

    def take(self, rows: Sequence[dict[str, Any]], sent: int) -> Appended:
        """Add rows and mark earlier events of the same items as superseded; ``sent`` is the size of the request."""
        for row in rows:
            last = self.current.get(row["item_id"])
            if last is not None and row["timestamp"] < last["timestamp"]:
                row["superseded"] = row["version"]
            else:
                if last is not None:
                    last["superseded"] = row["version"]
                self.current[row["item_id"]] = row
            self.known[row["event_id"]] = (row["item_id"], row["rating"], row["timestamp"], row["text"])
        self.new += rows
        self.version += len(rows)
        return Appended(self.version, len(rows), sent - len(rows))


def _check_time(timestamp: int, now: int, number: int, event: Event) -> None:
    """Raise :class:`DataError` for a time in the future, which would stay the newest event for long."""
    if timestamp > now + AHEAD:
        raise DataError(
            f"event {event.event_id or number!r} of item {event.item_id!r}: its time {timestamp} is in the future, "
            f"expected at most {now + AHEAD} seconds since 1970, a day from now; leave an unknown time out"
        )


def _check_age(timestamp: int, oldest: int | None, number: int, event: Event) -> None:
    """Raise :class:`DataError` for an event above the retention age, instead of deleting it silently later."""
    if oldest is not None and timestamp < oldest:
        raise DataError(
            f"event {event.event_id or number!r} of item {event.item_id!r}: its time {timestamp} is older than this "
            f"server keeps events (--retention), expected at least {oldest} seconds since 1970; leave the event out"
        )


def _locked(connection: Connection, additions: Sequence[Addition]) -> tuple[dict[str, _History], int]:
    """Create missing users, lock them all until the end of the transaction, and read what is stored of the events.

    Returns:
        The histories by user id, and the count of deletions of items.
    """
    names = _names(additions)
    made = sqlite.insert(users).on_conflict_do_nothing()
    connection.execute(made, [{"user_id": user_id, "version": 0} for user_id in names])
    rows = in_chunks(connection, select(users), users.c.user_id, names)
    histories = {row.user_id: _History(row, row.version) for row in rows}
    ids, item_ids = _named(additions, {name: one.user.key for name, one in histories.items() if one.version})
    event_id = tuple_(events.c.user_key, events.c.event_id)
    item_id = tuple_(events.c.user_key, events.c.item_id)
    last = select(events).where(events.c.superseded.is_(None))
    _take_stored(
        histories,
        in_chunks(connection, select(events), event_id, ids),
        (dict(row._mapping) for row in in_chunks(connection, last, item_id, item_ids)),
    )
    return histories, removals_of(connection)


def _locked_at_once(connection: Connection, additions: Sequence[Addition]) -> tuple[dict[str, _History], int]:
    """Do what :func:`_locked` does on PostgreSQL.

    All writers create and lock rows in the same order, which prevents deadlocks.
    """
    names = _names(additions)
    ids, item_ids = _named(additions, {name: name for name in names})
    while True:
        found = lock_users(connection, names, ids, item_ids)
        if len(found.users) == len(names):  # else some were deleted before they were locked
            break
    histories = {row.user_id: _History(row, row.version) for row in found.users}
    _take_stored(histories, found.known, (row._asdict() for row in found.current))
    return histories, found.removals


def _names(additions: Sequence[Addition]) -> list[str]:
    return sorted({user_id for one in additions for user_id in one.sent})


User = TypeVar("User", int, str)


def _named(
    additions: Sequence[Addition], users_of: Mapping[str, User]
) -> tuple[list[tuple[User, str]], list[tuple[User, str]]]:
    """Return the ids and the items of the events, each with its user, for some of the users."""
    ids: dict[tuple[User, str], None] = {}
    item_ids: dict[tuple[User, str], None] = {}
    for one in additions:
        for name, some in one.sent.items():
            if name in users_of:
                user = users_of[name]
                ids |= {(user, event.event_id): None for event in some if event.event_id is not None}
                item_ids |= {(user, event.item_id): None for event in some}
    return list(ids), list(item_ids)


def _take_stored(
    histories: Mapping[str, _History], known: Iterable[Any], current: Iterable[dict[str, Any]]
) -> None:
    """Distribute the stored events with the requests' ids, and the last events of their items, to the histories."""
    by_key = {one.user.key: one for one in histories.values()}
    for row in known:
        by_key[row.user_key].known[row.event_id] = (row.item_id, row.rating, row.timestamp, row.text)
    for found in current:
        by_key[found["user_key"]].current[found["item_id"]] = found
        by_key[found["user_key"]].stored.append(found)


def _write(connection: Connection, histories: Iterable[_History]) -> None:
    """Write the added rows and superseded marks; delete users that were created for refused additions only."""
    changed = [
        {"key": row["user_key"], "old": row["version"], "by": row["superseded"]}
        for row in _superseded(histories)
    ]
    if changed:
        old = update(events).where(
            events.c.user_key == bindparam("key"), events.c.version == bindparam("old")
        )
        connection.execute(old.values(superseded=bindparam("by")), changed)
    if rows := [row for one in histories for row in one.new]:
        connection.execute(insert(events), rows)
        one_user = update(users).where(users.c.key == bindparam("of")).values(version=bindparam("last"))
        connection.execute(
            one_user, [{"of": one.user.key, "last": one.version} for one in histories if one.new]
        )
    _delete_unused(connection, histories)


def _write_at_once(connection: Connection, histories: Iterable[_History]) -> None:
    """Do what :func:`_write` does on PostgreSQL."""
    superseded = [
        {name: row[name] for name in ("user_key", "version", "superseded")} for row in _superseded(histories)
    ]
    new = [{**row, "rating": float(row["rating"])} for one in histories for row in one.new]
    grown = [{"key": one.user.key, "version": one.version} for one in histories if one.new]
    write_events(connection, superseded, new, grown)
    _delete_unused(connection, histories)


def _superseded(histories: Iterable[_History]) -> list[dict[str, Any]]:
    return [row for one in histories for row in one.stored if row["superseded"] is not None]


def _delete_unused(connection: Connection, histories: Iterable[_History]) -> None:
    if unused := [{"of": one.user.key} for one in histories if not one.version]:
        connection.execute(delete(users).where(users.c.key == bindparam("of")), unused)
