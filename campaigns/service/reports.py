"""What workers found: accepted once, by the token of the lease, and matched by nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import Table, bindparam, insert, select, update
from sqlalchemy.orm import Session

from campaigns.service import artifacts, leases
from campaigns.service.bodies import Fail, Result
from campaigns.service.core import Known, no_trial, trial_of
from campaigns.service.idempotency import Answer
from campaigns.service.measured import Reading, readings, realised
from campaigns.service.problems import Refused
from campaigns.store.models import Observation, Trial, moved, utc_now
from campaigns.store.store import record

TRIAL: Final = cast(Table, Trial.__table__)
_ROW: Final = select(
    TRIAL.c.id,
    TRIAL.c.index.label("number"),
    TRIAL.c.status,
    TRIAL.c.attempt,
    TRIAL.c.fidelity,
    TRIAL.c.lease_token,
    TRIAL.c.lease_worker,
    TRIAL.c.report,
    TRIAL.c.realised,
).where(TRIAL.c.campaign_id == bindparam("campaign"), TRIAL.c.index == bindparam("index"))
_OBSERVATION: Final = cast(Table, Observation.__table__)
_OBSERVED: Final = (
    select(*(_OBSERVATION.c[c] for c in ("id", "metric", "mean", "sem", "unit", "supersedes_id")))
    .where(_OBSERVATION.c.trial_id == bindparam("trial"))
    .order_by(_OBSERVATION.c.id)
)


def result(session: Session, known: Known, now: datetime, index: int, body: Result) -> Answer:
    """Take in what a worker measured.

    The newest lease of a trial may report, even after it ran out, as long as nobody else was given
    the trial: then its result is as good as any.

    Returns:
        trial, status, token, observations, missing. Where the report is refused for coming too
        late: a problem of status 409, and the data are kept as an event ``report_refused``.

    Raises:
        Refused: The report itself is wrong; nothing is kept.
    """
    row = session.connection().execute(_ROW, {"campaign": known.id, "index": index}).first()
    if row is None:
        raise no_trial(known, index)
    read = readings(known, body.metrics)
    made = realised(known, body.realised)
    kept = artifacts.decoded(body.artifacts)
    told = _told(body, kept)
    if repeated := _repeated(row, body.token, told):
        return repeated
    if why := _too_late(index, row, body.token):
        return refuse(session, known, index, body.token, why, body.model_dump(mode="json"))
    before = standing(session, row.id)
    if not read and not body.partial and not before:
        raise Refused(
            422,
            "the report has no metrics",
            unchanged="the trial",
            hint=f"the campaign wants {', '.join(known.units)}; a trial without an answer ends by "
            "/fail, with the reason",
        )
    source = f"worker {row.lease_worker}" if row.lease_worker else "a worker"
    _, measured = keep(session, row.id, row.fidelity, before, read, source[:200])
    if kept:
        artifacts.keep(session, session.get_one(Trial, row.id), kept)
    missing = [metric for metric in known.units if metric not in measured]
    status = row.status if body.partial else "completed"
    answer = {
        "trial": index,
        "status": status,
        "token": body.token,
        "observations": {
            m: {"mean": o.mean, "sem": o.sem, "unit": o.unit} for m, o in measured.items()
        },
        "missing": missing,
    }
    values: dict[str, Any] = {"lost": 0, "rev": TRIAL.c.rev + 1}
    if made:
        values["realised"] = {**(row.realised or {}), **made}
    if not body.partial:
        values |= moved("completed")
        values["report"] = {"token": body.token, "sha256": told, "answer": answer}
    session.connection().execute(update(TRIAL).where(TRIAL.c.id == row.id).values(values))
    event = _event(row, body, read, missing, made)
    if kept:
        event["artifacts"] = [
            {"name": k.name, "media_type": k.media_type, "sha256": k.sha256} for k in kept
        ]
    record(session, known.id, "trial_measured" if body.partial else "trial_completed", **event)
    return Answer(answer)


def fail(session: Session, known: Known, now: datetime, index: int, body: Fail) -> Answer:
    """Take in that a worker has no result, and whose fault that is.

    Returns:
        trial, status, token; or a problem, as `result`.
    """
    trial = trial_of(session, known, index)
    told = _told(body, [])
    if repeated := _repeated(trial, body.token, told):
        return repeated
    if why := _too_late(index, trial, body.token):
        return refuse(session, known, index, body.token, why, body.model_dump(mode="json"))
    worker = trial.lease_worker
    if body.kind == "lost":
        if trial.status == "running":
            leases.lose(session, known, trial, body.reason)
    elif body.kind == "abandoned":
        trial.move("abandoned", failure=body.reason)
        record(session, known.id, "trial_abandoned", trial=index, reason=body.reason, worker=worker)
    else:
        trial.lost = 0
        trial.move(body.kind, failure=body.reason)
        record(
            session, known.id, "trial_failed", trial=index, attempt=trial.attempt, how=body.kind,
            reason=body.reason, token=body.token, worker=worker,
        )  # fmt: skip
    answer = {"trial": index, "status": trial.status, "token": body.token}
    if body.kind != "lost":
        trial.report = {"token": body.token, "sha256": told, "answer": answer}
    return Answer(answer)


@dataclass(frozen=True)
class Stands:
    """An observation that no other supersedes."""

    id: int
    mean: float
    sem: float | None
    unit: str


def standing(session: Session, trial_id: int) -> dict[str, Stands]:
    """What stands as measured of a trial, by metric."""
    rows = session.connection().execute(_OBSERVED, {"trial": trial_id}).all()
    corrected = {row.supersedes_id for row in rows}
    return {
        row.metric: Stands(row.id, row.mean, row.sem, row.unit)
        for row in rows
        if row.id not in corrected
    }


def keep(
    session: Session,
    trial_id: int,
    fidelity: str | None,
    before: Mapping[str, Stands],
    read: Mapping[str, Reading],
    source: str,
    external_id: str | None = None,
) -> tuple[dict[str, str], dict[str, Stands]]:
    """Write observations of a trial, unless it has them.

    Returns:
        By metric of `read`: added, corrected or repeated; and what stands now.
    """
    done, after = {}, dict(before)
    for metric, r in read.items():
        old = before.get(metric)
        if old is not None and (old.mean, old.sem, old.unit) == (r.mean, r.sem, r.unit):
            done[metric] = "repeated"
            continue
        values = {
            "trial_id": trial_id, "metric": metric, "mean": r.mean, "sem": r.sem, "unit": r.unit,
            "fidelity": fidelity, "source": source, "time": utc_now(),
            "supersedes_id": None if old is None else old.id, "external_id": external_id,
            "raw_value": None, "raw_unit": None, **r.raw,
        }  # fmt: skip
        made = session.connection().execute(insert(_OBSERVATION), values)
        number = cast(tuple[int], made.inserted_primary_key)[0]
        after[metric] = Stands(number, r.mean, r.sem, r.unit)
        done[metric] = "added" if old is None else "corrected"
    return done, after


def refuse(
    session: Session, known: Known, index: int, token: int, why: str, data: dict[str, Any]
) -> Answer:
    """Keep a report that came too late as an event; the answer to it."""
    for file in data.get("artifacts") or ():
        # the text of a file that nobody wants is not kept for ever in the log
        text = file.pop("text") or file.pop("base64") or ""
        file["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    event = record(
        session, known.id, "report_refused", trial=index, token=token, why=why, report=data
    )
    problem = Refused(
        409,
        "the report is refused",
        detail=why,
        unchanged=f"the trial; the report is kept as event {event.id}",
        hint="nothing is to be done; a person may still enter it as an observation",
        kind="report-refused",
        event=event.id,
    )
    return Answer(problem.body(), 409)


def _told(body: Result | Fail, kept: list[artifacts.Kept]) -> str:
    """The hash of what a report says."""
    data = body.model_dump(mode="json", exclude={"token", "artifacts", "seconds"})
    data["artifacts"] = sorted([k.name, k.sha256] for k in kept)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _repeated(trial: Any, token: int, told: str) -> Answer | None:
    """The answer that the very same report was given before."""
    before = trial.report
    if before is None or before["token"] != token or before["sha256"] != told:
        return None
    return Answer(before["answer"], changed=False)


def _too_late(index: int, trial: Any, token: int) -> str | None:
    if token > trial.lease_token:
        return f"lease {token} was never given; the newest of trial {index} is " + str(
            trial.lease_token
        )
    if token < trial.lease_token:
        return f"lease {token} of trial {index} ended, and lease {trial.lease_token} began"
    if trial.status not in ("candidate", "running"):
        return f"trial {index} is {trial.status} already, by another report"
    return None


def _event(
    trial: Any,
    body: Result,
    read: dict[str, Reading],
    missing: list[str],
    made: dict[str, Any],
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "trial": trial.number,
        "attempt": trial.attempt,
        "token": body.token,
        "worker": trial.lease_worker,
        "measurements": {
            m: {"mean": r.mean, "sem": r.sem, "unit": r.unit} | r.raw for m, r in read.items()
        },
    }
    if missing:
        event["missing"] = missing
    if made:
        event["realised"] = made
    if body.seconds is not None:
        event["seconds"] = body.seconds
    if body.provenance is not None:
        event["evaluator"] = body.provenance
    return event
