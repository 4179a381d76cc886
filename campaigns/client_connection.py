"""One connection to a server: requests that are made again, and errors as the server tells them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, cast
from uuid import uuid4

import httpx

from campaigns._version import __version__
from campaigns.errors import MatloopError, UsageError

AGAIN: Final = frozenset({429, 502, 503, 504})
"""The statuses after which a request is made again: the server, or what is before it, is busy or
about to come back."""

_LONGEST_PAUSE: Final = 30.0
TIMEOUT: Final = 30.0


class Unreachable(MatloopError):
    """The server did not answer within the client's patience.

    It may have done what was asked: the same call with the same `idempotency_key` is safe.
    """


class Refused(MatloopError):
    """The server said no; `status` is HTTP's.

    Attributes:
        status: 409 for a conflict, 422 for input that is wrong, and so on.
        problem: The server's answer, RFC 9457.
        errors: Each thing that is wrong with the input, with `where` and `what`.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], request: str) -> None:
        super().__init__(
            str(problem.get("title") or f"the server answered with status {status}"),
            where=_text(problem.get("instance")) or request,
            why=_text(problem.get("detail")),
            unchanged=_text(problem.get("unchanged")),
            hint=_text(problem.get("hint")) or _HINTS.get(status),
        )
        self.status, self.problem = status, dict(problem)
        found = problem.get("errors")
        self.errors: list[dict[str, Any]] = [e for e in found or () if isinstance(e, dict)]
        # What is wrong with this use of it, and what is the server's or the campaign's state.
        self.exit_status = 2 if status in (400, 401, 403, 404, 405, 413, 415, 422) else 1

    def __str__(self) -> str:
        more = [f"  {e.get('where')}: {e.get('what')}" for e in self.errors[:50]]
        return "\n".join([super().__str__(), *more])

    def only_ran_out(self, token: int) -> bool:
        """Of a heartbeat: whether the lease ran out, but no other was given: a report counts."""
        told = (self.problem.get("trial_status"), self.problem.get("newest"))
        return self.status == 409 and told == ("candidate", token)

    def as_dict(self) -> dict[str, Any]:
        """The error with the server's list of what is wrong."""
        return super().as_dict() | {"status": self.status, "problems": self.errors}


_HINTS: Final = {
    401: "give a key: --key, or MATLOOP_KEY in the environment",
    403: "ask the campaign's owner for a key with this scope: `matloop token create`",
}


class Connection:
    """A connection to a server; use it as a context manager, or call `close`.

    Args:
        url: Where the server is, as `http://127.0.0.1:8000`.
        key: The token; without one, only `health` is answered.
        patience: Seconds for which a request is made again while the server does not answer, or
            says that it is busy.
        timeout: Seconds that one attempt may take.
        transport: In place of the network, for an application in the same process.

    Raises:
        UsageError: The address is none.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        patience: float = 120.0,
        timeout: float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise UsageError(f"{url!r} is no address", why=str(error)) from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UsageError(f"{url!r} is no address of a server", hint="as http://127.0.0.1:8000")
        self.url = str(parsed).rstrip("/")
        self.patience = patience
        headers = {"User-Agent": f"matloop/{__version__}", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    # One request

    def _get(
        self, path: str, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        more = {} if timeout is None else {"timeout": timeout}
        return self._send("GET", path, params=params or {}, **more)

    def _post(
        self, path: str, body: Mapping[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        sent = self._send("POST", path, json=dict(body), idempotency_key=idempotency_key)
        return cast(dict[str, Any], sent)

    def _send(self, method: str, path: str, **request: Any) -> Any:
        answer = self._answer(method, path, **request)
        try:
            return answer.json()
        except ValueError as error:
            raise MatloopError(
                "the answer is not JSON: is this a matloop server?",
                where=f"{method} {self.url}{path}",
                why=f"it is {answer.headers.get('content-type', 'of no type')}",
            ) from error

    def _text(self, path: str) -> str:
        return self._answer("GET", path, headers={"Accept": "*/*"}).text

    def _answer(
        self, method: str, path: str, *, idempotency_key: str | None = None, **request: Any
    ) -> httpx.Response:
        """Make a request, again and again while that may help.

        Raises:
            Refused: The server said no.
            Unreachable: It said nothing, or that it is busy, for as long as `patience`.
        """
        if method == "POST":
            request["headers"] = {"Idempotency-Key": idempotency_key or uuid4().hex}
        where = f"{method} {self.url}{path}"
        for pause in pauses(self.patience):
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                why = f"{type(error).__name__}: {error}".rstrip(": ")
                if not pause():
                    raise _unreachable(where, why) from error
                continue
            if answer.status_code in AGAIN:
                if not pause(_seconds(answer.headers.get("retry-after"))):
                    told = _problem(answer)
                    title = _text(told.get("title")) or _text(told.get("detail")) or "no reason"
                    raise _unreachable(where, f"status {answer.status_code}: {title}")
                continue
            if answer.is_success:
                return answer
            raise Refused(answer.status_code, _problem(answer), where)
        raise AssertionError  # `pauses` has no end


def pauses(patience: float) -> Iterator[Callable[..., bool]]:
    """Attempts, each with a function that pauses before the next one.

    The pauses double and are drawn at random (all clients of a server that comes back would come
    back together), within what is left of the patience.

    Yields:
        `pause(at_least=0) -> bool`: it waits, and tells whether another attempt is due.
    """
    deadline = time.monotonic() + patience
    span = 0.25

    def pause(at_least: float = 0.0) -> bool:
        wait = max(at_least, random.uniform(span / 2, span))
        left = deadline - time.monotonic()
        if left <= 0 or at_least > left:
            return False
        time.sleep(min(wait, left))
        return True

    while True:
        yield pause
        span = min(2 * span, _LONGEST_PAUSE)


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if isinstance(problem, Mapping):
        return problem
    return {"detail": " ".join(answer.text.split())[:300] or None}


def _seconds(text: str | None) -> float:
    """What `Retry-After` says in seconds; 0 where it says nothing that can be used."""
    try:
        seconds = float(text or 0.0)
    except ValueError:  # a date, which no server of ours sends
        return 0.0
    return min(seconds, 3600.0) if math.isfinite(seconds) and seconds > 0 else 0.0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _unreachable(where: str, why: str) -> Unreachable:
    return Unreachable(
        "the server does not answer",
        where=where,
        why=why,
        unchanged="whatever the server had",
        hint="is `matloop serve` running there? the same command can be given again",
    )
