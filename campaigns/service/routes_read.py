"""Routes for whoever looks: campaigns, trials, observations, events, files."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns import records
from campaigns.service import artifacts, described, jobs, structures
from campaigns.service.auth import Read, require
from campaigns.service.core import Here, Service, trial_of
from campaigns.service.problems import Refused
from campaigns.service.standing import newest, status
from campaigns.service.tokens import Caller
from campaigns.store.models import CampaignRow, Event, Job

router = APIRouter(prefix="/v1", tags=["read"], dependencies=[Read])
Reader = Annotated[Caller, Depends(require("read"))]

Index = Annotated[int, Path(ge=0, lt=2**31)]
After = Annotated[int, Query(ge=-1, lt=2**31, description="Only what comes after this number.")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="So many at most.")]
Status = Literal["candidate", "running", "completed", "failed", "infeasible", "abandoned"]

SSE = "text/event-stream"
KEEPALIVE = 15.0
LONGEST = 3600.0


@router.get("/campaigns")
def campaigns(here: Here, caller: Reader) -> dict[str, Any]:
    """The campaigns: name, counts, budget, state, created, last_event."""
    return {"campaigns": here.read(lambda s: described.campaigns(s, caller.campaign))}


@router.get("/campaigns/{c}")
def campaign(c: str, here: Here) -> dict[str, Any]:
    """Where a campaign stands, what it found, its engine and its workers."""
    return status(here, c)


@router.get("/campaigns/{c}/spec", response_class=PlainTextResponse)
def spec(c: str, here: Here) -> PlainTextResponse:
    """The spec as it was written, YAML."""

    def ask(session: Session) -> str:
        known = here.campaign(session, c)
        return session.get_one(CampaignRow, known.id).spec_text

    return PlainTextResponse(here.read(ask), media_type="application/yaml")


@router.get("/campaigns/{c}/trials")
def trials(
    c: str,
    here: Here,
    status: Status | None = None,
    after: After = -1,
    limit: Limit = 1000,
    whole: Annotated[bool, Query(description="With provenance and files; 200 at most.")] = False,
) -> dict[str, Any]:
    """Trials in the order of their numbers."""
    limit = min(limit, 200) if whole else limit
    return {
        "trials": here.read(
            lambda s: described.trials(s, here.campaign(s, c), status, after, limit, whole)
        )
    }


@router.get("/campaigns/{c}/trials/{i}")
def trial(c: str, i: Index, here: Here) -> dict[str, Any]:
    """All that is known of a trial."""

    def ask(session: Session) -> dict[str, Any]:
        known = here.campaign(session, c)
        return described.trial(known, trial_of(session, known, i), whole=True)

    return here.read(ask)


@router.get("/campaigns/{c}/trials/{i}/structure")
def structure(c: str, i: Index, here: Here, axis: str | None = None) -> dict[str, Any]:
    """A trial's crystal: OPTIMADE's attributes, and its CIF."""

    def ask(session: Session) -> dict[str, Any]:
        return trial_of(session, here.campaign(session, c), i).design

    found = structures.of_design(here.read(ask))
    if axis is None and len(found) == 1:
        return next(iter(found.values()))
    if axis not in found:
        raise Refused(
            404,
            "there is no such crystal",
            detail=f"the trial has {', '.join(found) or 'none'}",
            hint="name its axis: ?axis=NAME" if found else None,
        )
    return found[axis]


@router.get("/campaigns/{c}/observations")
def observations(c: str, here: Here, after: After = -1, limit: Limit = 10_000) -> dict[str, Any]:
    """What was measured, in the order in which it came, corrected values too."""
    return {
        "observations": here.read(
            lambda s: described.observations(s, here.campaign(s, c), after, limit)
        )
    }


@router.get("/campaigns/{c}/jobs/{id}")
def job(c: str, id: str, here: Here) -> dict[str, Any]:
    """What became of a job."""

    def ask(session: Session) -> dict[str, Any]:
        known = here.campaign(session, c)
        row = session.get(Job, id) if id.isascii() and id.isalnum() else None
        if row is None or row.campaign_id != known.id:
            raise Refused(404, "there is no such job")
        return jobs.described(row)

    return here.read(ask)


@router.get("/artifacts/{sha256}", response_class=Response)
def artifact(sha256: str, here: Here, caller: Reader) -> Response:
    """The bytes of a file that an evaluation left."""
    found = None
    if re.fullmatch("[0-9a-f]{64}", sha256):
        found = here.read(lambda s: artifacts.found(s, sha256, caller.campaign))
    if found is None:
        raise Refused(404, "there is no such file")
    name, media_type, data = found
    # what a stranger sent is never shown as a page of ours
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    return Response(data, media_type=media_type, headers=headers)


@router.get("/campaigns/{c}/events", response_model=None)
async def events(
    c: str,
    request: Request,
    here: Here,
    after: After = 0,
    limit: Limit = 1000,
    last: Annotated[int, Query(ge=0, le=1000, description="Only so many, the newest.")] = 0,
    wait: Annotated[float, Query(ge=0, le=300, allow_inf_nan=False)] = 0.0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> dict[str, Any] | StreamingResponse:
    """What happened; with `wait`, as soon as something does. Or a stream, where that is accepted.

    The stream's events have only `{"rev": id}`: what happened is then asked for.
    """
    if SSE in request.headers.get("accept", ""):
        return await stream(c, request, here, after, last_event_id)
    until = time.monotonic() + min(wait, here.settings.wait)
    while True:
        found = await run_in_threadpool(_events, here, c, after, last or limit, last > 0)
        left = until - time.monotonic()
        if found or left <= 0:
            return {"events": found, "last": found[-1]["id"] if found else after}
        await here.news.wait(left)


@router.get("/campaigns/{c}/events/stream", response_class=StreamingResponse)
async def stream(
    c: str,
    request: Request,
    here: Here,
    after: After = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """The numbers of events as they happen, as a stream (SSE)."""
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        after = max(after, int(last_event_id[:10]))
    await run_in_threadpool(_rev, here, c)  # a campaign that is not is told before the stream

    async def told() -> AsyncIterator[str]:
        last, ends = after, time.monotonic() + LONGEST
        yield "retry: 2000\n\n"
        while time.monotonic() < ends and not here.closing:
            rev = await run_in_threadpool(_rev, here, c)
            if rev > last:
                last = rev
                yield f"id: {rev}\ndata: {json.dumps({'rev': rev})}\n\n"
            else:
                yield ": still here\n\n"
            await here.news.wait(KEEPALIVE)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(told(), media_type=SSE, headers=headers)


def _events(
    here: Service, c: str, after: int, limit: int, newest_first: bool
) -> list[dict[str, Any]]:
    def ask(session: Session) -> list[dict[str, Any]]:
        known = here.campaign(session, c)
        rows = session.scalars(
            select(Event)
            .where(Event.campaign_id == known.id, Event.id > after)
            .order_by(Event.id.desc() if newest_first else Event.id)
            .limit(limit)
        )
        found = [records.event_dict(row) for row in rows]
        return found[::-1] if newest_first else found

    return here.read(ask)


def _rev(here: Service, c: str) -> int:
    return here.read(lambda s: newest(s, here.campaign(s, c).id))
