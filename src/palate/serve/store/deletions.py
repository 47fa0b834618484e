"""The deletion log: kind, counts, time, API key, and a digest of the user's id, but never deleted content."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError

from palate.serve.store.database import FULL, error_code
from palate.serve.store.tables import catalogue, deletions

log = logging.getLogger("palate.serve")

DeletionKind: TypeAlias = Literal["user", "events", "items", "age"]
"""What was deleted: a user, some events of a user, added items with their events, or events above an age."""


@dataclass(frozen=True)
class LoggedDeletion:
    """An entry of the deletion log."""

    number: int
    deleted_at: int
    """Seconds since 1970."""
    kind: DeletionKind
    who: str | None
    """Digest of the user's id; None for kinds that may concern several users."""
    users: int
    """Number of users of whom everything was deleted."""
    events: int
    api_key: str | None
    """Name of the request's API key; None without keys, for the command line, and for deletions by age."""


def log_deletion(
    connection: Connection,
    kind: DeletionKind,
    *,
    events: int,
    users: int = 0,
    user_id: str | None = None,
    api_key: str | None = None,
) -> None:
    """Add an entry to the deletion log, in the transaction of the deletion.

    On a full disk PostgreSQL can delete rows, but may fail to insert the entry: the deletion is committed, and the
    entry is written to the server's log instead.
    """
    who = None if user_id is None else digest_of(connection, user_id)
    row = {"deleted_at": int(time.time()), "kind": kind, "who": who, "users": users, "events": events}
    entry = {**row, "api_key": api_key}
    if connection.dialect.name == "sqlite":  # cannot delete on a full disk either
        connection.execute(insert(deletions), [entry])
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(deletions), [entry])
    except DBAPIError as error:
        if error_code(error) not in FULL:
            raise
        log.error("the disk is full: a deletion is logged here instead of in the store: %s", entry)


def read_deletions(
    connection: Connection, after: int, most: int, user_id: str | None
) -> Sequence[LoggedDeletion]:
    """Read at most ``most`` entries after a number, oldest first, optionally of one user only."""
    found = select(deletions).where(deletions.c.number > after).order_by(deletions.c.number).limit(most)
    if user_id is not None:
        found = found.where(deletions.c.who == digest_of(connection, user_id))
    return [LoggedDeletion(**row._mapping) for row in connection.execute(found)]


def digest_of(connection: Connection, user_id: str) -> str:
    """Return the keyed digest of a user's id, which lets one look up a given id in the log, but not list ids."""
    salt = connection.execute(select(catalogue.c.salt)).scalar_one()
    return hashlib.blake2b(user_id.encode(), key=bytes.fromhex(salt), digest_size=16).hexdigest()
