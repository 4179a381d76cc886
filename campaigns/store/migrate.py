"""Bring a database to this version's schema, in one transaction, or say why not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from campaigns.errors import MatloopError
from campaigns.store.models import Base

SCRIPTS: Final = Path(__file__).parent / "migrations"
VERSION_TABLE: Final = "matloop_schema"

# Any number that no other program is likely to lock: programs that write to one PostgreSQL
# database, or meet a fresh one, take turns.
POSTGRES_LOCK: Final = 0x6D61746C6F6F70


def configuration(connection: Connection, scripts: Path = SCRIPTS) -> Config:
    """Alembic's configuration for one open connection."""
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config


def present_revision(connection: Connection) -> str | None:
    """The schema revision a database has; None for a fresh one."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def migrate(connection: Connection, where: str, scripts: Path = SCRIPTS) -> None:
    """Bring a database to this version's schema.

    Runs inside the caller's transaction: killed half-way, the database is as it was.

    Args:
        connection: Open, in a transaction that may write.
        where: The database, as the person knows it.
        scripts: The folder of the migrations.

    Raises:
        MatloopError: A newer matloop wrote it, or another program's tables are in it.
    """
    config = configuration(connection, scripts)
    revisions = ScriptDirectory.from_config(config)
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": POSTGRES_LOCK})
    present = present_revision(connection)
    if present == revisions.get_current_head():
        return
    if present is None:
        _check_no_foreign_tables(connection, where)
    elif present not in {script.revision for script in revisions.walk_revisions()}:
        raise MatloopError(
            "the database was written by a newer matloop",
            where=where,
            why=f"its schema has revision {present}; this matloop knows up to "
            f"{revisions.get_current_head()}",
            unchanged="the whole database",
            hint="upgrade matloop (`pip install --upgrade matloop`), or choose another --db",
        )
    command.upgrade(config, "head")


def _check_no_foreign_tables(connection: Connection, where: str) -> None:
    tables = set(inspect(connection).get_table_names())
    if connection.dialect.name == "postgresql":
        # a PostgreSQL database may be shared with others, as long as no name is taken
        tables &= set(Base.metadata.tables)
    if tables:
        raise MatloopError(
            "this database belongs to another program",
            where=where,
            why=f"it has tables that matloop did not make: {', '.join(sorted(tables)[:5])}",
            unchanged="the whole database",
            hint="choose another --db",
        )
