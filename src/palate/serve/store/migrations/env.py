"""What Alembic runs: the migrations, in the transaction that was opened for them."""

from alembic import context

from palate.serve.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
