"""Why a design was proposed: figures and words from what the surrogate says of it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from loop import ChoiceAxis, DesignSpace, Objective, OutcomeConstraint, Problem, RangeAxis
from loop.calibration import calibration_in_words, calibration_verdict
from loop.explain import Explanation, explain_candidates, improvement
from loop.importance import feature_groups, importances
from surrogates import fit_feasibility, fit_surrogate

SPACE = DesignSpace((RangeAxis("x", 0.0, 1.0), ChoiceAxis("gas", ("air", "argon"))))
ONE = Problem(SPACE, (Objective("bulk_modulus", "maximize", "GPa"),))
TWO = Problem(
    SPACE,
    (Objective("a", "maximize", "GPa"), Objective("b", "minimize", "eV")),
    (OutcomeConstraint("c", "<=", 0.5, "K"),),
)


class Known:
    """A surrogate that says what it is told to, whatever it was fitted to.

    A stand-in, so that the figures of an explanation can be compared with a closed form.
    """

    def __init__(self, metrics: tuple[str, ...], mean: Callable[..., Any], sd: Callable[..., Any]):
        self.metrics, self._mean, self._sd = metrics, mean, sd
        self.scales = torch.ones(len(metrics), dtype=torch.float64)

    def posterior(self, X: Any) -> tuple[Tensor, Tensor]:
        X = np.asarray(X, dtype=float)
        mean, sd = np.asarray(self._mean(X), float), np.asarray(self._sd(X), float)
        shape = (len(X), len(self.metrics))
        return (
            torch.as_tensor(np.broadcast_to(mean, shape).copy()),
            torch.as_tensor(np.broadcast_to(sd, shape) ** 2),
        )


def explained(
    problem: Problem, known: Known, outcomes: list[list[float]], x: float, **more: Any
) -> Explanation:
    designs = [{"x": i / 10, "gas": "air"} for i in range(len(outcomes))]
    X = problem.space.features(designs)
    asked = {"x": x, "gas": "air"}
    candidates = [(asked, problem.space.features([asked])[0])]
    (found,) = explain_candidates(
        problem, designs, X, np.array(outcomes), known, None, candidates, **more  # type: ignore[arg-type]
    )  # fmt: skip
    json.dumps(found.as_dict(), allow_nan=False)
    return found


def test_the_incumbent_is_the_best_by_the_model_not_the_luckiest_reading() -> None:
    known = Known(("bulk_modulus",), lambda X: 100 + 100 * X[:, :1], lambda X: 10.0)
    told = explained(ONE, known, [[400.0], [110.0], [120.0], [130.0]], 0.6)
    outlook = told.outlook["bulk_modulus"]
    assert outlook.best == pytest.approx(130.0)  # not the reading of 400 at x = 0
    assert outlook.gain == pytest.approx(30.0)
    assert outlook.chance == pytest.approx(0.99865, abs=1e-4)
    assert told.kind == "exploitation"
    assert told.sentences[0] == (
        "Expected bulk modulus 160 ± 10 GPa, 30 GPa better than the best so far "
        "(130 GPa by the model)."
    )


def test_a_share_is_said_of_what_is_large_beside_its_spread() -> None:
    known = Known(("bulk_modulus",), lambda X: 100 + 100 * X[:, :1], lambda X: 30.0)
    told = explained(ONE, known, [[100.0], [110.0], [120.0]], 0.1)
    assert "8.3 % short of the best so far (120 GPa by the model)" in told.sentences[0]
    assert "with a chance of 37 % to beat it" in told.sentences[0]
    assert told.kind == "exploration"
    assert told.sentences[1].endswith("; chosen mostly because it is uncertain.")


@given(gain=st.floats(-2, 2), sd=st.floats(0.01, 2))
def test_the_expected_gain_is_the_expected_improvement(gain: float, sd: float) -> None:
    known = Known(
        ("bulk_modulus",),
        lambda X: np.where(X[:, :1] > 0.5, 3.0 + gain, 3.0),
        lambda X: np.where(X[:, :1] > 0.5, sd, 0.1),
    )
    told = explained(ONE, known, [[2.0], [4.0]], 0.9)
    spread = math.sqrt(2.0)
    z = gain / sd
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    exact = (gain * 0.5 * math.erfc(-z / math.sqrt(2)) + sd * density) / spread
    assert told.expected_gain == pytest.approx(exact, rel=0.03, abs=2e-3)
    if exact > 0.05:
        share = 1 - max(0.0, gain) / spread / exact
        assert told.uncertainty_share == pytest.approx(share, abs=0.03)


def test_several_objectives_constraints_and_feasibility() -> None:
    known = Known(
        TWO.metrics,
        lambda X: np.stack([X[:, 0], X[:, 0], np.full(len(X), 0.5)], 1),
        lambda X: 0.05,
    )
    outcomes = [[0.0, 0.0, 0.0], [0.1, 0.1, 0.0], [0.2, 0.2, 0.9], [math.nan] * 3]
    told = explained(TWO, known, outcomes, 0.5)
    assert told.serves == "a"
    assert told.joins_front
    assert told.constraints == {"c <= 0.5 K": pytest.approx(0.5)}
    assert told.outlook["b"].gain == pytest.approx(-0.5)
    assert told.outlook["a"].best == pytest.approx(0.1)  # 0.2 violates the constraint
    assert "by the model it would join the front, and serves a most" in told.sentences[0]
    assert told.sentences[-1] == "Chances: c <= 0.5 K holds with 50 %."
    assert "(without a result)" in told.sentences[1]


def test_nothing_counts_yet() -> None:
    known = Known(TWO.metrics, lambda X: np.zeros((len(X), 3)), lambda X: 1.0)
    told = explained(TWO, known, [[0.0, 0.0, 9.0]], 0.5)
    assert told.kind == "feasibility"
    assert told.expected_gain is None
    assert "a first design that satisfies the constraints" in told.as_dict()["text"]


def test_a_target() -> None:
    problem = Problem(SPACE, (Objective("gap", "target", "eV", target=1.4),))
    known = Known(("gap",), lambda X: 1 + X[:, :1], lambda X: 0.01)
    told = explained(problem, known, [[1.0], [1.1]], 0.4)
    assert told.outlook["gap"].gain == pytest.approx(0.3)
    assert "from the target (the best so far: 0.3 eV, by the model)" in told.sentences[0]


def test_a_level_has_no_best_design_and_no_front() -> None:
    metrics = ("a", "b")
    objectives = (
        Objective("a", "level", "eV", target=0.5), Objective("b", "level", "K", target=0.2)
    )  # fmt: skip
    known = Known(metrics, lambda X: np.stack([X[:, 0], 2 * X[:, 0]], 1), lambda X: 0.05)
    rule = (OutcomeConstraint("a", "<=", 0.9, "eV"),)
    both = Problem(ONE.space, objectives, rule)
    told = explained(both, known, [[0.0, 0.0], [0.5, 1.0]], 0.6)
    assert told.sentences[0] == (
        "Expected a 0.6 ± 0.05 eV (level 0.5) and b 1.2 ± 0.05 K (level 0.2)."
    )
    assert "not known yet on which side it is" in told.sentences[1]
    assert (told.kind, told.joins_front, told.serves, told.expected_gain) == (
        "exploration", None, None, None,
    )  # fmt: skip
    one = Problem(ONE.space, objectives[:1])
    alone = Known(("a",), lambda X: X[:, :1], lambda X: 0.05)
    told = explained(one, alone, [[0.0], [0.5]], 0.4)
    assert told.sentences[0] == "Expected a 0.4 ± 0.05 eV, 0.1 eV below the level."
    assert told.outlook["a"].best is None


def test_the_nearest_design_and_how_near_it_is() -> None:
    known = Known(("bulk_modulus",), lambda X: X[:, :1], lambda X: 0.1)
    rows = [[0.0], [0.1], [0.2], [0.3]]
    told = explained(ONE, known, rows, 0.301, names=["p", "q", "r", "s"])
    assert told.nearest is not None
    assert (told.nearest.row, told.nearest.name) == (3, "s")
    assert told.nearest.outcomes == {"bulk_modulus": 0.3}
    assert told.sentences[1].startswith("It is very close to s (bulk modulus 0.3 GPa); ")
    far = explained(ONE, known, rows, 1.0)
    assert far.sentences[1].startswith("It is far from all that was tried, the nearest being x 0.3")


def test_without_a_model_and_blindly() -> None:
    asked = {"x": 0.5, "gas": "air"}
    x = SPACE.features([asked])[0]
    none = np.empty((0, 1))
    (first,) = explain_candidates(ONE, [], SPACE.features([]), none, None, None, [(asked, x)])
    assert first.as_dict()["text"] == ("Drawn without a model: too little is known for one yet.")
    known = Known(("bulk_modulus",), lambda X: X[:, :1], lambda X: 0.1)
    told = explained(ONE, known, [[0.0], [0.1]], 0.5, blind=True)
    assert told.kind == "blind"
    assert told.sentences[1].endswith("drawn blindly, to learn from.")
    assert explain_candidates(ONE, [], SPACE.features([]), none, None, None, []) == []


def test_it_takes_milliseconds() -> None:
    rng = np.random.default_rng(0)
    designs = [d for d in SPACE.sample(200, 1) if d is not None]
    X = SPACE.features(designs)
    Y = np.stack([np.sin(3 * X[:, 0]) + 0.1 * rng.normal(size=200)], 1)
    surrogate = fit_surrogate(X, Y, metrics=ONE.metrics, max_iter=5)
    feasibility = fit_feasibility(X, X[:, 0] < 0.9)
    asked = [d for d in SPACE.sample(4, 2) if d is not None]
    pairs = list(zip(asked, SPACE.features(asked), strict=True))
    began = time.process_time()
    found = explain_candidates(ONE, designs, X, Y, surrogate, feasibility, pairs)
    assert time.process_time() - began < 0.5
    assert all(f.feasibility is not None for f in found)
    again = explain_candidates(ONE, designs, X, Y, surrogate, feasibility, pairs)
    assert [f.as_dict() for f in found] == [f.as_dict() for f in again]


def test_improvement_is_that_of_the_weakest_point() -> None:
    front = np.array([[1.0, 0.0], [0.0, 1.0]])
    U = np.array([[2.0, 2.0], [0.5, 0.5], [-1.0, -1.0], [1.0, 1.0]])
    assert improvement(U, front).tolist() == [2.0, 0.5, 0.0, 1.0]


# Importance


def test_groups_of_features() -> None:
    names = ["x", "gas=air", "gas=argon", "crystal.Z"]
    assert feature_groups(names) == {"x": [0], "gas": [1, 2], "crystal.Z": [3]}
    names = ["gas.viscosity", "gas=air", "gas=argon", "pool.gas=air", "pool.x"]
    assert feature_groups(names) == {"gas": [0, 1, 2], "pool.gas": [3], "pool.x": [4]}


@given(weights=st.tuples(*[st.floats(0.0, 3.0)] * 3))
def test_total_effects_of_a_linear_prediction(weights: tuple[float, ...]) -> None:
    known = Known(("y", "flat"), lambda X: np.stack([X @ weights, 0 * X[:, 0]], 1), lambda X: 1.0)
    sample = np.random.default_rng(1).random((600, 3))
    found = importances(known, sample, {"a": [0], "b": [1], "c": [2]})  # type: ignore[arg-type]
    squares = np.square(weights)
    assert found["flat"].shares == {}
    if squares.sum() < 1e-3:
        return
    shares = found["y"].shares
    assert sum(shares.values()) == pytest.approx(1.0)
    for name, square in zip("abc", squares, strict=True):
        assert shares[name] == pytest.approx(square / squares.sum(), abs=0.06)
        assert found["y"].totals[name] == pytest.approx(square / squares.sum(), abs=0.1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    json.dumps(found["y"].as_dict(), allow_nan=False)


# Calibration


@pytest.mark.parametrize(
    ("coverage", "n", "verdict", "words"),
    [
        ({"50": 0.5, "80": 0.775, "95": 0.95}, 40, "fit",
         "80 % intervals held 31 of 40 results: about right"),
        ({"50": 0.2, "80": 0.4, "95": 0.6}, 40, "narrow",
         "80 % intervals held 16 of 40 results: too narrow, the model is too sure of itself"),
        ({"50": 1.0, "80": 1.0, "95": 1.0}, 40, "wide",
         "80 % intervals held 40 of 40 results: too wide, the model is more careful than it needs "
         "to be"),
        ({"50": 1.0, "80": 0.8, "95": 0.95}, 20, "wide",
         "50 % intervals held 20 of 20 results: too wide, the model is more careful than it needs "
         "to be"),
        ({"50": 0.0, "80": 0.0, "95": 0.0}, 5, "few",
         "80 % intervals held 0 of 5 results: too few to judge by"),
        ({}, 5, "few", "intervals of 5 results: too few to judge by"),
    ],
)  # fmt: skip
def test_calibration_in_words(coverage: dict[str, float], n: int, verdict: str, words: str) -> None:
    held = {float(level): round(share * n) for level, share in coverage.items()}
    assert calibration_verdict(held, n) == verdict
    assert calibration_in_words(coverage, n) == words


def test_calibration_of_very_many_results() -> None:
    assert calibration_verdict({80.0: 4000}, 5000) == "fit"
    assert calibration_verdict({80.0: 3500}, 5000) == "narrow"
    assert calibration_verdict({80.0: 4500}, 5000) == "wide"
