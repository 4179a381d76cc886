"""What holds by every door to a campaign: the store on SQLite and PostgreSQL, and HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.campaigns.conftest import emptied
from tests.campaigns.doors import Door, Http, Refusal, direct, old

METRICS = {
    "hardness": {"value": 5000.0, "sem": 10.0, "unit": "MPa"},
    "cost": {"value": 2.0, "unit": "dimensionless"},
}
OTHER = {"hardness": 6.0, "cost": 2.0}

Make = Callable[..., Door]


class Conformance:
    """Every test is of each back end, which says how its door is made."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Iterator[Make]:
        """Make a campaign with n candidates, and a door to it."""
        raise NotImplementedError

    def test_a_trial_is_leased_kept_and_answered(self, make: Make) -> None:
        door = make(2)
        (lease,) = door.lease(ttl=60)
        assert (lease.trial, lease.token, lease.attempt) == (0, 1, 1)
        assert set(lease.params) == {"x", "y", "gas"}
        assert lease.units == {"hardness": "GPa", "cost": "dimensionless"}
        beat = door.heartbeat(lease, progress=0.5, note="heating")
        assert beat["cancel"] is False
        assert beat["expires_at"] > lease.expires_at
        told = door.trial(0)["lease"]
        assert (told["worker"], told["token"], told["progress"], told["note"]) == (
            "w", 1, 0.5, "heating",
        )  # fmt: skip
        answer = door.report(lease, METRICS, artifacts={"notes.txt": "it smelled"})
        assert (answer["status"], answer["missing"]) == ("completed", [])
        told = door.trial(0)
        assert (told["status"], told["lease"]) == ("completed", None)
        assert [file["name"] for file in told["artifacts"]] == ["notes.txt"]
        assert [one.trial for one in door.lease(5)] == [1]
        assert door.kinds().count("trial_completed") == 1

    def test_units_are_converted_and_what_came_is_kept(self, make: Make) -> None:
        door = make(1)
        (lease,) = door.lease()
        told = door.report(lease, METRICS)["observations"]
        assert told["hardness"] == {"mean": 5.0, "sem": 0.01, "unit": "GPa"}
        first, second = door.observations()
        assert (first["raw_value"], first["raw_unit"], first["unit"]) == (5000.0, "MPa", "GPa")
        assert (second["raw_value"], second["mean"]) == (None, 2.0)

    @pytest.mark.parametrize(
        ("metrics", "where"),
        [
            ({"hardness": {"value": 1.0, "unit": "kg"}}, "metrics.hardness.unit"),
            ({"colour": {"value": 1.0, "unit": "GPa"}}, "metrics.colour"),
            ({"hardness": {"value": 1e300, "unit": "GPa"}}, "metrics.hardness"),
        ],
    )
    def test_what_cannot_be_is_refused_and_changes_nothing(self, make: Make, metrics, where):
        door = make(1)
        (lease,) = door.lease()
        before = door.events()
        with pytest.raises(Refusal) as no:
            door.report(lease, metrics)
        assert no.value.status == 422
        assert [error["where"] for error in no.value.problem["errors"]] == [where]
        assert door.events() == before
        assert door.trial(0)["status"] == "running"

    def test_partial_results_complete_in_the_end(self, make: Make) -> None:
        door = make(1)
        (lease,) = door.lease()
        first = door.report(lease, {"cost": 2.0}, partial=True)
        assert (first["status"], first["missing"]) == ("running", ["hardness"])
        second = door.report(lease, {"hardness": 5.0})
        assert (second["status"], second["missing"]) == ("completed", [])
        assert set(door.trial(0)["observations"]) == {"cost", "hardness"}

    def test_requested_and_realised_are_apart(self, make: Make) -> None:
        door = make(1)
        (lease,) = door.lease()
        door.report(lease, METRICS, realised={"y": {"value": 0.05, "unit": "cm"}, "x": 0.125})
        told = door.trial(0)
        assert told["params"] == lease.params
        assert told["realised"] == {
            "y": {"value": 0.5, "unit": "mm", "raw_value": 0.05, "raw_unit": "cm"},
            "x": {"value": 0.125, "unit": "dimensionless"},
        }
        with pytest.raises(Refusal) as no:
            door.observe(OTHER, trial=0, realised={"z": 1.0})
        assert no.value.status == 422
        door.observe(OTHER, trial=0, realised={"gas": "air"})
        assert door.trial(0)["realised"]["gas"] == {"value": "air"}
        assert door.trial(0)["realised"]["x"]["value"] == 0.125

    @pytest.mark.parametrize("kind", ["failed", "infeasible", "abandoned", "lost"])
    def test_whose_fault_a_failure_is(self, make: Make, kind: str) -> None:
        door = make(1)
        (lease,) = door.lease()
        door.fail(lease, kind, "it melted")
        told = door.trial(0)
        if kind == "lost":
            assert (told["status"], told["failure"], told["lost"]) == ("candidate", None, 1)
            (again,) = door.lease()
            assert (again.token, again.attempt) == (2, 2)
        else:
            assert (told["status"], told["failure"]) == (kind, "it melted")
            assert door.lease() == []
            assert door.fail(lease, kind, "it melted")["status"] == kind  # the same again
            with pytest.raises(Refusal) as no:
                door.report(lease, METRICS)
            assert no.value.status == 409

    def test_a_lease_that_is_silent_is_anothers(self, make: Make) -> None:
        door = make(1)
        (first,) = door.lease(worker="slow")
        door.run_out()
        (second,) = door.lease(worker="other")
        assert (second.trial, second.token, second.attempt) == (0, 2, 2)
        for late in (
            lambda: door.heartbeat(first),
            lambda: door.report(first, METRICS),
            lambda: door.fail(first, "failed"),
        ):
            with pytest.raises(Refusal) as no:
                late()
            assert no.value.status == 409
        with pytest.raises(Refusal, match="was never given"):
            door.report(old(second, -1), METRICS)
        kept = [e for e in door.events() if e["kind"] == "report_refused"]
        assert kept[0]["payload"]["report"]["metrics"]["hardness"]["value"] == 5000.0
        assert door.report(second, OTHER)["status"] == "completed"
        assert [o["mean"] for o in door.observations()] == [6.0, 2.0]

    def test_a_late_report_counts_while_nobody_else_has_the_trial(self, make: Make) -> None:
        door = make(1, approve="true")
        door.decide("approve", 0)
        (lease,) = door.lease()
        door.run_out()
        door.stop(True)
        assert door.lease() == []  # looked, and found that it ran out
        assert door.trial(0)["status"] == "candidate"
        assert door.report(lease, METRICS)["status"] == "completed"

    def test_a_trial_that_kills_its_workers_is_held(self, make: Make) -> None:
        door = make(1, attempts=2)
        for _ in range(2):
            assert len(door.lease()) == 1
            door.run_out()
        assert door.lease() == []
        assert (door.trial(0)["held"], door.trial(0)["lost"]) == (True, 2)
        door.decide("release", 0)
        assert len(door.lease()) == 1

    def test_nobody_gets_what_nobody_approved(self, make: Make) -> None:
        door = make(3, approve="true")
        assert door.lease(3) == []
        assert door.decide("approve", 0)["approved"] is True
        assert door.decide("reject", 1, "toxic")["status"] == "abandoned"
        assert [lease.trial for lease in door.lease(3)] == [0]
        with pytest.raises(Refusal) as no:
            door.decide("approve", 1)
        assert no.value.status == 409
        assert door.trial(1)["failure"] == "toxic"

    def test_hold_release_and_the_emergency_stop(self, make: Make) -> None:
        door = make(2)
        door.decide("hold", 0)
        (lease,) = door.lease(2)
        assert lease.trial == 1
        assert door.stop(True)["stopped"] is True
        assert door.lease() == []
        assert door.heartbeat(lease)["cancel"] is True
        assert door.stop(False)["stopped"] is False
        assert door.heartbeat(lease)["cancel"] is False
        door.decide("hold", 1)
        assert door.heartbeat(lease)["cancel"] is True
        door.decide("release", 0)
        assert [one.trial for one in door.lease(2)] == [0]
        kinds = door.kinds()
        for kind in ("campaign_stopped", "campaign_resumed", "trial_released"):
            assert kinds.count(kind) == 1

    def test_the_same_request_twice_is_one_change(self, make: Make) -> None:
        door = make(3)
        requests: list[Callable[[], Any]] = [
            lambda: door.lease(key="a"),
            lambda: door.report(lease, METRICS, key="b"),
            lambda: door.observe(OTHER, trial=1, key="c"),
            lambda: door.fail(other, "failed", key="d"),
        ]
        (lease,) = door.lease(key="a")
        (other,) = (one for one in door.lease(2, key="e") if one.trial == 2)
        for request in requests:
            first = request()
            seen = door.events()
            assert request() == request() == first
            assert door.events() == seen
        with pytest.raises(Refusal) as no:
            door.lease(2, key="a")
        assert no.value.status == 409
        # without a key, a report twice is one too; another one is not
        assert door.report(lease, METRICS) == door.report(lease, METRICS)
        with pytest.raises(Refusal) as no:
            door.report(lease, OTHER)
        assert no.value.status == 409

    def test_results_without_a_lease_and_corrections(self, make: Make) -> None:
        door = make(1)
        params = {"x": 0.25, "y": 0.5, "gas": "air"}
        made = door.observe(OTHER, params=params, external_id="A1")
        assert (made["created"], made["trial"], made["status"]) == (True, 1, "completed")
        again = door.observe(OTHER, params=params, external_id="A1")
        assert (again["created"], again["observations"]["cost"]["what"]) == (False, "repeated")
        with pytest.raises(Refusal) as no:
            door.observe(OTHER, params=params | {"x": 0.3}, external_id="A1")
        assert no.value.status == 409
        with pytest.raises(Refusal) as no:
            door.observe(OTHER, params=params | {"x": 1.5})
        assert no.value.status == 422
        first = made["observations"]["cost"]["id"]
        fixed = door.observe({"cost": 3.0}, trial=1, supersedes=first)["observations"]["cost"]
        assert (fixed["mean"], fixed["what"]) == (3.0, "corrected")
        with pytest.raises(Refusal) as no:
            door.observe({"cost": 4.0}, trial=1, supersedes=first)
        assert no.value.status == 409
        costs = [o for o in door.observations() if o["metric"] == "cost"]
        assert [(o["mean"], o["superseded"], o["supersedes"]) for o in costs] == [
            (2.0, True, None), (3.0, False, first),
        ]  # fmt: skip
        assert door.kinds().count("trial_corrected") == 1

    def test_a_leased_trial_may_be_answered_by_hand(self, make: Make) -> None:
        door = make(1)
        (lease,) = door.lease()
        assert door.observe(OTHER, trial=0)["status"] == "completed"
        with pytest.raises(Refusal) as no:
            door.report(lease, METRICS)
        assert no.value.status == 409
        assert door.trial(0)["observations"]["hardness"]["mean"] == 6.0

    def test_no_trial_is_given_twice(self, make: Make) -> None:
        door = make(24)
        given: list[int] = []

        def work(name: str) -> None:
            while leases := door.lease(2, worker=name):
                given.extend(lease.trial for lease in leases)
                for lease in leases:
                    door.report(lease, METRICS)

        threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(given) == list(range(24))
        assert door.kinds().count("trial_completed") == 24


@contextmanager
def noted(make: Make) -> Iterator[Make]:
    """Doors whose tables are compared with their events in the end."""
    made: list[Door] = []

    def note(n: int, **more: Any) -> Door:
        made.append(make(n, **more))
        return made[-1]

    yield note
    assert [door.differences() for door in made] == [[]] * len(made)


class TestSqlite(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, tmp_path_factory) -> Iterator[Make]:
        folder = tmp_path_factory.mktemp("sqlite")
        with direct(f"sqlite:///{folder / 'matloop.db'}", folder) as made, noted(made) as make:
            yield make


class TestPostgres(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, postgres, tmp_path_factory) -> Iterator[Make]:
        emptied(postgres)
        folder = tmp_path_factory.mktemp("postgresql")
        with direct(postgres, folder) as made, noted(made) as make:
            yield make


class TestHttp(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, served) -> Iterator[Make]:
        with served.client() as client:
            made = lambda n, **more: Http(served.toy(n, **more), client)  # noqa: E731
            with noted(made) as make:
                yield make
