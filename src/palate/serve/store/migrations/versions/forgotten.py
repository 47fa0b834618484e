"""Users know at which version events of theirs were last deleted."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add the column; nobody's events were deleted one by one before."""
    op.add_column("users", sa.Column("forgotten", sa.BigInteger, nullable=False, server_default="0"))
