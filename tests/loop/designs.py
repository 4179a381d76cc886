"""A plane to search in, functions on it, and surrogates of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from loop import DesignSpace, History, Objective, OutcomeConstraint, Problem, RangeAxis
from loop.acquisition import Acquisition
from surrogates import fit_surrogate

PLANE = DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("y", 0.0, 1.0)))
ONE = (Objective("f", "maximize", ""),)
TWO = (Objective("a", "maximize", "", threshold=0.0), Objective("b", "maximize", "", threshold=0.0))

Function = Callable[[np.ndarray], np.ndarray]


def grid(n: int = 21) -> np.ndarray:
    side = np.linspace(0, 1, n)
    return np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)


def bump(X: np.ndarray) -> np.ndarray:
    return -((X - [0.7, 0.3]) ** 2).sum(axis=1, keepdims=True)


def two(X: np.ndarray) -> np.ndarray:
    return np.hstack([1.0 - X[:, :1] ** 2, X[:, :1] + 0.3 * (X[:, 1:] - 0.5) ** 2])


def prepare(
    objectives: tuple[Objective, ...],
    function: Function,
    constraints: tuple[OutcomeConstraint, ...] = (),
    n: int = 25,
    **more: Any,
) -> Acquisition:
    problem = Problem(PLANE, objectives, constraints)
    X = np.random.default_rng(0).random((n, 2))
    Y = function(X)
    surrogate = fit_surrogate(X, Y, metrics=problem.metrics)
    return Acquisition(problem, surrogate, X, Y, **{"samples": 64, "seed": 0, **more})


def history(problem: Problem, designs: list[dict[str, Any]], outcomes: Any, **more: Any) -> History:
    """A history in which a row of nan is a failure."""
    Y = np.asarray(outcomes, dtype=float).reshape(len(designs), len(problem.metrics))
    failed = ~np.isfinite(Y).any(axis=1)
    return History(designs, Y, np.full_like(Y, math.nan), failed, **more)


def at(X: np.ndarray) -> list[dict[str, float]]:
    """Designs of the plane."""
    return [{"x": float(x), "y": float(y)} for x, y in X]
