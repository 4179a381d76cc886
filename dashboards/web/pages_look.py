"""The pages on which a person looks: front, latent map, model, elements."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from campaigns.csv_cells import neutral
from dashboards.web import crystals, periodic, shown
from dashboards.web.rest import rest
from dashboards.web.shell import page

router = APIRouter(include_in_schema=False)


@router.get("/c/{campaign}/front")
async def front(request: Request, campaign: str) -> HTMLResponse:
    """The best designs as a table, and any two or three metrics against each other."""
    of = rest(request)
    told = await of.get(f"/v1/campaigns/{campaign}")
    best = await of.get(f"/v1/campaigns/{campaign}/front")
    return page(
        request, "pages/front.html.j2", title="Front", campaign=campaign, screen="front",
        plotly=True, scripts=("js/front.js",), told=told, goals=shown.goals(told),
        rows=best["front"][:FRONT], total=len(best["front"]), best=best,
        parameters=lambda row: shown.parameters(row, told["parameters"]),
    )  # fmt: skip


FRONT = 100


@router.get("/c/{campaign}/trials.csv")
async def table(request: Request, campaign: str, front: bool = False) -> Response:
    """All trials, or the front, as a table for other programs."""
    found = await rest(request).get(f"/v1/campaigns/{campaign}/candidates.columns")
    text, lines = io.StringIO(), None
    lines = csv.writer(text, lineterminator="\n")
    units = {m["name"]: m["unit"] for m in found["metrics"]}
    # what says nothing is not sent: numbers from 0 on
    columns = {"trial": list(range(found["n"]))} | found["columns"]
    names = []
    for key in columns:
        kind, _, name = key.partition(":")
        tail = "" if kind in ("mean", "param") else f"_{kind}"
        unit = f" ({units[name]})" if name in units else ""
        names.append(f"{name}{tail}{unit}" if name else key)
    lines.writerow(names)
    for row in range(found["n"]):
        if front and found["codes"]["kind"][columns["kind"][row]] != "front":
            continue
        lines.writerow(
            [
                neutral(
                    found["codes"][key][values[row]]
                    if key in found["codes"]
                    else _cell(values[row])
                )
                for key, values in columns.items()
            ]
        )
    name = f"{campaign}-{'front' if front else 'trials'}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _cell(value: Any) -> Any:
    """A value for a table; text that a spreadsheet would run as a formula is quoted."""
    if isinstance(value, str) and value[:1] in "=+-@\t\r":
        return f"'{value}"
    return "" if value is None else value


@router.get("/c/{campaign}/map")
async def latent_map(request: Request, campaign: str) -> HTMLResponse:
    """Where the trials lie: a projection, coloured, selected and replayed by the script."""
    of = rest(request)
    told = await of.get(f"/v1/campaigns/{campaign}")
    return page(
        request, "pages/map.html.j2", title="Latent map", campaign=campaign, screen="map",
        plotly=True, scripts=("js/map.js",), told=told, goals=shown.goals(told),
        latent=await of.get(f"/v1/campaigns/{campaign}/latent"),
    )  # fmt: skip


@router.get("/c/{campaign}/model")
async def model(request: Request, campaign: str) -> HTMLResponse:
    """What the surrogate knows, and how good its predictions were."""
    of = rest(request)
    told = await of.get(f"/v1/campaigns/{campaign}")
    return page(
        request, "pages/model.html.j2", title="Model", campaign=campaign, screen="model",
        plotly=True, told=told, goals=shown.goals(told), trust=shown.trust,
        model=await of.get(f"/v1/campaigns/{campaign}/model"),
    )  # fmt: skip


@router.get("/c/{campaign}/elements")
async def elements(request: Request, campaign: str) -> HTMLResponse:
    """A periodic table of what was explored."""
    of = rest(request)
    told = await of.get(f"/v1/campaigns/{campaign}")
    found = await of.get(f"/v1/campaigns/{campaign}/elements")
    by = found["elements"]
    asked = request.query_params.get("element", "")
    trials: list[dict[str, Any]] = []
    if asked:
        every = await of.get(f"/v1/campaigns/{campaign}/trials", limit=10_000)
        trials = await asyncio.to_thread(
            lambda: [t for t in every["trials"] if asked in crystals.elements_of(t)]
        )
    wanted = request.query_params.get("colour", "tried")
    return page(
        request, "pages/elements.html.j2", title="Elements", campaign=campaign, screen="elements",
        told=told, goals=shown.goals(told), cells=periodic.cells(by, wanted), found=found, by=by,
        asked=asked, trials=trials[:SHOWN], total=len(trials), colour=wanted,
    )  # fmt: skip


SHOWN = 100
