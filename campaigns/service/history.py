"""Observations without a lease: of a trial there is, or of a design that somebody else chose."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from campaigns.fidelities import HISTORY
from campaigns.service.bodies import Observations
from campaigns.service.core import Known, trial_of
from campaigns.service.idempotency import Answer
from campaigns.service.measured import readings, realised
from campaigns.service.problems import Refused
from campaigns.service.reports import Stands, keep, standing
from campaigns.store.models import Observation, Trial
from campaigns.store.store import record


def take_in(
    session: Session,
    known: Known,
    body: Observations,
    who: str,
    checked: dict[str, Any] | None,
) -> Answer:
    """Take in what was measured, or a design that is to be tried.

    Args:
        session: Of the transaction.
        known: The campaign.
        body: What was sent.
        who: The key's name.
        checked: Of a new design: what `designs.checked` made of it.

    Raises:
        Refused: It contradicts what the store has.
    """
    read = readings(known, body.metrics)
    made = realised(known, body.realised)
    source = body.source or who
    trial = None if body.trial is None else trial_of(session, known, body.trial)
    if trial is None and body.external_id is not None:
        trial = session.scalar(
            select(Trial).where(
                Trial.campaign_id == known.id, Trial.external_id == body.external_id
            )
        )
        if trial is not None and checked is not None and trial.design != checked["design"]:
            raise Refused(
                409,
                f"{body.external_id!r} is another design",
                detail=f"it is trial {trial.index}",
                unchanged="the campaign",
                kind="external-id",
            )
    created = trial is None
    if trial is None:
        assert checked is not None
        trial = _added(session, known, body, source, checked, bool(read))
    elif not read and not made:
        if body.trial is not None:
            raise Refused(422, "the observation has no metrics", unchanged="the trial")
        return Answer(_told(session, known, trial, {}, standing(session, trial.id), False))
    if trial.status == "abandoned":
        raise Refused(409, f"trial {trial.index} is abandoned", unchanged="the trial",
                      kind="status")  # fmt: skip
    if body.fidelity is not None and body.fidelity != trial.fidelity:
        raise Refused(
            409,
            f"trial {trial.index} is at {trial.fidelity or 'no fidelity'}, not {body.fidelity}",
            unchanged="the trial",
            hint="another fidelity of the same design is another trial: send the design",
        )
    if body.supersedes is not None:
        _check_superseded(session, trial, body)
    before = standing(session, trial.id)
    done, measured = keep(session, trial.id, trial.fidelity, before, read, source, body.external_id)
    after = {**(trial.realised or {}), **made} or None
    remade = after != trial.realised
    trial.realised = after
    touched = [metric for metric, what in done.items() if what != "repeated"]
    if touched or (read and trial.status != "completed"):
        kind = "trial_corrected" if trial.status == "completed" else "trial_completed"
        if trial.status != "completed":
            trial.move("completed")
        record(
            session, known.id, kind, trial=trial.index, source=source, attempt=trial.attempt,
            measurements={
                m: {"mean": read[m].mean, "sem": read[m].sem, "unit": read[m].unit} | read[m].raw
                for m in read
            },
            **({"realised": made} if made else {}),
            **({"external_id": body.external_id} if body.external_id else {}),
        )  # fmt: skip
    elif remade:
        record(session, known.id, "trial_realised", trial=trial.index, source=source, realised=made)
    return Answer(_told(session, known, trial, done, measured, created), 201 if created else 200)


def _added(
    session: Session,
    known: Known,
    body: Observations,
    source: str,
    checked: dict[str, Any],
    measured: bool,
) -> Trial:
    """A trial of a design from outside."""
    if body.fidelity is not None and body.fidelity not in known.spec.fidelities:
        raise Refused(
            422,
            f"there is no fidelity {body.fidelity!r}",
            detail=f"the campaign has {', '.join(known.spec.fidelities) or 'none'}",
            unchanged="the campaign",
        )
    index = session.scalar(select(func.count()).where(Trial.campaign_id == known.id)) or 0
    # What was measured elsewhere costs this campaign's budget nothing.
    provenance = {
        "name": checked["name"], "method": HISTORY if measured else "by hand", "by": source,
    }  # fmt: skip
    trial = Trial(
        campaign_id=known.id, index=index, status="candidate", attempt=0,
        design=checked["design"], fidelity=body.fidelity, provenance=provenance,
        external_id=body.external_id,
    )  # fmt: skip
    session.add(trial)
    session.flush()
    record(
        session, known.id, "trial_added", trial=index, by=source, design=checked["design"],
        fidelity=body.fidelity, provenance=provenance, external_id=body.external_id,
    )  # fmt: skip
    return trial


def _check_superseded(session: Session, trial: Trial, body: Observations) -> None:
    """Refuse a correction of what is another trial's, or was corrected meanwhile."""
    old = session.get(Observation, body.supersedes)
    now = None if old is None else standing(session, trial.id).get(old.metric)
    if old is None or old.trial_id != trial.id or old.metric not in body.metrics:
        raise Refused(
            422,
            f"observation {body.supersedes} is not what this corrects",
            detail="it is of another trial or metric, or there is none",
            unchanged="the trial",
        )
    if now is not None and now.id != old.id:
        raise Refused(
            409,
            f"observation {body.supersedes} was corrected meanwhile",
            detail=f"by observation {now.id}",
            unchanged="the trial",
            kind="changed",
        )


def _told(
    session: Session,
    known: Known,
    trial: Trial,
    done: dict[str, str],
    measured: dict[str, Stands],
    created: bool,
) -> dict[str, Any]:
    session.flush()
    return {
        "trial": trial.index,
        "created": created,
        "status": trial.status,
        "rev": trial.rev,
        "external_id": trial.external_id,
        "observations": {
            m: {"id": o.id, "mean": o.mean, "sem": o.sem, "unit": o.unit, "what": done.get(m)}
            for m, o in measured.items()
        },
        "missing": [metric for metric in known.units if metric not in measured],
    }
