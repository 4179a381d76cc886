"""Intervals become as wide as the errors that were made ask for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from loop import DesignSpace, History, Objective, Problem, RangeAxis, propose
from loop.calibration import raw_error, widening

PROBLEM = Problem(DesignSpace((RangeAxis("x", 0.0, 1.0),)), (Objective("y", "maximize", ""),))


def test_before_any_error_what_is_expected_stays() -> None:
    assert widening(np.array([]), 1.35) == 1.35
    assert widening(np.array([math.nan]), 1.35) == 1.35


@pytest.mark.parametrize("scale", [0.7, 1.0, 2.5])
def test_the_widened_interval_holds_four_in_five(scale: float) -> None:
    errors = scale * np.random.default_rng(0).standard_normal(400)
    factor = widening(errors, 1.35)
    assert (np.abs(errors[-40:]) <= 1.2816 * factor).mean() == pytest.approx(0.8, abs=0.08)
    assert widening(1e9 * errors, 1.35) == 4.0
    assert widening(0.0 * errors, 1.35) == 0.5


def test_an_error_is_in_the_models_own_deviations() -> None:
    assert raw_error(3.0, 1.0, 2.0, 1.35) == pytest.approx(1.35)
    assert math.isnan(raw_error(3.0, 1.0, 0.0, 1.0))


def test_errors_widen_what_is_foretold_and_choose_nothing() -> None:
    x = np.linspace(0.0, 1.0, 20)
    y = np.sin(9.0 * x) + 0.2 * np.random.default_rng(0).standard_normal(20)
    nan = np.full((20, 1), math.nan)
    past = History([{"x": float(v)} for v in x], y[:, None], nan, np.zeros(20, dtype=bool))
    plain = propose(PROBLEM, past, 2, seed=0)
    wrong = propose(PROBLEM, replace(past, errors=np.full((20, 1), 3.0)), 2, seed=0)
    assert [c.design for c in wrong.candidates] == [c.design for c in plain.candidates]
    for a, b in zip(plain.candidates, wrong.candidates, strict=True):
        # Of an unskewed metric the mean of a wider distribution lies a little elsewhere.
        assert b.prediction["y"][0] == pytest.approx(a.prediction["y"][0], abs=0.02)
        assert b.notes["widened"]["y"] > 1.5 * a.notes["widened"]["y"]
        ratio = b.notes["widened"]["y"] / a.notes["widened"]["y"]
        assert b.notes["predictive_sd"]["y"] / a.notes["predictive_sd"]["y"] == pytest.approx(
            ratio, rel=0.05
        )
    with pytest.raises(ValueError, match="errors: wanted the shape"):
        propose(PROBLEM, replace(past, errors=np.zeros((3, 1))), 2, seed=0)
