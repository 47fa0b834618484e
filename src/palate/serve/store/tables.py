"""SQLAlchemy tables of the user store.

A user's *version* counts the events added to the history and the deletions from it. An event's version is the user's
version after it was added. So the changes since an older version can be selected without reading the whole history,
unless events were deleted since.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
_Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite's autoincrement needs an Integer


def _user_key() -> Column[int]:
    return Column("user_key", _Number, ForeignKey("users.key", ondelete="CASCADE"), primary_key=True)


users = Table(
    "users",
    metadata,
    Column("key", _Number, primary_key=True, autoincrement=True),
    Column("user_id", Text, nullable=False, unique=True),
    Column("version", BigInteger, nullable=False),
    # the version after the last deletion of events; encodings of older versions may contain deleted events
    Column("forgotten", BigInteger, nullable=False, server_default="0"),
    sqlite_autoincrement=True,  # keys of deleted users are not reused
)

events = Table(
    "events",
    metadata,
    _user_key(),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("rating", Double, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    # the version at which a later event of the item superseded this one; ignored for data with repeated events
    Column("superseded", BigInteger),
    # the user's review or note
    Column("text", Text),
    UniqueConstraint("user_key", "event_id", name="events_by_id"),
)

_current = events.c.superseded.is_(None)
Index("events_by_time", events.c.user_key, events.c.timestamp, events.c.version)
Index(
    "events_by_item",
    events.c.user_key,
    events.c.item_id,
    unique=True,
    sqlite_where=_current,
    postgresql_where=_current,
)
Index(
    "events_superseded",
    events.c.user_key,
    events.c.superseded,
    sqlite_where=~_current,
    postgresql_where=~_current,
)

encoded = Table(
    "encoded",
    metadata,
    _user_key(),
    Column("model", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("prompt", LargeBinary, nullable=False),
    Column("state", LargeBinary),
)

items = Table(
    "items",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("item_id", Text, nullable=False, unique=True),
    Column("content", Text, nullable=False),  # JSON
    sqlite_autoincrement=True,
)

# a single row
catalogue = Table(
    "catalogue",
    metadata,
    # count of deletions of added items, by which other servers detect them
    Column("removals", BigInteger, nullable=False),
    # key of the digests of deleted users' ids
    Column("salt", Text, nullable=False),
)

# the deletion log
deletions = Table(
    "deletions",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("deleted_at", BigInteger, nullable=False),  # seconds since 1970
    Column("kind", Text, nullable=False),
    Column("who", Text),  # digest of the user's id; null for kinds that may concern several users
    Column("users", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("api_key", Text),  # name of the request's API key
    sqlite_autoincrement=True,
)
Index("deletions_by_who", deletions.c.who)

# decisions of upgrades by the identities of the two models
upgrades = Table(
    "upgrades",
    metadata,
    Column("old", Text, primary_key=True),
    Column("new", Text, primary_key=True),
    Column("serving", Text, nullable=False),  # "old" or "new"
    Column("reason", Text, nullable=False),
    Column("drift", Text),  # JSON
)
