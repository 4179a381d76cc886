"""Who asks, and whether they may: `require` is the dependency of every route but one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from campaigns.service import tokens
from campaigns.service.core import Service
from campaigns.service.limits import Buckets
from campaigns.service.problems import Refused
from campaigns.service.tokens import SCOPES, Caller

COOKIE: Final = "matloop_key"

REMEMBERED: Final = 5.0
"""Seconds for which a key that was looked up is known: so long at most does one live on that
another server revoked."""

_PUBLIC: Final = "__matloop_scope__"


class Keys:
    """The keys that were used lately.

    Args:
        service: Whose database knows them.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: dict[str, tuple[float, Caller]] = {}
        self._asked: dict[str, asyncio.Future[Caller | None]] = {}
        self.buckets = Buckets(service.settings.rate, service.settings.burst)

    def forget(self) -> None:
        """Look every key up again: one was revoked."""
        self._known.clear()

    async def caller(self, key: str) -> Caller:
        """Whose key it is.

        Raises:
            Refused: It is none, or it has made too many requests.
        """
        now = time.monotonic()
        found = self._known.get(key)
        if found is None or found[0] < now:
            caller = await self._found(key)
            if caller is None:
                self._known.pop(key, None)
                raise _unknown("the key is not known, has expired or was revoked")
            if len(self._known) > 10_000:
                self._known.clear()
            found = self._known[key] = (now + REMEMBERED, caller)
        wait = self.buckets.take(found[1].id)
        if wait > 0:
            raise Refused(
                429,
                "too many requests",
                detail=f"a key may make {self._service.settings.rate:g} a second",
                hint="wait, then go on",
                kind="rate",
                headers={"Retry-After": str(max(1, round(wait)))},
            )
        return found[1]

    async def _found(self, key: str) -> Caller | None:
        """Look a key up; of requests that ask at the same time, one does it for all."""
        asked = self._asked.get(key)
        if asked is None:
            asked = asyncio.ensure_future(run_in_threadpool(self._look_up, key))
            self._asked[key] = asked
            asked.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(asked)

    def _look_up(self, key: str) -> Caller | None:
        with self._service.store.read() as session:
            return tokens.check(session, key, self._service.store.now(session))


def presented(request: Request) -> str | None:
    """The key that comes with a request: in its header, or a page's cookie.

    Raises:
        Refused: A page of another site would change something with the cookie of this one.
    """
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and key.strip():
        return key.strip()
    cookie = request.cookies.get(COOKIE)
    if cookie is not None and request.method not in ("GET", "HEAD"):
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            raise Refused(403, "this request comes from a page of another site", detail=origin)
    return cookie


@cache
def require(scope: str) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets only those in who may do this, here.

    Args:
        scope: read, work, ingest, decide or admin; admin may do everything.

    Returns:
        What `Depends` takes; it gives the `Caller`.
    """
    # one dependency a scope: FastAPI asks each once in a request
    assert scope in SCOPES

    async def check(request: Request) -> Caller:
        keys: Keys = request.app.state.keys
        key = presented(request)
        if key is None:
            raise _unknown("the request has no key")
        caller = await keys.caller(key)
        if not caller.scopes & {scope, "admin"}:
            raise Refused(
                403,
                f"this key is not for that: it lacks the scope {scope!r}",
                detail=f"it has {', '.join(sorted(caller.scopes)) or 'none'}",
                hint=f"`matloop token create NAME --scope {scope}` makes another",
                kind="scope",
            )
        campaign = request.path_params.get("c")
        if caller.campaign is not None and campaign not in (None, caller.campaign):
            raise Refused(
                403,
                "this key is for another campaign",
                detail=f"it is for {caller.campaign}",
                kind="campaign",
            )
        request.state.caller = caller
        return caller

    setattr(check, _PUBLIC, scope)
    return check


def scope_of(dependency: Any) -> str | None:
    """The scope that a dependency made by `require` asks for; None of any other."""
    found = getattr(dependency, _PUBLIC, None)
    return None if found is None else str(found)


def _unknown(detail: str) -> Refused:
    return Refused(
        401,
        "who are you?",
        detail=detail,
        hint="send `Authorization: Bearer KEY`; `matloop token create NAME` makes a key",
        kind="key",
        headers={"WWW-Authenticate": "Bearer"},
    )


Read = Depends(require("read"))
Work = Depends(require("work"))
Ingest = Depends(require("ingest"))
Decide = Depends(require("decide"))
Admin = Depends(require("admin"))
