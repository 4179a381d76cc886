"""BoTorch's joint acquisition functions on the survivors of the fast scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from botorch.acquisition.multi_objective import logei

from loop import Objective, OutcomeConstraint
from loop.joint import SURVIVORS, JointScore
from tests.loop.designs import ONE, TWO, bump, grid, prepare, two
from tests.loop.test_acquisition import scores

NOTHING = np.empty((0, 2))


def joint_of(acquisition: Any, pending: np.ndarray = NOTHING, n: int = 25) -> JointScore:
    X = np.random.default_rng(0).random((n, 2))
    return JointScore(acquisition, X, pending, samples=64, seed=0)


@pytest.mark.parametrize(
    ("objective", "sign"),
    [(Objective("f", "maximize", ""), 1.0), (Objective("f", "minimize", ""), -1.0)],
)
def test_one_objective_finds_the_peak(objective: Objective, sign: float) -> None:
    acquisition = prepare((objective,), lambda X: sign * 50.0 * bump(X), strategy="joint")
    best = grid()[int(np.argmax(joint_of(acquisition)(grid())))]
    assert np.abs(best - [0.7, 0.3]).max() < 0.11


def test_target_is_met() -> None:
    acquisition = prepare(
        (Objective("f", "target", "", target=0.5),), lambda X: X[:, :1] * 2.0, strategy="joint"
    )
    best = grid()[int(np.argmax(joint_of(acquisition)(grid())))]
    assert abs(best[0] * 2.0 - 0.5) < 0.1


def test_constraint_is_respected() -> None:
    acquisition = prepare(
        ONE,
        lambda X: np.hstack([bump(X), X[:, :1]]),
        (OutcomeConstraint("x", "<=", 0.4, ""),),
        strategy="joint",
    )
    best = grid()[int(np.argmax(joint_of(acquisition)(grid())))]
    assert best[0] <= 0.45
    assert abs(best[1] - 0.3) < 0.16


def test_the_fast_score_ranks_like_the_joint_one() -> None:
    """So that the best by the joint one is among the survivors of the fast one."""
    for objectives, function in ((ONE, bump), (TWO, two)):
        acquisition = prepare(objectives, function, n=15, strategy="joint")
        X = grid(15)
        exact, fast = joint_of(acquisition, n=15)(X), scores(acquisition, X)
        best = set(np.argsort(-exact)[:10])
        assert len(best & set(np.argsort(-fast)[:60])) >= 9


def test_pending_and_chosen_designs_push_away() -> None:
    acquisition = prepare(TWO, two, n=10, strategy="joint")
    X = grid()
    joint = joint_of(acquisition, n=10)
    first = joint(X)
    i = int(np.argmax(first))
    joint.add(X[i])
    second = joint(X)
    assert second[i] < first[i] - 0.5
    assert int(np.argmax(second)) != i
    pending = joint_of(acquisition, X[i : i + 1], n=10)(X)
    np.testing.assert_allclose(pending, second)


@pytest.mark.parametrize("k", [3, 5])
def test_many_objectives(k: int) -> None:
    objectives = tuple(Objective(f"f{j}", "minimize", "") for j in range(k))
    centres = np.random.default_rng(1).random((k, 2))
    acquisition = prepare(
        objectives,
        lambda X: np.stack([((X - c) ** 2).sum(1) for c in centres], 1),
        n=12,
        strategy="joint",
    )
    assert acquisition.name(0) == ("qLogNEHVI" if k == 3 else "qLogNParEGO")
    X = grid(7)
    assert np.isfinite(joint_of(acquisition, X[:1], n=12)(X)).all()


def test_front_below_the_thresholds() -> None:
    far: Any = (Objective("a", "maximize", "", threshold=5.0), TWO[1])
    acquisition = prepare(far, two, n=12, strategy="joint")
    assert np.isfinite(joint_of(acquisition, n=12)(grid(5))).all()


def test_survivors_are_scored_and_come_first() -> None:
    acquisition = prepare(ONE, bump, strategy="joint")
    X = grid(25)
    fast, alive = scores(acquisition, X), np.ones(len(X), dtype=bool)
    best = np.argsort(-fast, kind="stable")
    alive[best[:5]] = False
    bonus = np.linspace(0.0, 0.1, len(X))
    values = joint_of(acquisition).rescored(X, fast, alive, bonus)
    survivors = best[5 : 5 + SURVIVORS]
    np.testing.assert_allclose(
        values[survivors], joint_of(acquisition)(X[survivors]) + bonus[survivors]
    )
    others = np.setdiff1d(np.arange(len(X)), survivors)
    assert values[others].max() < values[survivors].min()
    assert np.isneginf(values[best[:5]]).all()


def test_the_same_bits_whatever_was_drawn_before() -> None:
    acquisition = prepare(TWO, two, n=10, strategy="joint")
    one = joint_of(acquisition, n=10)(grid(5))
    import torch

    torch.rand(7)
    np.testing.assert_array_equal(joint_of(acquisition, n=10)(grid(5)), one)


def test_no_kernel_is_compiled() -> None:
    """A process killed while compiling would leave a lock that the next one waits for."""
    acquisition = prepare(TWO, two, n=5, strategy="joint")
    joint_of(acquisition, n=5)(grid(3))
    assert logei._C is None
