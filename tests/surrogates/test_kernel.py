"""The closed forms of covariance and evidence against dense algebra and finite differences."""

from __future__ import annotations

import itertools
import math

import gpytorch
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from surrogates.kernel import (
    Smoothness,
    Structure,
    correlation,
    squared_distances,
    value_and_gradient,
)

GROUPS = {
    "each its own": (0, 1, 2, 3),
    "one of all": (0, 0, 0, 0),
    "groups": (0, 1, 1, 2),
    "out of order": (2, 0, 1, 0),
}


STRUCTURES = [
    Structure(groups, smoothness, additive, sources)  # type: ignore[arg-type]
    for groups, smoothness, additive, sources in itertools.product(
        GROUPS.values(), ("matern", "rbf"), (False, True), (1, 3)
    )
]


def some(structure: Structure, n: int = 12, seed: int = 0) -> tuple[Tensor, ...]:
    """Hyperparameters and data: theta, X, y, known noise, basis, source."""
    torch.manual_seed(seed)
    theta = 0.5 * torch.randn(structure.size, dtype=torch.float64) - 0.2
    X = torch.rand(n, len(structure.groups), dtype=torch.float64)
    X[3] = X[1]  # a design that was measured twice
    y = torch.randn(n, dtype=torch.float64)
    known = 0.1 * torch.rand(n, dtype=torch.float64)
    h = torch.randn(n, dtype=torch.float64)
    basis = 1.0 + 0.3 * torch.outer(h, h)
    source = torch.arange(n) % structure.sources
    return theta, X, y, known, basis, source


def dense(
    structure: Structure, theta: Tensor, X: Tensor, y: Tensor, known: Tensor, basis: Tensor,
    source: Tensor,
) -> Tensor:  # fmt: skip
    """The evidence as the books write it, to be differentiated by autograd."""
    _, _, log_noise, _ = structure.unpack(theta)
    K = structure.covariance(theta, X, X)
    if structure.sources > 1:
        K = K * structure.between(theta, source, source)
    K = K + basis + torch.diag(log_noise.exp()[source] + known)
    normal = torch.distributions.MultivariateNormal(torch.zeros_like(y), K)
    return -normal.log_prob(y)


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_value_and_gradient_of_every_structure(structure: Structure) -> None:
    theta, *rest = some(structure)
    value, gradient = value_and_gradient(structure, theta, *rest)
    assert value == pytest.approx(float(dense(structure, theta, *rest)), abs=1e-8)
    step = 1e-5
    for i in range(len(theta)):
        ends = []
        for sign in (1.0, -1.0):
            moved = theta.clone()
            moved[i] += sign * step
            ends.append(value_and_gradient(structure, moved, *rest)[0])
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float(gradient[i]) == pytest.approx(slope, rel=1e-6, abs=1e-7), f"theta {i}"


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_every_covariance_is_one(structure: Structure) -> None:
    theta, X, *_, source = some(structure, n=20)
    K = structure.covariance(theta, X, X)
    torch.testing.assert_close(K, K.mT)
    assert float(torch.linalg.eigvalsh(K).min()) > -1e-8
    torch.testing.assert_close(K.diagonal(), structure.variance(theta).expand(20))
    B = structure.between(theta, source, source)
    assert float(torch.linalg.eigvalsh(B).min()) > -1e-12
    torch.testing.assert_close(B.diagonal(), structure.coupling(theta)[1][source].square())
    batch = structure.covariance(theta, X.reshape(2, 10, -1), X)
    torch.testing.assert_close(batch.reshape(20, 20), K)


@pytest.mark.parametrize("smoothness", ["matern", "rbf"])
def test_correlation_is_gpytorchs(smoothness: Smoothness) -> None:
    kernel = gpytorch.kernels.MaternKernel(nu=2.5) if smoothness == "matern" else (
        gpytorch.kernels.RBFKernel()
    )  # fmt: skip
    kernel = kernel.double()
    kernel.lengthscale = 0.7
    A, B = torch.rand(5, 3, dtype=torch.float64), torch.rand(7, 3, dtype=torch.float64)
    ours = correlation(squared_distances(A / 0.7, B / 0.7), smoothness)
    torch.testing.assert_close(ours, kernel(A, B).to_dense().detach())


def test_additive_is_the_sum_of_its_parts() -> None:
    structure = Structure((0, 1, 1), additive=True)
    theta = torch.tensor([-0.3, 0.4, 0.1, -0.5, -1.0, -2.0], dtype=torch.float64)
    X = torch.rand(6, 3, dtype=torch.float64)
    scale = theta[:2].exp()[[0, 1, 1]]

    def k(columns: list[int]) -> Tensor:
        Z = X[:, columns] / scale[columns]
        return correlation(squared_distances(Z, Z), "matern")

    wanted = math.exp(0.1) * k([0, 1, 2]) + math.exp(-0.5) * k([0]) + math.exp(-1.0) * k([1, 2])
    torch.testing.assert_close(structure.covariance(theta, X, X), wanted)
    assert (structure.parts, structure.scales, structure.size) == (3, 2, 6)


@given(st.integers(0, 2**16), st.floats(1e-3, 1e3), st.sampled_from(["matern", "rbf"]))
def test_correlations_stay_between_zero_and_one(seed: int, far: float, of: Smoothness) -> None:
    torch.manual_seed(seed)
    X = far * torch.randn(8, 2, dtype=torch.float64)
    r2 = squared_distances(X, X)
    k = correlation(r2, of)
    assert bool(((k >= 0) & (k <= 1 + 1e-9)).all())
    assert bool((r2 >= 0).all())


def test_the_slope_is_finite_where_a_design_meets_itself() -> None:
    structure = Structure((0, 1))
    theta = torch.tensor([-1.0, -1.0, -4.0], dtype=torch.float64)
    X = torch.rand(4, 2, dtype=torch.float64)
    x = X.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(structure.covariance(theta, x, X).sum(), x)
    assert bool(slope.isfinite().all())
    wanted = torch.zeros_like(X)
    for i, j in itertools.product(range(4), range(2)):
        ends = []
        for sign in (1.0, -1.0):
            moved = X.clone()
            moved[i, j] += sign * 1e-6
            ends.append(float(structure.covariance(theta, moved, X).sum()))
        wanted[i, j] = (ends[0] - ends[1]) / 2e-6
    torch.testing.assert_close(slope, wanted, atol=1e-5, rtol=1e-5)


def test_what_is_not_positive_definite_is_said() -> None:
    structure = Structure((0,))
    X = torch.rand(3, 1, dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    theta = torch.tensor([0.0, -4.0], dtype=torch.float64)
    with pytest.raises(torch.linalg.LinAlgError):
        value_and_gradient(
            structure, theta, X, zero, zero, -9.0 * torch.eye(3).double(), zero.long()
        )
