"""Tables of the user store.

A user's *version* counts the events that their history has taken in, and the deletions. An event's own version is its
number in that count, so what has changed since an older version can be told without reading the rest, if nothing was
deleted since.
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
_Number = BigInteger().with_variant(Integer, "sqlite")  # there only an Integer numbers rows by itself


def _user_key() -> Column[int]:
    return Column("user_key", _Number, ForeignKey("users.key", ondelete="CASCADE"), primary_key=True)


users = Table(
    "users",
    metadata,
    Column("key", _Number, primary_key=True, autoincrement=True),
    Column("user_id", Text, nullable=False, unique=True),
    Column("version", BigInteger, nullable=False),
    # the version at which events were last deleted: what was made of an older one knows too much
    Column("forgotten", BigInteger, nullable=False, server_default="0"),
    sqlite_autoincrement=True,  # the key of a deleted user is never given to another
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
    # the version at which a later event of the item took this one's place; not read where the data keeps repeats
    Column("superseded", BigInteger),
    # what the user wrote of it; it goes with the event
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

# one row
catalogue = Table(
    "catalogue",
    metadata,
    # how often added items have been deleted, by which a server sees that it knows too many
    Column("removals", BigInteger, nullable=False),
    # key of the digests of deleted users' ids
    Column("salt", Text, nullable=False),
)

# what was deleted, by whom, and when; never what it was
deletions = Table(
    "deletions",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("deleted_at", BigInteger, nullable=False),  # seconds since 1970
    Column("kind", Text, nullable=False),
    Column("who", Text),  # digest of the user's id; none where several users are concerned
    Column("users", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("api_key", Text),  # name of the API key that asked for it
    sqlite_autoincrement=True,
)
Index("deletions_by_who", deletions.c.who)

# which of two models answers, by their identities, once that was decided
upgrades = Table(
    "upgrades",
    metadata,
    Column("old", Text, primary_key=True),
    Column("new", Text, primary_key=True),
    Column("serving", Text, nullable=False),  # "old" or "new"
    Column("reason", Text, nullable=False),
    Column("drift", Text),  # JSON
)
