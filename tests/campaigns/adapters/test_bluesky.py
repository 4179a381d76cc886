"""On a real RunEngine, with the plans of bluesky-adaptive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from campaigns.adapters.bluesky import MatloopOptimizer
from tests.campaigns.served import LAB

pytest.importorskip("bluesky_adaptive", reason="BLUESKY NOT TESTED: pip install '.[adapters]'")

from bluesky import RunEngine
from bluesky_adaptive import protocols
from bluesky_adaptive.plans import optimize, sample_suggestions


class Done:
    """A movement that has ended."""

    done = success = True

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)

    def exception(self, timeout: float | None = 0.0) -> None:
        return None


class Knob:
    """A motor without hardware: what bluesky asks of one that is moved and read."""

    parent = None

    def __init__(self, name: str, value: Any = 0.0) -> None:
        self.name, self.value = name, value

    def set(self, value: Any) -> Done:
        self.value = value
        return Done()

    def read(self) -> dict[str, Any]:
        return {self.name: {"value": self.value, "timestamp": 0.0}}

    def describe(self) -> dict[str, Any]:
        kind = "string" if isinstance(self.value, str) else "number"
        return {self.name: {"source": "sim", "dtype": kind, "shape": []}}


class Beamline:
    """Three knobs, and the function that makes outcomes of a run."""

    def __init__(self, breaks: bool = False) -> None:
        self.knobs = [Knob("x"), Knob("y"), Knob("gas", "air")]
        self.documents: list[str] = []
        self.breaks = breaks

    def evaluate(self, uid: str, suggestions: Sequence[Mapping]) -> list[dict[str, Any]]:
        if self.breaks:
            raise RuntimeError("the shutter is stuck")
        return [
            {"_id": s["_id"], "hardness": 10 - (s["x"] - 0.6) ** 2, "cost": 1 + s["y"]}
            for s in reversed(suggestions)  # in any order
        ]

    def problem(self, optimizer: MatloopOptimizer) -> protocols.OptimizationProblem:
        return protocols.OptimizationProblem(
            optimizer=optimizer, actuators=self.knobs, sensors=[], evaluation_function=self.evaluate
        )  # fmt: skip

    def engine(self) -> RunEngine:
        engine = RunEngine(context_managers=[])
        engine.subscribe(lambda name, _: self.documents.append(name))
        return engine


def test_it_is_what_bluesky_adaptive_asks_for(served) -> None:
    with served.client() as client:
        optimizer = MatloopOptimizer(client, served.toy(0).name)
        for wanted in ("Optimizer", "CanRegisterSuggestions", "TrialFaultAware",
                       "SupportsStoppingCriteria", "Checkpointable"):  # fmt: skip
            assert isinstance(optimizer, getattr(protocols, wanted)), wanted
        optimizer.bench.close()


def test_a_run_engine_works_a_campaign_off(served) -> None:
    toy, line = served.toy(4, LAB), Beamline()
    with served.client() as client:
        optimizer = MatloopOptimizer(client, toy.name, patience=5.0)
        line.engine()(optimize(line.problem(optimizer), iterations=3, checkpoint_interval=1))
        assert toy.statuses() == ["completed"] * 3 + ["candidate"]
        first = toy.trials()[0]
        assert first["observations"]["cost"]["mean"] == pytest.approx(1 + first["design"]["y"])
        assert line.knobs[0].value == toy.trials()[2]["design"]["x"]
        best = optimizer.get_best_points()
        assert {trial for trial, _, _ in best} <= {0, 1, 2}
        assert set(best[0][1]) == {"x", "y", "gas"}
        assert set(best[0][2]) == {"hardness", "cost"}
        assert optimizer.should_stop() == (False, None)
        client.stop(toy.name)
        assert optimizer.should_stop() == (True, "the campaign is stopped")
        optimizer.bench.close()
    assert {"start", "descriptor", "event", "stop"} <= set(line.documents)


def test_an_exception_in_the_evaluation_fails_the_trial_and_no_other(served) -> None:
    toy, line = served.toy(2, LAB), Beamline(breaks=True)
    with served.client() as client:
        optimizer = MatloopOptimizer(client, toy.name, patience=5.0)
        with pytest.raises(RuntimeError, match="shutter"):
            line.engine()(optimize(line.problem(optimizer), iterations=2))
        optimizer.bench.close()
    assert toy.statuses() == ["failed", "candidate"]


def test_points_of_ones_own_become_trials(served) -> None:
    toy, line = served.toy(0), Beamline()
    point = {"x": 0.25, "y": 0.5, "gas": "air"}
    with served.client() as client:
        optimizer = MatloopOptimizer(client, toy.name)
        line.engine()(sample_suggestions(line.problem(optimizer), [point]))
        optimizer.ingest([{**point, "x": 0.75, "hardness": 3.0, "cost": 1.0}])  # from elsewhere
        optimizer.bench.close()
    assert [t["design"]["x"] for t in toy.trials()] == [0.25, 0.75]
    assert toy.statuses() == ["completed", "completed"]


def test_what_was_not_measured_is_handed_back_at_the_end(served) -> None:
    toy = served.toy(2)
    with served.client() as client:
        optimizer = MatloopOptimizer(client, toy.name)
        assert len(optimizer.suggest(2)) == 2
        optimizer.bench.close()
    assert toy.statuses() == ["candidate", "candidate"]
