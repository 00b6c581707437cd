"""What Alembic runs for each command: on the connection, and in the transaction, that ``store.migrate`` opened."""

from alembic import context

from portward.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
context.run_migrations()
