"""Notes which of two models answers while one takes the other's place."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Make the table; no model had taken another's place before."""
    op.create_table(
        "upgrades",
        sa.Column("old", sa.Text, primary_key=True),
        sa.Column("new", sa.Text, primary_key=True),
        sa.Column("serving", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("drift", sa.Text),
    )
