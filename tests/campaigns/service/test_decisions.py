"""The same request twice, a person's word and keys, as HTTP has them; see `test_conformance`."""

from __future__ import annotations

import pytest


def test_the_same_request_twice_is_one_change(door):
    key = {"Idempotency-Key": "a"}
    first = door.post("/leases", {"worker": "w"}, headers=key)
    again = door.post("/leases", {"worker": "w"}, headers=key)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert len(door.events("trial_started")) == 1
    other = door.post("/leases", {"worker": "v"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (409, "urn:matloop:idempotency")
    # another's key is another key
    assert door.with_key("work").post("/leases", {"worker": "v"}, headers=key).status_code == 200
    long = {"Idempotency-Key": "a" * 300}
    assert door.post("/leases", {"worker": "w"}, headers=long).status_code == 400


def test_an_empty_answer_is_not_kept(make_door):
    door = make_door()
    key = {"Idempotency-Key": "a"}
    empty = door.post("/leases", {"worker": "w"}, headers=key)
    assert empty.json()["leases"] == []
    assert int(empty.headers["retry-after"]) >= 1
    door.add(1)
    assert len(door.post("/leases", {"worker": "w"}, headers=key).json()["leases"]) == 1


def test_every_change_may_come_twice(door):
    first, second, third = door.lease(3)
    late = dict(first)
    door.expire()
    door.lease(3)
    bodies = [
        (f"/trials/{second['trial']}/fail", {"token": 2, "kind": "failed", "reason": "r"}),
        (f"/trials/{third['trial']}/result", {"token": 2, "metrics": door.METRICS}),
        (f"/trials/{late['trial']}/result", {"token": 1, "metrics": door.METRICS}),
        ("/observations", {"params": {"x": 0.1, "y": 0.1, "t": 950}, "metrics": door.METRICS}),
        ("/trials/9/hold", {}),
        ("/proposals", {"n": 2}),
        ("/stop", {}),
    ]
    for at, (path, body) in enumerate(bodies):
        answers = [door.post(path, body, headers={"Idempotency-Key": f"k{at}"}) for _ in range(3)]
        assert len({a.text for a in answers}) == 1, answers[0].text
        assert len({a.status_code for a in answers}) == 1
    kinds = [event.kind for event in door.events()]
    for kind in ("report_refused", "trial_failed", "trial_held", "campaign_stopped"):
        assert kinds.count(kind) == 1, kind
    assert kinds.count("trial_completed") == 2


def test_a_person_decides_on_what_was_seen(make_door):
    door = make_door(more="approve: true")
    door.add(1)
    assert door.get("").json()["state"] == "held"
    rev = door.get("/trials/0").json()["rev"]
    assert door.post("/trials/0/approve", {"rev": rev}).json()["approved"] is True
    stale = door.post("/trials/0/reject", {"reason": "no"}, headers={"If-Match": f'"{rev}"'})
    assert (stale.status_code, stale.json()["rev"]) == (409, rev + 1)


def test_the_state_is_told(door):
    door.post("/stop", {"reason": "smoke"})
    answer = door.post("/leases", {"worker": "v"})
    assert answer.json() == {"leases": [], "state": "stopped"}
    assert door.get("").json()["state"] == "stopped"
    assert door.post("/answer", {"go_on": True}).status_code == 409


def test_what_was_measured_elsewhere_costs_no_budget_and_what_is_to_be_tried_does(door):
    body = {"params": {"x": 0.25, "y": 0.5, "t": 1000}, "metrics": door.METRICS}
    assert door.post("/observations", body | {"external_id": "A1"}).status_code == 201
    counted = door.get("").json()["counted"]
    tried = door.post("/observations", {"params": {"x": 0.2, "y": 0.2, "t": 990}})
    assert tried.json()["status"] == "candidate"
    assert (counted, door.get("").json()["counted"]) == (10, 11)


def test_keys_are_made_shown_once_and_ended(door):
    made = door.post("/v1/tokens", {"name": "robot", "scopes": ["work"], "campaign": "toy"})
    assert made.status_code == 201
    key = made.json()["key"]
    listed = door.get("/v1/tokens")
    assert key.split("_", 2)[2] not in listed.text  # the secret may hold a _ itself
    robot = type(door)(door.client, key)
    assert len(robot.lease()) == 1
    assert robot.get("/v1/tokens").status_code == 403
    id = made.json()["id"]
    assert door.ask("DELETE", f"/v1/tokens/{id}").json()["revoked"] is True
    assert robot.post("/leases", {"worker": "w"}).status_code == 401
    assert door.ask("DELETE", "/v1/tokens/none").status_code == 404
    bound = door.with_key("admin", campaign="toy")
    assert bound.post("/v1/tokens", {"name": "x", "scopes": ["admin"]}).status_code == 403


@pytest.mark.parametrize("days", [1e-9])
def test_a_key_expires(door, days):
    made = door.post("/v1/tokens", {"name": "x", "scopes": ["read"], "days": days}).json()
    assert type(door)(door.client, made["key"]).get("/v1/campaigns").status_code == 401


def test_jobs_wait_for_the_engine(door):
    asked = door.post("/proposals", {"n": 3})
    assert asked.status_code == 202
    told = door.get(asked.headers["location"]).json()
    assert (told["status"], told["request"]) == ("queued", {"n": 3})
    assert door.get("/jobs/none").status_code == 404
