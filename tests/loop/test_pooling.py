"""Spaces that can be counted are looked at whole."""

from __future__ import annotations

import numpy as np
import pytest

from loop import ChoiceAxis, DesignSpace, LinearConstraint, Objective, Problem, RangeAxis, pooling
from loop.pooling import best_of_all
from loop.search import Pool

SPACE = DesignSpace(
    (
        RangeAxis("a", 0, 9, integer=True),
        ChoiceAxis("b", (1, 2, 3)),
        RangeAxis("c", 0, 19, integer=True),
    ),
    (LinearConstraint({"a": 1.0, "c": 1.0}, "<=", 15.0),),
)
PROBLEM = Problem(SPACE, (Objective("f", "maximize", ""),))


def one(X: np.ndarray) -> np.ndarray:
    return np.sin(40.0 * X @ np.arange(1.0, X.shape[1] + 1.0))


def both(X: np.ndarray) -> list[np.ndarray]:
    return [one(X), -one(X)]


@pytest.mark.parametrize("chunk", [7, 100, 8192])
def test_the_best_by_each_score_are_kept(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "CHUNK", chunk)
    pool = Pool(PROBLEM, seed=0)
    best_of_all(pool, SPACE, both, keep=9)
    assert SPACE.size == 600
    assert pool.decoded == 600
    codes = SPACE.codes_at(np.arange(600))
    codes = codes[SPACE.allowed(codes)]
    assert len(codes) < 600
    values = one(SPACE.features_at(codes))
    found = one(pool.X)
    np.testing.assert_allclose(np.sort(found)[-9:], np.sort(values)[-9:])
    np.testing.assert_allclose(np.sort(found)[:9], np.sort(values)[:9])
    assert len(pool) == 18
    assert set(pool.origins) == {"whole space"}
    assert SPACE.allowed(pool.codes).all()
    for i in range(len(pool)):
        design = pool.design(i)
        assert design["a"] + design["c"] <= 15


def test_fewer_designs_than_are_kept() -> None:
    small = DesignSpace((ChoiceAxis("b", (1, 2, 3)),))
    pool = Pool(Problem(small, PROBLEM.objectives), seed=0)
    best_of_all(pool, small, both, keep=50)
    assert sorted(pool.design(i)["b"] for i in range(len(pool))) == [1, 2, 3]


def test_a_score_that_is_no_number_is_passed_over() -> None:
    small = DesignSpace((ChoiceAxis("b", (1, 2, 3)),))
    pool = Pool(Problem(small, PROBLEM.objectives), seed=0)
    best_of_all(pool, small, lambda X: [np.where(X[:, 0] > 0, np.nan, 1.0)], keep=2)
    assert all(pool.X[:, 0] == 0)
