"""Leases: who tries what, and until when. Functions of a session; they know no HTTP.

A trial's token grows with every lease. What comes with an older one is of somebody who was given
up: it is refused, and kept as an event. All times are of the database's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.orm import Session

from campaigns.handout import flat_design
from campaigns.service.core import Known, no_trial
from campaigns.service.problems import Refused
from campaigns.spec_changes import completed
from campaigns.spec_evaluate import Each
from campaigns.spec_evaluators import Workers
from campaigns.store.models import Trial, Worker, moved
from campaigns.store.store import record

SEEN: Final = timedelta(seconds=10)
"""A worker's sign of life is written at most so often."""

LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

TRIAL: Final = cast(Table, Trial.__table__)
_T: Final = TRIAL.c
_WAITING: Final = (
    select(
        _T.id, _T.index.label("number"), _T.attempt, _T.lease_token, _T.design, _T.fidelity,
        Trial.provenance["name"].as_string().label("name"),
    )
    .where(_T.status == "candidate", _T.held.is_(False))
    .order_by(_T.index)
)  # fmt: skip
_LEASE: Final = (
    update(TRIAL)
    .where(_T.id == bindparam("of"))
    .values(attempt=_T.attempt + 1, lease_token=_T.lease_token + 1, rev=_T.rev + 1)
)
_HELD: Final = select(
    _T.id, _T.status, _T.lease_token, _T.lease_seconds, _T.lease_worker, _T.held
).where(_T.campaign_id == bindparam("campaign"), _T.index == bindparam("index"))


def expire(session: Session, known: Known, now: datetime) -> list[int]:
    """Make candidates again of the trials whose lease has run out; their numbers."""
    late = session.scalars(
        select(Trial)
        .where(Trial.campaign_id == known.id, Trial.status == "running", Trial.lease_expires < now)
        .order_by(Trial.index)
    ).all()
    for trial in late:
        lose(session, known, trial, "the worker was not heard of in time")
    return [trial.index for trial in late]


def lose(session: Session, known: Known, trial: Trial, reason: str) -> None:
    """End a lease without an answer: the trial is a candidate again, and no design is blamed."""
    worker, token = trial.lease_worker, trial.lease_token
    trial.move("candidate")
    trial.lost += 1
    record(
        session, known.id, "lease_lost", trial=trial.index, attempt=trial.attempt, token=token,
        worker=worker, reason=reason,
    )  # fmt: skip
    if trial.lost >= known.spec.lease.attempts and not trial.held:
        trial.held = True
        record(
            session, known.id, "trial_held", trial=trial.index,
            reason=f"{trial.lost} leases in a row ended without an answer",
        )  # fmt: skip


def lease(
    session: Session,
    known: Known,
    now: datetime,
    worker: str,
    n: int = 1,
    ttl: float | None = None,
    fidelity: str | None = None,
    capabilities: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Give a worker up to n trials that wait.

    Args:
        session: Of the transaction.
        known: The campaign.
        now: By the database's clock.
        worker: Who asks.
        n: How many at most.
        ttl: Seconds until each ends without a heartbeat; default: the spec's.
        fidelity: Only trials at this one.
        capabilities: Only trials at one of these, or at none.

    Returns:
        The leases, as the service's contract has them, without ``structures``.
    """
    seen(session, known, now, worker, capabilities)
    _expire_once(session, known, now)
    if known.stopped or known.state != "open":
        return []
    query = _WAITING.where(_T.campaign_id == known.id)
    if known.spec.approve:
        query = query.where(_T.approved.is_(True))
    if fidelity is not None:
        query = query.where(_T.fidelity == fidelity)
    if capabilities is not None and known.spec.fidelities:
        query = query.where(_T.fidelity.in_(list(capabilities)))
    seconds = known.spec.lease.seconds() if ttl is None else ttl
    expires = now + timedelta(seconds=seconds)
    given = []
    connection = session.connection()  # without the ORM, whose work would be half of a lease's
    for row in connection.execute(query.limit(n)).all():
        connection.execute(
            _LEASE,
            {
                **moved("running"), "of": row.id, "lease_worker": worker,
                "lease_seconds": seconds, "lease_expires": expires,
            },
        )  # fmt: skip
        told = {
            "trial": row.number,
            "campaign": known.name,
            "token": row.lease_token + 1,
            "attempt": row.attempt + 1,
            "expires_at": expires.isoformat(),
            "ttl_s": seconds,
            "name": row.name,
            "fidelity": row.fidelity,
        }
        record(
            session, known.id, "trial_started", trial=row.number, attempt=told["attempt"],
            name=row.name, token=told["token"], worker=worker,
        )  # fmt: skip
        given.append(told | _task(known, row.number, row.design))
    return given


def _expire_once(session: Session, known: Known, now: datetime) -> None:
    """Look for leases that ran out: once in a transaction, however many ask for trials in it."""
    done: set[int] = session.info.setdefault("expired", set())
    if known.id not in done:
        done.add(known.id)
        expire(session, known, now)


def _task(known: Known, index: int, design: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be done of a trial."""
    from campaigns.campaign import derived_seed

    design = completed(known.spec, design)
    evaluate = known.spec.evaluate
    limits = (
        {"time_limit_s": evaluate.seconds(), "memory_limit_bytes": evaluate.memory_bytes()}
        if isinstance(evaluate, Workers | Each)
        else {}
    )
    return {
        "params": flat_design(design),
        "design": design,
        "metrics_wanted": [{"name": name, "unit": unit} for name, unit in known.units.items()],
        "evaluate": known.spec.evaluator_config() | limits,
        "seed": derived_seed(known.spec.seed, index, 1),
    }


def heartbeat(
    session: Session,
    known: Known,
    now: datetime,
    index: int,
    token: int,
    progress: float | None = None,
    note: str | None = None,
) -> dict[str, Any]:
    """Prolong a lease.

    Returns:
        ``expires_at``, and ``cancel``: whether the worker should stop what it does.

    Raises:
        Refused: The lease is another's by now, or the trial has ended.
    """
    row = session.execute(_HELD, {"campaign": known.id, "index": index}).first()
    if row is None:
        raise no_trial(known, index)
    if row.status != "running" or row.lease_token != token or row.lease_seconds is None:
        raise Refused(
            409,
            "the lease is lost",
            detail=f"the trial is {row.status}"
            if row.status != "running"
            else f"lease {token} ended, and lease {row.lease_token} began",
            unchanged="the trial",
            hint="stop, and ask for another trial; a result that is there may still be sent",
            kind="lease-lost",
            trial_status=row.status,
            newest=row.lease_token,
        )
    expires = now + timedelta(seconds=row.lease_seconds)
    told = {"lease_progress": progress} if progress is not None else {}
    more = {"lease_note": note} if note is not None else {}
    # no new `rev`: a person who decides on a trial need not care
    session.execute(
        update(TRIAL).where(_T.id == row.id).values(lease_expires=expires, **told, **more)
    )
    if row.lease_worker:
        seen(session, known, now, row.lease_worker, None)
    return {"expires_at": expires.isoformat(), "cancel": known.stopped or row.held}


def seen(
    session: Session,
    known: Known,
    now: datetime,
    name: str,
    capabilities: Sequence[str] | None,
) -> None:
    """Note that a worker is alive, unless that was noted a moment ago."""
    noted: dict[tuple[int, str], datetime] = known.noted
    if capabilities is None and now - noted.get((known.id, name), LONG_AGO) < SEEN:
        return
    if now - noted.get((known.id, name), LONG_AGO) < timedelta(0):
        noted.clear()  # the database's clock was set back
    noted[known.id, name] = now
    if len(noted) > 10_000:
        noted.clear()
    row = session.scalar(select(Worker).where(Worker.campaign_id == known.id, Worker.name == name))
    if row is None:
        session.add(
            Worker(
                campaign_id=known.id, name=name, capabilities=list(capabilities or ()),
                last_seen=now,
            )
        )  # fmt: skip
    else:
        row.last_seen = now
        if capabilities is not None:
            row.capabilities = list(capabilities)
    session.flush()
