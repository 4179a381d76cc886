"""The REST service as the pages use it: its public addresses, with the key of who looks.

A page asks the application it belongs to, in the same process; what a page shows and may do is
therefore exactly what the service gives and allows.
"""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import Request

_PASSED_ON = ("cookie", "authorization")


class Refused(Exception):
    """The service's problem document, for a page to show.

    Attributes:
        status: The HTTP status.
        problem: The document (RFC 9457): title, detail, instance, unchanged, hint, errors.
    """

    def __init__(self, status: int, problem: dict[str, Any]):
        super().__init__(problem.get("title") or f"status {status}")
        self.status, self.problem = status, problem


class Rest:
    """The service, asked in the name of who made a request."""

    def __init__(self, request: Request):
        self._app = request.app
        self._base = str(request.base_url)
        self._headers = {k: request.headers[k] for k in _PASSED_ON if k in request.headers}

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON (or, of another media type, the text) at an address of the service.

        Args:
            path: As `/v1/campaigns`.
            params: Of the query; None = not given.

        Raises:
            Refused: The service answered with a problem.
        """
        return await self._ask("GET", path, params=params)

    async def post(self, path: str, body: Any = None, **params: Any) -> Any:
        """Change something. Raises as `get`."""
        return await self._ask("POST", path, params=params, json=body if body is not None else {})

    async def _ask(self, method: str, path: str, *, params: dict[str, Any], **rest: Any) -> Any:
        given = {k: v for k, v in params.items() if v is not None}
        transport = httpx.ASGITransport(app=self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url=self._base, headers=self._headers
        ) as client:
            answer = await client.request(method, path, params=given, **rest)
        kind = answer.headers.get("content-type", "")
        told = answer.json() if "json" in kind and answer.content else answer.text
        if answer.is_success:
            return told
        problem = told if isinstance(told, dict) else {"title": f"{path}: {answer.reason_phrase}"}
        raise Refused(answer.status_code, problem)


def rest(request: Request) -> Rest:
    """The service in the name of who made this request."""
    return Rest(request)
