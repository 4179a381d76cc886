"""The closed form agrees with leaving one out by hand."""

from __future__ import annotations

import torch

from surrogates.leave_one_out import LeaveOneOut, leave_one_out


def test_closed_form_is_refitting() -> None:
    torch.manual_seed(0)
    n, scale, offset, prior = 8, 3.0, 10.0, 0.2
    x = torch.randn(n, 2, dtype=torch.float64)
    K = torch.exp(-0.5 * torch.cdist(x, x) ** 2) + 0.1 * torch.eye(n, dtype=torch.float64)
    y = torch.randn(n, dtype=torch.float64)
    found = leave_one_out(torch.linalg.cholesky(K), y - prior, offset + scale * y, scale)
    for i in range(n):
        rest = [j for j in range(n) if j != i]
        weights = torch.linalg.solve(K[rest][:, rest], K[rest, i])
        mean = prior + weights @ (y[rest] - prior)
        variance = K[i, i] - weights @ K[rest, i]
        torch.testing.assert_close(found.mean[i], offset + scale * mean)
        torch.testing.assert_close(found.sd[i], scale * variance.sqrt())


def test_r2_of_predicting_the_mean_of_the_others_is_zero() -> None:
    y = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    others = (y.sum() - y) / 3
    assert abs(LeaveOneOut(y, others, torch.ones_like(y)).r2()) < 1e-12
    assert LeaveOneOut(y, y, torch.ones_like(y)).r2() == 1.0


def test_coverage_of_a_right_model() -> None:
    y = torch.distributions.Normal(0.0, 2.0).icdf(torch.linspace(0.001, 0.999, 999))
    cover = LeaveOneOut(y, torch.zeros_like(y), torch.full_like(y, 2.0)).coverage()
    assert all(abs(cover[k] - int(k) / 100) < 0.01 for k in ("50", "80", "95"))
