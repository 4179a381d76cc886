"""Routes for whoever answers trials: lease, heartbeat, result, fail."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from campaigns.service import bodies, leases, reports, structures
from campaigns.service.auth import Work
from campaigns.service.core import Here, Known
from campaigns.service.idempotency import Answer, Said
from campaigns.service.replies import changed, reply
from campaigns.service.strict_route import StrictRoute

router = APIRouter(
    prefix="/v1/campaigns/{c}", tags=["work"], route_class=StrictRoute, dependencies=[Work]
)

WAIT = "2"
"""Seconds after which to ask again where no trial waits."""


@router.post("/leases")
async def lease(
    c: str, body: bodies.Leases, request: Request, here: Here, said: Said
) -> JSONResponse:
    """Get trials that wait; an empty list, and Retry-After, where none does."""

    def change(session: Session, known: Known) -> Answer:
        now = here.now(session)
        given = leases.lease(
            session, known, now, body.worker, body.n, body.ttl_s, body.fidelity, body.capabilities
        )
        state = "stopped" if known.stopped else known.state
        # An empty answer is not kept for the key: the same request may find a trial later.
        return Answer({"leases": given, "state": state}, changed=bool(given))

    answer = await changed(here, c, said, change, "lease")
    headers = dict(answer.headers)
    given: list[dict[str, Any]] = answer.body.get("leases", [])
    if given:
        # Reading a crystal takes milliseconds, in which no other change should wait.
        if structures.any_crystal(given):
            told = await run_in_threadpool(structures.with_structures, given)
        else:
            told = structures.with_structures(given)
        answer = Answer({**answer.body, "leases": told}, answer.status, False, headers)
    else:
        headers["Retry-After"] = WAIT
        answer = Answer(answer.body, answer.status, False, headers)
    return reply(answer, request)


@router.post("/trials/{i}/heartbeat")
async def heartbeat(c: str, i: int, body: bodies.Heartbeat, here: Here) -> dict[str, Any]:
    """Prolong a lease; `cancel` says to stop. 409 where the lease is lost."""

    def change(session: Session) -> dict[str, Any]:
        known = here.campaign(session, c)
        now = here.now(session)
        return leases.heartbeat(session, known, now, i, body.token, body.progress, body.note)

    return await here.writer.change(change)


@router.post("/trials/{i}/result")
async def result(
    c: str, i: int, body: bodies.Result, request: Request, here: Here, said: Said
) -> JSONResponse:
    """Report what was measured."""
    answer = await changed(
        here, c, said, lambda s, known: reports.result(s, known, here.now(s), i, body),
        "result",
    )  # fmt: skip
    return reply(answer, request)


@router.post("/trials/{i}/fail")
async def fail(
    c: str, i: int, body: bodies.Fail, request: Request, here: Here, said: Said
) -> JSONResponse:
    """Report that there is no result, and why."""
    answer = await changed(
        here, c, said, lambda s, known: reports.fail(s, known, here.now(s), i, body)
    )
    return reply(answer, request)
