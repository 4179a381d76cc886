"""Figures for the pages, as plotly's JSON: `dashboards.plots` of the service's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from campaigns.errors import UsageError
from dashboards.web.rest import Refused, rest

router = APIRouter(include_in_schema=False)

Name = Literal["front", "progress", "map", "parity", "importances"]


@router.get("/c/{campaign}/figures/{name}.json", response_model=None)
async def figure(
    request: Request,
    campaign: str,
    name: Name,
    metric: str | None = None,
    x: str | None = None,
    y: str | None = None,
    colour: str | None = None,
) -> Response:
    """One figure. Where there is nothing to draw, `empty` says why."""
    of, base = rest(request), f"/v1/campaigns/{campaign}"
    views = {
        "front": ["candidates.columns"], "progress": ["curve"], "parity": ["model"],
        "importances": ["model"], "map": ["latent", "candidates.columns"],
    }[name]  # fmt: skip
    try:
        told = [await of.get(f"{base}/{view}") for view in views]
        made = await asyncio.to_thread(_made, name, told, metric, x, y, colour)
    except Refused as error:
        return JSONResponse(error.problem, error.status)
    except UsageError as error:
        # no mistake of who asked: a browser would log a failure, where there is just nothing yet
        return JSONResponse({"empty": "; ".join(p for p in (error.what, error.why) if p)})
    return Response(made, media_type="application/json")


def _made(
    name: str,
    told: list[Mapping[str, Any]],
    metric: str | None,
    x: str | None,
    y: str | None,
    colour: str | None,
) -> str:
    from dashboards import plots

    if name == "front":
        found = plots.plot_front(told[0], x, y)
    elif name == "progress":
        found = plots.plot_progress(told[0], metric)
    elif name == "map":
        found = plots.plot_map(told[0], told[1], colour)
    elif name == "parity":
        found = plots.plot_parity(told[0], metric)
    else:
        found = plots.plot_importances(told[0], metric)
    found.update_layout(template=None)
    return str(found.to_json())
