"""Keeps what users write of events."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Add the column; nothing was kept of what had been written before."""
    op.add_column("events", sa.Column("text", sa.Text))
