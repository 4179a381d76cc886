"""Problems that can and cannot be stated."""

from __future__ import annotations

from typing import Any

import pytest

from loop import DesignSpace, Objective, OutcomeConstraint, Problem, RangeAxis

SPACE = DesignSpace((RangeAxis("x", 0.0, 1.0),))


def test_metrics_are_named_once_in_order() -> None:
    problem = Problem(
        SPACE,
        (Objective("b", "maximize", "GPa"), Objective("a", "minimize", "eV")),
        (OutcomeConstraint("c", "<=", 1.0, "K"), OutcomeConstraint("a", ">=", 0.0, "eV")),
    )
    assert problem.metrics == ("b", "a", "c")


@pytest.mark.parametrize(
    "wrong",
    [
        {"goal": "largest"},
        {"goal": "target"},
        {"goal": "maximize", "target": 1.0},
        {"goal": "target", "target": 1.0, "tolerance": -0.1},
        {"goal": "target", "target": 1.0, "threshold": -0.1},
    ],
)
def test_objectives_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(ValueError, match="gap"):
        Objective("gap", unit="eV", **wrong)


def test_problems_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="one objective or more"):
        Problem(SPACE, ())
    with pytest.raises(ValueError, match="own metric"):
        Problem(SPACE, (Objective("a", "maximize", "K"), Objective("a", "minimize", "K")))
    with pytest.raises(ValueError, match="<= and >="):
        OutcomeConstraint("a", "<", 1.0, "K")  # type: ignore[arg-type]
