"""Alembic's entry point: runs on the connection that `doorward.chat.database` hands over, inside its transaction."""

from alembic import context

from doorward.chat.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
