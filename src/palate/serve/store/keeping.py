"""The cache of encodings: written behind the requests, those of many in one transaction, and read with what waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from palate.errors import StoreError
from palate.serve.groups import GroupWorker
from palate.serve.store.changes import in_chunks
from palate.serve.store.tables import catalogue, encoded, users
from palate.serve.store.unnest import unnested

TOGETHER = 2_000
"""Maximum size of a transaction of several requests, in events or in pages of encodings."""
BEHIND = 4 * TOGETHER
"""Maximum size of the encodings that wait to be written, in pages; further ones are not cached."""


@dataclass(frozen=True)
class Encoded:
    """An encoded history: the serialised user prompt, a streaming encoder's state, and the history's version."""

    version: int
    prompt: bytes
    state: bytes | None = None


@dataclass(frozen=True)
class Keeping:
    """A request to cache a model's encoding of a user's history."""

    user_key: int
    model: str
    made: Encoded
    removals: int | None = None
    """Count of deletions of items at the time of encoding; None if the encoding holds no item indices."""

    @property
    def pages(self) -> int:
        """Size in database pages of 4 KiB."""
        return 1 + (len(self.made.prompt) + len(self.made.state or b"")) // 4096


class Valid(NamedTuple):
    """What an encoding must be of: no event that was deleted since, and no item."""

    forgotten: int
    """The user's version after the last deletion of events."""
    removals: int
    """Count of deletions of items."""

    def holds(self, one: Keeping) -> bool:
        """Return whether an encoding contains no deleted event or item."""
        return self.forgotten <= one.made.version and one.removals in (None, self.removals)


class CacheWriter:
    """Thread that writes encodings to the cache in groups.

    Args:
        write: Writes several in one transaction (:func:`keep_all`).
    """

    def __init__(self, write: Callable[[Sequence[Keeping]], Sequence[None]]) -> None:
        self._worker: GroupWorker[Keeping, None] = GroupWorker(
            write, lambda one: one.pages, TOGETHER, "palate-kept"
        )
        self._lock, self._pages = threading.Lock(), 0
        self._waiting: dict[tuple[int, str], Keeping] = {}

    def keep(self, one: Keeping) -> Future[None]:
        """Queue an encoding; until it is written, it is among those :meth:`waiting`."""
        with self._lock:
            place = one.user_key, one.model
            if place not in self._waiting or self._waiting[place].made.version <= one.made.version:
                self._waiting[place] = one
            self._pages += one.pages
        try:
            written = self._worker.submit(one)
        except StoreError:
            self._done(one)
            raise
        written.add_done_callback(lambda _: self._done(one))
        return written

    @property
    def behind(self) -> bool:
        """Whether so much waits, as the database is slow, that no more should be queued."""
        return self._pages > BEHIND

    def waiting(self) -> Mapping[tuple[int, str], Keeping]:
        """Return what is not written yet by user and model; to be called before the cache is read."""
        with self._lock:
            return dict(self._waiting)

    def stop(self) -> None:
        """Write what waits and stop the thread."""
        self._worker.stop()

    def _done(self, one: Keeping) -> None:
        with self._lock:
            self._pages -= one.pages
            place = one.user_key, one.model
            if self._waiting.get(place) is one:
                del self._waiting[place]


def newer(stored: Encoded | None, waits: Keeping | None, valid: Valid) -> Encoded | None:
    """Return the newer one of a stored encoding and one that waits to be written, if that is valid."""
    if waits is None or not valid.holds(waits):
        return stored
    return waits.made if stored is None or stored.version < waits.made.version else stored


def keep_all(connection: Connection, kept: Sequence[Keeping]) -> list[None]:
    """Cache encodings, except those that are older than a cached one or contain deleted events or items.

    Rows are locked in the same order as by a deletion of items, and users as by an addition of events, which prevents
    deadlocks.
    """
    removals = connection.execute(select(catalogue.c.removals).with_for_update(read=True)).scalar_one()
    keys = sorted({one.user_key for one in kept})
    found = select(users.c.key, users.c.forgotten).order_by(users.c.user_id).with_for_update(read=True)
    forgotten = {row.key: row.forgotten for row in in_chunks(connection, found, users.c.key, keys)}
    rows: dict[tuple[int, str], Keeping] = {}
    for one in kept:
        place = one.user_key, one.model
        newer = place not in rows or rows[place].made.version < one.made.version
        there = one.user_key in forgotten
        if newer and there and Valid(forgotten[one.user_key], removals).holds(one):
            rows[place] = one
    if rows:
        content = [
            {"user_key": one.user_key, "model": one.model, **asdict(one.made)} for one in rows.values()
        ]
        if connection.dialect.name == "sqlite":
            connection.execute(_newest(sqlite.insert(encoded)), content)
        else:
            given = unnested(dict(encoded.c.items()), content)
            inserted = postgresql.insert(encoded).from_select(list(encoded.c.keys()), select(*given.c))
            connection.execute(_newest(inserted))
    return [None] * len(kept)


def _newest(row: Any) -> Any:
    """Let an insertion into the cache replace older encodings."""
    return row.on_conflict_do_update(
        index_elements=[encoded.c.user_key, encoded.c.model],
        set_={name: row.excluded[name] for name in ("version", "prompt", "state")},
        where=encoded.c.version < row.excluded.version,
    )
