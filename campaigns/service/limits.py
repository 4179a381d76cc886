"""Limits that hold before anything is read: how large a request is, and how many there are."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from campaigns.service.problems import MEDIA_TYPE, Refused
from campaigns.service.settings import ServiceSettings

DEEPEST: Final = 40
"""Brackets in one another in a request's JSON; a spec's designs need ten."""


class Buckets:
    """A bucket of tokens for each caller, filled at a rate.

    Args:
        rate: Requests a second.
        burst: Requests that a full bucket holds.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, who: str) -> float:
        """Take one; seconds to wait where there is none."""
        now = time.monotonic()
        left, then = self._left.get(who, (float(self._burst), now))
        left = min(float(self._burst), left + (now - then) * self._rate)
        if left < 1.0:
            self._left[who] = (left, now)
            return (1.0 - left) / self._rate
        self._left[who] = (left - 1.0, now)
        return 0.0


class BodyLimit:
    """Refuse a request that is too large, as early as that can be told.

    By its declared length before a byte is read; else as soon as more has come. What was read of it
    is dropped.

    Args:
        app: What answers.
        settings: The limits.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app, self._settings = app, settings

    def _limit(self, path: str) -> int:
        if path.endswith("/ingest"):
            return self._settings.upload
        if path.endswith(("/result", "/observations")):
            return self._settings.results
        return self._settings.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:
            await _refuse(limit, scope, send)
            return
        came, begun = 0, False

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > limit:
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _TooLarge:
            if begun:
                raise
            await _refuse(limit, scope, send)


class _TooLarge(BaseException):
    """More came than was allowed; no handler of the application's takes it for an error of its."""


async def _refuse(limit: int, scope: Scope, send: Send) -> None:
    problem = Refused(
        413,
        "the request is too large",
        detail=f"at most {limit / 2**20:g} MiB here",
        unchanged="everything",
        hint="send it in parts, or files as artifacts of several trials",
        kind="size",
    )
    body = json.dumps(problem.body(scope["path"])).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        # the rest of the request is not read, so the connection can carry no other
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def strict_loads(text: bytes | str) -> Any:
    """Read JSON as the standard has it.

    Python's reader takes NaN, Infinity and 1e400, and of a key that is there twice the last.

    Raises:
        json.JSONDecodeError: It is not such JSON.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise json.JSONDecodeError("it is not UTF-8", "", error.start) from error

    def refuse(word: str) -> Any:
        raise json.JSONDecodeError(f"{word} is no number of JSON", text, 0)

    def number(digits: str) -> float:
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            raise json.JSONDecodeError(f"{digits[:40]} is too large for a number", text, 0)
        return value

    def whole(digits: str) -> int:
        if len(digits) > 30:
            raise json.JSONDecodeError(f"{digits[:30]}... is too large for a number", text, 0)
        return int(digits)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise json.JSONDecodeError("a key is there twice", text, 0)
        return found

    try:
        loaded = json.loads(
            text, parse_constant=refuse, parse_float=number, parse_int=whole, object_pairs_hook=once
        )
    except RecursionError as error:
        raise json.JSONDecodeError("too many brackets in one another", "", 0) from error
    _check(loaded)
    return loaded


def _check(value: Any, depth: int = 0) -> None:
    """Refuse what no database takes: half of a surrogate pair, a zero byte, a deep nest."""
    if depth > DEEPEST:
        raise json.JSONDecodeError("too many brackets in one another", "", 0)
    if isinstance(value, str):
        if "\x00" in value or (
            not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)
        ):
            raise json.JSONDecodeError("a text has a character that cannot be stored", "", 0)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth + 1)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
