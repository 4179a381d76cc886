"""When a campaign has stalled."""

from __future__ import annotations

import numpy as np
import pytest

from loop import DesignSpace, Objective, OutcomeConstraint, Problem, RangeAxis, stalled

SPACE = DesignSpace((RangeAxis("x", 0.0, 1.0),))
ONE = Problem(
    SPACE, (Objective("cost", "minimize", "EUR"),), (OutcomeConstraint("heat", "<=", 1.0, "K"),)
)
NAN = float("nan")


def test_one_objective() -> None:
    rows = np.array([[5, 0], [3, 0], [4, 0], [3, 0], [NAN, NAN], [1, 9]], dtype=float)
    assert stalled(ONE, rows, after=5) is None
    reason = stalled(ONE, rows, after=4)
    assert reason is not None
    assert "cost" in reason
    assert "4 trials" in reason
    assert stalled(ONE, np.vstack([rows, [2.0, 0.0]]), after=4) is None


def test_nothing_feasible_is_no_stall() -> None:
    assert stalled(ONE, np.array([[1.0, 9.0]] * 20), after=3) is None
    assert stalled(ONE, np.empty((0, 2)), after=3) is None


def test_several_objectives_by_hypervolume() -> None:
    problem = Problem(
        SPACE,
        (
            Objective("a", "maximize", "", threshold=0.0),
            Objective("b", "maximize", "", threshold=0.0),
        ),
    )
    rows = [[1.0, 3.0], [3.0, 1.0], [1.0, 1.0], [2.0, 0.5]]
    assert stalled(problem, np.array(rows), after=2) is not None
    assert stalled(problem, np.array([*rows, [2.0, 2.0]]), after=2) is None


def test_after_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="one trial or more"):
        stalled(ONE, np.ones((3, 2)), after=0)
