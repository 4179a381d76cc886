"""From changes to answers."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from campaigns.service.core import Known, Service
from campaigns.service.faults import reached
from campaigns.service.idempotency import Answer, Once
from campaigns.service.problems import MEDIA_TYPE


async def changed(
    here: Service,
    campaign: str,
    said: Once,
    change: Callable[[Session, Known], Answer],
    point: str | None = None,
) -> Answer:
    """Make a change to a campaign once, in one transaction with what is kept of the request.

    Args:
        here: The service.
        campaign: Its name.
        said: The request.
        change: Given the session and the campaign.
        point: Of `faults`.

    Raises:
        Refused: There is no such campaign, or `change` refuses.
    """

    def whole(session: Session) -> Answer:
        known = here.campaign(session, campaign)
        answer = said.make(session, here.now(session), lambda s: change(s, known))
        if point is not None and answer.changed:
            reached(f"{point}:before-commit")
        return answer

    answer = await here.writer.change(whole)
    if point is not None and answer.changed:
        reached(f"{point}:after-commit")
    return answer


def reply(answer: Answer, request: Request) -> JSONResponse:
    """An answer over HTTP: a problem where its status says so."""
    if answer.status < 400:
        return JSONResponse(answer.body, answer.status, headers=answer.headers)
    body = {**answer.body, "instance": request.url.path}
    return JSONResponse(body, answer.status, media_type=MEDIA_TYPE, headers=answer.headers)
