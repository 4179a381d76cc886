"""Uphill, and never beyond what is allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generators.base import Generator
from loop import (
    ChoiceAxis,
    CompositionAxis,
    DesignSpace,
    LatentAxis,
    LinearConstraint,
    RangeAxis,
)
from loop.polish import polish
from tests.loop.spaces import spaces

LIKE = torch.zeros(1, dtype=torch.float64)


def start(space: DesignSpace, n: int = 8, seed: int = 0) -> np.ndarray:
    return space.prior(n, np.random.default_rng(seed))


def test_an_open_peak_is_reached() -> None:
    space = DesignSpace(tuple(RangeAxis(f"x{i}", -5.0, 5.0) for i in range(4)))
    peak = torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=torch.float64)
    found = polish(space, start(space), lambda X: -(X - peak).square().sum(1), 100, LIKE)
    assert np.abs(found - peak.numpy()).max() < 0.02


def test_a_peak_outside_is_met_at_the_edge() -> None:
    space = DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("y", 0.0, 1.0)))
    aim = torch.tensor([2.0, -1.0], dtype=torch.float64)
    found = polish(space, start(space), lambda X: -(X - aim).square().sum(1), 60, LIKE)
    np.testing.assert_allclose(found, np.tile([1.0, 0.0], (8, 1)), atol=1e-9)


@pytest.mark.parametrize("op", ["<=", "=="])
def test_linear_constraints_hold(op: str) -> None:
    space = DesignSpace(
        tuple(RangeAxis(f"x{i}", 0.0, 10.0) for i in range(3)),
        (LinearConstraint({"x0": 1.0, "x1": 1.0, "x2": 1.0}, op, 12.0),),
    )
    aim = torch.tensor([1.0, 0.8, 0.6], dtype=torch.float64)  # a sum of 24
    found = polish(space, start(space), lambda X: -(X - aim).square().sum(1), 80, LIKE)
    assert space.allowed(found).all()
    np.testing.assert_allclose(10.0 * found.sum(1), 12.0, atol=1e-5)
    np.testing.assert_allclose(found, np.tile([0.6, 0.4, 0.2], (8, 1)), atol=0.03)


def test_a_composition_stays_one() -> None:
    space = DesignSpace((CompositionAxis("alloy", ("Fe", "Co", "Ni")),))
    codes = start(space)
    aim = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    columns = [f for _, f in space.smooth]
    assert len(columns) == 3
    found = polish(space, codes, lambda X: -(X[:, columns] - aim).square().sum(1), 80, LIKE)
    assert space.allowed(found).all()
    np.testing.assert_allclose(found, np.tile(aim.numpy(), (8, 1)), atol=0.03)


def test_what_cannot_move_stays() -> None:
    space = DesignSpace((RangeAxis("x", 0.0, 1.0), ChoiceAxis("gas", ("air", "argon"))))
    codes = start(space)
    found = polish(space, codes, lambda X: X.sum(1), 20, LIKE)
    np.testing.assert_array_equal(found[:, 1], codes[:, 1])
    assert (found[:, 0] > codes[:, 0]).all() or (found[:, 0] == 1.0).all()
    only = DesignSpace((ChoiceAxis("gas", ("air", "argon")),))
    codes = start(only)
    assert polish(only, codes, lambda X: X.sum(1), 20, LIKE) is codes


def test_nothing_to_do(points: Generator) -> None:
    space = DesignSpace((RangeAxis("x", 0.0, 1.0),))
    codes = start(space)
    assert polish(space, codes, lambda X: X.sum(1), 0, LIKE) is codes
    assert len(polish(space, codes[:0], lambda X: X.sum(1), 5, LIKE)) == 0
    latent = DesignSpace((LatentAxis("point", points),))
    codes = start(latent)
    assert polish(latent, codes, lambda X: X.sum(1), 5, LIKE) is codes


def test_a_score_without_a_slope_moves_nothing() -> None:
    space = DesignSpace((RangeAxis("x", 0.0, 1.0),))
    codes = start(space)
    np.testing.assert_allclose(polish(space, codes, lambda X: 0.0 * X.sum(1), 9, LIKE), codes)
    steep = polish(space, codes, lambda X: X.sum(1).exp().pow(400), 9, LIKE)
    assert (steep >= codes).all()
    found = polish(space, codes, lambda X: X.sum(1) * float("nan"), 9, LIKE)
    np.testing.assert_array_equal(found, codes)


@settings(max_examples=60)
@given(spaces(), st.integers(0, 2**16))
def test_no_start_gets_worse_and_all_stay_allowed(space: DesignSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = space.prior(5, rng)
    slope = torch.as_tensor(rng.normal(size=len(space.feature_names)))

    def score(X: Tensor) -> Tensor:
        return torch.sin(3.0 * X @ slope) + X @ slope

    before = score(torch.as_tensor(space.features_at(codes)))
    found = polish(space, codes, score, 12, LIKE)
    assert space.allowed(found).all()
    after = score(torch.as_tensor(space.features_at(found)))
    assert bool((after >= before - 1e-9).all())
