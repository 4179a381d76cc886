"""The tables, as SQLAlchemy 2 typed models.

Rules the schema itself holds:

- ``observation`` and ``event`` rows are never updated or deleted: triggers refuse it, whoever asks
  (see ``migrations/versions``). A corrected value is a new observation that ``supersedes`` the old
  one.
- a trial's status moves only along `TRANSITIONS`.
- times are UTC; a naive time is refused.
- JSON is strict: NaN and infinity never enter a column.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import uuid4

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates

from campaigns.statuses import FAILED as FAILED
from campaigns.statuses import FINISHED as FINISHED
from campaigns.statuses import STATUSES as STATUSES
from campaigns.strict import strict_json

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    # completed and failed straight from candidate: a laboratory answers without telling us it began
    "candidate": frozenset({"running", "completed", "failed", "infeasible", "abandoned"}),
    # back to candidate: the runner was killed or interrupted, or a lease was lost, so the
    # evaluation is made again
    "running": frozenset({"candidate", "completed", "failed", "infeasible", "abandoned"}),
    "completed": frozenset({"abandoned"}),
    # a failed trial may be answered later after all, by hand
    "failed": frozenset({"completed", "infeasible", "abandoned"}),
    "infeasible": frozenset({"completed", "failed", "abandoned"}),
    "abandoned": frozenset(),
}


class IllegalTransition(ValueError):
    """A trial was asked to move to a status that cannot follow the one it has."""


def utc_now() -> datetime:
    """The time now, in UTC, with its zone."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC on every database; SQLite has no zones, so it is stored there without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time; write UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value!r}")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give UTC back, with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables; constraints get names, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {dict[str, Any]: JSON, datetime: UtcDateTime}


class CampaignRow(Base):
    """One design problem pursued under a budget."""

    __tablename__ = "campaign"
    __table_args__ = (UniqueConstraint("name"), UniqueConstraint("token"))

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    # Names the files of this campaign's evaluations. The number alone would not do: a database that
    # was deleted and made anew counts from 1 again, beside the result files of its former life.
    token: Mapped[str] = mapped_column(String(32))
    spec_text: Mapped[str] = mapped_column(Text)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec_hash: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=utc_now)
    # The emergency stop: no trial is leased, and who holds one is told to cancel.
    stopped: Mapped[bool] = mapped_column(Boolean, default=False)
    # What the stop rules said last: open, paused (a person is asked) or ended.
    state: Mapped[str] = mapped_column(String(16), default="open")
    # When the engine last looked at the campaign, and what it did or waits for.
    engine_seen: Mapped[datetime | None]
    engine_says: Mapped[str | None] = mapped_column(Text)

    @classmethod
    def of(cls, spec: dict[str, Any], text: str) -> CampaignRow:
        """A new campaign.

        Args:
            spec: Its spec as strict JSON.
            text: The spec as it was written.
        """
        return cls(
            name=spec["campaign"], token=uuid4().hex, spec_text=text, spec=spec,
            spec_hash=hashlib.sha256(strict_json(spec).encode()).hexdigest(),
        )  # fmt: skip

    def content(self) -> dict[str, Any]:
        """What an event keeps of it, so that it can be made again from events alone."""
        return {"spec": self.spec, "text": self.spec_text, "token": self.token}


class GeneratorVersion(Base):
    """One immutable version of a generator, named by the hash of its weights and recipe."""

    __tablename__ = "generator_version"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[str] = mapped_column(String(128))
    parent: Mapped[str | None] = mapped_column(String(128))
    card: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(default=utc_now)


class SurrogateFit(Base):
    """One fit of the surrogate: of how many trials, its report, where the next may start."""

    __tablename__ = "surrogate_fit"
    __table_args__ = (Index(None, "campaign_id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    trials: Mapped[int] = mapped_column(Integer)
    report: Mapped[dict[str, Any]] = mapped_column(JSON)
    warm_start: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(default=utc_now)


class Trial(Base):
    """A design with a status, in Ax's words, and where it came from."""

    __tablename__ = "trial"
    __table_args__ = (
        UniqueConstraint("campaign_id", "index"),
        UniqueConstraint("campaign_id", "external_id"),
        Index(None, "campaign_id", "status", "index"),
        CheckConstraint(f"status IN ({', '.join(map(repr, STATUSES))})", name="status_known"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    index: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(16), default="candidate")
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    design: Mapped[dict[str, Any]] = mapped_column(JSON)
    # Where fidelities have names: at which the design is tried. None = at the one that is sought.
    fidelity: Mapped[str | None] = mapped_column(String(100))
    provenance: Mapped[dict[str, Any]] = mapped_column(JSON)
    generator_version_id: Mapped[int | None] = mapped_column(ForeignKey("generator_version.id"))
    surrogate_fit_id: Mapped[int | None] = mapped_column(ForeignKey("surrogate_fit.id"))
    failure: Mapped[str | None] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(default=utc_now)
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    # The lease: a token that grows with each, who holds it, and until when. A trial that runs
    # without a time of expiry is evaluated by the runner itself.
    lease_token: Mapped[int] = mapped_column(Integer, default=0)
    lease_worker: Mapped[str | None] = mapped_column(String(200))
    lease_expires: Mapped[datetime | None]
    lease_seconds: Mapped[float | None] = mapped_column(Double)
    # Leases in a row that ended without an answer.
    lost: Mapped[int] = mapped_column(Integer, default=0)
    lease_progress: Mapped[float | None] = mapped_column(Double)
    lease_note: Mapped[str | None] = mapped_column(String(500))
    # A person's word: None = nobody was asked yet.
    approved: Mapped[bool | None] = mapped_column(Boolean)
    held: Mapped[bool] = mapped_column(Boolean, default=False)
    # What was really made, where that differs from what was asked for.
    realised: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # The report that was accepted: its token, its hash, and the answer that was given.
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # Whoever added the trial by hand knows it by this.
    external_id: Mapped[str | None] = mapped_column(String(200))
    # Grows with each change of this row.
    rev: Mapped[int] = mapped_column(Integer)

    __mapper_args__ = {"version_id_col": rev}  # noqa: RUF012 - as SQLAlchemy declares it

    observations: Mapped[list[Observation]] = relationship(
        back_populates="trial", order_by="Observation.id"
    )
    artifacts: Mapped[list[Artifact]] = relationship(order_by="Artifact.id")

    @validates("status")
    def _check_status(self, _key: str, status: str) -> str:
        current = self.status
        if status not in STATUSES:
            raise IllegalTransition(
                f"{status!r} is no trial status; there are {', '.join(STATUSES)}"
            )
        if current is not None and status not in TRANSITIONS[current]:
            after = ", ".join(sorted(TRANSITIONS[current])) or "nothing"
            raise IllegalTransition(
                f"trial {self.index} is {current}; {status} cannot follow it ({after} can)"
            )
        return status

    def move(self, status: str, *, failure: str | None = None) -> None:
        """Move to another status and set the times that belong to it.

        Args:
            status: The new status.
            failure: Why the trial failed, one line; only with ``failed``, ``infeasible`` and
                ``abandoned``.

        Raises:
            IllegalTransition: The new status cannot follow the present one.
        """
        for column, value in moved(status, failure).items():
            setattr(self, column, value)
        if status == "running":
            self.attempt += 1


def moved(status: str, failure: str | None = None) -> dict[str, Any]:
    """The columns of a trial that belong to its status, as they are once it moved there.

    Its ``attempt`` is not among them: it grows by one with each move to ``running``.
    """
    values: dict[str, Any] = dict.fromkeys(
        ("lease_worker", "lease_expires", "lease_progress", "lease_note")
    )
    values |= {"status": status, "failure": failure if status in (*FAILED, "abandoned") else None}
    if status in ("running", "candidate"):
        values["started"] = utc_now() if status == "running" else None
    else:
        values["ended"] = utc_now()
    return values


class Observation(Base):
    """What was measured. Never changed or deleted: a correction supersedes it."""

    __tablename__ = "observation"
    __table_args__ = (
        UniqueConstraint("supersedes_id"),
        CheckConstraint("sem IS NULL OR sem >= 0", name="sem_not_negative"),
        Index(None, "trial_id", "metric"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trial.id"))
    metric: Mapped[str] = mapped_column(String(200))
    mean: Mapped[float] = mapped_column(Double)
    sem: Mapped[float | None] = mapped_column(Double)
    unit: Mapped[str] = mapped_column(String(100))
    fidelity: Mapped[str | None] = mapped_column(String(100))
    source: Mapped[str] = mapped_column(String(200))
    time: Mapped[datetime] = mapped_column(default=utc_now)
    supersedes_id: Mapped[int | None] = mapped_column(ForeignKey("observation.id"))
    # As it was reported, where that was in another unit than the campaign's.
    raw_value: Mapped[float | None] = mapped_column(Double)
    raw_unit: Mapped[str | None] = mapped_column(String(100))
    external_id: Mapped[str | None] = mapped_column(String(200))

    trial: Mapped[Trial] = relationship(back_populates="observations")


class Artifact(Base):
    """A file an evaluation left: its text or a path to it, and the hash of its content."""

    __tablename__ = "artifact"
    __table_args__ = (
        CheckConstraint("(text IS NULL) <> (path IS NULL)", name="text_or_path"),
        Index(None, "trial_id"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trial.id"))
    name: Mapped[str] = mapped_column(String(200))
    media_type: Mapped[str] = mapped_column(String(100))
    text: Mapped[str | None] = mapped_column(Text)
    path: Mapped[str | None] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=utc_now)


class IngestedFile(Base):
    """The content of a results file that was taken in, so that the same content twice is once."""

    __tablename__ = "ingested_file"
    __table_args__ = (UniqueConstraint("campaign_id", "sha256"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    sha256: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)
    time: Mapped[datetime] = mapped_column(default=utc_now)


class Event(Base):
    """What happened, in the transaction of the change it tells of. Never changed or deleted."""

    __tablename__ = "event"
    __table_args__ = (Index(None, "campaign_id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    time: Mapped[datetime] = mapped_column(default=utc_now)
    kind: Mapped[str] = mapped_column(String(100))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)


class Blob(Base):
    """The bytes of artifacts that are no text, each once; their path is ``blob:SHA256``."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class ApiToken(Base):
    """A key to the service: its hash, what it may do, and where."""

    __tablename__ = "api_token"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    hash: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(200))
    campaign_id: Mapped[int | None] = mapped_column(ForeignKey("campaign.id"))
    created: Mapped[datetime] = mapped_column(default=utc_now)
    expires: Mapped[datetime | None]
    revoked: Mapped[datetime | None]


class Idempotency(Base):
    """The answer to a request that changed something, kept in the transaction of its change."""

    __tablename__ = "idempotency"
    __table_args__ = (UniqueConstraint("caller", "key"), Index(None, "created"))

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    caller: Mapped[str] = mapped_column(String(32))
    key: Mapped[str] = mapped_column(String(200))
    body_hash: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(Integer)
    answer: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(default=utc_now)


class Worker(Base):
    """Who asked for trials of a campaign, and when last."""

    __tablename__ = "worker"
    __table_args__ = (UniqueConstraint("campaign_id", "name"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    name: Mapped[str] = mapped_column(String(200))
    capabilities: Mapped[list[str]] = mapped_column(JSON)
    last_seen: Mapped[datetime] = mapped_column(default=utc_now)


class Job(Base):
    """Something that the engine is asked to do."""

    __tablename__ = "job"
    __table_args__ = (Index(None, "campaign_id", "status"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    kind: Mapped[str] = mapped_column(String(40))
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(String(16), default="queued")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created: Mapped[datetime] = mapped_column(default=utc_now)
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]


class View(Base):
    """What the engine computed of a campaign for people to look at, by name."""

    __tablename__ = "view"
    __table_args__ = (UniqueConstraint("campaign_id", "name"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    name: Mapped[str] = mapped_column(String(100))
    # The last event that it knows of.
    rev: Mapped[int] = mapped_column(Integer)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(default=utc_now)
