"""The log of deletions: what was deleted, of whom as a digest, when, and by whom; never what it was."""

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
    """An entry of the log."""

    number: int
    deleted_at: int
    """Seconds since 1970."""
    kind: DeletionKind
    who: str | None
    """Digest of the user's id; None where several users may be concerned."""
    users: int
    """Users who were deleted whole."""
    events: int
    api_key: str | None
    """Name of the API key that asked for it; None without keys, by the command line, and for age."""


def log_deletion(
    connection: Connection,
    kind: DeletionKind,
    *,
    events: int,
    users: int = 0,
    user_id: str | None = None,
    api_key: str | None = None,
) -> None:
    """Note a deletion in the transaction that deletes.

    On a full disk PostgreSQL can still delete, and perhaps not note it: the deletion is made, and the entry stands in
    the program's log.
    """
    who = None if user_id is None else digest_of(connection, user_id)
    row = {"deleted_at": int(time.time()), "kind": kind, "who": who, "users": users, "events": events}
    entry = {**row, "api_key": api_key}
    if connection.dialect.name == "sqlite":  # which deletes nothing on a full disk
        connection.execute(insert(deletions), [entry])
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(deletions), [entry])
    except DBAPIError as error:
        if error_code(error) not in FULL:
            raise
        log.error("the disk is full: a deletion is noted here and not in the store: %s", entry)


def read_deletions(
    connection: Connection, after: int, most: int, user_id: str | None
) -> Sequence[LoggedDeletion]:
    """Read entries after a number, oldest first; of one user if ``user_id`` is given."""
    found = select(deletions).where(deletions.c.number > after).order_by(deletions.c.number).limit(most)
    if user_id is not None:
        found = found.where(deletions.c.who == digest_of(connection, user_id))
    return [LoggedDeletion(**row._mapping) for row in connection.execute(found)]


def digest_of(connection: Connection, user_id: str) -> str:
    """Digest a user's id with the store's own key: who holds the store can look for an id, and list none."""
    salt = connection.execute(select(catalogue.c.salt)).scalar_one()
    return hashlib.blake2b(user_id.encode(), key=bytes.fromhex(salt), digest_size=16).hexdigest()
