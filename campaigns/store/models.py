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

from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates

STATUSES: Final = ("candidate", "running", "completed", "failed", "abandoned")
FINISHED: Final = ("completed", "failed", "abandoned")

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    # completed and failed straight from candidate: a laboratory answers without telling us it began
    "candidate": frozenset({"running", "completed", "failed", "abandoned"}),
    # back to candidate: the runner was killed or interrupted, so the evaluation is made again
    "running": frozenset({"candidate", "completed", "failed", "abandoned"}),
    "completed": frozenset({"abandoned"}),
    # a failed trial may be answered later after all, by hand
    "failed": frozenset({"completed", "abandoned"}),
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
            failure: Why the trial failed, one line; only with ``failed``.

        Raises:
            IllegalTransition: The new status cannot follow the present one.
        """
        self.status = status
        self.failure = failure if status in ("failed", "abandoned") else None
        if status == "running":
            self.attempt += 1
            self.started = utc_now()
        elif status == "candidate":
            self.started = None
        else:
            self.ended = utc_now()


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
