"""One runner per campaign: a lock that dies with its process, however the process dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from campaigns.errors import MatloopError
from campaigns.store.explain import explained


def _taken(campaign: str, where: str, who: str) -> MatloopError:
    return MatloopError(
        f"campaign {campaign!r} is being run by another matloop",
        where=where,
        why=who,
        unchanged="the campaign; the other program goes on",
        hint="wait for it, or stop it (Ctrl-C or `kill`), then run the same command again",
    )


@contextmanager
def file_lock(path: Path, campaign: str) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel frees it when the process ends, even by SIGKILL.

    Args:
        path: The lock file; made if missing, never removed (removing one lets two processes lock
            two files of one name).
        campaign: The campaign's name, for the message.

    Raises:
        MatloopError: Another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Python opens files so that a program started from this one does not inherit them: no child
        # keeps the lock
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise MatloopError(
            "the campaign's folder could not be written",
            where=str(path.parent),
            why=error.strerror or str(error),
            unchanged="the campaign",
            hint="check the disk and the folder's permissions",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 100, 0).decode("ascii", "replace").strip()
            raise _taken(campaign, str(path), holder or "it holds the lock") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def turn(path: Path, seconds: float) -> Iterator[None]:
    """Wait in line for SQLite's one writer's place, and hold the line while the place is taken.

    SQLite lets who waits look again after ever longer pauses, so a program that writes without a
    pause keeps all others out. Whoever takes the place within this lock cannot be overtaken by who
    had it before. It is a courtesy: after the time, or where there can be no such file, SQLite's
    own lock decides, and says what is wrong.

    Args:
        path: The lock file; made if missing, never removed.
        seconds: How long to wait.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        yield
        return
    try:
        ends = time.monotonic() + seconds
        while not _try(descriptor) and time.monotonic() < ends:
            time.sleep(0.0005)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def postgres_lock(engine: Engine, key: int, campaign: str, where: str) -> Iterator[None]:
    """Hold a PostgreSQL advisory lock; the server frees it when the connection ends.

    Args:
        engine: The database.
        key: 63 bits, one per campaign.
        campaign: The campaign's name, for the message.
        where: The database, as the person knows it.

    Raises:
        MatloopError: Another connection holds it, or the database failed.
    """
    with explained(where):
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        held = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key})
    try:
        if not held:
            raise _taken(campaign, where, "it holds the campaign's lock on the server")
        yield
    finally:
        # Closing the server connection frees the lock, giving it back to the pool would not; but
        # the server takes a moment to notice, in which the next runner would be turned away.
        if held:
            with suppress(DBAPIError):  # the connection is lost, and the lock with it
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
        connection.invalidate()
        connection.close()
