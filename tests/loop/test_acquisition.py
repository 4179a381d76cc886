"""The cheap and the exact worth of designs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from botorch.acquisition.multi_objective import logei

from loop import DesignSpace, Objective, OutcomeConstraint, Problem, RangeAxis
from loop.acquisition import Acquisition, JointScore
from surrogates import fit_surrogate

SPACE = DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("y", 0.0, 1.0)))


def prepare(
    objectives: tuple[Objective, ...],
    function: Callable[[np.ndarray], np.ndarray],
    constraints: tuple[OutcomeConstraint, ...] = (),
    n: int = 25,
) -> Acquisition:
    problem = Problem(SPACE, objectives, constraints)
    X = np.random.default_rng(0).random((n, 2))
    Y = function(X)
    surrogate = fit_surrogate(X, Y, metrics=problem.metrics)
    return Acquisition(problem, surrogate, X, Y, samples=64, seed=0)


def grid(n: int = 21) -> np.ndarray:
    side = np.linspace(0, 1, n)
    return np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)


def bump(X: np.ndarray) -> np.ndarray:
    return -((X - [0.7, 0.3]) ** 2).sum(axis=1, keepdims=True)


def best_of(acquisition: Acquisition, pending: np.ndarray | None = None) -> np.ndarray:
    X = grid()
    joint = JointScore(acquisition, np.empty((0, 2)) if pending is None else pending, seed=0)
    return X[int(np.argmax(joint(X)))]


@pytest.mark.parametrize(
    ("objective", "sign"),
    [(Objective("f", "maximize", ""), 1.0), (Objective("f", "minimize", ""), -1.0)],
)
def test_one_objective_finds_the_peak(objective: Objective, sign: float) -> None:
    acquisition = prepare((objective,), lambda X: sign * 50.0 * bump(X))
    assert acquisition.method == "qLogNEI"
    assert np.abs(best_of(acquisition) - [0.7, 0.3]).max() < 0.11


def test_target_is_met() -> None:
    acquisition = prepare((Objective("f", "target", "", target=0.5),), lambda X: X[:, :1] * 2.0)
    assert abs(best_of(acquisition)[0] * 2.0 - 0.5) < 0.1


def test_constraint_is_respected() -> None:
    acquisition = prepare(
        (Objective("f", "maximize", ""),),
        lambda X: np.hstack([bump(X), X[:, :1]]),
        (OutcomeConstraint("x", "<=", 0.4, ""),),
    )
    best = best_of(acquisition)
    assert best[0] <= 0.45
    assert abs(best[1] - 0.3) < 0.16


def test_without_a_feasible_design_feasibility_comes_first() -> None:
    acquisition = prepare(
        (Objective("f", "maximize", ""),),
        lambda X: np.hstack([bump(X), X[:, :1]]),
        (OutcomeConstraint("x", "<=", -0.02, ""),),
    )
    assert acquisition.method == "qLogPF"
    assert best_of(acquisition)[0] <= 0.1
    X = grid()
    assert X[int(np.argmax(acquisition.cheap(X, 16)))][0] <= 0.1
    assert acquisition.chance(X)[0] > acquisition.chance(X)[20]


def two(X: np.ndarray) -> np.ndarray:
    return np.hstack([1.0 - X[:, :1] ** 2, X[:, :1] + 0.3 * (X[:, 1:] - 0.5) ** 2])


TWO = (Objective("a", "maximize", "", threshold=0.0), Objective("b", "maximize", "", threshold=0.0))


def test_cheap_score_ranks_like_the_exact_one() -> None:
    acquisition = prepare(TWO, two, n=15)
    assert acquisition.method == "qLogNEHVI"
    X = grid(15)
    exact = JointScore(acquisition, np.empty((0, 2)), seed=0)(X)
    cheap = acquisition.cheap(X, 64)
    assert np.isfinite(cheap).all()
    best = set(np.argsort(-exact)[:10])
    assert len(best & set(np.argsort(-cheap)[:60])) >= 9


def test_pending_and_chosen_designs_push_away() -> None:
    acquisition = prepare(TWO, two, n=10)
    X = grid()
    joint = JointScore(acquisition, np.empty((0, 2)), seed=0)
    first = joint(X)
    i = int(np.argmax(first))
    joint.add(X[i])
    second = joint(X)
    assert second[i] < first[i] - 0.5
    assert int(np.argmax(second)) != i
    pending = JointScore(acquisition, X[i : i + 1], seed=0)(X)
    np.testing.assert_allclose(pending, second)


@pytest.mark.parametrize("k", [3, 5])
def test_many_objectives(k: int) -> None:
    objectives = tuple(Objective(f"f{j}", "minimize", "") for j in range(k))
    centres = np.random.default_rng(1).random((k, 2))
    acquisition = prepare(
        objectives, lambda X: np.stack([((X - c) ** 2).sum(1) for c in centres], 1), n=12
    )
    assert acquisition.method == ("qLogNEHVI" if k == 3 else "qLogNParEGO")
    X = grid(7)
    assert np.isfinite(JointScore(acquisition, X[:1], seed=0)(X)).all()
    assert np.isfinite(acquisition.cheap(X, 16)).all()


def test_front_below_the_thresholds() -> None:
    far: Any = (Objective("a", "maximize", "", threshold=5.0), TWO[1])
    acquisition = prepare(far, two, n=12)
    assert np.isfinite(acquisition.cheap(grid(5), 16)).all()
    assert np.isfinite(JointScore(acquisition, np.empty((0, 2)), seed=0)(grid(5))).all()


def test_no_kernel_is_compiled() -> None:
    """A process killed while compiling would leave a lock that the next one waits for."""
    prepare(TWO, two, n=5).exact()
    assert logei._C is None
