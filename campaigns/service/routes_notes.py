"""What people write about a trial, and all that happened to it: both are events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse
from pydantic import StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns import records
from campaigns.service.auth import Read, require
from campaigns.service.bodies import Body
from campaigns.service.core import Here, Known, trial_of
from campaigns.service.idempotency import Answer, Said
from campaigns.service.replies import changed, reply
from campaigns.service.strict_route import StrictRoute
from campaigns.service.tokens import Caller
from campaigns.store.models import Event
from campaigns.store.store import record

Index = Annotated[int, Path(ge=0, lt=2**31)]
Decider = Annotated[Caller, Depends(require("decide"))]

router = APIRouter(prefix="/v1/campaigns/{c}/trials/{i}", route_class=StrictRoute)


class Note(Body):
    """A remark on a trial."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=5000, strip_whitespace=True)]
    """For people."""


@router.get("/history", tags=["read"], dependencies=[Read])
def history(c: str, i: Index, here: Here) -> dict[str, Any]:
    """What happened to a trial, oldest first."""

    def ask(session: Session) -> list[dict[str, Any]]:
        known = here.campaign(session, c)
        trial_of(session, known, i)
        rows = session.scalars(
            select(Event)
            .where(Event.campaign_id == known.id, Event.payload["trial"].as_integer() == i)
            .order_by(Event.id)
        )
        return [records.event_dict(row) for row in rows]

    return {"events": here.read(ask)}


@router.post("/notes", tags=["decide"])
async def note(
    c: str, i: Index, body: Note, request: Request, here: Here, caller: Decider, said: Said
) -> JSONResponse:
    """Write a remark on a trial, which stays."""

    def change(session: Session, known: Known) -> Answer:
        trial_of(session, known, i)
        event = record(session, known.id, "note", trial=i, text=body.text, by=caller.name)
        return Answer({"trial": i, "event": event.id}, 201)

    return reply(await changed(here, c, said, change), request)
