"""The page of the report, and that of the system."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dashboards.web import assets, shown
from dashboards.web.rest import Refused, rest
from dashboards.web.shell import page

router = APIRouter(include_in_schema=False)


@router.get("/c/{campaign}/report")
async def report(request: Request, campaign: str) -> HTMLResponse:
    """The one-file report, shown and to be saved."""
    told = await rest(request).get(f"/v1/campaigns/{campaign}")
    return page(
        request, "pages/report.html.j2", title="Report", campaign=campaign, screen="report",
        told=told,
    )  # fmt: skip


@router.get("/system")
async def system(request: Request) -> HTMLResponse:
    """Versions, workers and leases of all campaigns, keys, and the vendored files."""
    of = rest(request)
    health = await of.get("/v1/health")
    names = [c["name"] for c in (await of.get("/v1/campaigns"))["campaigns"]]
    told = [await of.get(f"/v1/campaigns/{name}") for name in names[:SHOWN]]
    tokens: dict[str, Any]
    try:
        tokens = await of.get("/v1/tokens")
    except Refused as refused:
        tokens = {"refused": refused.problem}
    return page(
        request, "pages/system.html.j2", title="System", health=health, told=told, tokens=tokens,
        engine=shown.engine, state=shown.state, software=await asyncio.to_thread(_software),
        vendored=await asyncio.to_thread(vendored), scripts=("js/system.js",), age=shown.age,
    )  # fmt: skip


SHOWN = 50


def _software() -> dict[str, str]:
    from campaigns.campaign import software_versions

    return software_versions()


def vendored() -> list[dict[str, Any]]:
    """The files of others that pages load, and whether each is the one that was taken in."""
    import hashlib

    folder = assets.STATIC / "vendor"
    found = json.loads((folder / "vendor.json").read_text(encoding="utf-8"))
    return [
        one
        | {"same": hashlib.sha256((folder / one["file"]).read_bytes()).hexdigest() == one["sha256"]}
        for one in found
    ]
