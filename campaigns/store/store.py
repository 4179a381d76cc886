"""Open a database, and change it in short transactions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    Pool,
    QueuePool,
    create_engine,
    event,
    insert,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.orm import Session

from campaigns.errors import MatloopError, UsageError
from campaigns.store.explain import explained
from campaigns.store.lock import file_lock, postgres_lock, turn
from campaigns.store.migrate import POSTGRES_LOCK, migrate
from campaigns.store.models import CampaignRow, Event, utc_now
from campaigns.strict import strict_json as strict_json

DEFAULT_URL: Final = "sqlite:///matloop.db"
WRITE: Final = "BEGIN IMMEDIATE"


def default_url() -> str:
    """The database meant when none is named: ``MATLOOP_DB``, or ``matloop.db`` in this folder."""
    return os.environ.get("MATLOOP_DB") or DEFAULT_URL


class Store:
    """One matloop database, at this version's schema.

    SQLite runs with a write-ahead log (readers never wait for the runner), foreign keys on, and
    ``synchronous=FULL``: a commit is on the disk when it returns. The runner deletes an
    evaluation's result file once its transaction is committed, so a commit that a power cut could
    undo (``NORMAL`` in WAL mode) would lose the evaluation. The price is an fsync a transaction,
    milliseconds beside evaluations of seconds.

    A SQLite database must lie on a local disk: its write-ahead log needs memory shared between
    processes.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST/NAME``; default: see
            `default_url`.
        create: Whether a missing SQLite file is made.
        timeout: Seconds to wait for another writer.
        pooled: Keep connections open between transactions, for a program of many.

    Raises:
        UsageError: The URL is none, or names no such file.
        MatloopError: The database cannot be used: not a database, damaged, newer, locked,
            read-only, disk full.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        create: bool = True,
        timeout: float = 10.0,
        pooled: bool = False,
    ):
        parsed = _parse(url or default_url())
        self.path: Path | None = None
        if parsed.get_backend_name() == "sqlite":
            self.path = Path(parsed.database or "").absolute()
            # An empty file is a database to SQLite; it may be anything that a person began.
            if not create and not (os.path.isfile(self.path) and os.path.getsize(self.path)):
                raise UsageError(
                    "there is no database",
                    where=str(self.path),
                    unchanged="nothing was made",
                    hint="name it with --db, or start a campaign with `matloop run SPEC`",
                )
        self.url = parsed.render_as_string(hide_password=False)
        self.where = str(self.path) if self.path else parsed.render_as_string(hide_password=True)
        make = _sqlite if self.path else _postgres
        self._engine = make(parsed, timeout)
        with explained(self.where):
            self._prepare()
        if pooled:
            self._engine = make(parsed, timeout, QueuePool)
            event.listen(self._engine, "before_cursor_execute", _count)

    def _prepare(self) -> None:
        if self.path:
            with self._engine.connect() as connection:
                verdict = connection.scalar(text("PRAGMA quick_check(1)"))
            if verdict != "ok":
                raise MatloopError(
                    "the database is damaged",
                    where=self.where,
                    why=" ".join(str(verdict).split()),
                    unchanged="the file; nothing was written",
                    hint="restore it from a copy; `sqlite3 FILE .recover` saves what can be read",
                )
        # SQLite changes a table by making it anew, for which foreign keys must be off; that can
        # only be said outside a transaction, and this connection is closed afterwards.
        begin = ("PRAGMA foreign_keys=OFF", WRITE)
        with self._engine.execution_options(matloop_begin=begin).begin() as connection:
            migrate(connection, self.where)
        if self.path:
            _use_write_ahead_log(self._engine)

    @property
    def _writer(self) -> Engine:
        return self._engine.execution_options(matloop_begin=(WRITE,))

    @property
    def kind(self) -> str:
        """Which: ``sqlite`` or ``postgresql``."""
        return "sqlite" if self.path else "postgresql"

    def writes(self, session: Session) -> int:
        """How many statements that change something a session's connection has made."""
        return int(session.connection().info.get("writes", 0))

    def now(self, session: Session) -> datetime:
        """The time by the database's clock, the only one that leases are reckoned by.

        SQLite is in this process, and so is its clock.
        """
        if self.path:
            return utc_now()
        told: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return told.astimezone(UTC)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one consistent state.

        Raises:
            MatloopError: The database failed.
        """
        with explained(self.where), Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are committed together at the end, or not at all.

        There is one writer at a time, from the start, so what is read inside is still true when it
        is committed: by SQLite's write lock, by an advisory lock on PostgreSQL.

        Raises:
            MatloopError: The database failed; nothing was changed.
        """
        with (
            explained(self.where),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            if not self.path:
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": POSTGRES_LOCK})
            yield session

    def runner_lock(self, campaign: CampaignRow) -> AbstractContextManager[None]:
        """Hold the campaign for this process alone; freed when the process ends, even by SIGKILL.

        Raises:
            MatloopError: Another process holds it.
        """
        if self.path:
            return file_lock(self.results_dir(campaign.name) / "runner.lock", campaign.name)
        key = int(campaign.token[:15], 16)
        return postgres_lock(self._engine, key, campaign.name, self.where)

    def results_dir(self, campaign: str) -> Path:
        """Where evaluations leave their results until they are in the store.

        Beside the SQLite file, in ``<its stem>.results/<campaign>``; with PostgreSQL in the folder
        that ``MATLOOP_RESULTS`` names, or ``matloop.results`` in this folder.
        """
        if self.path:
            named = self.path.suffix in (".db", ".sqlite", ".sqlite3")
            root = self.path.with_name((self.path.stem if named else self.path.name) + ".results")
        else:
            root = Path(os.environ.get("MATLOOP_RESULTS") or "matloop.results").absolute()
        return root / quote(campaign, safe=" ")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def record(session: Session, campaign_id: int, kind: str, /, **payload: Any) -> Event:
    """Write an event, in the transaction of the change it tells of.

    Args:
        session: The session of the change.
        campaign_id: The campaign it belongs to.
        kind: What happened, in two words: ``trial_completed``.
        payload: What there is to say, as strict JSON.

    Returns:
        The event, with its number.
    """
    session.flush()  # what it tells of stands before it
    values = {
        "campaign_id": campaign_id, "kind": kind, "payload": payload, "time": utc_now(),
    }  # fmt: skip
    made = session.connection().execute(insert(Event.__table__), values)  # type: ignore[arg-type]
    number = cast(tuple[int], made.inserted_primary_key)[0]
    told = Event(id=number, **values)
    session.info.setdefault("told", []).append(told)
    return told


def begin_campaign(session: Session, spec: dict[str, Any], text: str) -> CampaignRow:
    """Write a campaign and the event that tells of it, in the session's transaction.

    Args:
        session: Of the transaction.
        spec: As the reader read it.
        text: As it was written.
    """
    row = CampaignRow.of(spec, text)
    session.add(row)
    session.flush()
    record(
        session, row.id, "campaign_created", name=row.name, spec_hash=row.spec_hash,
        content=row.content(),
    )  # fmt: skip
    return row


def _count(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
    if not statement.startswith(("SELECT", "SAVEPOINT", "RELEASE")):
        connection.info["writes"] = connection.info.get("writes", 0) + 1


def _parse(url: str) -> URL:
    hint = "sqlite:///matloop.db for a file, postgresql://USER:PASSWORD@HOST/NAME for a server"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        why = "it names no kind"
        if isinstance(error, ValueError):
            why = "its port is not a number"
        elif "://" not in url:
            hint = f"of a file it is sqlite:///{url}"
        shown = re.sub("//([^:/@]*):[^/]*@", r"//\1:***@", url)  # no password on a terminal
        raise UsageError(
            "this is not a database URL", where=f"--db {shown}", why=why, hint=hint
        ) from error
    backend = parsed.drivername.split("+")[0]
    if backend == "postgres":  # the spelling libpq takes and SQLAlchemy does not
        backend = "postgresql"
    if backend not in ("sqlite", "postgresql"):
        raise UsageError(
            "matloop keeps campaigns in SQLite or PostgreSQL",
            where=f"--db {parsed.render_as_string(hide_password=True)}",
            why=f"{backend!r} is neither",
            hint=hint,
        )
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UsageError(
            "a campaign needs a database that outlives the program",
            where=f"--db {url}",
            why="this URL names one in memory",
            hint=hint,
        )
    return parsed.set(drivername="sqlite" if backend == "sqlite" else "postgresql+psycopg")


def _sqlite(url: URL, timeout: float, pool: type[Pool] = NullPool) -> Engine:
    engine = create_engine(
        url,
        # NullPool, a connection a transaction: none is left open when a program forgets to close.
        poolclass=pool,
        connect_args={"timeout": timeout, "check_same_thread": False},
        json_serializer=strict_json,
    )

    line = Path(f"{Path(url.database or '').absolute()}-turn")

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver would begin transactions late and never around DDL; matloop begins them itself,
        # below.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A transaction that turned from reader to writer could meet another writer's change and
        # fail, so writers lock at once (BEGIN IMMEDIATE); a few pragmas want no transaction at all.
        for begin in connection.get_execution_options().get("matloop_begin", ("BEGIN",)):
            with turn(line, timeout) if begin == WRITE else nullcontext():
                connection.exec_driver_sql(begin)

    return engine


def _use_write_ahead_log(engine: Engine) -> None:
    with engine.connect().execution_options(matloop_begin=()) as connection:
        if connection.scalar(text("PRAGMA journal_mode")) != "wal":
            connection.execute(text("PRAGMA journal_mode=WAL"))


def _postgres(url: URL, timeout: float, pool: type[Pool] = NullPool) -> Engine:
    try:
        return create_engine(
            url,
            poolclass=pool,
            # of a pool: a connection that the server closed meanwhile is made anew
            pool_pre_ping=pool is not NullPool,
            connect_args={
                "connect_timeout": max(2, int(timeout)),
                "options": f"-c lock_timeout={int(timeout * 1000)} -c timezone=UTC",
            },
            json_serializer=strict_json,
        )
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise UsageError(
            "PostgreSQL needs its driver",
            where=url.render_as_string(hide_password=True),
            why=str(error),
            hint="pip install 'matloop[lab]'",
        ) from error
