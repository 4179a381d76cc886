"""Alembic's environment: matloop runs it itself, on a connection it opened."""

from alembic import context

from campaigns.store.models import Base

VERSION_TABLE = "matloop_schema"

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
