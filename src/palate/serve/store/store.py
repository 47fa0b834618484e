"""The user store: durable events of users, and cached encodings."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    delete,
    func,
    insert,
    select,
    text,
    true,
    update,
)

from palate.errors import ConflictError, UnknownUserError
from palate.schema import History, Item
from palate.serve.store.ageing import DAY, Aged, delete_older, users_with_older
from palate.serve.store.appending import Addition, Outcome, append_all
from palate.serve.store.changes import (
    Appended,
    Deletion,
    Event,
    in_chunks,
    removals_of,
    remove_events,
    split_values,
)
from palate.serve.store.database import Database
from palate.serve.store.deletions import LoggedDeletion, log_deletion, read_deletions
from palate.serve.store.keeping import Encoded, Keeping, keep_all
from palate.serve.store.tables import catalogue, encoded, events, items, users
from palate.serve.store.upgrading import UpgradeStore
from palate.serve.store.writer import GroupWriter

T = TypeVar("T")
TOGETHER = 2_000
"""Events, or pages of encodings, that are written together, unless one request has more."""


@dataclass(frozen=True)
class StoredHistory:
    """A user's history, or part of it, at a version."""

    key: int
    version: int
    history: History


@dataclass(frozen=True)
class Changes:
    """Events added to and superseded in a history since a version, each oldest first."""

    version: int
    added: History
    removed: History


class StoredItems(NamedTuple):
    """Stored items after a number, in order, the last one's number, and how often items have been deleted."""

    items: list[Item]
    last: int
    removals: int


class Found(NamedTuple):
    """A user's key and version, the cached encoding of this or an older version, and the deletions of items."""

    key: int
    version: int
    kept: Encoded | None
    removals: int


@dataclass(frozen=True)
class ItemDeletion:
    """Numbers of deleted items, and of deleted events about them."""

    items: int
    events: int


class UserStore:
    """Users' events in SQLite or PostgreSQL; changes are durable when a call returns.

    A user's history holds the last event of each item, or with ``repeats`` every event, as the prepared dataset does
    of which the server's model was made: in the order of time, and of arrival where times are equal. All events are
    kept either way. Raises what :class:`Database` raises, and every method :class:`StoreError` when the database is
    away, busy or full.
    """

    def __init__(self, store: Path | str, repeats: bool = False, retention_days: float | None = None) -> None:
        self.database = Database(store)
        self._repeats = repeats
        self._retention_days = retention_days
        self._writer = GroupWriter(self._append_all, _events_in, TOGETHER, "palate-events")
        self._keeper: GroupWriter[Keeping, None] = GroupWriter(
            self._keep_all, lambda one: one.pages, TOGETHER, "palate-kept"
        )
        self.upgrades = UpgradeStore(self.database)

    def append(self, sent: Mapping[str, Sequence[Event]], removals: int | None = None) -> dict[str, Appended]:
        """Add events by user id, in one transaction; events with known ids are ignored.

        Args:
            sent: The events.
            removals: The count of :meth:`items` with which the events' items were known; None if no item of the
                store is meant.

        Raises:
            ConflictError: An id stands for another event.
            ItemsRemovedError: Items have been deleted since that count.
        """
        return self.appending(sent, removals).result()

    def appending(
        self, sent: Mapping[str, Sequence[Event]], removals: int | None = None
    ) -> Future[dict[str, Appended]]:
        """Add events together with those of others that wait, see :meth:`append`, without waiting for it."""
        return self._writer.submit(Addition(sent, removals))

    def history(self, user_id: str, newest: int | None = None, skip: int = 0) -> StoredHistory:
        """Get a user's history, oldest first: all of it, or the ``newest`` events before the last ``skip``.

        Raises :class:`UnknownUserError`.
        """
        with self.database.reading() as connection:
            user = find_user(connection, users.c.user_id == user_id, user_id)
            rows = connection.execute(self._current(user.key).limit(newest).offset(skip)).all()[::-1]
        return StoredHistory(user.key, user.version, _history(user_id, rows))

    def user_ids(self, starting: str, most: int) -> list[str]:
        """List the user ids with a prefix, sorted."""
        found = select(users.c.user_id)
        if self.database.sqlite:  # whose LIKE ignores the case of letters
            same = func.substr(users.c.user_id, 1, len(starting)) == starting
            found = found.where(users.c.user_id >= starting, same)
        else:
            found = found.where(users.c.user_id.startswith(starting, autoescape=True))
        with self.database.reading() as connection:
            return list(connection.execute(found.order_by(users.c.user_id).limit(most)).scalars())

    def user_with_events(self, most: int, among: int = 100) -> str | None:
        """Find whose history is worth a look: of the first users, one with ``most`` events, or nearly as many.

        Args:
            most: Events; a user with more is taken only where there is none with fewer.
            among: How many users are looked at.
        """
        first = select(users.c.key).order_by(users.c.key).limit(among).subquery()
        counted = (
            select(users.c.user_id, func.count().label("events"))
            .select_from(users.join(events))
            .where(users.c.key.in_(select(first.c.key)), events.c.superseded.is_(None))
            .group_by(users.c.key, users.c.user_id)
        )
        with self.database.reading() as connection:
            rows = connection.execute(counted).all()
        best = min(
            rows, key=lambda row: (row.events > most, abs(row.events - most), row.user_id), default=None
        )
        return None if best is None else str(best.user_id)

    def users_after(self, key: int, most: int) -> list[tuple[int, str]]:
        """List keys and ids of the users after a key, in the order in which they came, which stays the same."""
        found = select(users.c.key, users.c.user_id).where(users.c.key > key).order_by(users.c.key)
        with self.database.reading() as connection:
            return [(one, user_id) for one, user_id in connection.execute(found.limit(most))]

    def changes(self, user_key: int, since: int) -> Changes | None:
        """Get the changes of a history since a version, at a cost that does not depend on its length.

        None where events have been deleted since. Raises :class:`UnknownUserError` when the user has been.
        """
        with self.database.reading() as connection:
            user = find_user(connection, users.c.key == user_key, "with that key")
            if since < user.forgotten:
                return None
            added = connection.execute(self._current(user_key).where(events.c.version > since)).all()
            removed: Sequence[Row[Any]] = ()
            if not self._repeats:
                gone = _newest_first(user_key).where(events.c.superseded > since, events.c.version <= since)
                removed = connection.execute(gone).all()
            both = (_history(user.user_id, rows[::-1]) for rows in (added, removed))
            return Changes(user.version, *both)

    def encoded(self, user_id: str, model: str) -> Found:
        """Get a user's key and version, and the cached encoding of this or an older version.

        Raises :class:`UnknownUserError`.
        """
        of_model = and_(encoded.c.user_key == users.c.key, encoded.c.model == model)
        columns = (users.c.key, users.c.version, encoded.c.version, encoded.c.prompt, encoded.c.state)
        found = (
            select(*columns, catalogue.c.removals)
            .select_from(users.outerjoin(encoded, of_model).join(catalogue, true()))
            .where(users.c.user_id == user_id)
        )
        with self.database.reading() as connection:
            row = connection.execute(found).one_or_none()
        if row is None:
            raise _unknown_user(user_id)
        key, version, *kept, removals = row
        return Found(key, version, None if kept[0] is None else Encoded(*kept), removals)

    def keep(self, user_key: int, model: str, made: Encoded, removals: int | None = None) -> None:
        """Cache a model's encoding of a history, unless a newer one exists or what it was made of has been deleted.

        Those of several callers are cached in one transaction.

        Args:
            user_key: The user.
            model: What made the encoding.
            made: The encoding.
            removals: The count of :meth:`items` with which it was made; None if it holds no item's place.
        """
        self._keeper.submit(Keeping(user_key, model, made, removals)).result()

    def delete_user(self, user_id: str, api_key: str | None = None) -> int:
        """Delete a user's events, prompts and states, including from SQLite's files; returns the number of events.

        Call it again where it was interrupted. PostgreSQL keeps removed rows in its files until it vacuums.

        Args:
            user_id: The user.
            api_key: Name of the API key that asks for it, for the log of deletions.
        """
        with self.database.reading() as connection:
            there = connection.execute(select(users.c.key).where(users.c.user_id == user_id)).one_or_none()
        if there is None:  # writers need not wait for this
            self.database.scrub()
            return 0
        with self.database.writing() as connection:
            count = connection.execute(
                select(func.count()).select_from(events.join(users)).where(users.c.user_id == user_id)
            ).scalar_one()
            gone = connection.execute(delete(users).where(users.c.user_id == user_id))
            if gone.rowcount:
                log_deletion(connection, "user", events=count, users=1, user_id=user_id, api_key=api_key)
                self.database.will_scrub(connection)
        self.database.scrub()
        return int(count)

    def delete_events(
        self,
        user_id: str,
        event_ids: Sequence[str] = (),
        item_ids: Sequence[str] = (),
        api_key: str | None = None,
    ) -> Deletion:
        """Delete events by their ids and all ratings of some items, like :meth:`delete_user`.

        Raises :class:`UnknownUserError`.
        """
        with self.database.writing() as connection:
            # first, or this and a deletion of items could wait for each other
            self._exclude(connection, "users", "ROW EXCLUSIVE")
            user = find_user(connection, users.c.user_id == user_id, user_id, hold=True)
            deleted = remove_events(connection, user, event_ids, item_ids)
            if deleted.events:
                log_deletion(connection, "events", events=deleted.events, user_id=user_id, api_key=api_key)
                self.database.will_scrub(connection)
        self.database.scrub()
        return deleted

    def add_items(self, new: Sequence[Item]) -> None:
        """Store new items.

        Raises :class:`ConflictError` for an id that stands for another item.
        """
        with self.database.writing() as connection:
            self._exclude(connection, "items")  # or a smaller number could be seen after a larger one
            ids = [item.item_id for item in new]
            known = {
                row.item_id: row.content for row in in_chunks(connection, select(items), items.c.item_id, ids)
            }
            rows = []
            for item in new:
                content = json.dumps(asdict(item), ensure_ascii=False)
                if item.item_id not in known:
                    rows.append({"item_id": item.item_id, "content": content})
                if known.setdefault(item.item_id, content) != content:
                    raise ConflictError(
                        f"item {item.item_id!r} is already known with other texts; give it a new id"
                    )
            if rows:
                connection.execute(insert(items), rows)

    def delete_older(self, days: float | None = None) -> Aged:
        """Delete all users' events above an age, and users of whom none are left, like :meth:`delete_user`.

        Args:
            days: The age by the events' times; the store's own retention if None.

        Returns:
            What was deleted; nothing without a retention.
        """
        before = _before(int(time.time()), self._retention_days if days is None else days)
        found, after = Aged(0, 0, ()), 0
        while before is not None:
            with self.database.reading() as connection:
                keys = users_with_older(connection, before, after)
            if not keys:
                break
            with self.database.writing() as connection:
                self._exclude(connection, "users", "ROW EXCLUSIVE")
                some = delete_older(connection, keys, before)
                if some.events:
                    self.database.will_scrub(connection)
            found, after = found + some, keys[-1]
        self.database.scrub()
        return found

    def deletions(
        self, after: int = 0, most: int = 1_000, user_id: str | None = None
    ) -> Sequence[LoggedDeletion]:
        """List logged deletions after a number, oldest first; of one user's if ``user_id`` is given."""
        with self.database.reading() as connection:
            return read_deletions(connection, after, most, user_id)

    def delete_items(self, item_ids: Sequence[str], api_key: str | None = None) -> ItemDeletion:
        """Delete stored items and all events about them, as thoroughly as :meth:`delete_user`.

        Encodings of all users go with them: they may hold an item's place among the others. What is not there counts
        as none. It reads all events.
        """
        with self.database.writing() as connection:
            self._exclude(connection, "users")  # who adds events that were checked before this
            stored = in_chunks(connection, select(items.c.item_id), items.c.item_id, item_ids)
            ids = sorted({row.item_id for row in stored})
            count = 0
            if ids:
                connection.execute(update(catalogue).values(removals=catalogue.c.removals + 1))
                for some in split_values(ids):
                    connection.execute(delete(items).where(items.c.item_id.in_(some)))
                    count += _delete_events_of(connection, some)
                connection.execute(delete(encoded))
                log_deletion(connection, "items", events=count, api_key=api_key)
                self.database.will_scrub(connection)
        self.database.scrub()
        return ItemDeletion(len(ids), count)

    def items(self, after: int = 0) -> StoredItems:
        """Get the stored items after a number."""
        found = select(items).where(items.c.number > after).order_by(items.c.number)
        with self.database.reading() as connection:
            rows = connection.execute(found).all()
            removals = removals_of(connection)
        return StoredItems([_item(row.content) for row in rows], rows[-1].number if rows else after, removals)

    def removals(self) -> int:
        """Count how often items have been deleted."""
        with self.database.reading() as connection:
            return removals_of(connection)

    def event_items(self) -> list[str]:
        """List the items that any events are about."""
        return self._distinct(events.c.item_id)

    def event_ratings(self) -> list[float]:
        """List the ratings that any events have."""
        return self._distinct(events.c.rating)

    def check(self) -> None:
        """Raise :class:`StoreError` unless the database answers, and :class:`StoreFullError` while it has no room."""
        self.database.check_file()
        with self.database.reading() as connection:
            connection.execute(select(1))
        if self.database.full:
            # someone who comes and goes shows whether there is room again
            with self.database.writing() as connection:
                connection.execute(insert(users).values(user_id="", version=0))
                connection.execute(delete(users).where(users.c.user_id == ""))

    def close(self) -> None:
        """Commit what waits and close all connections."""
        self._writer.stop()
        self._keeper.stop()
        self.database.close()

    def _append_all(self, additions: Sequence[Addition]) -> list[Outcome]:
        now = int(time.time())
        with self.database.writing() as connection:
            return append_all(connection, additions, now, _before(now, self._retention_days))

    def _keep_all(self, kept: Sequence[Keeping]) -> list[None]:
        with self.database.writing(durable=False) as connection:
            return keep_all(connection, kept)

    def _distinct(self, column: ColumnElement[T]) -> list[T]:
        with self.database.reading() as connection:
            return list(connection.execute(select(column).distinct()).scalars())

    def _current(self, user_key: int) -> Select[Any]:
        """Select the events that a user's history holds, newest first."""
        found = _newest_first(user_key)
        return found if self._repeats else found.where(events.c.superseded.is_(None))

    def _exclude(self, connection: Connection, table: str, mode: str = "SHARE ROW EXCLUSIVE") -> None:
        """Lock a table until the end of the transaction; SQLite has one writer at a time anyway."""
        if not self.database.sqlite:
            connection.execute(text(f"LOCK TABLE {table} IN {mode} MODE"))


def _before(now: int, days: float | None) -> int | None:
    """Return the time before which events are above an age; None without an age."""
    return None if days is None else now - round(days * DAY)


def _events_in(addition: Addition) -> int:
    return sum(map(len, addition.sent.values()))


def find_user(connection: Connection, which: Any, name: str, hold: bool = False) -> Row[Any]:
    """Read a user's row, and lock it to ``hold`` it; raises :class:`UnknownUserError`, which tells the name."""
    found = select(users).where(which)
    user = connection.execute(found.with_for_update() if hold else found).one_or_none()
    if user is None:
        raise _unknown_user(name)
    return user


def _unknown_user(name: str) -> UnknownUserError:
    return UnknownUserError(f"no user {name!r} in the store; send an event of theirs first")


def _delete_events_of(connection: Connection, item_ids: Sequence[str]) -> int:
    """Delete all users' events of some items; what was made of these users' histories knows too much."""
    named = events.c.item_id.in_(item_ids)
    concerned = users.c.key.in_(select(events.c.user_key).where(named))
    version = users.c.version + 1
    connection.execute(update(users).where(concerned).values(version=version, forgotten=version))
    return connection.execute(delete(events).where(named)).rowcount


def _newest_first(user_key: int) -> Select[Any]:
    found = select(events).where(events.c.user_key == user_key)
    return found.order_by(events.c.timestamp.desc(), events.c.version.desc())


def _history(user_id: str, rows: Sequence[Row[Any]]) -> History:
    return History(
        user_id,
        item_ids=[row.item_id for row in rows],
        ratings=[row.rating for row in rows],
        timestamps=[row.timestamp for row in rows],
        event_ids=[row.event_id for row in rows],
        texts=[row.text or "" for row in rows] if any(row.text for row in rows) else (),
    )


def _item(content: str) -> Item:
    fields = json.loads(content)
    return Item(**{**fields, "categories": tuple(fields["categories"])})
