"""Alembic's entry: migrate on the connection that `processor.store.migrate` hands over."""

from alembic import context

from processor.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
