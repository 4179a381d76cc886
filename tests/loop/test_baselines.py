"""Random search, the forest and evolution, choosing among given designs."""

from __future__ import annotations

import numpy as np
import pytest

from loop.backtest.replay import Method
from loop.baselines import Evolution, Forest, Random
from loop.problem import Objective, OutcomeConstraint, Problem
from loop.proposal import History
from loop.space import ChoiceAxis, Design, DesignSpace, RangeAxis

SPACE = DesignSpace((RangeAxis("x", 0.0, 1.0), ChoiceAxis("gas", ("air", "argon"))))
ONE = Problem(SPACE, (Objective("y", "maximize", "GPa"),))
BOUND = Problem(SPACE, ONE.objectives, (OutcomeConstraint("c", "<=", 0.5, "eV"),))
TWO = Problem(SPACE, (Objective("a", "maximize", "GPa"), Objective("b", "minimize", "eV")))


def _designs(n: int, seed: int) -> list[Design]:
    rng = np.random.default_rng(seed)
    return [{"x": float(x), "gas": ("air", "argon")[i % 2]} for i, x in enumerate(rng.random(n))]


def _history(problem: Problem, designs: list[Design]) -> History:
    x = np.array([d["x"] for d in designs])
    y = np.stack([x, 1.0 - x if problem is TWO else x], axis=1)[:, : len(problem.metrics)]
    nothing = np.full(y.shape, np.nan)
    return History(designs, y, nothing, np.zeros(len(designs), dtype=bool))


@pytest.mark.parametrize("method", [Random(), Forest(ONE), Evolution(ONE)])
def test_n_different_designs_and_the_same_for_a_seed(method: Method) -> None:
    history, left = _history(ONE, _designs(12, 0)), _designs(30, 1)
    first, second = (method.choose(history, left, 5, 7) for _ in range(2))
    assert len(set(first.rows)) == 5
    assert list(first.rows) == list(second.rows)
    assert list(method.choose(history, left, 30, 7).rows) != list(range(30))


def test_the_forest_goes_where_it_hopes_for_more_and_says_what_it_predicts() -> None:
    left = _designs(40, 1)
    choice = Forest(ONE).choose(_history(ONE, _designs(20, 0)), left, 4, 0)
    assert min(left[row]["x"] for row in choice.rows) > 0.6
    assert choice.predict is not None
    for row, told in zip(choice.rows, choice.predict(), strict=True):
        assert told["y"].mean == pytest.approx(left[row]["x"], abs=0.3)


def test_the_forest_minimises_and_meets_targets() -> None:
    left = _designs(40, 1)
    least = Problem(SPACE, (Objective("y", "minimize", "GPa"),))
    target = Problem(SPACE, (Objective("y", "target", "GPa", target=0.5),))
    history = _history(ONE, _designs(20, 0))
    assert max(left[r]["x"] for r in Forest(least).choose(history, left, 3, 0).rows) < 0.4
    near = [left[r]["x"] for r in Forest(target).choose(history, left, 3, 0).rows]
    assert all(0.2 < x < 0.8 for x in near)


def test_the_forest_keeps_to_constraints_that_it_has_learnt() -> None:
    left = _designs(40, 1)
    rows = Forest(BOUND).choose(_history(BOUND, _designs(20, 0)), left, 4, 0).rows
    assert max(left[row]["x"] for row in rows) < 0.75


def test_the_forest_widens_a_front() -> None:
    designs, left = _designs(16, 0), _designs(40, 1)
    rows = Forest(TWO).choose(_history(TWO, designs), left, 4, 0).rows
    assert len(set(rows)) == 4
    # b falls as a rises: what is best for one is best for both
    assert np.mean([left[row]["x"] for row in rows]) > 0.6


def test_evolution_stays_near_the_best() -> None:
    designs, left = _designs(30, 0), _designs(200, 1)
    chosen = [
        left[row]["x"]
        for seed in range(10)
        for row in Evolution(ONE).choose(_history(ONE, designs), left, 4, seed).rows
    ]
    assert np.mean(chosen) > 0.6
