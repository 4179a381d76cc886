"""Errors as RFC 9457 has them: what, why, where, what stayed unchanged, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from campaigns.errors import InputErrors, MatloopError, UsageError, quoted

MEDIA_TYPE: Final = "application/problem+json"

_log = logging.getLogger("matloop.service")


class Refused(Exception):
    """A request that is not done; nothing was changed unless `unchanged` says otherwise.

    Args:
        status: The HTTP status.
        title: What is wrong, in one line.
        detail: Why.
        hint: What the client can do about it.
        unchanged: What stayed as it was.
        errors: Each with `where` and `what`.
        kind: The last part of the problem's type.
        headers: HTTP headers of the answer.
        more: Other members of the answer.
    """

    def __init__(
        self,
        status: int,
        title: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        unchanged: str | None = None,
        errors: Sequence[dict[str, str]] = (),
        kind: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(title)
        self.status, self.title, self.detail = status, title, detail
        self.hint, self.unchanged, self.errors = hint, unchanged, list(errors)
        self.kind, self.headers, self.more = kind, headers or {}, more

    def body(self, instance: str | None = None) -> dict[str, Any]:
        """The problem as JSON."""
        found = {
            "type": f"urn:matloop:{self.kind}" if self.kind else "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "unchanged": self.unchanged,
            "hint": self.hint,
            "errors": self.errors or None,
            **self.more,
        }
        return {key: value for key, value in found.items() if value is not None}


def of_error(error: MatloopError) -> Refused:
    """What is told of an error of the campaign: wrong input is 422, the rest 503."""
    if isinstance(error, InputErrors):
        errors = [
            {"where": p.where, "what": p.what, **({"hint": p.hint} if p.hint else {})}
            for p in error.problems
        ]
        title = error.what if len(errors) == 1 else f"{len(errors)} things are wrong"
        return Refused(422, title, unchanged=error.unchanged, hint=error.hint, errors=errors)
    status = 422 if isinstance(error, UsageError) else 503
    detail = "; ".join(part for part in (error.why, error.where) if part) or None
    return Refused(
        status, error.what, detail=detail, unchanged=error.unchanged, hint=error.hint
    )  # fmt: skip


def response(problem: Refused, request: Request) -> JSONResponse:
    """The answer to a request that is refused."""
    return JSONResponse(
        problem.body(request.url.path),
        problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def install(app: FastAPI) -> None:
    """Give every error that a route may raise its form."""

    @app.exception_handler(Refused)
    async def _refused(request: Request, error: Refused) -> JSONResponse:
        return response(error, request)

    @app.exception_handler(MatloopError)
    async def _matloop(request: Request, error: MatloopError) -> JSONResponse:
        return response(of_error(error), request)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"where": ".".join(str(part) for part in e["loc"]), "what": quoted_message(e)}
            for e in error.errors()[:50]
        ]
        told = Refused(
            422,
            "the request is not of the form that is wanted",
            unchanged="everything",
            errors=errors,
            hint="see /docs for the form",
        )
        return response(told, request)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        title = HTTPStatus(error.status_code).phrase.lower()
        detail = error.detail if str(error.detail).lower() != title else None
        told = Refused(error.status_code, title, detail=detail, headers=dict(error.headers or {}))
        return response(told, request)

    @app.exception_handler(Exception)
    async def _defect(request: Request, error: Exception) -> JSONResponse:
        _log.exception("a defect in %s %s", request.method, request.url.path, exc_info=error)
        told = Refused(
            500,
            "matloop failed",
            detail=type(error).__name__,
            hint="the server's log has the traceback; please report it",
        )
        return response(told, request)


def quoted_message(error: Any) -> str:
    """What pydantic says of a value, and the value if it is short."""
    message = str(error["msg"])
    if error["type"] == "json_invalid":
        return f"{message}: {error['ctx']['error']}"
    value = error.get("input")
    if isinstance(value, str | int | float | bool) and not isinstance(value, bytes):
        return f"{message}, not {quoted(value)}"
    return message
