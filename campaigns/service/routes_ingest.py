"""Routes for results without a lease: one by one, or a file of them."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from campaigns.service import bodies, history
from campaigns.service.auth import require
from campaigns.service.core import Here, Known, Service
from campaigns.service.idempotency import Answer, Said, keyed
from campaigns.service.replies import changed, reply
from campaigns.service.strict_route import StrictRoute
from campaigns.service.tokens import Caller

Ingester = Annotated[Caller, Depends(require("ingest"))]
router = APIRouter(
    prefix="/v1/campaigns/{c}", tags=["ingest"], route_class=StrictRoute,
    dependencies=[Depends(require("ingest"))],
)  # fmt: skip


@router.post("/observations")
async def observe(
    c: str, body: bodies.Observations, request: Request, here: Here, caller: Ingester, said: Said
) -> JSONResponse:
    """Tell what was measured without a lease, or add a design that is to be tried."""
    checked = None
    if body.trial is None:
        given = body.design if body.design is not None else body.params
        checked = await run_in_threadpool(_checked, here, c, given, body.design is None)
    answer = await changed(
        here, c, said, lambda s, known: history.take_in(s, known, body, caller.name, checked)
    )
    return reply(answer, request)


@router.post("/ingest")
async def ingest(
    c: str,
    request: Request,
    here: Here,
    caller: Ingester,
    file: Annotated[UploadFile, File(description="CSV, JSON, or a zip of one and of CIF files.")],
    dry_run: Annotated[bool, Query(description="Only say what would change.")] = False,
) -> JSONResponse:
    """Take in a file of results: all of it, or nothing; `errors` names what is wrong in it."""
    from campaigns import ingestion

    content = await file.read()
    # a browser on Windows sends a path
    name = (file.filename or "results.csv").replace("\\", "/").rpartition("/")[2]
    said = keyed(request, hashlib.sha256(content + name.encode()).hexdigest())
    readings = await run_in_threadpool(_readings, here, c, name, content)
    key = ingestion.content_key(readings)

    def change(session: Session, known: Known) -> Answer:
        if ingestion.already_in(session, known.id, key):
            summary = ingestion.Summary(source=name, already_ingested=True, dry_run=dry_run)
            return Answer({"campaign": known.name, **summary.as_dict()}, changed=False)
        summary = ingestion.take_in(
            session, known.id, readings, known.spec, name, key, dry_run=dry_run
        )
        told = {"campaign": known.name, **summary.as_dict()}
        if dry_run:
            raise _Dry(told)
        return Answer(told)

    try:
        answer = await changed(here, c, said, change)
    except _Dry as dry:
        answer = Answer(dry.told, changed=False)
    return reply(answer, request)


class _Dry(Exception):
    """Undoes a change that was only to be tried."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__("dry run")
        self.told = told


def _checked(here: Service, c: str, given: Any, flat: bool) -> dict[str, Any]:
    """A design against space, constraints and screen; a crystal is read by the reader."""
    from campaigns.service.designs import checked
    from campaigns.spec_axes import LatentAxis

    known = here.read(lambda s: here.campaign(s, c))
    if any(isinstance(axis, LatentAxis) for axis in known.spec.space.values()):
        spec = known.spec.model_dump(mode="json")
        found: dict[str, Any] = here.reader.ask("design", spec=spec, given=given, flat=flat)
        return found
    return checked(known.spec, given, flat)


def _readings(here: Service, c: str, name: str, content: bytes) -> Any:
    from sqlalchemy import select

    from campaigns.handout import known_columns
    from campaigns.results_file import Reading
    from campaigns.store.models import Trial

    def ask(session: Session) -> tuple[Known, list[tuple[int, str | None, Any]]]:
        known = here.campaign(session, c)
        rows = session.execute(
            select(Trial.index, Trial.provenance, Trial.design).where(Trial.campaign_id == known.id)
        )
        return known, [(index, told.get("name"), design) for index, told, design in rows]

    known, designs = here.read(ask)
    columns = known_columns(known.spec, designs)
    found = here.reader.ask(
        "results",
        name=name,
        content=base64.b64encode(content).decode(),
        trials=[index for index, *_ in designs],
        units=known.units,
        known={
            column: {"unit": one.unit, "values": dict(one.values)}
            for column, one in columns.items()
        },
        fidelities=list(known.spec.fidelities),
    )
    return [Reading(**one) for one in found]
