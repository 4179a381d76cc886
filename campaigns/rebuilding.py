"""A new database from the event log of one whose tables are damaged."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.orm import Session

from campaigns.errors import UsageError
from campaigns.replaying import Replayed, ReplayedCampaign, replay
from campaigns.spec import Spec
from campaigns.store import Store
from campaigns.store.models import (
    ApiToken,
    Artifact,
    Base,
    Blob,
    CampaignRow,
    Event,
    GeneratorVersion,
    IngestedFile,
    Observation,
    Trial,
    utc_now,
)

AS_THEY_ARE: Final = (GeneratorVersion, ApiToken, Blob, IngestedFile, Event)
"""Tables that no event tells the whole of; they are copied, events among them."""


def rebuild(source: Store, target: Store) -> dict[str, int]:
    """Fill an empty database from another's events.

    Campaigns, trials with their leases, and observations are what the events tell. Keys, generator
    versions, the files of evaluations and the events themselves are copied. What can be computed
    again (fits, views, jobs, workers, answers to requests) is left out.

    Args:
        source: Is only read.
        target: Has no campaign.

    Returns:
        How many rows of each table were written.

    Raises:
        UsageError: The target has a campaign.
        MatloopError: A database failed; nothing was written.
    """
    with source.read() as old, target.write() as new:
        if new.scalar(select(func.count()).select_from(CampaignRow)):
            raise UsageError(
                "there is a database already", where=target.where, unchanged="that database",
                hint="name another with --into",
            )  # fmt: skip
        for row in old.scalars(select(CampaignRow).order_by(CampaignRow.id)):
            _campaign(old, new, row, replay(old, row.id))
        for model in AS_THEY_ARE:
            _copy(old, new, model)
        if target.kind == "postgresql":
            _count_on(new)
        return {
            table.name: new.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


def _campaign(old: Session, new: Session, row: CampaignRow, told: ReplayedCampaign) -> None:
    spec = told.spec or row.spec
    made = CampaignRow(
        id=row.id, name=row.name, token=told.token or row.token, created=row.created,
        spec=spec, spec_text=told.text or row.spec_text, spec_hash=told.spec_hash or row.spec_hash,
        stopped=told.stopped, state=told.state or row.state,
    )  # fmt: skip
    new.add(made)
    new.flush()
    now = utc_now()
    seconds = Spec.model_validate(spec).lease.seconds()
    for index, trial in sorted(told.trials.items()):
        kept = old.scalar(select(Trial).where(Trial.campaign_id == row.id, Trial.index == index))
        written = _trial(trial, kept, index, now, seconds)
        written.campaign_id = row.id
        new.add(written)
        new.flush()
        _observe(new, written.id, trial)
        for file in () if kept is None else kept.artifacts:
            new.add(Artifact(trial_id=written.id, **_values(file, but=("id", "trial_id"))))


def _trial(told: Replayed, kept: Trial | None, index: int, now: datetime, seconds: float) -> Trial:
    design = told.design if told.design is not None or kept is None else kept.design
    leased = told.status == "running" and told.worker is not None
    return Trial(
        index=index, status=told.status, attempt=told.attempt, design=design or {},
        fidelity=told.fidelity, provenance=told.provenance or (kept.provenance if kept else {}),
        failure=told.failure, created=told.created or now, started=told.started, ended=told.ended,
        lease_token=told.token, lease_worker=told.worker, lost=told.lost,
        # whoever has it may go on: until when is in no event
        lease_seconds=seconds if leased else None,
        lease_expires=now + timedelta(seconds=seconds) if leased else None,
        approved=told.approved, held=told.held, realised=told.realised,
        external_id=told.external_id,
    )  # fmt: skip


def _observe(new: Session, trial_id: int, told: Replayed) -> None:
    last: dict[str, int] = {}
    for one in told.observations:
        row = Observation(trial_id=trial_id, supersedes_id=last.get(one.metric), **vars(one))
        new.add(row)
        new.flush()
        last[one.metric] = row.id


def _copy(old: Session, new: Session, model: type[Base]) -> None:
    table: Table = model.__table__  # type: ignore[assignment]
    for rows in old.execute(select(table)).mappings().partitions(500):
        new.execute(insert(table), [dict(row) for row in rows])


def _values(row: Base, but: tuple[str, ...]) -> dict[str, Any]:
    return {c.key: getattr(row, c.key) for c in row.__table__.columns if c.key not in but}


def _count_on(new: Session) -> None:
    """Tell PostgreSQL which numbers are taken."""
    for model in (CampaignRow, GeneratorVersion, IngestedFile, Event):
        name = model.__tablename__
        new.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'),"
                f" (SELECT coalesce(max(id), 0) + 1 FROM {name}), false)"
            )
        )
