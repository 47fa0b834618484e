"""Adds the count of deletions of added items."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Create the table of the single count; no items could be deleted before."""
    catalogue = op.create_table("catalogue", sa.Column("removals", sa.BigInteger, nullable=False))
    op.bulk_insert(catalogue, [{"removals": 0}])
