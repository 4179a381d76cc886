"""The closed form agrees with leaving one out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from surrogates.leave_one_out import LeaveOneOut, leave_one_out
from surrogates.warping import Warp

WARPS = {
    "linear": Warp(10.0, 3.0),
    "power": Warp(10.0, 3.0, 0.4, 0.1, 0.8, -3.0, 3.0),
}


@pytest.mark.parametrize("warp", WARPS.values(), ids=WARPS.keys())
def test_closed_form_is_refitting(warp: Warp) -> None:
    torch.manual_seed(0)
    n, prior = 8, 0.2
    x = torch.randn(n, 2, dtype=torch.float64)
    K = torch.exp(-0.5 * torch.cdist(x, x) ** 2) + 0.1 * torch.eye(n, dtype=torch.float64)
    raw = warp.offset + warp.spread * torch.randn(n, dtype=torch.float64)
    y = warp(raw)
    rows = torch.ones(n, dtype=torch.bool)
    rows[6] = False  # of another source: it helps to predict and is not predicted
    found = leave_one_out(torch.linalg.cholesky(K), y - prior, warp, raw, rows)
    assert len(found.observed) == n - 1
    for at, i in enumerate(torch.nonzero(rows)[:, 0].tolist()):
        rest = [j for j in range(n) if j != i]
        weights = torch.linalg.solve(K[rest][:, rest], K[rest, i])
        mean = prior + weights @ (y[rest] - prior)
        variance = K[i, i] - weights @ K[rest, i]
        first, _ = warp.moments(mean[None], variance[None])
        torch.testing.assert_close(found.mean[at], first[0])
        torch.testing.assert_close(found.spread[at], variance.sqrt())
        torch.testing.assert_close(found.residual[at], y[i] - mean)
        normal = torch.distributions.Normal(mean, variance.sqrt())
        step = 1e-5  # the density of the raw outcome: that of the standardised, times the slope
        slope = (warp(raw[i] + step) - warp(raw[i] - step)) / (2 * step)
        torch.testing.assert_close(found.density[at], normal.log_prob(y[i]) + slope.log())


def told(observed: Tensor, mean: Tensor, spread: Tensor) -> LeaveOneOut:
    density = torch.distributions.Normal(mean, spread).log_prob(observed)
    return LeaveOneOut(observed, mean, observed - mean, spread, density)


def test_r2_of_predicting_the_mean_of_the_others_is_zero() -> None:
    y = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    others = (y.sum() - y) / 3
    assert abs(told(y, others, torch.ones_like(y)).r2()) < 1e-12
    assert told(y, y, torch.ones_like(y)).r2() == 1.0


def test_r2_does_not_depend_on_the_unit() -> None:
    y = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    for unit in (1e-15, 1.0, 1e15):
        assert told(unit * y, unit * y, unit * torch.ones_like(y)).r2() == 1.0
        equal = torch.full((4,), 7.0 * unit, dtype=torch.float64)
        assert math.isnan(told(equal, equal, torch.ones_like(y)).r2())
    assert math.isnan(told(y[:1], y[:1], torch.ones(1)).r2())
    zero = torch.zeros(3, dtype=torch.float64)
    assert math.isnan(told(zero, zero, torch.ones(3)).r2())


def test_coverage_of_a_right_model() -> None:
    y = torch.distributions.Normal(0.0, 2.0).icdf(torch.linspace(0.001, 0.999, 999))
    cover = told(y, torch.zeros_like(y), torch.full_like(y, 2.0)).coverage()
    assert all(abs(cover[k] - int(k) / 100) < 0.01 for k in ("50", "80", "95"))
    narrow = told(y, torch.zeros_like(y), torch.full_like(y, 1.0)).coverage()
    assert narrow["80"] < 0.6
