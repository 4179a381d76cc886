"""What pages show of a campaign: fronts, maps, curves, the model. Nothing is fitted in a request.

What outcomes say by themselves is worked out here, once for each event; what needs a model was
computed by the engine (`view_data`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns.service import jobs, look_elements, look_tables, view_data
from campaigns.service.auth import Read, require
from campaigns.service.core import Here, Known, Service
from campaigns.service.idempotency import Answer, Said
from campaigns.service.looks import Look, Looks
from campaigns.service.problems import Refused
from campaigns.service.replies import changed, reply
from campaigns.service.standing import newest
from campaigns.service.tokens import Caller
from campaigns.store.models import View, utc_now

# An analysis may take so long; nobody is at it any more if none came since.
_PATIENCE = timedelta(minutes=10)

router = APIRouter(prefix="/v1/campaigns/{c}", tags=["views"])
Decider = Annotated[Caller, Depends(require("decide"))]


def _looks(request: Request) -> Looks:
    """One memory for each service."""
    service: Service = request.app.state.service
    found: Looks | None = getattr(request.app.state, "looks", None)
    if found is None:
        found = request.app.state.looks = Looks(service)
    return found


def _answer(request: Request, name: str, key: str, make: Callable[[Look], Any]) -> Response:
    """What `make` finds, as JSON that is written once for each event."""

    def text(look: Look) -> tuple[bytes, str]:
        data = json.dumps({"rev": look.rev, **make(look)}, allow_nan=False, separators=(",", ":"))
        body = data.encode()
        return body, f'"{hashlib.sha256(body).hexdigest()[:20]}"'

    _, (body, tag) = _looks(request).made(name, key, text)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match", "").removeprefix("W/") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.get("/front", dependencies=[Read])
def front(c: str, request: Request) -> Response:
    """The front, or the best designs, with what is sought."""
    return _answer(request, c, "front", look_tables.front)


@router.get("/candidates.columns", dependencies=[Read])
def candidates(c: str, request: Request) -> Response:
    """All trials as columns of numbers: results, predictions, parameters."""
    return _answer(request, c, "columns", look_tables.columns)


@router.get("/latent", dependencies=[Read])
def latent(c: str, request: Request) -> Response:
    """Where trials lie in the latent space (or the parameters), along two directions."""
    return _answer(request, c, "latent", look_tables.latent)


@router.get("/curve", dependencies=[Read])
def curve(c: str, request: Request) -> Response:
    """Hypervolume and the best so far, trial by trial; a random search's band where known."""
    return _answer(request, c, "curve", look_tables.curve)


@router.get("/model", dependencies=[Read])
def model(c: str, request: Request) -> Response:
    """How good predictions were, and what the model goes by."""
    return _answer(request, c, "model", look_tables.model)


@router.get("/elements", dependencies=[Read])
def elements(c: str, request: Request) -> Response:
    """How often each element was tried, and what came of it."""
    return _answer(request, c, "elements", look_elements.elements)


@router.get("/ax/cards", dependencies=[Read])
def ax_cards(c: str, here: Here, since: float | None = None) -> JSONResponse:
    """Ax's analyses of the campaign: which there are; each is at /ax/cards/FILE.

    With `since`, those that were made after that time come along, as `analysis`.
    """
    return JSONResponse(here.read(lambda s: _ax(s, here.campaign(s, c), since)))


@router.get("/ax/cards/{key:path}", dependencies=[Read])
def ax_card(c: str, key: str, here: Here) -> JSONResponse:
    """One analysis with its cards."""
    found = here.read(lambda s: _view(s, here.campaign(s, c).id, f"ax/{key}"))
    if found is None:
        raise Refused(404, "there is no such analysis", hint=f"GET /v1/campaigns/{c}/ax/cards")
    return JSONResponse(found.data)


@router.post("/ax/cards", status_code=202)
async def ax_again(c: str, request: Request, here: Here, caller: Decider, said: Said) -> Response:
    """Ask for Ax's analyses to be made anew: a job, which the engine does."""

    def change(session: Session, known: Known) -> Answer:
        return Answer(jobs.described(jobs.ask(session, known.id, "ax")), 202)

    answer = await changed(here, c, said, change)
    return await run_in_threadpool(reply, answer, request)


def _view(session: Session, campaign: int, name: str) -> View | None:
    return session.scalar(
        select(View).where(View.campaign_id == campaign, View.name == name).limit(1)
    )


def _ax(session: Session, known: Known, since: float | None) -> dict[str, Any]:
    found = _view(session, known.id, "ax")
    rev = newest(session, known.id)
    if found is None:
        return {"rev": rev, "source": known.name, "state": "waiting", "error": None,
                "experiment": None, "cards": [], "read": None, "stale": True}  # fmt: skip
    told = {**found.data, "rev": rev, "cards": [dict(card) for card in found.data["cards"]]}
    told["stale"] = told.pop("mark") != list(view_data.mark(session, known.id))
    if told["state"] == "computing" and utc_now() - found.created > _PATIENCE:
        # a process that died leaves what it had begun
        for card in told["cards"]:
            card["state"] = "done" if card["state"] == "done" else "waiting"
        told |= {"state": "interrupted", "stale": True}
    if since is not None:
        new = {f"ax/{card['file']}": card for card in told["cards"] if card.get("time", 0) > since}
        query = select(View).where(View.campaign_id == known.id, View.name.in_(new))
        for view in session.scalars(query):
            new[view.name]["analysis"] = view.data
    return told
