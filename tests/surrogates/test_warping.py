"""The way from the metric's unit to standardised outcomes, and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from surrogates.warping import MIN_TO_WARP, Warp, standardise, unskew


def skewed(n: int = 60, seed: int = 0, sign: float = 1.0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.as_tensor(3.0 + sign * 200.0 * rng.lognormal(0.0, 1.0, n))


def warped(y: Tensor) -> Warp:
    warp = unskew(y)
    assert warp is not None
    return warp


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_power_is_yeo_and_johnsons(sign: float) -> None:
    y = skewed(sign=sign)
    warp = warped(y)
    z = ((y - y.mean()) / y.std()).numpy()
    theirs, power = stats.yeojohnson(z)
    assert warp.power == pytest.approx(power, abs=1e-3)
    ours = warp.center + warp.scale * warp(y)
    np.testing.assert_allclose(ours.numpy(), stats.yeojohnson(z, warp.power), atol=1e-10)
    assert abs(stats.skew(theirs)) < abs(stats.skew(z))
    assert float(warp(y).mean()) == pytest.approx(0.0, abs=1e-9)
    assert float(warp(y).std()) == pytest.approx(1.0)


@pytest.mark.parametrize("power", [-0.5, 0.0, 1e-9, 0.3, 1.0, 1.7, 2.0, 2.5])
def test_round_trip_and_slope(power: float) -> None:
    warp = Warp(10.0, 3.0, power, 0.1, 0.8)
    y = torch.linspace(7.5, 12.5, 41, dtype=torch.float64)
    torch.testing.assert_close(warp.inverse(warp(y)), y)
    step = 1e-6
    slope = (warp(y + step) - warp(y - step)) / (2 * step)
    inside = (y - 10.0).abs() > 1e-3  # the second derivative jumps at the offset
    torch.testing.assert_close(warp.slope(y)[inside], slope[inside], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        (0.1 + 0.8 * warp(y)).numpy() if power != 1.0 else warp(y).numpy(),
        stats.yeojohnson((y.numpy() - 10.0) / 3.0, power),
        atol=1e-7,
    )


@given(
    st.floats(-0.5, 2.5),
    st.floats(-1e6, 1e6),
    st.floats(1e-9, 1e9),
    st.lists(st.floats(-50, 50), min_size=2, max_size=10),
)
def test_better_stays_better(
    power: float, offset: float, spread: float, values: list[float]
) -> None:
    warp = Warp(offset, spread, power, 0.0, 1.0, -3.0, 3.0)
    y = offset + spread * torch.tensor(sorted(values), dtype=torch.float64)
    u = warp(y)
    assert bool((u.diff() >= -1e-9).all())
    assert bool((warp.slope(y) >= 0).all())
    back = warp.inverse(torch.linspace(-9, 9, 50, dtype=torch.float64))
    assert bool(back.isfinite().all())
    assert bool((back.diff() >= -1e-9 * spread).all())


def test_the_way_back_does_not_run_away() -> None:
    warp = warped(skewed())
    far = warp.inverse(torch.tensor([warp.high, warp.high + 5.0], dtype=torch.float64))
    assert float(far[1] - far[0]) == pytest.approx(5.0 * warp.spread)


def test_moments_are_those_of_many_draws() -> None:
    warp = warped(skewed())
    mean = torch.tensor([-1.0, 0.0, 0.8], dtype=torch.float64)
    variance = torch.tensor([0.04, 0.2, 0.1], dtype=torch.float64)
    torch.manual_seed(0)
    draws = warp.inverse(mean + variance.sqrt() * torch.randn(400_000, 3, dtype=torch.float64))
    first, second = warp.moments(mean, variance)
    torch.testing.assert_close(first, draws.mean(0), rtol=0.01, atol=0.0)
    torch.testing.assert_close(second, draws.var(0), rtol=0.03, atol=0.0)
    plain = standardise(skewed())
    first, second = plain.moments(mean, variance)
    torch.testing.assert_close(first, plain.inverse(mean))
    torch.testing.assert_close(second, plain.spread**2 * variance)


def test_moments_keep_small_units() -> None:
    """A diffusivity in square metres a second has a variance far below any fixed floor."""
    y = 1e-15 * skewed()
    big, small = warped(skewed()), warped(y)
    at = torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64)
    for power, (a, b) in enumerate(zip(small.moments(*at), big.moments(*at), strict=True), 1):
        torch.testing.assert_close(a, 1e-15**power * b, rtol=1e-4, atol=0.0)


def test_what_is_normal_or_too_little_is_left_alone() -> None:
    normal = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.01, 0.99, 99)).double()
    assert unskew(normal) is None
    assert unskew(skewed(MIN_TO_WARP - 1)) is None
    assert unskew(torch.full((20,), 4.0, dtype=torch.float64)) is None


@pytest.mark.parametrize("unit", [1e-18, 1e-6, 1.0, 1e9])
def test_any_unit_is_standardised(unit: float) -> None:
    y = unit * torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    warp = standardise(y)
    assert warp.linear
    assert float(warp(y).mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(warp(y).std()) == pytest.approx(1.0)


def test_a_constant_is_not_divided_by_its_rounding() -> None:
    for value in (0.0, 5.0, 0.1 + 0.2, 1e30):
        y = torch.full((7,), value, dtype=torch.float64)
        warp = standardise(y)
        assert warp.spread == 1.0
        torch.testing.assert_close(warp.inverse(warp(y)), y)
    one = standardise(torch.tensor([3.0]))
    assert (one.offset, one.spread) == (3.0, 1.0)
    assert math.isinf(one.high)
