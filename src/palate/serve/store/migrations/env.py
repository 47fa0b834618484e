"""Alembic environment, which runs migrations in an open transaction."""

from alembic import context

from palate.serve.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
