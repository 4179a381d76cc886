"""Leases against a model, whatever the order in which workers, time and the network do things.

The same machine works by the store itself and by HTTP. Whatever was answered may be sent again at
any time, and reports come with the tokens of leases that ended.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from campaigns.leases import Lease
from campaigns.store.models import TRANSITIONS
from tests.campaigns.doors import Door, Http, Refusal, direct, old

ATTEMPTS = 3
TRIALS = 3
TRIAL = st.integers(0, TRIALS - 1)
BACK = st.integers(0, 2)
VALUE = st.sampled_from([1.0, 2.0])


@dataclass
class Modelled:
    """A trial as it should be."""

    status: str = "candidate"
    token: int = 0
    late: bool = False
    lost: int = 0
    held: bool = False
    accepted: tuple[Any, ...] | None = None
    observed: list[tuple[str, float]] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.status in ("candidate", "running")

    def lose(self) -> None:
        self.status, self.lost = "candidate", self.lost + 1
        self.held |= self.lost >= ATTEMPTS

    def observe(self, metric: str, value: float) -> None:
        if dict(self.observed).get(metric) != value:
            self.observed.append((metric, value))


class Leasing(RuleBasedStateMachine):
    """One campaign of three trials; `door` makes it."""

    door_of: ClassVar[Callable[[], Door]]

    @initialize()
    def begin(self) -> None:
        self.door = type(self).door_of()
        self.model = [Modelled() for _ in range(TRIALS)]
        self.leases: dict[int, Lease] = {}
        self.sent: list[tuple[Callable[[], Any], Any]] = []
        self.keys = (f"{self.door.toy.name}-{n}" for n in itertools.count())
        self.refused = 0

    def send(self, request: Callable[[str], Any], kept: bool = True) -> Any:
        """Make a request; the answer, or HTTP's status where it is no."""
        key = next(self.keys)
        answer = answered(lambda: request(key))
        if kept:
            self.sent.append((lambda: request(key), answer))
        return answer

    @rule(n=st.integers(1, 2))
    def lease(self, n: int) -> None:
        given = self.send(lambda key: self.door.lease(n, key=key), kept=False)
        for trial in self.model:
            if trial.status == "running" and trial.late:
                trial.lose()
        waiting = [i for i, t in enumerate(self.model) if t.status == "candidate" and not t.held]
        assert [lease.trial for lease in given] == waiting[:n]
        for lease in given:
            trial = self.model[lease.trial]
            trial.status, trial.token, trial.late = "running", trial.token + 1, False
            assert lease.token == trial.token == lease.attempt  # it grows by one with each lease
            self.leases[lease.trial] = lease

    @rule(i=TRIAL)
    def run_out(self, i: int) -> None:
        self.door.run_out(i)
        self.model[i].late = True

    @precondition(lambda self: self.leases)
    @rule(i=TRIAL, back=BACK)
    def heartbeat(self, i: int, back: int) -> None:
        lease = self.of(i, back)
        if lease is None:
            return
        trial = self.model[i]
        answer = answered(lambda: self.door.heartbeat(lease))
        if trial.status == "running" and lease.token == trial.token:
            assert answer["cancel"] is trial.held
            trial.late = False
        else:
            assert answer == 409

    @precondition(lambda self: self.leases)
    @rule(i=TRIAL, back=BACK, value=VALUE, partial=st.booleans())
    def report(self, i: int, back: int, value: float, partial: bool) -> None:
        lease = self.of(i, back)
        if lease is None:
            return
        metric = "cost" if partial else "hardness"
        more = {"partial": True} if partial else {}
        answer = self.send(lambda key: self.door.report(lease, {metric: value}, key, **more))
        trial = self.model[i]
        what = (lease.token, "result", metric, value)
        if trial.accepted == what:
            assert answer["status"] == "completed"  # the very same report again
        elif lease.token == trial.token and trial.open:
            trial.observe(metric, value)
            trial.lost = 0
            if not partial:
                trial.status, trial.accepted = "completed", what
            assert answer["status"] == trial.status
        else:
            assert answer == 409
            self.refused += 1

    @precondition(lambda self: self.leases)
    @rule(i=TRIAL, back=BACK, kind=st.sampled_from(["failed", "infeasible", "abandoned", "lost"]))
    def fail(self, i: int, back: int, kind: str) -> None:
        lease = self.of(i, back)
        if lease is None:
            return
        answer = self.send(lambda key: self.door.fail(lease, kind, "why", key))
        trial, what = self.model[i], (lease.token, kind)
        if trial.accepted == what:
            assert answer["status"] == kind
        elif lease.token != trial.token or not trial.open:
            assert answer == 409
            self.refused += 1
        elif kind == "lost":
            if trial.status == "running":
                trial.lose()
            assert answer["status"] == "candidate"
        else:
            assert answer["status"] == kind
            trial.status, trial.accepted = kind, what
            trial.lost = trial.lost if kind == "abandoned" else 0

    @rule(i=TRIAL, value=VALUE)
    def observe(self, i: int, value: float) -> None:
        trial = self.model[i]
        possible = trial.status != "abandoned"
        answer = self.send(
            lambda key: self.door.observe({"hardness": value}, key, trial=i), kept=possible
        )
        if possible:
            trial.status = answer["status"]
            assert trial.status == "completed"
            trial.observe("hardness", value)
        else:
            assert answer == 409

    @rule(i=TRIAL, word=st.sampled_from(["hold", "release", "reject"]))
    def decide(self, i: int, word: str) -> None:
        trial = self.model[i]
        answer = answered(lambda: self.door.decide(word, i))
        if trial.status == "abandoned" or not (trial.open or word == "reject"):
            assert answer == 409
        elif word == "reject":
            trial.status = "abandoned"
        else:
            trial.held = word == "hold"
            trial.lost = trial.lost if trial.held else 0

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """A delivery that comes twice, however late: the same answer, and nothing changes."""
        request, answer = data.draw(st.sampled_from(self.sent))
        assert answered(request) == answer

    @invariant()
    def the_store_is_as_modelled(self) -> None:
        if not hasattr(self, "door"):
            return
        told = [self.door.trial(i) for i in range(TRIALS)]
        for i, (row, trial) in enumerate(zip(told, self.model, strict=True)):
            assert (row["status"], row["held"], row["lost"], row["attempt"]) == (
                trial.status, trial.held, trial.lost, trial.token,
            )  # fmt: skip
            stands = {m: o["mean"] for m, o in row["observations"].items()}
            assert stands == dict(trial.observed), i
        self.no_step_is_illegal([row["status"] for row in told])
        # nothing lost, nothing double
        found = [(o["trial"], o["metric"], o["mean"]) for o in self.door.observations()]
        modelled = [(i, *o) for i, trial in enumerate(self.model) for o in trial.observed]
        assert sorted(found) == sorted(modelled)
        kinds = self.door.kinds()
        assert kinds.count("report_refused") == self.refused
        assert kinds.count("trial_started") == sum(trial.token for trial in self.model)

    def no_step_is_illegal(self, now: list[str]) -> None:
        before = getattr(self, "seen", now)
        for old_one, new in zip(before, now, strict=True):
            assert new == old_one or new in TRANSITIONS[old_one]
        self.seen = now

    def teardown(self) -> None:
        if hasattr(self, "door"):
            assert self.door.differences() == []

    def of(self, i: int, back: int) -> Lease | None:
        """A lease of a trial, as it was some leases before the last; None = there was none."""
        lease = self.leases.get(i)
        return None if lease is None or lease.token <= back else old(lease, back)


def answered(request: Callable[[], Any]) -> Any:
    """The answer to a request, or HTTP's status where it is no."""
    try:
        return request()
    except Refusal as no:
        return no.status


def run(door_of: Callable[[], Door], examples: int, steps: int) -> None:
    machine = type("Machine", (Leasing,), {"door_of": staticmethod(door_of)})
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    case().runTest()


def by_the_store(url: str, folder: Path, examples: int, steps: int) -> None:
    with direct(url, folder) as make:
        run(lambda: make(TRIALS, attempts=ATTEMPTS), examples, steps)


def test_by_the_store_leases_are_as_modelled(tmp_path) -> None:
    by_the_store(f"sqlite:///{tmp_path / 'matloop.db'}", tmp_path, 8, 20)


def test_by_http_leases_are_as_modelled(served) -> None:
    with served.client() as client:
        run(lambda: Http(served.toy(TRIALS, attempts=ATTEMPTS), client), 3, 15)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_by_postgres_leases_are_as_modelled(database, tmp_path) -> None:
    by_the_store(database, tmp_path, 10, 20)
