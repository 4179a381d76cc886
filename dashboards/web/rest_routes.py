"""What the dashboard adds to the REST service: crystals, pictures, the one-file report."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from campaigns.service import artifacts
from campaigns.service.auth import Read
from campaigns.service.core import Here, trial_of
from campaigns.service.problems import Refused
from dashboards import pictures as shown
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


@router.get("/trials/{i}/pictures")
def pictures(c: str, i: int, here: Here) -> dict[str, Any]:
    """A trial's files that are shown as pictures here (TIFF, .npy): how much there is to see."""

    def ask(session: Session) -> list[tuple[str, str, bytes]]:
        kept = trial_of(session, here.campaign(session, c), i).artifacts
        wanted = [a for a in kept if a.sha256 and shown.is_shown(a.name, a.media_type)]
        found = [(a.name, a.sha256, artifacts.found(session, a.sha256, c)) for a in wanted]
        return [(name, sha256, file[2]) for name, sha256, file in found if file is not None]

    told: list[dict[str, Any]] = []
    for name, sha256, data in here.read(ask):
        try:
            size = shown.size(data)
        except shown.NoPicture as error:
            told.append({"name": name, "sha256": sha256, "refused": str(error)})
        else:
            told.append({"name": name, "sha256": sha256, "refused": None, **asdict(size)})
    return {"trial": i, "pictures": told}


@router.get("/trials/{i}/pictures/{sha256}", response_class=Response)
def picture(
    c: str, i: int, sha256: str, here: Here, slice: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """A slice of such a file as PNG, from 0."""

    def ask(session: Session) -> bytes | None:
        kept = trial_of(session, here.campaign(session, c), i).artifacts
        there = any(a.sha256 == sha256 for a in kept)
        file = artifacts.found(session, sha256, c) if there else None
        return None if file is None else file[2]

    if (data := here.read(ask)) is None:
        raise Refused(404, "there is no such file", detail=f"trial {i} has none of this hash")
    try:
        made = shown.png(data, slice)
    except shown.NoPicture as error:
        raise Refused(
            422, "the file cannot be shown as a picture", detail=str(error),
            unchanged="everything", hint=f"GET /v1/artifacts/{sha256} has it as it came",
        ) from error  # fmt: skip
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    return Response(made, media_type="image/png", headers=headers)


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
