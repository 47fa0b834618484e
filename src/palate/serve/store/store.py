"""The user store: users' events, added items, cached encodings, and their deletion."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
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
from palate.serve.groups import GroupWorker
from palate.serve.store.ageing import DAY, Aged, delete_older, users_with_older
from palate.serve.store.appending import Addition, Outcome, append_all
from palate.serve.store.changes import (
    AT_ONCE,
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
from palate.serve.store.keeping import TOGETHER, CacheWriter, Encoded, Keeping, Valid, keep_all, newer
from palate.serve.store.tables import catalogue, encoded, events, items, users
from palate.serve.store.upgrading import UpgradeStore

T = TypeVar("T")


@dataclass(frozen=True)
class StoredHistory:
    """A user's history, or a part of it, with the user's key and the history's version."""

    key: int
    version: int
    history: History


@dataclass(frozen=True)
class Changes:
    """Events added to and superseded in a history since an older version, each oldest first."""

    version: int
    added: History
    removed: History


class StoredItems(NamedTuple):
    """Added items in their order, the number of the last one, and the count of deletions of items."""

    items: list[Item]
    last: int
    removals: int


class Found(NamedTuple):
    """A user's key and version, a cached encoding of this or an older version, and the count of item deletions."""

    key: int
    version: int
    kept: Encoded | None
    removals: int


@dataclass(frozen=True)
class ToEncode:
    """What the current encoding of a user follows from: the cached one, its changes, or else the history."""

    found: Found
    changes: Changes | None = None
    """Changes since the cached encoding; None if it is current, has no state, or events were deleted since."""
    history: StoredHistory | None = None
    """The history, if the cached encoding is of no use."""

    @property
    def changed(self) -> tuple[Encoded, Changes] | None:
        """The cached encoding and its changes, if there are any."""
        kept, changes = self.found.kept, self.changes
        return None if kept is None or changes is None else (kept, changes)

    @property
    def item_ids(self) -> Sequence[str]:
        """The items that have to be known to encode."""
        added = () if self.changes is None else self.changes.added.item_ids
        return added if self.history is None else self.history.history.item_ids

    @property
    def current(self) -> Encoded | None:
        """The cached encoding, if it is that of the current version."""
        kept = self.found.kept
        return kept if kept is not None and kept.version >= self.found.version else None


@dataclass(frozen=True)
class ItemDeletion:
    """Numbers of deleted items, and of deleted events about them."""

    items: int
    events: int


class UserStore:
    """Users' events in SQLite or PostgreSQL; changes are durable when a method returns.

    A user's history holds the last event of each item, or with ``repeats`` all events, ordered by time and then by
    arrival. Superseded events are stored in both cases. All methods raise :class:`StoreError` if the database is
    unavailable, locked or full.

    Args:
        store: Path of an SQLite file, or a database URL.
        repeats: Whether histories hold repeated events of an item, as the dataset of the served model does.
        retention_days: Age in days above which events are deleted and refused; None keeps all.

    Raises:
        DataError: As :class:`Database`.
    """

    def __init__(self, store: Path | str, repeats: bool = False, retention_days: float | None = None) -> None:
        self.database = Database(store)
        self._repeats = repeats
        self._retention_days = retention_days
        self._writer = GroupWorker(self._append_all, _events_in, TOGETHER, "palate-events")
        self._keeper = CacheWriter(self._keep_all)
        self.upgrades = UpgradeStore(self.database)

    def append(self, sent: Mapping[str, Sequence[Event]], removals: int | None = None) -> dict[str, Appended]:
        """Add events by user id, in one transaction; events with known ids are ignored.

        Args:
            sent: The events by user id.
            removals: Count of deletions in :meth:`items` at which the events' items were checked; None for no check.

        Raises:
            ConflictError: The id of an event belongs to a different stored event.
            DataError: The time of an event is in the future or above the retention age.
            ItemsRemovedError: Items have been deleted since that count.
        """
        return self.appending(sent, removals).result()

    def appending(
        self, sent: Mapping[str, Sequence[Event]], removals: int | None = None
    ) -> Future[dict[str, Appended]]:
        """Add events like :meth:`append`, without blocking, in a transaction shared with concurrent calls."""
        return self._writer.submit(Addition(sent, removals))

    def history(self, user_id: str, newest: int | None = None, skip: int = 0) -> StoredHistory:
        """Return a user's history, oldest first.

        Args:
            user_id: The user.
            newest: Number of events, counted from the end; None for all.
            skip: Number of events at the end to leave out.

        Raises:
            UnknownUserError: The user is not stored.
        """
        with self.database.reading() as connection:
            user = find_user(connection, users.c.user_id == user_id, user_id)
            rows = connection.execute(self._current(user.key).limit(newest).offset(skip)).all()[::-1]
        return StoredHistory(user.key, user.version, _history(user_id, rows))

    def user_ids(self, starting: str, most: int) -> list[str]:
        """Return at most ``most`` user ids with a prefix, sorted."""
        found = select(users.c.user_id)
        if self.database.sqlite:  # its LIKE is case-insensitive
            same = func.substr(users.c.user_id, 1, len(starting)) == starting
            found = found.where(users.c.user_id >= starting, same)
        else:
            found = found.where(users.c.user_id.startswith(starting, autoescape=True))
        with self.database.reading() as connection:
            return list(connection.execute(found.order_by(users.c.user_id).limit(most)).scalars())

    def user_with_events(self, most: int, among: int = 100) -> str | None:
        """Choose an example user: among the first users, the one whose number of events is closest to ``most``.

        Args:
            most: Preferred number of events; a user with more is chosen only if none has at most as many.
            among: Number of users to choose from.
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
        """Return keys and ids of at most ``most`` users after a key, in order of creation, for stable paging."""
        found = select(users.c.key, users.c.user_id).where(users.c.key > key).order_by(users.c.key)
        with self.database.reading() as connection:
            return [(one, user_id) for one, user_id in connection.execute(found.limit(most))]

    def changes(self, user_key: int, since: int) -> Changes | None:
        """Return the changes of a history since a version, at a cost independent of its length.

        Returns:
            The changes; None if events have been deleted since that version.

        Raises:
            UnknownUserError: The user has been deleted.
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
        """Return a user's key and version, and a cached encoding of this or an older version.

        Raises:
            UnknownUserError: The user is not stored.
        """
        waiting = self._keeper.waiting()
        with self.database.reading() as connection:
            row = connection.execute(_with_encoded(model).where(users.c.user_id == user_id)).one_or_none()
        if row is None:
            raise unknown_user(user_id)
        return self._found(row, model, waiting)

    def to_encode(
        self, user_ids: Collection[str], model: str, reads: int | None, most: int
    ) -> dict[str, ToEncode]:
        """Read what the current encodings of several users follow from, in one transaction.

        Args:
            user_ids: The users; unknown ones are left out.
            model: Identity of the model.
            reads: Maximum number of events that the model reads, the most recent ones; None for all.
            most: Maximum number of events of a user whose history is read here.
        """
        made: dict[str, ToEncode] = {}
        waiting = self._keeper.waiting()
        with self.database.reading() as connection:
            rows = list(in_chunks(connection, _with_encoded(model), users.c.user_id, list(user_ids)))
            found = {row.user_id: self._found(row, model, waiting) for row in rows}
            changes = self._changes_of(
                connection, [row for row in rows if _advances(row, found)], found, model
            )
            for row in rows:
                one = ToEncode(found[row.user_id], changes.get(row.key))
                read = row.version if reads is None else min(row.version, reads)
                if one.current is None and one.changes is None and read <= most:
                    some = connection.execute(self._current(row.key).limit(reads)).all()[::-1]
                    one = replace(
                        one, history=StoredHistory(row.key, row.version, _history(row.user_id, some))
                    )
                made[row.user_id] = one
        return made

    def keep(self, user_key: int, model: str, made: Encoded, removals: int | None = None) -> Future[None]:
        """Cache a model's encoding of a history, unless a newer one is cached or its events have been deleted.

        It is written behind, in a transaction shared with other calls; :meth:`encoded` returns it at once.

        Args:
            user_key: Key of the user.
            model: Identity of the model.
            made: The encoding.
            removals: Count of deletions in :meth:`items` at the time of encoding; None if it holds no item indices.

        Returns:
            A future that completes when it is written, or not to be.
        """
        return self._keeper.keep(Keeping(user_key, model, made, removals))

    @property
    def behind(self) -> bool:
        """Whether so many encodings wait to be written that no more should be cached."""
        return self._keeper.behind

    def trim(self, models: Collection[str]) -> int:
        """Delete the cached encodings of all other models, and make SQLite's file smaller by them.

        Args:
            models: Identities of the models whose encodings are kept.

        Returns:
            The number of deleted encodings.
        """
        stale = encoded.c.model.not_in(models)
        some = select(encoded.c.user_key).where(stale).distinct().limit(AT_ONCE)
        count = 0
        while True:  # in parts, so that other writers do not wait for long
            with self.database.writing() as connection:
                keys = connection.execute(some).scalars().all()
                if not keys:
                    break
                count += connection.execute(
                    delete(encoded).where(stale, encoded.c.user_key.in_(keys))
                ).rowcount
                self.database.will_scrub(connection)
        self.database.scrub()
        return count

    def delete_user(self, user_id: str, api_key: str | None = None) -> int:
        """Delete a user's events, prompts and states, also from SQLite's files.

        Repeat an interrupted call. PostgreSQL keeps deleted rows in its files until the next VACUUM.

        Args:
            user_id: The user.
            api_key: Name of the request's API key, for the deletion log.

        Returns:
            The number of deleted events.
        """
        with self.database.reading() as connection:
            there = connection.execute(select(users.c.key).where(users.c.user_id == user_id)).one_or_none()
        if there is None:  # needs no write lock
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
        """Delete events by their ids, and all events of some items, see :meth:`delete_user`.

        Raises:
            UnknownUserError: The user is not stored.
        """
        with self.database.writing() as connection:
            # the table lock comes first, as in a deletion of items, to prevent deadlocks
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

        Raises:
            ConflictError: An item is stored with another text.
        """
        with self.database.writing() as connection:
            self._exclude(connection, "items")  # so that items become visible in the order of their numbers
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
        """Delete all events above an age, and users without remaining events, see :meth:`delete_user`.

        Args:
            days: Maximum age by the events' times, in days; None for the store's retention.

        Returns:
            Counts of deleted users and events; zero without a retention.
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
        """Return at most ``most`` entries of the deletion log after a number, oldest first, or of one user only."""
        with self.database.reading() as connection:
            return read_deletions(connection, after, most, user_id)

    def delete_items(self, item_ids: Sequence[str], api_key: str | None = None) -> ItemDeletion:
        """Delete added items and all events about them, see :meth:`delete_user`; unknown ids are ignored.

        The cached encodings of all users are deleted too, as they may hold item indices. Scans all events.
        """
        with self.database.writing() as connection:
            self._exclude(connection, "users")  # blocks writers whose events were checked before
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
        """Return the added items after a number."""
        found = select(items).where(items.c.number > after).order_by(items.c.number)
        with self.database.reading() as connection:
            rows = connection.execute(found).all()
            removals = removals_of(connection)
        return StoredItems([_item(row.content) for row in rows], rows[-1].number if rows else after, removals)

    def removals(self) -> int:
        """Return the count of deletions of added items."""
        with self.database.reading() as connection:
            return removals_of(connection)

    def event_items(self) -> list[str]:
        """Return the distinct item ids of all events."""
        return self._distinct(events.c.item_id)

    def event_ratings(self) -> list[float]:
        """Return the distinct ratings of all events."""
        return self._distinct(events.c.rating)

    def check(self) -> None:
        """Check the database: raises :class:`StoreError` if unavailable, :class:`StoreFullError` on a full disk."""
        self.database.check_file()
        with self.database.reading() as connection:
            connection.execute(select(1))
        if self.database.full:
            # a test write shows whether there is space again
            with self.database.writing() as connection:
                connection.execute(insert(users).values(user_id="", version=0))
                connection.execute(delete(users).where(users.c.user_id == ""))

    def close(self) -> None:
        """Commit pending writes and close all connections."""
        self._writer.stop()
        self._keeper.stop()
        self.database.close()

    @staticmethod
    def _found(row: Row[Any], model: str, waiting: Mapping[tuple[int, str], Keeping]) -> Found:
        """Convert a row of :func:`_with_encoded`, with an encoding that waits to be written if it is newer."""
        stored = None if row.of is None else Encoded(row.of, row.prompt, row.state)
        kept = newer(stored, waiting.get((row.key, model)), Valid(row.forgotten, row.removals))
        return Found(row.key, row.version, kept, row.removals)

    def _changes_of(
        self, connection: Connection, late: Sequence[Row[Any]], found: Mapping[str, Found], model: str
    ) -> dict[int, Changes]:
        """Read the changes since the cached encodings of some users, as :meth:`changes` does for one."""
        if not late:
            return {}
        since = {row.key: kept.version for row in late if (kept := found[row.user_id].kept) is not None}
        both = events.join(encoded, events.c.user_key == encoded.c.user_key)
        of_model = select(events).select_from(both).where(encoded.c.model == model)
        in_order = of_model.order_by(events.c.timestamp, events.c.version)
        added = in_order.where(events.c.version > encoded.c.version)
        gone = in_order.where(events.c.superseded > encoded.c.version)
        if not self._repeats:
            added = added.where(events.c.superseded.is_(None))
        rows: dict[int, tuple[list[Row[Any]], list[Row[Any]]]] = {key: ([], []) for key in since}
        # the encoding in the database may be older than the one that waits to be written
        for row in in_chunks(connection, added, encoded.c.user_key, list(since)):
            if row.version > since[row.user_key]:
                rows[row.user_key][0].append(row)
        for row in () if self._repeats else in_chunks(connection, gone, encoded.c.user_key, list(since)):
            if row.version <= since[row.user_key] < row.superseded:
                rows[row.user_key][1].append(row)
        return {
            row.key: Changes(row.version, *(_history(row.user_id, some) for some in rows[row.key]))
            for row in late
        }

    def _append_all(self, additions: Sequence[Addition]) -> list[Outcome]:
        now = int(time.time())
        with self.database.writing(pipelined=True) as connection:
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
        """Lock a table until the end of the transaction; SQLite has a single writer and needs no lock."""
        if not self.database.sqlite:
            connection.execute(text(f"LOCK TABLE {table} IN {mode} MODE"))


def _before(now: int, days: float | None) -> int | None:
    """Return the time of events of the given age, in seconds since 1970; None without an age."""
    return None if days is None else now - round(days * DAY)


def _events_in(addition: Addition) -> int:
    return sum(map(len, addition.sent.values()))


def find_user(connection: Connection, which: Any, name: str, hold: bool = False) -> Row[Any]:
    """Read a user's row, and lock it with ``hold``; raises :class:`UnknownUserError` with ``name``."""
    found = select(users).where(which)
    user = connection.execute(found.with_for_update() if hold else found).one_or_none()
    if user is None:
        raise unknown_user(name)
    return user


def unknown_user(name: str) -> UnknownUserError:
    """Create the error for a user who is not stored."""
    return UnknownUserError(f"no user {name!r} in the store; add an event of this user first")


def _delete_events_of(connection: Connection, item_ids: Sequence[str]) -> int:
    """Delete all users' events of some items, and invalidate the cached encodings of these users."""
    named = events.c.item_id.in_(item_ids)
    concerned = users.c.key.in_(select(events.c.user_key).where(named))
    version = users.c.version + 1
    connection.execute(update(users).where(concerned).values(version=version, forgotten=version))
    return connection.execute(delete(events).where(named)).rowcount


def _with_encoded(model: str) -> Select[Any]:
    """Select users with a model's cached encodings of them, and the count of item deletions."""
    of_model = and_(encoded.c.user_key == users.c.key, encoded.c.model == model)
    columns = (encoded.c.version.label("of"), encoded.c.prompt, encoded.c.state, catalogue.c.removals)
    return select(users, *columns).select_from(users.outerjoin(encoded, of_model).join(catalogue, true()))


def _advances(row: Row[Any], found: Mapping[str, Found]) -> bool:
    """Return whether a cached encoding can be updated by the changes since then, of which none is a deletion."""
    kept = found[row.user_id].kept
    if row.of is None or kept is None or kept.state is None:
        return False
    return bool(row.forgotten <= kept.version < row.version)


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
