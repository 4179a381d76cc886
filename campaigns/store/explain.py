"""What a database's error means for the person, and what to do about it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from campaigns.errors import MatloopError

UNCHANGED: Final = "everything written before; this change was rolled back"

# SQLite makes its shared memory in one piece of this many bytes.
_ROOM: Final = 32 * 1024

# SQLite's primary result codes, by name -> (why, hint)
_SQLITE: Final[dict[str, tuple[str, str]]] = {
    "SQLITE_FULL": (
        "the disk is full",
        "make room on that disk, then run the same command again: it goes on",
    ),
    "SQLITE_NOTADB": (
        "this file is not a database",
        "give another file with --db, or restore this one from a copy",
    ),
    "SQLITE_CORRUPT": (
        "the database is damaged",
        "restore it from a copy; `sqlite3 FILE .recover` saves what can still be read",
    ),
    "SQLITE_READONLY": (
        "it may not be written",
        "make the file and its folder writable (SQLite writes beside it), or choose another --db",
    ),
    "SQLITE_CANTOPEN": (
        "the file cannot be opened, or not beside it the two files SQLite needs",
        "check that the folder exists and that you may write in it",
    ),
    "SQLITE_PERM": ("you may not open it", "check the permissions of the file and its folder"),
    "SQLITE_BUSY": (
        "another program is writing to it and did not finish in time",
        "wait for the other program or stop it, then run the same command again",
    ),
    "SQLITE_LOCKED": (
        "another program is writing to it and did not finish in time",
        "wait for the other program or stop it, then run the same command again",
    ),
    "SQLITE_IOERR": (
        "the disk gave an error while reading or writing",
        "check the disk (`dmesg`); keep the database on a local disk, not on a network share",
    ),
    "SQLITE_TOOBIG": (
        "one value is larger than the database takes",
        "keep files that large outside the database",
    ),
}

# PostgreSQL's SQLSTATE, whole or its class -> (why, hint)
_POSTGRES: Final[dict[str, tuple[str, str]]] = {
    "53100": ("its disk is full", "make room on the server, then run the same command again"),
    "42501": ("this user may not do that there", "ask for rights on the database, or another --db"),
    "3D000": ("there is no database of that name", "create it with `createdb NAME`"),
    "28": ("the server refused the user or the password", "check the user and password in --db"),
    "53": ("the server is out of resources", "try again in a while"),
    "55P03": ("another program holds a lock", "wait for it or stop it, then try again"),
    "40": ("another program changed the same rows", "run the same command again"),
    "57": ("the server is stopping or was stopped", "start it, then run the same command again"),
    "08": ("the connection was lost", "check the server, then run the same command again"),
}


def explain(error: DBAPIError, where: str) -> MatloopError:
    """Say in a person's words what a database's error means.

    Args:
        error: What SQLAlchemy raised.
        where: The database, as the person knows it.

    Returns:
        The error to raise in its stead.
    """
    cause = error.orig
    why = " ".join(str(cause).split())
    hint = "run `matloop doctor`, and keep a copy of the database before anything else"
    sqlite_name = getattr(cause, "sqlite_errorname", None)
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlite_name is not None:
        # an extended code (SQLITE_IOERR_WRITE) starts with its primary one
        primary = "_".join(sqlite_name.split("_")[:2])
        if primary in ("SQLITE_IOERR", "SQLITE_CANTOPEN") and _no_room(Path(where).parent):
            # SQLite maps memory for its log; on a full disk that fails with another code
            primary = "SQLITE_FULL"
        known, hint = _SQLITE.get(primary, ("", hint))
        why = f"{known} ({why})" if known else why
    elif sqlstate is not None:
        known, hint = _POSTGRES.get(sqlstate) or _POSTGRES.get(sqlstate[:2]) or ("", hint)
        why = f"{known} ({why})" if known else why
    elif error.connection_invalidated or "connection" in why:
        hint = "check that the server runs and that host, port, user and password in --db are right"
    return MatloopError(
        "the database could not be used", where=where, why=why, unchanged=UNCHANGED, hint=hint
    )


def _no_room(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < _ROOM


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn what the database raises inside into a `MatloopError`.

    Args:
        where: The database, as the person knows it.

    Raises:
        MatloopError: The database failed.
    """
    try:
        yield
    except DBAPIError as error:
        raise explain(error, where) from error
    except SQLAlchemyError as error:
        raise MatloopError(
            "the database could not be used",
            where=where,
            why=" ".join(str(error).split()),
            unchanged=UNCHANGED,
        ) from error
