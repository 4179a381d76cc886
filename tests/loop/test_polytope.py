"""The nearest points of polytopes: against a general solver, and random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from loop.polytope import hit_and_run, nearest


def cut_box(seed: int, d: int, equal: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of unit length that a point inside the unit box meets."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((len(equal), d))
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    return A, A @ rng.random(d) + np.where(equal, 0.0, 0.05)


@pytest.mark.parametrize(
    "equal", [[False], [True], [False, True], [False, False, True], [True, True, False, False]]
)
def test_it_is_the_nearest_point(equal: list[bool]) -> None:
    d = 12
    A, b = cut_box(0, d, equal)
    x = np.random.default_rng(1).random((8, d)) * 1.6 - 0.3
    found, met = nearest(x, np.zeros(d), np.ones(d), A, b, np.array(equal))
    assert met.all()
    for row, start in zip(found, x, strict=True):
        rows = [
            {"type": "eq" if same else "ineq", "fun": lambda z, a=a, c=c: c - a @ z}
            for a, c, same in zip(A, b, equal, strict=True)
        ]
        reference = minimize(
            lambda z, start=start: ((z - start) ** 2).sum(),
            np.clip(start, 0, 1),
            jac=lambda z, start=start: 2 * (z - start),
            bounds=[(0, 1)] * d,
            constraints=rows,
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(row, reference.x, atol=1e-6)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 10), st.lists(st.booleans(), min_size=1, max_size=4))
def test_points_are_inside_and_stay(seed: int, d: int, equal: list[bool]) -> None:
    equal = equal[:d]
    A, b = cut_box(seed, d, equal)
    x = np.random.default_rng(seed).standard_normal((20, d))
    found, met = nearest(x, np.zeros(d), np.ones(d), A, b, np.array(equal))
    assert met.all()
    off = found @ A.T - b
    assert (np.where(equal, np.abs(off), off) < 1e-8).all()
    assert ((found >= 0) & (found <= 1)).all()
    again, _ = nearest(found, np.zeros(d), np.ones(d), A, b, np.array(equal))
    np.testing.assert_allclose(again, found, atol=1e-7)


def test_where_there_is_none_it_says_so() -> None:
    x, one = np.zeros((2, 3)), np.ones((1, 3))
    low, high = np.zeros((2, 3)), np.ones((2, 3))
    high[1] = 0.2
    found, met = nearest(x, low, high, one, np.ones(1), np.array([True]))
    assert met.tolist() == [True, False]
    np.testing.assert_allclose(found[0], 1 / 3)
    A = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    _, met = nearest(x, low, high, A, np.array([0.3, 0.5]), np.array([True, True]))
    assert not met.any()


def test_hit_and_run_covers_a_triangle() -> None:
    A, b = np.ones((1, 3)), np.ones(1)
    start = np.tile([1.0, 0.0, 0.0], (4000, 1)) * 0.98 + 0.02 / 3
    rng = np.random.default_rng(0)
    x = hit_and_run(
        start, np.zeros(3), np.ones(3), A, b, np.array([True]), steps=40, rng=rng
    )  # fmt: skip
    np.testing.assert_allclose(x.sum(axis=1), 1.0, atol=1e-12)
    # Uniform on the simplex: means 1/3, variances 1/18.
    np.testing.assert_allclose(x.mean(axis=0), 1 / 3, atol=0.02)
    np.testing.assert_allclose(x.var(axis=0), 1 / 18, atol=0.005)


def test_hit_and_run_on_a_log_scale_is_uniform_in_the_logarithm() -> None:
    x = np.full((4000, 2), 0.5)
    moved = hit_and_run(
        x,
        np.full(2, 1e-2),
        np.ones(2),
        np.zeros((0, 2)),
        np.zeros(0),
        np.zeros(0, dtype=bool),
        steps=60,
        rng=np.random.default_rng(0),
        log=np.array([True, False]),
    )
    assert np.log10(moved[:, 0]).mean() == pytest.approx(-1.0, abs=0.06)
    assert moved[:, 1].mean() == pytest.approx(0.505, abs=0.02)
