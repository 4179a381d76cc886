"""The engine, a step at a time in this process: it proposes ahead, does jobs, and knows when to
stop."""

from __future__ import annotations

from campaigns.service.engine import Engine


def settle(engine):
    for _ in range(10):
        if not engine.step():
            return
    raise AssertionError("the engine never rests")


def test_it_proposes_ahead_does_jobs_and_heeds_the_stop_rules(make_door):
    door = make_door(more="stop: {target_met: {hardness: 1 GPa}, then: ask}")
    engine = Engine(door.service.store)
    settle(engine)
    assert door.get("").json()["counts"]["candidate"] == 4  # a batch waits
    asked = door.post("/proposals", {"n": 2}).headers["location"]
    settle(engine)
    job = door.get(asked).json()
    assert (job["status"], job["result"]) == ("done", {"trials": [4, 5]})
    told = door.get("").json()
    assert told["engine"]["says"] == "waiting for results"

    (lease,) = door.lease()
    assert door.report(lease).status_code == 200  # 1.5 GPa: the target is met
    settle(engine)
    told = door.get("").json()
    assert told["state"] == "paused"
    assert "target" in told["question"]["question"] or told["question"]["verdicts"]
    assert door.post("/leases", {"worker": "w"}).json() == {"leases": [], "state": "paused"}
    assert door.post("/answer", {"go_on": True}).json()["state"] == "open"
    settle(engine)
    assert len(door.lease()) == 1
    kinds = [event.kind for event in door.events()]
    assert kinds.count("run_paused") == kinds.count("run_resumed") == 1

    assert door.post("/stop").status_code == 200
    before = door.get("").json()["counts"]
    settle(engine)
    assert door.get("").json()["counts"] == before
    assert door.get("").json()["engine"]["says"] == "stopped"


def test_a_budget_that_asks_is_granted_again(make_door):
    door = make_door(budget="{trials: 2, batch: 2, then: ask}")
    engine = Engine(door.service.store)
    for round_ in (1, 2):
        settle(engine)
        for _ in range(2):
            (lease,) = door.lease()
            assert door.report(lease).status_code == 200
        settle(engine)
        told = door.get("").json()
        assert (told["state"], told["budget"]) == ("paused", 2 * round_)
        assert told["question"]["question"].endswith("go on with 2 more?")
        (listed,) = door.get("/v1/campaigns").json()["campaigns"]
        assert listed["budget"] == 2 * round_
        assert door.post("/answer", {"go_on": True}).json()["state"] == "open"
    settle(engine)
    assert door.get("").json()["counts"] == {**told["counts"], "candidate": 2}
