"""Every route: who may use it, and what it says."""

from __future__ import annotations

import re
import subprocess
import sys

from fastapi.routing import APIRoute

from campaigns.service.auth import scope_of


def routes(app):
    """All routes; a router that was included is one of them, with routes of its own."""
    found = []
    for route in app.routes:
        inside = getattr(route, "original_router", None)
        found += routes(inside) if inside is not None else [route]
    return [route for route in found if isinstance(route, APIRoute)]


def scopes(dependant):
    found = {scope_of(dependant.call)} if dependant.call else set()
    for other in dependant.dependencies:
        found |= scopes(other)
    return found - {None}


def test_every_route_of_the_api_asks_for_a_scope(door):
    api = [r for r in routes(door.client.app) if r.path.startswith("/v1")]
    assert len(api) > 25
    open_ = [r.path for r in api if not scopes(r.dependant)]
    assert open_ == ["/v1/health"]
    changing = [r for r in api if r.methods & {"POST", "DELETE", "PUT", "PATCH"}]
    assert [r.path for r in changing if scopes(r.dependant) == {"read"}] == []


def test_no_route_answers_without_a_key(door):
    for route in routes(door.client.app):
        if not route.path.startswith("/v1") or route.path == "/v1/health":
            continue
        path = re.sub(r"\{\w+\}", "0", route.path)
        for method in route.methods - {"HEAD"}:
            answer = door.client.request(method, path)
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"


def test_importing_the_service_imports_nothing_heavy():
    code = (
        "import sys, campaigns.service.app, campaigns.cli_serve; "
        "print([m for m in ('torch', 'pymatgen', 'pandas', 'ax') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_campaign_is_seen(door):
    (lease,) = door.lease()
    assert door.report(lease).status_code == 200
    (listed,) = door.get("/v1/campaigns").json()["campaigns"]
    assert listed["name"] == "toy"
    assert listed["counts"]["completed"] == 1
    status = door.get("").json()
    assert status["state"] == "waiting"
    assert status["best"]["hardness"]["value"] == 1.5
    assert status["workers"][0]["name"] == "w"
    assert status["metrics"] == {"hardness": "GPa", "cost": "dimensionless"}
    assert status["parameters"][2] == {
        "name": "t", "kind": "range", "unit": "K", "range": [900.0, 1500.0]
    }  # fmt: skip
    trials = door.get("/trials", params={"status": "completed"}).json()["trials"]
    assert [t["trial"] for t in trials] == [0]
    assert trials[0]["params"] == {"x": 0.0, "y": 0.5, "t": 1000.0}
    assert door.get("/trials/0").json()["provenance"]["method"] == "test"
    told = door.get("/observations").json()["observations"]
    assert {(o["metric"], o["mean"], o["raw_value"], o["raw_unit"]) for o in told} == {
        ("hardness", 1.5, 1500.0, "MPa"),
        ("cost", 2.0, None, None),
    }
    assert "campaign: toy" in door.get("/spec").text
    assert door.get("/trials/0/structure").status_code == 404
    assert door.get("/trials/99").status_code == 404
    assert door.get("/v1/campaigns/nobody").status_code == 404


def test_events_are_waited_for(door):
    last = door.get("/events").json()["last"]
    assert door.get("/events", params={"after": last, "wait": 0.1}).json() == {
        "events": [],
        "last": last,
    }
    (lease,) = door.lease()
    news = door.get("/events", params={"after": last, "wait": 5}).json()["events"]
    assert [(e["kind"], e["payload"]["trial"]) for e in news] == [("trial_started", 0)]
    assert lease["token"] == news[0]["payload"]["token"]
