"""Routes for whoever decides: campaigns, proposals, and a person's word on each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from campaigns.service import bodies, decisions, jobs
from campaigns.service.auth import require
from campaigns.service.core import Here, Known, Service, trial_of
from campaigns.service.idempotency import Answer, Said
from campaigns.service.problems import Refused
from campaigns.service.replies import changed, reply
from campaigns.service.strict_route import StrictRoute
from campaigns.service.tokens import Caller
from campaigns.spec_evaluate import runs_code

Decider = Annotated[Caller, Depends(require("decide"))]
router = APIRouter(
    prefix="/v1", tags=["decide"], route_class=StrictRoute,
    dependencies=[Depends(require("decide"))],
)  # fmt: skip

Index = Annotated[int, Path(ge=0, lt=2**31)]
IfMatch = Annotated[str | None, Header(alias="If-Match")]


@router.post("/campaigns", status_code=201)
async def begin(
    body: bodies.NewCampaign, request: Request, here: Here, caller: Decider, said: Said
) -> JSONResponse:
    """Begin a campaign; of a mistake in its spec, the line is told."""
    if caller.campaign is not None:
        raise Refused(403, "this key is for one campaign", kind="campaign")
    spec = await run_in_threadpool(here.reader.ask, "spec", text=body.spec)
    if runs_code(spec["evaluate"]) and "admin" not in caller.scopes:
        raise Refused(
            403,
            f"the evaluator {spec['evaluate'].get('with')!r} runs code on every worker",
            detail="a spec that is sent with it needs a key of scope admin",
            unchanged="nothing was begun",
            kind="scope",
        )

    def change(session: Session) -> Answer:
        row = here.begin(session, spec, body.spec)
        return Answer({"name": row.name, "created": row.created.isoformat()}, 201)

    answer = await here.writer.change(
        lambda s: said.make(s, here.now(s), change)  # one transaction with its answer
    )
    return reply(answer, request)


@router.post("/campaigns/{c}/proposals", status_code=202)
async def propose(
    c: str, body: bodies.Proposals, request: Request, here: Here, said: Said
) -> JSONResponse:
    """Ask for proposals: a job, which the engine does."""

    def change(session: Session, known: Known) -> Answer:
        near = sorted(set(body.near or ()))
        for index in near:
            trial_of(session, known, index)  # there are such trials
        request = {"n": body.n, "near": near}
        job = jobs.ask(session, known.id, "propose", **{k: v for k, v in request.items() if v})
        return Answer(jobs.described(job), 202)

    answer = await changed(here, c, said, change)
    where = f"/v1/campaigns/{c}/jobs/{answer.body['job']}"
    return reply(Answer(answer.body, 202, False, {**answer.headers, "Location": where}), request)


async def _decide(
    word: decisions.Word,
    c: str,
    i: int,
    body: bodies.Decision | None,
    match: str | None,
    request: Request,
    here: Service,
    caller: Caller,
    said: Said,
) -> JSONResponse:
    body = body or bodies.Decision()
    rev = body.rev
    if match is not None and match != "*":
        text = match.strip().strip('"')
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise Refused(400, "If-Match is the trial's rev", unchanged="the trial")
        rev = int(text)
    answer = await changed(
        here, c, said,
        lambda s, known: decisions.decide(s, known, i, word, caller.name, body.reason, rev),
    )  # fmt: skip
    return reply(answer, request)


@router.post("/campaigns/{c}/trials/{i}/approve")
async def approve(
    c: str, i: Index, request: Request, here: Here, caller: Decider, said: Said,
    body: bodies.Decision | None = None, match: IfMatch = None,
) -> JSONResponse:  # fmt: skip
    """Let workers have a trial that needs a person's approval."""
    return await _decide("approve", c, i, body, match, request, here, caller, said)


@router.post("/campaigns/{c}/trials/{i}/reject")
async def reject(
    c: str, i: Index, request: Request, here: Here, caller: Decider, said: Said,
    body: bodies.Decision | None = None, match: IfMatch = None,
) -> JSONResponse:  # fmt: skip
    """Give a trial up: it is abandoned, and not proposed again."""
    return await _decide("reject", c, i, body, match, request, here, caller, said)


@router.post("/campaigns/{c}/trials/{i}/hold")
async def hold(
    c: str, i: Index, request: Request, here: Here, caller: Decider, said: Said,
    body: bodies.Decision | None = None, match: IfMatch = None,
) -> JSONResponse:  # fmt: skip
    """Keep a trial from workers for now."""
    return await _decide("hold", c, i, body, match, request, here, caller, said)


@router.post("/campaigns/{c}/trials/{i}/release")
async def release(
    c: str, i: Index, request: Request, here: Here, caller: Decider, said: Said,
    body: bodies.Decision | None = None, match: IfMatch = None,
) -> JSONResponse:  # fmt: skip
    """Let workers have a trial that was held."""
    return await _decide("release", c, i, body, match, request, here, caller, said)


@router.post("/campaigns/{c}/stop")
async def stop(
    c: str, request: Request, here: Here, caller: Decider, said: Said,
    body: bodies.Stop | None = None,
) -> JSONResponse:  # fmt: skip
    """Emergency stop: give no trial out, and tell whoever has one to cancel."""
    reason = body.reason if body else None
    answer = await changed(
        here, c, said, lambda s, known: decisions.stop(s, known, True, caller.name, reason)
    )
    return reply(answer, request)


@router.post("/campaigns/{c}/resume")
async def resume(
    c: str, request: Request, here: Here, caller: Decider, said: Said,
    body: bodies.Stop | None = None,
) -> JSONResponse:  # fmt: skip
    """End the emergency stop."""
    reason = body.reason if body else None
    answer = await changed(
        here, c, said, lambda s, known: decisions.stop(s, known, False, caller.name, reason)
    )
    return reply(answer, request)


@router.post("/campaigns/{c}/answer")
async def answer(
    c: str, body: bodies.Answer, request: Request, here: Here, caller: Decider, said: Said
) -> JSONResponse:
    """Answer a campaign that paused to ask whether to go on."""
    found = await changed(
        here, c, said, lambda s, known: decisions.answer(s, known, body.go_on, caller.name)
    )
    return reply(found, request)
