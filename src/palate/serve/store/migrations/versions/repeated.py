"""Extends the index by time to superseded events, for data with repeated events."""

from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Recreate the index; superseded events have always been stored."""
    op.drop_index("events_by_time", "events")
    op.create_index("events_by_time", "events", ["user_key", "timestamp", "version"])
