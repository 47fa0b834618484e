"""Adds the version of a user's last deletion."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add the column; events could not be deleted individually before."""
    op.add_column("users", sa.Column("forgotten", sa.BigInteger, nullable=False, server_default="0"))
