"""The same request twice is one change: its answer is kept in the change's own transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request
from sqlalchemy import Table, bindparam, delete, insert, select
from sqlalchemy.orm import Session

from campaigns.service.problems import Refused
from campaigns.store.models import Idempotency

KEEP: Final = timedelta(days=7)
LONGEST: Final = 200

_TABLE: Final = cast(Table, Idempotency.__table__)
_KEPT: Final = select(_TABLE.c.body_hash, _TABLE.c.status, _TABLE.c.answer).where(
    _TABLE.c.caller == bindparam("caller"), _TABLE.c.key == bindparam("key")
)


@dataclass(frozen=True)
class Answer:
    """What is told of a change.

    Attributes:
        body: As JSON.
        status: The HTTP status.
        changed: Whether anything was; the answer of a change is kept.
        headers: HTTP headers.
    """

    body: dict[str, Any]
    status: int = 200
    changed: bool = True
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Once:
    """A request that may come twice.

    Attributes:
        caller: Whose; another caller's key is another.
        key: Its ``Idempotency-Key``; None = it has none.
        body_hash: Of the method, the path and the body.
    """

    caller: str
    key: str | None
    body_hash: str

    def make(self, session: Session, now: datetime, change: Callable[[Session], Answer]) -> Answer:
        """Make a change, or find the answer that was given when it was made.

        Raises:
            Refused: The key came with another request.
        """
        if self.key is None:
            return change(session)
        told: dict[tuple[str, str], dict[str, Any]] = session.info.setdefault("answers", {})
        row = told.get((self.caller, self.key))
        if row is None:
            found = session.connection().execute(_KEPT, {"caller": self.caller, "key": self.key})
            row = cast(dict[str, Any] | None, found.mappings().first())
        if row is not None:
            if row["body_hash"] != self.body_hash:
                raise Refused(
                    409,
                    "this Idempotency-Key was used for another request",
                    unchanged="everything",
                    hint="a new request has a new key; only a repetition has the old one",
                    kind="idempotency",
                )
            return Answer(row["answer"], row["status"], False, {"Idempotency-Replayed": "true"})
        answer = change(session)
        if answer.changed:
            session.flush()  # what fails, fails before its answer is one
            told[self.caller, self.key] = {
                "caller": self.caller, "key": self.key, "body_hash": self.body_hash,
                "status": answer.status, "answer": answer.body, "created": now,
            }  # fmt: skip
        return answer


def keep(session: Session) -> None:
    """Write down the answers of a transaction, all in one statement, before it is committed."""
    told = session.info.pop("answers", None)
    if told:
        session.connection().execute(insert(_TABLE), list(told.values()))


async def once(request: Request) -> Once:
    """The request as a `Once`; its body is read.

    Raises:
        Refused: The key cannot be one.
    """
    body = await request.body()
    return keyed(request, hashlib.sha256(body).hexdigest())


Said = Annotated[Once, Depends(once)]


def keyed(request: Request, content: str) -> Once:
    """The same for a request whose content has this hash."""
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= LONGEST and key.isprintable() and key.isascii()):
        raise Refused(
            400, "this cannot be an Idempotency-Key", hint=f"1 to {LONGEST} printable characters"
        )
    asked = f"{request.method} {request.url.path}?{request.url.query} {content}"
    caller = request.state.caller.id
    return Once(caller, key, hashlib.sha256(asked.encode()).hexdigest())


def forget(session: Session, now: datetime) -> None:
    """Drop answers that nobody will ask for again."""
    session.execute(delete(Idempotency).where(Idempotency.created < now - KEEP))
