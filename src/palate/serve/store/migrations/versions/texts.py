"""Adds the texts of events."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Add the column; texts of earlier events were not stored."""
    op.add_column("events", sa.Column("text", sa.Text))
