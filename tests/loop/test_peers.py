"""Ax and BayBE, the real ones, choosing among given designs."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from loop.backtest import LookupTable, Trace, average_repeats, replay
from loop.backtest.methods import make_method, method_version
from loop.backtest.parameters import Category, Number, flatten
from loop.problem import Objective, OutcomeConstraint, Problem
from loop.space import ChoiceAxis, CompositionAxis, Descriptors, DesignSpace, RangeAxis

PEERS = [
    "ax",
    pytest.param(
        "baybe",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("baybe") is None,
            reason="baybe is not installed: pip install 'matloop[benchmarks]'",
        ),
    ),
]
GASES = Descriptors.of(
    {
        "He": {"mass": 4.0, "number": 2.0},
        "Ne": {"mass": 20.0, "number": 10.0},
        "Ar": {"mass": 40.0, "number": 18.0},
    }
)
MIXED = DesignSpace(
    (
        RangeAxis("x", 0.1, 10.0, log=True),
        RangeAxis("k", 0, 5, integer=True),
        ChoiceAxis("gas", ("He", "Ne", "Ar"), GASES),
        CompositionAxis("mix", ("A", "B", "C")),
    )
)
LINE = DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("z", 0.0, 1.0)))


def _table(problem: Problem, n: int, seed: int = 0) -> LookupTable:
    designs = [d for d in problem.space.sample(n, seed) if d is not None]
    X = problem.space.features(designs)
    y = np.stack([-((X[:, 0] - 0.7 + j) ** 2) for j in range(len(problem.metrics))], axis=1)
    return average_repeats(problem.space, designs, y, np.full(y.shape, np.nan))


def _run(peer: str, problem: Problem, table: LookupTable, budget: int = 13) -> Trace:
    method = make_method(peer, problem, table)
    return replay(problem, table, method, seed=0, batch=4, budget=budget)


def test_designs_become_flat_parameters() -> None:
    problem = Problem(MIXED, (Objective("y", "maximize", "GPa"),))
    table = _table(problem, 20)
    parameters, rows = flatten(problem, table.designs)
    named = {p.name: p for p in parameters}
    assert list(named) == ["x", "k", "gas", "mix.A", "mix.B", "mix.C"]
    x, gas = named["x"], named["gas"]
    assert isinstance(x, Number)
    assert x.log
    assert x.low == min(d["x"] for d in table.designs)
    assert isinstance(gas, Category)
    assert gas.descriptors is not None
    assert gas.descriptors.shape == (3, 2)
    assert rows[3]["mix.B"] == table.designs[3]["mix"]["B"]
    assert isinstance(rows[0]["k"], int)


def test_parameters_that_never_vary_are_left_out() -> None:
    problem = Problem(LINE, (Objective("y", "maximize", "GPa"),))
    parameters, rows = flatten(problem, [{"x": 0.1, "z": 0.5}, {"x": 0.2, "z": 0.5}])
    assert [p.name for p in parameters] == ["x"]
    assert rows == [{"x": 0.1}, {"x": 0.2}]


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_finds_the_best_of_a_smooth_table(peer: str) -> None:
    problem = Problem(LINE, (Objective("y", "maximize", "GPa"),))
    table = _table(problem, 60)
    trace = _run(peer, problem, table, 17)
    assert len(set(trace.picked)) == 17
    best = np.argsort(-table.outcomes[:, 0])[:3]
    assert set(best) & set(trace.picked)
    told = trace.steps[-1].predictions[0]["y"]
    assert told.sd > 0
    assert told.mean == pytest.approx(table.outcomes[trace.steps[-1].rows[0], 0], abs=0.3)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_takes_every_kind_of_axis(peer: str) -> None:
    problem = Problem(MIXED, (Objective("y", "minimize", "GPa"),))
    trace = _run(peer, problem, _table(problem, 30), 9)
    assert len(set(trace.picked)) == 9


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_takes_two_objectives(peer: str) -> None:
    problem = Problem(LINE, (Objective("a", "maximize", "GPa"), Objective("b", "minimize", "eV")))
    trace = _run(peer, problem, _table(problem, 30), 9)
    assert set(trace.steps[0].predictions[0]) == {"a", "b"}


def test_ax_takes_constraints_targets_and_standard_errors() -> None:
    problem = Problem(
        LINE,
        (Objective("y", "target", "GPa", target=-0.1),),
        (OutcomeConstraint("c", ">=", -0.5, "eV"),),
    )
    table = _table(problem, 30)
    noisy = LookupTable(
        table.designs, table.outcomes, np.full_like(table.outcomes, 0.01), table.repeats
    )
    trace = _run("ax", problem, noisy, 9)
    # of the distance from a target there is no prediction of the metric itself
    assert set(trace.steps[0].predictions[0]) == {"c"}


def test_ax_chooses_at_random_while_it_would_initialise() -> None:
    problem = Problem(LINE, (Objective("y", "maximize", "GPa"),))
    table = _table(problem, 20)
    method = make_method("ax", problem, table)
    trace = replay(problem, table, method, seed=0, batch=2, budget=8, initial=2)
    assert trace.steps[0].notes == ["Ax is still initialising"]
    assert trace.steps[-1].notes == ["qLogNoisyExpectedImprovement"]


def test_versions_are_those_of_what_is_compared_with() -> None:
    assert method_version("ax").startswith("1.3")
    assert method_version("random") == method_version("matloop")
