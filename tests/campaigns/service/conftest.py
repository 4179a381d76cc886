"""A service in this process, over a toy campaign whose designs a laboratory answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from campaigns.service import tokens
from campaigns.service.app import create_app
from campaigns.service.settings import ServiceSettings
from campaigns.store.models import CampaignRow, Event, Trial
from campaigns.store.store import record

BUDGET = "{trials: 40, batch: 4}"
SPEC = """
campaign: {name}
space:
  x: {{range: [0, 1]}}
  y: {{range: [0, 1]}}
  t: {{range: [900, 1500], unit: K}}
objectives:
  hardness: {{goal: maximize, unit: GPa}}
  cost: {{goal: minimize, unit: dimensionless}}
constraints: [x + y <= 1.5]
evaluate: {{with: lab}}
budget: {budget}
{more}
"""


class Door:
    """A client of the service with one key, and a look into its database."""

    METRICS: ClassVar = {
        "hardness": {"value": 1500.0, "sem": 10.0, "unit": "MPa"},
        "cost": {"value": 2.0, "unit": "dimensionless"},
    }

    def __init__(self, client: TestClient, key: str) -> None:
        self.client = client
        self.key = key
        self.service = client.app.state.service  # type: ignore[attr-defined]
        self.root = "/v1/campaigns/toy"

    def ask(self, method: str, path: str, **kwargs: Any) -> Any:
        path = path if path.startswith(("/v1", "/log")) else self.root + path
        headers = {"Authorization": f"Bearer {self.key}"} | kwargs.pop("headers", {})
        return self.client.request(method, path, headers=headers, **kwargs)

    def get(self, path: str, **kwargs: Any) -> Any:
        return self.ask("GET", path, **kwargs)

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        return self.ask("POST", path, json={} if body is None else body, **kwargs)

    def lease(self, n: int = 1, worker: str = "w", **more: Any) -> list[dict[str, Any]]:
        answer = self.post("/leases", {"worker": worker, "n": n, **more})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["leases"]
        return found

    def with_key(self, *scopes: str, campaign: str | None = None) -> Door:
        with self.service.store.write() as session:
            key, _ = tokens.make(session, "other", scopes, campaign)
        return Door(self.client, key)

    def report(self, lease: dict[str, Any], metrics: Any = None, **more: Any) -> Any:
        body = {"token": lease["token"], "metrics": self.METRICS if metrics is None else metrics}
        return self.post(f"/trials/{lease['trial']}/result", body | more)

    def fail(self, lease: dict[str, Any], kind: str, reason: str = "it broke") -> Any:
        body = {"token": lease["token"], "kind": kind, "reason": reason}
        return self.post(f"/trials/{lease['trial']}/fail", body)

    def events(self, kind: str | None = None) -> list[Event]:
        with self.service.store.read() as session:
            query = select(Event).order_by(Event.id)
            return list(session.scalars(query if kind is None else query.where(Event.kind == kind)))

    def add(self, n: int, campaign: str = "toy") -> None:
        """Candidates, without a model's saying so."""
        with self.service.store.write() as session:
            row = session.scalars(select(CampaignRow).where(CampaignRow.name == campaign)).one()
            first = session.scalar(select(func.count()).where(Trial.campaign_id == row.id))
            for index in range(first, first + n):
                design = {"x": index / 100, "y": 0.5, "t": 1000.0 + index}
                told = {"name": f"x {index / 100}", "method": "test"}
                session.add(Trial(campaign_id=row.id, index=index, design=design, provenance=told))
                record(
                    session, row.id, "trial_added", trial=index, design=design, provenance=told,
                    fidelity=None, external_id=None,
                )  # fmt: skip

    def expire(self) -> None:
        """Let every lease run out."""
        from datetime import timedelta

        with self.service.store.write() as session:
            for trial in session.scalars(select(Trial).where(Trial.status == "running")):
                trial.lease_expires = self.service.store.now(session) - timedelta(seconds=1)


def begin(door: Door, name: str = "toy", more: str = "") -> None:
    text = SPEC.format(name=name, more=more, budget=BUDGET)
    answer = door.post("/v1/campaigns", {"spec": text})
    assert answer.status_code == 201, answer.text


@pytest.fixture
def make_door(tmp_path) -> Iterator[Callable[..., Door]]:
    """Make a service over a database; default: SQLite with an empty campaign `toy`."""
    from campaigns.campaign import Campaign

    open_: list[TestClient] = []

    def make(
        url: str | None = None,
        more: str = "",
        budget: str = BUDGET,
        **settings: Any,
    ) -> Door:
        url = url or f"sqlite:///{tmp_path / 'matloop.db'}"
        spec = tmp_path / "toy.yaml"
        spec.write_text(SPEC.format(name="toy", more=more, budget=budget))
        Campaign.create(spec, url).close()
        app = create_app(url, settings=ServiceSettings(**settings))
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        open_.append(client)
        with app.state.service.store.write() as session:
            key, _ = tokens.make(session, "test", tokens.SCOPES)
        return Door(client, key)

    yield make
    for client in open_:
        client.__exit__(None, None, None)


@pytest.fixture
def door(make_door) -> Door:
    """A service over a toy campaign with ten candidates."""
    door: Door = make_door()
    door.add(10)
    return door
