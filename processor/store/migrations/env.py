"""The entry point of Alembic. It migrates on the connection of `processor.store.migrating`."""

from alembic import context

from processor.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
