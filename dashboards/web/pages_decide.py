"""The pages on which a person decides: proposals, one candidate, and results that come by hand."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dashboards.pictures import is_shown
from dashboards.web import crystals, shown
from dashboards.web.event_words import sentence
from dashboards.web.rest import Refused, Rest, rest
from dashboards.web.shell import page

router = APIRouter(include_in_schema=False)

SHOWN = 100
PICTURES = 24


@router.get("/c/{campaign}/decide")
async def decide(request: Request, campaign: str) -> HTMLResponse:
    """Proposals to approve, reject, hold, change or add."""
    of = rest(request)
    told = await of.get(f"/v1/campaigns/{campaign}")
    waiting = await _open(of, campaign)
    pictures = await asyncio.to_thread(_pictures, waiting)
    wanted = request.query_params.get("show", "")
    rows = [
        {
            "t": t,
            "state": _state(t, told["approve"]),
            "why": shown.why(t),
            "cautions": shown.cautions(t, waiting),
            "parameters": shown.parameters(t, told["parameters"]),
            "picture": pictures.get(t["trial"]),
        }
        for t in waiting
    ]
    counts = {key: sum(r["state"] == key for r in rows) for key, _ in STATES}
    return page(
        request, "pages/decide.html.j2", title="Decide", campaign=campaign, screen="decide",
        scripts=("js/decide.js",), told=told, goals=shown.goals(told), counts=counts,
        rows=[r for r in rows if wanted in ("", r["state"])], states=STATES, show=wanted,
        more=told["counts"]["candidate"] + told["counts"]["running"] - len(waiting), age=shown.age,
    )  # fmt: skip


STATES = (
    ("waiting", "for you"),
    ("approved", "ready for a worker"),
    ("held", "held"),
    ("leased", "being tried"),
)


def _state(trial: dict[str, Any], gate: bool) -> str:
    if trial["status"] == "running":
        return "leased"
    if trial["held"]:
        return "held"
    return "approved" if trial["approved"] or not gate else "waiting"


async def _open(of: Rest, campaign: str) -> list[dict[str, Any]]:
    """Trials that nothing is known of yet, with why they were proposed; the first so many."""
    found: list[dict[str, Any]] = []
    for status in ("running", "candidate"):
        told = await of.get(
            f"/v1/campaigns/{campaign}/trials", status=status, whole="true",
            limit=SHOWN - len(found) or None,
        )  # fmt: skip
        found += told["trials"]
        if len(found) >= SHOWN:
            break
    return sorted(found, key=lambda t: int(t["trial"]))


def _pictures(trials: list[dict[str, Any]]) -> dict[int, Any]:
    found = {}
    for trial in trials[:PICTURES]:
        cif = crystals.cif_of(trial)
        if cif is not None:
            found[trial["trial"]] = crystals.thumbnail(cif)
    return found


@router.get("/c/{campaign}/trials/{index}")
async def candidate(request: Request, campaign: str, index: int) -> HTMLResponse:
    """One trial: its crystal, what was foretold and found, and where it came from."""
    of = rest(request)
    base = f"/v1/campaigns/{campaign}"
    told = await of.get(base)
    trial = await of.get(f"{base}/trials/{index}")
    history = await of.get(f"{base}/trials/{index}/history")
    has_crystal = crystals.cif_of(trial) is not None
    scene = None
    if has_crystal:
        try:
            scene = await of.get(f"{base}/trials/{index}/scene")
        except Refused as refused:
            scene = {"refused": refused.problem}
    cif = crystals.cif_of(trial)
    picture = await asyncio.to_thread(crystals.thumbnail, cif) if cif else None
    pictures: list[dict[str, Any]] = []
    if any(is_shown(a["name"], a["media_type"]) for a in trial["artifacts"] or ()):
        pictures = (await of.get(f"{base}/trials/{index}/pictures"))["pictures"]
    asked = request.query_params.get("slice", "")
    last = sum(told["counts"].values()) - 1
    return page(
        request, "pages/candidate.html.j2", title=f"Trial {index}", campaign=campaign,
        screen="decide" if trial["status"] in ("candidate", "running") else "",
        molecules=has_crystal, scripts=("js/candidate.js",), told=told, t=trial, last=last,
        goals=shown.goals(told), why=shown.why(trial), cautions=shown.cautions(trial),
        parameters=shown.parameters(trial, told["parameters"]), scene=scene, picture=picture,
        pictures=pictures, slice=int(asked) if asked.isdecimal() and len(asked) < 9 else None,
        surprise=shown.surprise, method=shown.method_words(trial["provenance"].get("method")),
        state=_state(trial, told["approve"]) if trial["status"] in ("candidate", "running")
        else trial["status"],
        history=[e | {"said": sentence(e)} for e in history["events"][::-1]],
    )  # fmt: skip


@router.get("/c/{campaign}/ingest")
async def ingest(request: Request, campaign: str) -> HTMLResponse:
    """Take in a file of results."""
    of = rest(request)
    told = await of.get(f"/v1/campaigns/{campaign}")
    return page(
        request, "pages/ingest.html.j2", title="Ingest", campaign=campaign, screen="ingest",
        scripts=("js/ingest.js",), told=told, goals=shown.goals(told),
    )  # fmt: skip
