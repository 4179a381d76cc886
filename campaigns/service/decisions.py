"""A person's word: which trials are made, whether a campaign goes on. Functions of a session."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy.orm import Session

from campaigns import stopping
from campaigns.service.core import Known, trial_of
from campaigns.service.idempotency import Answer
from campaigns.service.problems import Refused
from campaigns.store.models import CampaignRow
from campaigns.store.store import record

Word = Literal["approve", "reject", "hold", "release"]


def decide(
    session: Session,
    known: Known,
    index: int,
    word: Word,
    who: str,
    reason: str | None = None,
    rev: int | None = None,
) -> Answer:
    """Approve, reject, hold or release a trial.

    A trial that is rejected is abandoned: whoever tries it loses the lease. One that is held is
    given to nobody; whoever has it is told to cancel.

    Args:
        session: Of the transaction.
        known: The campaign.
        index: The trial.
        word: What is decided.
        who: Decides.
        reason: For the record.
        rev: Of the trial as the person saw it.

    Raises:
        Refused: The trial changed since, or is past deciding.
    """
    trial = trial_of(session, known, index)
    if rev is not None and rev != trial.rev:
        raise Refused(
            409,
            "the trial has changed since you looked",
            detail=f"its rev is {trial.rev} by now, not {rev}: it is {trial.status}",
            unchanged="the trial",
            hint="look again, and decide then",
            kind="changed",
            rev=trial.rev,
        )
    open_ = trial.status in ("candidate", "running")
    may = open_ if word != "reject" else trial.status != "abandoned"
    if not may:
        raise Refused(
            409,
            f"the trial is {trial.status}: it is past that",
            unchanged="the trial",
            kind="status",
            trial_status=trial.status,
        )
    before = (trial.status, trial.approved, trial.held)
    told: dict[str, Any] = {"trial": index, "by": who}
    if reason:
        told["reason"] = reason
    if word == "approve":
        trial.approved = True
        kind = "trial_approved"
    elif word == "reject":
        trial.approved = False
        trial.move("abandoned", failure=reason or f"rejected by {who}")
        kind, told["reason"] = "trial_abandoned", trial.failure
    elif word == "hold":
        trial.held = True
        kind = "trial_held"
    else:
        trial.held, trial.lost = False, 0
        kind = "trial_released"
    changed = before != (trial.status, trial.approved, trial.held)
    if changed:
        record(session, known.id, kind, **told)
    session.flush()
    answer = {
        "trial": index, "status": trial.status, "approved": trial.approved, "held": trial.held,
        "rev": trial.rev,
    }  # fmt: skip
    return Answer(answer)


def stop(session: Session, known: Known, on: bool, who: str, reason: str | None) -> Answer:
    """The emergency stop: no trial is given out, and who has one is told to cancel; or its end."""
    row = session.get_one(CampaignRow, known.id)
    session.info.pop("campaigns", None)  # it will be another
    if row.stopped != on:
        row.stopped = on
        kind = "campaign_stopped" if on else "campaign_resumed"
        record(session, known.id, kind, by=who, **({"reason": reason} if reason else {}))
    return Answer({"campaign": known.name, "stopped": on})


def answer(session: Session, known: Known, go_on: bool, who: str) -> Answer:
    """Answer a campaign that paused to ask whether to go on.

    Raises:
        Refused: It asks nothing.
    """
    row = session.get_one(CampaignRow, known.id)
    session.info.pop("campaigns", None)
    asked = stopping.open_question(session, known.id)
    if asked is None and row.state == "open":
        raise Refused(
            409, "the campaign asks nothing", unchanged="the campaign", kind="no-question"
        )
    if go_on:
        stopping.go_on(session, known.id)
        row.state = "open"
    record(session, known.id, "question_answered", go_on=go_on, by=who)
    return Answer({"campaign": known.name, "go_on": go_on, "state": row.state})
