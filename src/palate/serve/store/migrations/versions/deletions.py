"""Adds the deletion log."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table, and the key for digests of user ids; earlier deletions were not logged."""
    op.add_column("catalogue", sa.Column("salt", sa.Text, nullable=False, server_default=""))
    catalogue = sa.table("catalogue", sa.column("salt", sa.Text))
    op.execute(catalogue.update().values(salt=secrets.token_hex(32)))
    op.create_table(
        "deletions",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("deleted_at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("who", sa.Text),
        sa.Column("users", sa.BigInteger, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("api_key", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("deletions_by_who", "deletions", ["who"])
