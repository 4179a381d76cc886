"""Routes whose JSON is read strictly."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from campaigns.service.limits import strict_loads


class StrictRequest(Request):
    """A request whose JSON has no NaN, no infinity, and no key twice."""

    async def json(self) -> Any:
        """The body as JSON.

        Raises:
            json.JSONDecodeError: It is no such JSON.
        """
        return strict_loads(await self.body())


class StrictRoute(APIRoute):
    """A route that reads `StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given the request anew."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly
