"""Taking events out of a user's history for good, with all that was made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from palate.serve.store.appending import in_chunks
from palate.serve.store.tables import encoded, events, users


@dataclass(frozen=True)
class Deletion:
    """How many of a user's events were removed, and the version that their history has since."""

    version: int
    events: int


def delete_events(
    connection: Connection, user: Row[Any], event_ids: Sequence[str], item_ids: Sequence[str]
) -> Deletion:
    """Remove events by their ids, and all ratings of some items, of a user whose row the transaction holds.

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
    """Let the last rating that is left of each item stand."""
    rows = in_chunks(
        connection, select(events).where(events.c.user_key == user_key), events.c.item_id, item_ids
    )
    last = {row.item_id: row.version for row in sorted(rows, key=lambda row: (row.timestamp, row.version))}
    if last:
        one = update(events).where(events.c.user_key == user_key, events.c.version == bindparam("last"))
        connection.execute(one.values(superseded=None), [{"last": version} for version in last.values()])
