"""Retention: deletion of events above an age, and of users without remaining events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, select, update

from palate.serve.store.deletions import log_deletion
from palate.serve.store.tables import encoded, events, users

USERS = 500
"""Number of users per transaction; other writers can proceed in between."""
DAY = 86_400
"""Length of a day, in seconds."""


@dataclass(frozen=True)
class Aged:
    """Counts of a deletion by age."""

    users: int
    """Number of users with deleted events, including those with remaining ones."""
    events: int
    gone: tuple[str, ...]
    """Ids of the users who were deleted, as none of their events remained."""

    def __add__(self, other: Aged) -> Aged:
        """Add up the counts of two transactions."""
        return Aged(self.users + other.users, self.events + other.events, self.gone + other.gone)


def users_with_older(connection: Connection, before: int, after: int) -> Sequence[int]:
    """Return the keys of at most :data:`USERS` users with events before a time, ascending, starting after a key."""
    old = exists().where(events.c.user_key == users.c.key, events.c.timestamp < before)
    found = select(users.c.key).where(users.c.key > after, old).order_by(users.c.key).limit(USERS)
    return connection.execute(found).scalars().all()


def delete_older(connection: Connection, keys: Sequence[int], before: int) -> Aged:
    """Delete the users' events before a time, and all cached encodings of these users.

    No superseded event becomes current again: if the last event of an item is deleted, those that it superseded are
    older and deleted too.
    """
    of_users = users.c.key.in_(keys)
    locked = select(users.c.key, users.c.user_id).where(of_users).order_by(users.c.user_id).with_for_update()
    ids = {row.key: row.user_id for row in connection.execute(locked)}
    old = events.c.user_key.in_(list(ids)) & (events.c.timestamp < before)
    changed = set(connection.execute(select(events.c.user_key).where(old).distinct()).scalars())
    if not changed:
        return Aged(0, 0, ())
    count = connection.execute(delete(events).where(old)).rowcount
    connection.execute(delete(encoded).where(encoded.c.user_key.in_(changed)))
    version = users.c.version + 1
    connection.execute(
        update(users).where(users.c.key.in_(changed)).values(version=version, forgotten=version)
    )
    left = set(
        connection.execute(
            select(events.c.user_key).where(events.c.user_key.in_(changed)).distinct()
        ).scalars()
    )
    empty = changed - left
    connection.execute(delete(users).where(users.c.key.in_(empty)))
    log_deletion(connection, "age", events=count, users=len(empty))
    return Aged(len(changed), count, tuple(sorted(ids[key] for key in empty)))
