"""Fronts and hypervolumes."""

from __future__ import annotations

import numpy as np
import pytest

from loop import (
    DesignSpace,
    Objective,
    OutcomeConstraint,
    Problem,
    RangeAxis,
    best_so_far,
    hypervolume,
    hypervolume_trace,
    pareto_mask,
    reference_point,
)

SPACE = DesignSpace((RangeAxis("x", 0.0, 1.0),))
NAN = float("nan")


def two(**thresholds: float) -> Problem:
    """Maximise a, minimise b, subject to c at most 1."""
    return Problem(
        SPACE,
        (
            Objective("a", "maximize", "GPa", threshold=thresholds.get("a")),
            Objective("b", "minimize", "g", threshold=thresholds.get("b")),
        ),
        (OutcomeConstraint("c", "<=", 1.0, "eV"),),
    )


OUTCOMES = np.array(
    [
        [1.0, 2.0, 0.0],
        [9.0, 0.1, 5.0],  # breaks the constraint
        [2.0, 3.0, 1.0],
        [1.0, 3.0, 0.0],  # beaten
        [5.0, NAN, 0.0],
        [5.0, 1.0, NAN],  # not known to satisfy the constraint
        [2.0, 3.0, 0.5],  # a tie
    ]
)


def test_front() -> None:
    assert pareto_mask(two(), OUTCOMES).tolist() == [True, False, True, False, False, False, True]


def test_hypervolume_from_thresholds() -> None:
    problem = two(a=0.0, b=4.0)
    assert hypervolume(problem, OUTCOMES) == pytest.approx(1 * 2 + 1 * 1)
    assert hypervolume_trace(problem, OUTCOMES).tolist() == pytest.approx([2, 2, 3, 3, 3, 3, 3])
    assert reference_point(problem, OUTCOMES)[1] == []
    assert hypervolume(problem, OUTCOMES[4:6]) == 0.0
    assert hypervolume(two(a=10.0, b=4.0), OUTCOMES) == 0.0


def test_inferred_reference_lies_below_the_front_and_is_stated() -> None:
    corner, notes = reference_point(two(), OUTCOMES)
    assert corner.tolist() == pytest.approx([1.0 - 0.1, -3.0 - 0.1])
    assert "a from 0.9 GPa" in notes[0]
    assert "b from 3.1 g" in notes[1]
    nothing, _ = reference_point(two(), OUTCOMES[:0])
    assert np.isnan(nothing).all()
    unfinished, _ = reference_point(two(), OUTCOMES[4:6])  # never both known and allowed
    assert np.isfinite(unfinished).all()


def test_a_search_counts_from_below_the_worst_result() -> None:
    problem = Problem(SPACE, two().objectives)
    outcomes = np.array([[1.0, 2.0], [5.0, 3.0], [0.0, 8.0], [2.0, NAN]])
    corner, _ = reference_point(problem, outcomes)
    assert corner.tolist() == pytest.approx([1.0 - 0.5, -3.0 - 0.6])
    below, _ = reference_point(problem, outcomes, searching=True)
    assert below.tolist() == pytest.approx([0.0 - 0.5, -8.0 - 0.6])
    fixed = Problem(SPACE, two(a=3.0, b=4.0).objectives)
    for searching in (False, True):
        assert reference_point(fixed, outcomes, searching)[0].tolist() == [3.0, -4.0]


def test_hypervolume_of_one_and_three_objectives() -> None:
    objectives = tuple(Objective(m, "maximize", "", threshold=0.0) for m in "abc")
    cube = Problem(SPACE, objectives)
    assert hypervolume(cube, np.array([[1, 2, 3], [2, 1, 1]])) == pytest.approx(6 + 2 - 1)
    line = Problem(SPACE, objectives[:1])
    assert hypervolume(line, np.array([[1.0], [4.0], [2.0]])) == 4.0


def test_target() -> None:
    problem = Problem(SPACE, (Objective("gap", "target", "eV", target=1.4, tolerance=0.1),))
    outcomes = np.array([[NAN], [2.0], [1.0], [1.9], [1.3]])
    np.testing.assert_allclose(best_so_far(problem, outcomes)[:, 0], [NAN, 2.0, 1.0, 1.0, 1.3])
    assert pareto_mask(problem, outcomes).tolist() == [False] * 4 + [True]


def test_best_so_far_counts_feasible_values_only() -> None:
    trace = best_so_far(two(), OUTCOMES)
    np.testing.assert_allclose(trace[:, 0], [1, 1, 2, 2, 5, 5, 5])
    np.testing.assert_allclose(trace[:, 1], [2, 2, 2, 2, 2, 2, 2])


def test_trace_never_falls() -> None:
    outcomes = np.random.default_rng(0).standard_normal((60, 3))
    trace = hypervolume_trace(two(), outcomes)
    assert (np.diff(trace) >= 0).all()
    assert trace[-1] == pytest.approx(hypervolume(two(), outcomes))
