"""A campaign as those who answer its trials meet it: by the store itself, or by HTTP.

What may be done is the same by each door, so the tests in `test_conformance` have no other way in.
"""

from __future__ import annotations

import base64
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns import client, records
from campaigns.errors import InputErrors
from campaigns.leases import Lease, metrics_json
from campaigns.replaying import differences
from campaigns.service import bodies, decisions, described, designs, history, leases, reports
from campaigns.service.core import Known, trial_of
from campaigns.service.idempotency import Answer, Once
from campaigns.service.problems import Refused, of_error
from campaigns.service.writer import Writer
from campaigns.store import Store
from campaigns.store.models import CampaignRow, Event, Trial
from tests.campaigns.served import Toy


class Refusal(Exception):
    """What a door says no with: HTTP's status, and the problem as JSON."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {dict(problem)}")
        self.status, self.problem = status, dict(problem)


class Door(ABC):
    """One way to a toy campaign; every method raises `Refusal` where the answer is no."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        self.store = toy.campaign.store

    # What goes through the door

    @abstractmethod
    def lease(
        self, n: int = 1, worker: str = "w", key: str | None = None, **more: Any
    ) -> list[Lease]: ...

    @abstractmethod
    def heartbeat(self, lease: Lease, **more: Any) -> dict[str, Any]: ...

    @abstractmethod
    def report(
        self, lease: Lease, metrics: Any, key: str | None = None, **more: Any
    ) -> dict[str, Any]: ...

    @abstractmethod
    def fail(
        self, lease: Lease, kind: Any, reason: str = "why", key: str | None = None
    ) -> dict[str, Any]: ...

    @abstractmethod
    def observe(self, metrics: Any, key: str | None = None, **more: Any) -> dict[str, Any]: ...

    @abstractmethod
    def decide(self, word: Any, trial: int, reason: str = "why") -> dict[str, Any]: ...

    @abstractmethod
    def stop(self, on: bool) -> dict[str, Any]: ...

    @abstractmethod
    def trial(self, index: int) -> dict[str, Any]: ...

    @abstractmethod
    def observations(self) -> list[dict[str, Any]]: ...

    @abstractmethod
    def events(self) -> list[dict[str, Any]]: ...

    # What happens beside it

    def run_out(self, *trials: int) -> None:
        """Let leases run out: of these trials, or all."""
        with self.store.write() as session:
            row = self.toy.campaign._row
            running = select(Trial).where(Trial.campaign_id == row.id, Trial.status == "running")
            for trial in session.scalars(running):
                if trial.index in trials or not trials:
                    trial.lease_expires = self.store.now(session) - timedelta(seconds=1)

    def kinds(self) -> list[str]:
        """The kinds of the events, oldest first."""
        return [event["kind"] for event in self.events()]

    def differences(self) -> list[str]:
        """Where the tables are not what the events tell."""
        with self.store.read() as session:
            row = session.get_one(CampaignRow, self.toy.campaign._row.id)
            return differences(session, row)[1]


class Direct(Door):
    """The functions that the service calls, and the one writer that they change the store by."""

    def __init__(self, toy: Toy, store: Store, writer: Writer) -> None:
        super().__init__(toy)
        self.store, self.writer = store, writer

    def lease(
        self, n: int = 1, worker: str = "w", key: str | None = None, **more: Any
    ) -> list[Lease]:
        def change(session: Session, known: Known) -> Answer:
            now = self.store.now(session)
            given = leases.lease(session, known, now, worker, n, **more)
            return Answer({"leases": given}, changed=bool(given))

        found = self._made(change, key, ["lease", n, worker, more])["leases"]
        return [Lease.from_json(one) for one in found]

    def heartbeat(self, lease: Lease, **more: Any) -> dict[str, Any]:
        return self._made(
            lambda s, known: Answer(
                leases.heartbeat(s, known, self.store.now(s), lease.trial, lease.token, **more)
            )
        )

    def report(
        self, lease: Lease, metrics: Any, key: str | None = None, **more: Any
    ) -> dict[str, Any]:
        files = more.pop("artifacts", {})
        body = bodies.Result(
            token=lease.token, metrics=metrics_json(metrics, lease.units),  # type: ignore[arg-type]
            artifacts=[
                bodies.File(name=name, base64=base64.b64encode(text.encode()).decode())
                for name, text in files.items()
            ],
            **more,
        )  # fmt: skip
        return self._made(
            lambda s, known: reports.result(s, known, self.store.now(s), lease.trial, body),
            key, ["result", lease.trial, body.model_dump(mode="json")],
        )  # fmt: skip

    def fail(
        self, lease: Lease, kind: Any, reason: str = "why", key: str | None = None
    ) -> dict[str, Any]:
        body = bodies.Fail(token=lease.token, kind=kind, reason=reason)
        return self._made(
            lambda s, known: reports.fail(s, known, self.store.now(s), lease.trial, body),
            key, ["fail", lease.trial, body.model_dump(mode="json")],
        )  # fmt: skip

    def observe(self, metrics: Any, key: str | None = None, **more: Any) -> dict[str, Any]:
        spec = self.toy.campaign.spec
        body = bodies.Observations(metrics=metrics_json(metrics, spec.metric_units()), **more)  # type: ignore[arg-type]
        checked = None
        if body.trial is None:
            given = body.design if body.design is not None else body.params
            try:
                checked = designs.checked(spec, given or {}, body.design is None)
            except InputErrors as error:
                raise _refusal(of_error(error)) from error
        return self._made(
            lambda s, known: history.take_in(s, known, body, "test", checked),
            key, ["observations", body.model_dump(mode="json")],
        )  # fmt: skip

    def decide(self, word: Any, trial: int, reason: str = "why") -> dict[str, Any]:
        return self._made(lambda s, known: decisions.decide(s, known, trial, word, "me", reason))

    def stop(self, on: bool) -> dict[str, Any]:
        return self._made(lambda s, known: decisions.stop(s, known, on, "me", None))

    def trial(self, index: int) -> dict[str, Any]:
        with self.store.read() as session:
            known = self._known(session)
            return described.trial(known, trial_of(session, known, index), whole=True)

    def observations(self) -> list[dict[str, Any]]:
        with self.store.read() as session:
            return described.observations(session, self._known(session), 0, 1000)

    def events(self) -> list[dict[str, Any]]:
        with self.store.read() as session:
            mine = select(Event).where(Event.campaign_id == self.toy.campaign._row.id)
            return [records.event_dict(e) for e in session.scalars(mine.order_by(Event.id))]

    def _known(self, session: Session) -> Known:
        row = session.get_one(CampaignRow, self.toy.campaign._row.id)
        spec = self.toy.campaign.spec
        return Known(row.id, row.name, spec, spec.metric_units(), row.stopped, row.state)

    def _made(
        self,
        change: Callable[[Session, Known], Answer],
        key: str | None = None,
        request: Any = None,
    ) -> dict[str, Any]:
        asked = json.dumps([self.toy.name, request])
        once = Once("me", key, sha256(asked.encode()).hexdigest())

        def whole(session: Session) -> Answer:
            known = self._known(session)
            return once.make(session, self.store.now(session), lambda s: change(s, known))

        try:
            answer = self.writer.submit(whole).result(60)
        except Refused as error:
            raise _refusal(error) from error
        if answer.status >= 400:
            raise Refusal(answer.status, answer.body)
        return answer.body


def _refusal(error: Refused) -> Refusal:
    return Refusal(error.status, error.body())


@contextmanager
def direct(url: str, folder: Path) -> Iterator[Callable[..., Direct]]:
    """Make campaigns in a database, each with n candidates, and doors to them."""
    store = Store(url, pooled=True)
    writer, names = Writer(store), itertools.count()
    try:
        yield lambda n, **more: Direct(
            Toy(url, folder, f"toy-{next(names)}", n, **more), store, writer
        )
    finally:
        writer.close()
        store.close()


class Http(Door):
    """The typed client, and a server in a process of its own."""

    def __init__(self, toy: Toy, made: client.Client) -> None:
        super().__init__(toy)
        self.client = made

    def lease(
        self, n: int = 1, worker: str = "w", key: str | None = None, **more: Any
    ) -> list[Lease]:
        return self._asked(
            self.client.lease, self.toy.name, n, worker=worker, idempotency_key=key, **more
        )

    def heartbeat(self, lease: Lease, **more: Any) -> dict[str, Any]:
        return vars(self._asked(self.client.heartbeat, lease, **more))

    def report(
        self, lease: Lease, metrics: Any, key: str | None = None, **more: Any
    ) -> dict[str, Any]:
        return self._asked(self.client.report, lease, metrics, idempotency_key=key, **more)

    def fail(
        self, lease: Lease, kind: Any, reason: str = "why", key: str | None = None
    ) -> dict[str, Any]:
        return self._asked(self.client.fail, lease, reason, kind, idempotency_key=key)

    def observe(self, metrics: Any, key: str | None = None, **more: Any) -> dict[str, Any]:
        return self._asked(self.client.observe, self.toy.name, metrics, idempotency_key=key, **more)

    def decide(self, word: Any, trial: int, reason: str = "why") -> dict[str, Any]:
        more = (reason,) if word == "reject" else ()
        return self._asked(getattr(self.client, word), self.toy.name, trial, *more)

    def stop(self, on: bool) -> dict[str, Any]:
        return self._asked(self.client.stop if on else self.client.resume, self.toy.name)

    def trial(self, index: int) -> dict[str, Any]:
        return self._asked(self.client.trial, self.toy.name, index)

    def observations(self) -> list[dict[str, Any]]:
        return self._asked(self.client.observations, self.toy.name)

    def events(self) -> list[dict[str, Any]]:
        return self._asked(self.client.events, self.toy.name)

    def _asked(self, method: Callable[..., Any], *args: Any, **more: Any) -> Any:
        try:
            return method(*args, **more)
        except client.Refused as error:
            raise Refusal(error.status, error.problem) from error


def old(lease: Lease, by: int = 1) -> Lease:
    """The lease of the same trial before this one."""
    return replace(lease, token=lease.token - by)
