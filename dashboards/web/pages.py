"""The pages' addresses: each asks the REST service for what it shows."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dashboards import typography
from dashboards.web import pages_decide, pages_look, pages_other, shown
from dashboards.web.rest import Rest, rest
from dashboards.web.shell import page

router = APIRouter(include_in_schema=False)
router.include_router(pages_decide.router)
router.include_router(pages_look.router)
router.include_router(pages_other.router)

EVENTS = 40
TIMELINE = 40


@router.get("/")
async def campaigns(request: Request) -> HTMLResponse:
    """All campaigns."""
    told = await rest(request).get("/v1/campaigns")
    return page(
        request, "pages/campaigns.html.j2", title="Campaigns", campaigns=told["campaigns"],
        scripts=("js/campaigns.js",), state=shown.state,
    )  # fmt: skip


@router.get("/c/{campaign}")
async def overview(request: Request, campaign: str) -> HTMLResponse:
    """Where a campaign stands, and what it needs."""
    of = rest(request)
    told = await of.get(f"/v1/campaigns/{campaign}")
    events = await of.get(f"/v1/campaigns/{campaign}/events", last=EVENTS)
    return page(
        request, "pages/overview.html.j2", title="Overview", campaign=campaign, screen="overview",
        plotly=True, scripts=("js/overview.js",), told=told, goals=shown.goals(told),
        goal_sentence=shown.goal_sentence(shown.goals(told)), engine=shown.engine(told),
        volume_unit=typography.product(o["unit"] for o in told["objectives"]),
        state=shown.state(told), events=[e | {"said": sentence(e)} for e in events["events"][::-1]],
        timeline=await _timeline(of, campaign, told), age=shown.age,
    )  # fmt: skip


async def _timeline(of: Rest, campaign: str, told: dict[str, Any]) -> dict[str, Any] | None:
    """The last trials as bars of time: waiting, then being tried; shares of the span in percent."""
    total = sum(told["counts"].values())
    found = await of.get(
        f"/v1/campaigns/{campaign}/trials", after=max(total - TIMELINE - 1, -1), limit=TIMELINE
    )
    rows = []
    for trial in found["trials"]:
        born, begun, ended = (shown.age(trial[k]) for k in ("created", "started", "ended"))
        assert born is not None
        rows.append((trial, born, begun, ended))
    if not rows:
        return None
    oldest = max(born for _, born, *_ in rows)
    newest = min(
        0.0 if trial["status"] in ("candidate", "running") else (ended or 0.0)
        for trial, *_, ended in rows
    )
    span = max(oldest - newest, 1e-9)

    def at(seconds: float) -> float:
        return round(100.0 * (oldest - seconds) / span, 2)

    bars = []
    for trial, born, begun, ended in rows:
        over = newest if ended is None else ended
        waited = over if begun is None else begun
        bars.append(
            {
                "trial": trial["trial"], "name": trial["name"], "status": trial["status"],
                "worker": (trial.get("lease") or {}).get("worker"),
                "begin": at(born), "wait": max(at(waited) - at(born), 0.0),
                "ran": max(at(over) - at(waited), 0.0) if begun is not None else 0.0,
                "seconds": None if begun is None else begun - over,
            }
        )  # fmt: skip
    return {"bars": bars, "seconds": span, "until": newest}


@router.get("/c/{campaign}/pill")
async def pill(request: Request, campaign: str) -> HTMLResponse:
    """What a campaign is doing, for the header."""
    told = await rest(request).get(f"/v1/campaigns/{campaign}")
    spent = told["counted"] / max(int(told["budget"] or 0), 1)
    return page(
        request, "pill.html.j2", title="", campaign=campaign, told=told, state=shown.state(told),
        engine=shown.engine(told), spent=min(spent, 1.0),
    )  # fmt: skip


def sentence(event: dict[str, Any]) -> str:
    """An event in words."""
    from dashboards.web.event_words import sentence as words

    return words(event)
