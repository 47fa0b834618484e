"""Deletion of events above an age, and of the users of whom nothing is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, select, update

from palate.serve.store.deletions import log_deletion
from palate.serve.store.tables import encoded, events, users

USERS = 500
"""Users whose events are deleted in one transaction; others can write in between."""
DAY = 86_400
"""Seconds."""


@dataclass(frozen=True)
class Aged:
    """What was deleted for its age."""

    users: int
    """Users whose events were deleted, also those of whom some are left."""
    events: int
    gone: tuple[str, ...]
    """Ids of the users of whom nothing was left, and who are deleted therefore."""

    def __add__(self, other: Aged) -> Aged:
        """Sum what two transactions deleted."""
        return Aged(self.users + other.users, self.events + other.events, self.gone + other.gone)


def users_with_older(connection: Connection, before: int, after: int) -> Sequence[int]:
    """List keys of users above ``after`` with events before a time, :data:`USERS` at most, ascending."""
    old = exists().where(events.c.user_key == users.c.key, events.c.timestamp < before)
    found = select(users.c.key).where(users.c.key > after, old).order_by(users.c.key).limit(USERS)
    return connection.execute(found).scalars().all()


def delete_older(connection: Connection, keys: Sequence[int], before: int) -> Aged:
    """Delete some users' events before a time, with all that was made of their histories.

    The last event of an item stands; what it took the place of is older, so that nothing comes back in its stead.
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
