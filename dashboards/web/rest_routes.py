"""What the dashboard adds to the REST service: a crystal to draw, and the one-file report."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from campaigns.service.auth import Read
from campaigns.service.core import Here, trial_of
from campaigns.service.problems import Refused
from dashboards.crystals import cifs

router = APIRouter(prefix="/v1/campaigns/{c}", tags=["read"], dependencies=[Read])

Times = Annotated[
    str, Query(pattern=r"^[1-5],[1-5],[1-5]$", description="Of the cell along a, b and c.")
]


@router.get("/trials/{i}/scene")
def scene(
    c: str,
    i: int,
    here: Here,
    of: Literal["measured", "relaxed", "designed"] | None = None,
    cell: Literal["conventional", "given"] = "conventional",
    times: Times = "1,1,1",
) -> dict[str, Any]:
    """A trial's crystal as points in P1, with bonds and polyhedra: for a viewer without symmetry.

    `of` is which of its crystals; without it, the one that its results belong to.
    """

    def ask(session: Session) -> dict[str, str]:
        trial = trial_of(session, here.campaign(session, c), i)
        kept = {a.name: a.text for a in trial.artifacts if a.text and a.name.endswith(".cif")}
        return cifs(trial.design, kept)

    found = here.read(ask)
    if not found or (of is not None and of not in found):
        raise Refused(
            404,
            "there is no such crystal",
            detail=f"the trial has {', '.join(found) or 'none'}",
        )
    kind: str = of or next(iter(found))
    parts = tuple(int(n) for n in times.split(","))
    told = _scene(found[kind], cell, parts)
    return {"trial": i, "of": kind, "there": list(found), **told}


@lru_cache(maxsize=128)
def _scene(cif: str, cell: str, times: tuple[int, ...]) -> dict[str, Any]:
    import warnings

    from campaigns.cif_file import parse_cif
    from dashboards.scene import scene as drawn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen's remarks on what it read
        structure = parse_cif(cif, "the crystal")
        try:
            found: dict[str, Any] = drawn(structure, cell, times)
        except ValueError as error:
            raise Refused(
                422,
                "the crystal is too large to draw",
                detail=str(error),
                hint="ask for fewer cells: ?times=1,1,1",
            ) from error
    return found


@router.get("/report", response_class=HTMLResponse)
def report(c: str, here: Here, download: bool = False) -> HTMLResponse:
    """The report as one file that needs no network; nothing is fitted for it."""
    from campaigns.campaign import Campaign
    from campaigns.facts import read_facts
    from dashboards.report import render

    here.read(lambda session: here.campaign(session, c))
    campaign = Campaign.open(c, here.store.url)
    try:
        text = render(read_facts(campaign), campaign.artifacts)
    finally:
        campaign.close()
    # it has a policy of its own, by the hash of its script; only our pages may frame it
    headers = {
        "Content-Security-Policy": "frame-ancestors 'self'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    if download:
        headers["Content-Disposition"] = f'attachment; filename="{c}-report.html"'
    return HTMLResponse(text, headers=headers)
