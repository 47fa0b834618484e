"""Initial schema: users, events, cached encodings and added items."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_CURRENT, _SUPERSEDED = sa.text("superseded IS NULL"), sa.text("superseded IS NOT NULL")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "users",
        sa.Column("key", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("user_id", sa.Text, nullable=False, unique=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "events",
        _user_key(),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("rating", sa.Double, nullable=False),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("superseded", sa.BigInteger),
        sa.UniqueConstraint("user_key", "event_id", name="events_by_id"),
    )
    for name, columns, where, unique in (
        ("events_by_time", ["user_key", "timestamp", "version"], _CURRENT, False),
        ("events_by_item", ["user_key", "item_id"], _CURRENT, True),
        ("events_superseded", ["user_key", "superseded"], _SUPERSEDED, False),
    ):
        op.create_index(name, "events", columns, unique=unique, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "encoded",
        _user_key(),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("prompt", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.LargeBinary),
    )
    op.create_table(
        "items",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("item_id", sa.Text, nullable=False, unique=True),
        sa.Column("content", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )


def _user_key() -> sa.Column[int]:
    return sa.Column("user_key", _NUMBER, sa.ForeignKey("users.key", ondelete="CASCADE"), primary_key=True)
