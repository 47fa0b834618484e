"""Orders all events of a user by time, superseded ones too, for data that keeps repeated events."""

from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Make the index anew; every event is still there, whatever took its place."""
    op.drop_index("events_by_time", "events")
    op.create_index("events_by_time", "events", ["user_key", "timestamp", "version"])
