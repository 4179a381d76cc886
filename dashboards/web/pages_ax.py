"""The page of Ax's analyses of a campaign."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dashboards.web.rest import rest
from dashboards.web.shell import page

router = APIRouter(include_in_schema=False)


@router.get("/c/{campaign}/ax")
async def ax(request: Request, campaign: str) -> HTMLResponse:
    """The campaign as an Ax experiment, and what Ax's analyses say of it."""
    of = rest(request)
    standing = await of.get(f"/v1/campaigns/{campaign}")
    told = await of.get(f"/v1/campaigns/{campaign}/ax/cards")
    return page(
        request, "pages/ax.html.j2", title="Ax analyses", campaign=campaign, screen="ax",
        plotly=True, scripts=("js/ax.js",), told=told, api=f"/v1/campaigns/{campaign}/ax",
        alone=False, standing=standing,
    )  # fmt: skip
