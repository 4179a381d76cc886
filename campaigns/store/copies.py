"""Copies of a database, made while it is used, and brought back."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

from sqlalchemy import NullPool, create_engine, inspect, make_url, select

from campaigns.errors import MatloopError, UsageError
from campaigns.store.explain import explained
from campaigns.store.models import CampaignRow
from campaigns.store.store import Store


def backup(store: Store, path: Path) -> list[str]:
    """Copy a database to a file, whole, while others write to it.

    Args:
        store: The database.
        path: The file, which must not be there yet: an SQLite database, or PostgreSQL's archive.

    Returns:
        The names of the campaigns in it.

    Raises:
        UsageError: There is such a file, or a PostgreSQL program is missing.
        MatloopError: The copy could not be made.
    """
    if path.exists():
        raise UsageError("there is such a file already", where=str(path), unchanged="that file")
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if store.path:
            # SQLite's own: pages that change meanwhile are copied again
            with sqlite3.connect(store.path) as source, sqlite3.connect(half) as target:
                source.backup(target)
            source.close()
            target.execute("PRAGMA journal_mode=DELETE")
            verdict = target.execute("PRAGMA quick_check").fetchone()[0]
            target.close()
            if verdict != "ok":
                raise MatloopError("the copy is damaged", where=str(path), why=str(verdict),
                                   unchanged="the database", hint="check both disks")  # fmt: skip
        else:
            _run("pg_dump", "--format=custom", f"--file={half}", f"--dbname={_libpq(store.url)}")
        with half.open("rb+") as file:
            os.fsync(file.fileno())
        half.replace(path)
    except (OSError, sqlite3.Error) as error:
        raise MatloopError("the database could not be copied", where=str(path), why=str(error),
                           unchanged="the database") from error  # fmt: skip
    finally:
        half.unlink(missing_ok=True)
    with store.read() as session:
        return list(session.scalars(select(CampaignRow.name).order_by(CampaignRow.id)))


def restore(path: Path, url: str) -> list[str]:
    """Bring a copy back, where no database is.

    Args:
        path: What `backup` made.
        url: Where to: an SQLite file that is not there, or a PostgreSQL database that is empty.

    Returns:
        The names of the campaigns in it.

    Raises:
        UsageError: The copy is not there, or something is where it should go.
        MatloopError: It is damaged, or could not be written.
    """
    if not path.is_file():
        raise UsageError("there is no such copy", where=str(path))
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        target = Path(parsed.database or "").absolute()
        if target.exists():
            raise UsageError(
                "there is a database already",
                where=str(target),
                unchanged="that database",
                hint="move it away, or name another with --db",
            )
        _check_copy(path)
        half = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            shutil.copyfile(path, half)
            with half.open("rb+") as file:
                os.fsync(file.fileno())
            half.replace(target)
        except OSError as error:
            half.unlink(missing_ok=True)
            raise MatloopError("the copy could not be written", where=str(target),
                               why=error.strerror, unchanged="everything") from error  # fmt: skip
    else:
        # tables without a campaign are of a matloop that only looked
        more = ["--clean", "--if-exists"] if _has_tables(url) else []
        _run("pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", *more,
             f"--dbname={_libpq(url)}", str(path))  # fmt: skip
    store = Store(url, create=False)
    with store.read() as session:
        names = list(session.scalars(select(CampaignRow.name).order_by(CampaignRow.id)))
    store.close()
    return names


def _check_copy(path: Path) -> None:
    """See that a file is a whole copy of an SQLite database of ours; it stays as it is.

    Raises:
        MatloopError: It is not.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as copy:
            why = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            copy.execute("SELECT id FROM campaign LIMIT 1")
    except sqlite3.Error as error:
        why = str(error)
    if why != "ok":
        raise MatloopError(
            "this is no whole copy of a matloop database", where=str(path),
            why=" ".join(str(why).split()), unchanged="everything", hint="restore another copy",
        )  # fmt: skip


def _has_tables(url: str) -> bool:
    """Whether a PostgreSQL database has our tables, without a campaign in them.

    Raises:
        UsageError: It has campaigns.
        MatloopError: It cannot be looked at.
    """
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    where = make_url(url).render_as_string(hide_password=True)
    with explained(where), engine.connect() as connection:
        if not inspect(connection).has_table("campaign"):
            return False
        names = connection.scalars(select(CampaignRow.name).limit(3)).all()
    if names:
        raise UsageError(
            "there is a database already", where=where, why=f"it has {', '.join(names)}",
            unchanged="that database", hint="name an empty one with --db: createdb NAME",
        )  # fmt: skip
    return True


def _libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _run(program: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise UsageError(
            f"{program} is not installed",
            hint="it comes with PostgreSQL: apt-get install postgresql-client",
        )
    # the password goes by the environment: others can read a command line
    environment = dict(os.environ)
    hidden = []
    for argument in arguments:
        if argument.startswith("--dbname="):
            at = make_url(argument.removeprefix("--dbname="))
            if at.password:
                environment["PGPASSWORD"] = str(at.password)
                at = at.set(password=None)
            argument = f"--dbname={at.render_as_string(hide_password=False)}"
        hidden.append(argument)
    done = subprocess.run([found, *hidden], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise MatloopError(
            f"{program} failed", why=" ".join(done.stderr.split())[-500:], unchanged="everything"
        )
