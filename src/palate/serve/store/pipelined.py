"""Adding events on PostgreSQL: one statement for each table, sent in two round trips, of which one commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from palate.serve.store.unnest import array_literal

CREATE = """
INSERT INTO users (user_id, version)
SELECT given.user_id, 0 FROM unnest(%(names)s::text[]) AS given (user_id)
WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = given.user_id)
ORDER BY given.user_id
ON CONFLICT DO NOTHING
"""
"""Creates missing users, in the order in which they are locked; a conflict alone would use up a key for each user."""
LOCK = "SELECT * FROM users WHERE user_id = ANY (%(names)s::text[]) ORDER BY user_id FOR UPDATE"
REMOVALS = "SELECT removals FROM catalogue"
_STORED = """
SELECT stored.* FROM (SELECT key, user_id FROM users WHERE user_id = ANY (%(names)s::text[]) AND version > 0) AS owners
JOIN unnest(%(of)s::text[], %(ids)s::text[]) AS given (user_id, {column}) USING (user_id)
CROSS JOIN LATERAL (
  SELECT * FROM events WHERE user_key = owners.key AND {column} = given.{column}{condition} OFFSET 0
) AS stored
"""
"""Reads events by a look-up in an index each.

OFFSET 0 separates the look-ups from the join, as PostgreSQL estimates thousands to be slower than reading the table.
"""
KNOWN = _STORED.format(column="event_id", condition="")
CURRENT = _STORED.format(column="item_id", condition=" AND superseded IS NULL")
SUPERSEDE = """
UPDATE events SET superseded = given.superseded
FROM unnest(%(user_key)s::bigint[], %(version)s::bigint[], %(superseded)s::bigint[])
  AS given (user_key, version, superseded)
WHERE events.user_key = given.user_key AND events.version = given.version
"""
ADD = """
INSERT INTO events (user_key, version, event_id, item_id, rating, timestamp, superseded, text)
SELECT * FROM unnest(%(user_key)s::bigint[], %(version)s::bigint[], %(event_id)s::text[], %(item_id)s::text[],
  %(rating)s::float8[], %(timestamp)s::bigint[], %(superseded)s::bigint[], %(text)s::text[])
"""
GROW = """
UPDATE users SET version = given.version FROM unnest(%(key)s::bigint[], %(version)s::bigint[]) AS given (key, version)
WHERE users.key = given.key
"""


@dataclass(frozen=True)
class LockedUsers:
    """Locked users with what is stored about the events to add, as rows of named tuples."""

    users: Sequence[Any]
    removals: int
    """Count of deletions of items."""
    known: Sequence[Any]
    """Events with given ids."""
    current: Sequence[Any]
    """Last events of given items."""


def lock_users(
    connection: Connection,
    names: Sequence[str],
    event_ids: Sequence[tuple[str, str]],
    item_ids: Sequence[tuple[str, str]],
) -> LockedUsers:
    """Create and lock users, and read their events, in one round trip.

    Each statement sees what was committed before it, and so the later ones all that preceded the locks.

    Args:
        connection: A connection in pipeline mode (:meth:`Database.writing`).
        names: Ids of the users, sorted.
        event_ids: Users and ids of events.
        item_ids: Users and items.
    """
    _execute(connection, CREATE, {"names": names})
    users = _execute(connection, LOCK, {"names": names})
    removals = _execute(connection, REMOVALS, {})
    known, current = (
        _execute(
            connection,
            sql,
            {"names": names, "of": [user for user, _ in some], "ids": [one for _, one in some]},
        )
        if some
        else None
        for sql, some in ((KNOWN, event_ids), (CURRENT, item_ids))
    )
    return LockedUsers(
        users.fetchall(),
        removals.fetchone().removals,
        known.fetchall() if known else (),
        current.fetchall() if current else (),
    )


def write_events(
    connection: Connection,
    superseded: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    grown: Sequence[Mapping[str, Any]],
) -> None:
    """Queue the writes of superseded marks, new events and versions of users, which are sent with the commit.

    Args:
        connection: A connection in pipeline mode.
        superseded: ``user_key``, ``version`` and ``superseded`` of earlier events.
        new: Columns of the new events.
        grown: ``key`` and ``version`` of users.
    """
    for sql, rows in ((SUPERSEDE, superseded), (ADD, new), (GROW, grown)):
        if rows:
            _execute(connection, sql, {name: [row[name] for row in rows] for name in rows[0]})


def _execute(connection: Connection, sql: str, parameters: Mapping[str, Sequence[Any]]) -> Any:
    from psycopg.rows import namedtuple_row

    driver: Any = connection.connection.driver_connection
    arrays = {name: array_literal(values) for name, values in parameters.items()}
    return driver.cursor(row_factory=namedtuple_row).execute(sql, arrays)
