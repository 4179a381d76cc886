"""Leases against a model: whatever the order in which workers, time and the network do things."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select

from campaigns.service import bodies, leases, reports
from campaigns.service.core import Known, trial_of
from campaigns.service.problems import Refused
from campaigns.spec import Spec
from campaigns.store import Store
from campaigns.store.models import CampaignRow, Event, Observation, Trial, utc_now
from campaigns.store.store import record

ATTEMPTS = 3
TTL = 100.0
SPEC = {
    "campaign": "toy",
    "space": {"x": {"range": [0, 1]}},
    "objectives": {"hardness": {"goal": "maximize", "unit": "GPa"}},
    "evaluate": {"with": "lab"},
    "lease": {"ttl": "100 s", "attempts": ATTEMPTS},
}


@dataclass
class Modelled:
    """A trial as it should be."""

    status: str = "candidate"
    token: int = 0
    expires: float = 0.0
    lost: int = 0
    held: bool = False
    value: float | None = None
    accepted: tuple[int, str, float] | None = None
    leases: list[int] = field(default_factory=list)

    def lose(self) -> None:
        self.status, self.lost = "candidate", self.lost + 1
        self.held |= self.lost >= ATTEMPTS


class Leasing(RuleBasedStateMachine):
    """The functions that the service calls, on a store in a file; time is ours."""

    TRIALS = 3

    @initialize()
    def begin(self):
        if not hasattr(type(self), "store"):
            type(self).store = Store(type(self).url, pooled=True)
        with self.store.write() as session:
            spec = Spec.model_validate(SPEC | {"campaign": f"toy{utc_now().timestamp()}"})
            row = CampaignRow.of(spec.model_dump(mode="json"), "")
            session.add(row)
            session.flush()
            for index in range(self.TRIALS):
                session.add(
                    Trial(campaign_id=row.id, index=index, design={"x": 0.5}, provenance={})
                )
            record(session, row.id, "campaign_created")
        self.known = Known(row.id, row.name, spec, spec.metric_units(), False, "open")
        self.start, self.clock = utc_now(), 0.0
        self.model = [Modelled() for _ in range(self.TRIALS)]
        self.refused = 0

    @property
    def now(self):
        return self.start + timedelta(seconds=self.clock)

    def expire(self):
        for trial in self.model:
            if trial.status == "running" and trial.expires < self.clock:
                trial.lose()

    @rule(n=st.integers(1, 2))
    def lease(self, n):
        with self.store.write() as session:
            given = leases.lease(session, self.known, self.now, "w", n)
        self.expire()
        wanted = [
            i for i, t in enumerate(self.model) if t.status == "candidate" and not t.held
        ][:n]  # fmt: skip
        assert [lease["trial"] for lease in given] == wanted
        for lease in given:
            trial = self.model[lease["trial"]]
            trial.status, trial.token = "running", trial.token + 1
            trial.expires = self.clock + TTL
            assert lease["token"] == trial.token  # it grows by one with each lease

    @rule(seconds=st.sampled_from([1.0, 60.0, 101.0]))
    def wait(self, seconds):
        self.clock += seconds

    @rule()
    def look(self):
        with self.store.write() as session:
            leases.expire(session, self.known, self.now)
        self.expire()

    @rule(i=st.integers(0, TRIALS - 1), back=st.integers(0, 1))
    def heartbeat(self, i, back):
        trial = self.model[i]
        token = trial.token - back
        if token < 1:
            return
        good = trial.status == "running" and back == 0
        try:
            with self.store.write() as session:
                leases.heartbeat(session, self.known, self.now, i, token)
            assert good
            trial.expires = self.clock + TTL
        except Refused:
            assert not good

    @rule(i=st.integers(0, TRIALS - 1), back=st.integers(0, 2), value=st.sampled_from([1.0, 2.0]))
    def report(self, i, back, value):
        trial = self.model[i]
        token = trial.token - back
        if token < 1:
            return
        body = bodies.Result(
            token=token, metrics={"hardness": {"value": value, "unit": "GPa"}}, partial=False
        )
        with self.store.write() as session:
            answer = reports.result(session, self.known, self.now, i, body)
        self.told(trial, token, ("result", value), answer, "completed")
        if answer.status == 200 and trial.value is None:
            trial.value = value

    @rule(
        i=st.integers(0, TRIALS - 1),
        back=st.integers(0, 1),
        kind=st.sampled_from(["failed", "infeasible", "abandoned", "lost"]),
    )
    def fail(self, i, back, kind):
        trial = self.model[i]
        token = trial.token - back
        if token < 1:
            return
        with self.store.write() as session:
            body = bodies.Fail(token=token, kind=kind, reason="why")
            answer = reports.fail(session, self.known, self.now, i, body)
        if kind != "lost":
            self.told(trial, token, (kind, 0.0), answer, kind)
        elif token == trial.token and trial.status in ("candidate", "running"):
            assert answer.status == 200
            if trial.status == "running":
                trial.lose()
        else:
            self.late(answer)

    def told(self, trial, token, what, answer, status):
        """What must have become of a report that ends a trial."""
        if trial.accepted == (token, *what):
            assert (answer.status, answer.changed) == (200, False)  # the very same report again
        elif token == trial.token and trial.status in ("candidate", "running"):
            assert answer.status == 200
            trial.status, trial.lost, trial.accepted = status, 0, (token, *what)
        else:
            self.late(answer)

    def late(self, answer):
        assert answer.status == 409
        self.refused += 1

    @invariant()
    def the_store_is_as_it_should_be(self):
        if not hasattr(self, "known"):
            return
        with self.store.read() as session:
            for index, trial in enumerate(self.model):
                row = trial_of(session, self.known, index)
                assert (row.status, row.lease_token, row.held) == (
                    trial.status,
                    trial.token,
                    trial.held,
                )
                means = session.scalars(
                    select(Observation.mean).where(Observation.trial_id == row.id)
                ).all()
                assert means == ([] if trial.value is None else [trial.value])
            kinds = session.scalars(
                select(Event.kind).where(Event.campaign_id == self.known.id)
            ).all()
        assert kinds.count("report_refused") == self.refused
        assert kinds.count("trial_completed") == sum(t.value is not None for t in self.model)


def test_leases_are_as_modelled(tmp_path):
    Leasing.url = f"sqlite:///{tmp_path / 'matloop.db'}"
    case = Leasing.TestCase
    case.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
    case().runTest()
    Leasing.store.close()
    del Leasing.store


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_no_trial_is_given_twice(make_door, database):
    door = make_door(database, rate=1e6)
    door.add(60)
    given: list[int] = []

    def work(name: str) -> None:
        while leased := door.lease(2, worker=name):
            given.extend(lease["trial"] for lease in leased)
            for lease in leased:
                assert door.report(lease).status_code == 200

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(60))
    assert len(door.events("trial_completed")) == 60


def test_a_lost_lease_is_anothers_and_the_late_report_is_kept(door):
    (old,) = door.lease()
    door.expire()
    (new,) = door.lease(worker="other")
    assert (new["trial"], new["token"], new["attempt"]) == (old["trial"], old["token"] + 1, 2)
    late = door.report(old)
    assert late.status_code == 409
    assert late.headers["content-type"] == "application/problem+json"
    (kept,) = door.events("report_refused")
    assert kept.payload["report"]["metrics"]["hardness"]["value"] == 1500.0
    beat = door.post(f"/trials/{old['trial']}/heartbeat", {"token": old["token"]})
    assert (beat.status_code, beat.json()["newest"]) == (409, new["token"])
    assert door.report(new).status_code == 200


def test_a_report_whose_lease_ran_out_is_taken_while_nobody_else_has_the_trial(door):
    (lease,) = door.lease()
    door.expire()
    assert door.report(lease).status_code == 200


def test_a_heartbeat_prolongs_and_shows_progress(door):
    (lease,) = door.lease(ttl_s=2)
    body = {"token": lease["token"], "progress": 0.5, "note": "relaxing"}
    beat = door.post(f"/trials/{lease['trial']}/heartbeat", body).json()
    assert beat["cancel"] is False
    assert beat["expires_at"] > lease["expires_at"]
    told = door.get(f"/trials/{lease['trial']}").json()["lease"]
    assert (told["worker"], told["progress"], told["note"]) == ("w", 0.5, "relaxing")


def test_partial_results_complete_in_the_end(door):
    (lease,) = door.lease()
    first = door.report(lease, {"cost": door.METRICS["cost"]}, partial=True).json()
    assert (first["status"], first["missing"]) == ("running", ["hardness"])
    second = door.report(lease, {"hardness": door.METRICS["hardness"]}).json()
    assert (second["status"], second["missing"]) == ("completed", [])
    assert set(second["observations"]) == {"cost", "hardness"}


def test_what_was_realised_is_kept_beside_what_was_asked_for(door):
    (lease,) = door.lease()
    realised = {"t": {"value": 730, "unit": "degC"}, "x": 0.125}
    assert door.report(lease, realised=realised).status_code == 200
    told = door.get(f"/trials/{lease['trial']}").json()
    assert told["params"]["t"] == lease["params"]["t"]
    assert told["realised"]["t"] == {
        "value": 1003.15, "unit": "K", "raw_value": 730.0, "raw_unit": "degC"
    }  # fmt: skip
    assert told["realised"]["x"] == {"value": 0.125, "unit": "dimensionless"}


def test_infeasible_teaches_and_lost_does_not(door):
    first, second = door.lease(2)
    assert door.fail(first, "infeasible", "it melted").json()["status"] == "infeasible"
    assert door.fail(second, "lost", "wall time").json()["status"] == "candidate"
    from campaigns.campaign import Campaign

    with door.service.store.read() as session:
        row = session.scalars(select(CampaignRow)).one()
    history, *_ = Campaign(door.service.store, row)._history()
    assert history.failed.tolist() == [True]
    told = door.get(f"/trials/{first['trial']}").json()
    assert told["failure"] == "it melted"
    (again, *_) = door.lease()
    assert (again["trial"], again["token"]) == (second["trial"], 2)


def test_a_trial_that_kills_its_workers_is_held(make_door):
    door = make_door(more="lease: {ttl: 5 min, attempts: 2}")
    door.add(1)
    for _ in range(2):
        assert len(door.lease()) == 1
        door.expire()
    assert door.lease() == []
    assert door.get("/trials/0").json()["held"] is True
    assert door.post("/trials/0/release").status_code == 200
    assert len(door.lease()) == 1


def test_artifacts_are_kept_by_their_content(door):
    (lease,) = door.lease()
    files = [
        {"name": "log.txt", "text": "hi"},
        {"name": "a.bin", "media_type": "application/octet-stream", "base64": "AAEC"},
    ]
    assert door.report(lease, artifacts=files).status_code == 200
    told = door.get(f"/trials/{lease['trial']}").json()["artifacts"]
    assert [t["name"] for t in told] == ["log.txt", "a.bin"]
    answers = [door.get(f"/v1/artifacts/{t['sha256']}") for t in told]
    assert [a.content for a in answers] == [b"hi", b"\x00\x01\x02"]
    assert "attachment" in answers[0].headers["content-disposition"]
    assert door.get("/v1/artifacts/" + "0" * 64).status_code == 404
