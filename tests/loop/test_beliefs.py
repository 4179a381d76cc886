"""What is believed after a choice is what refitting with the believed value would say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loop.beliefs import Beliefs
from surrogates import Surrogate, fit_surrogate
from surrogates.gaussian_process import MetricModel


def fitted(recipe: str = "gaussian process", source: bool = False) -> Surrogate:
    rng = np.random.default_rng(0)
    X = rng.random((24, 2)) * [1.0, 50.0]
    Y = np.stack([np.exp(2 * X[:, 0]), np.sin(X[:, 1] / 9.0)], 1)
    Y[4:9, 1] = np.nan
    where = (np.arange(24) % 3 == 0).astype(int) if source else None
    return fit_surrogate(X, Y, recipes=[recipe], source=where)


def asked(n: int = 12) -> np.ndarray:
    return np.random.default_rng(5).random((n, 2)) * [1.0, 50.0]


def refitted(model: MetricModel, X: torch.Tensor, chosen: list[int]) -> tuple[torch.Tensor, ...]:
    """Mean and covariance at X, once the chosen rows were read as they were expected."""
    mean, K = model.joint(X)
    noise = model.noise * torch.eye(len(chosen), dtype=K.dtype)
    gain = torch.linalg.solve(K[chosen][:, chosen] + noise, K[chosen]).mT
    read = mean[chosen]
    return mean + gain @ (read - mean[chosen]), K - gain @ K[chosen]


@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize(
    "recipe",
    ["gaussian process", "additive gaussian process", "warped gaussian process",
     "random forest and gaussian process"],
)  # fmt: skip
def test_batch_beliefs_are_refitting(recipe: str, source: bool) -> None:
    surrogate = fitted(recipe, source and "forest" not in recipe)
    X = asked()
    unit = surrogate.unit(X)
    beliefs = Beliefs(surrogate, X)
    chosen = [3, 7, 3, 0]  # one of them twice
    before = beliefs.variance.clone()
    for number, i in enumerate(chosen, 1):
        beliefs.believe(i)
        for j, model in enumerate(surrogate.models):
            mean, covariance = refitted(model, unit, chosen[:number])
            torch.testing.assert_close(beliefs.mean[:, j], mean)
            torch.testing.assert_close(
                beliefs.variance[:, j], covariance.diagonal(), rtol=1e-5, atol=1e-8
            )
    assert bool((beliefs.variance <= before + 1e-12).all())
    assert bool((beliefs.variance[chosen] < before[chosen]).all())


def test_belief_is_a_reading_of_the_expected_value() -> None:
    """As if the process had been given one outcome more, with its hyperparameters kept."""
    surrogate = fit_surrogate(asked(10), asked(10)[:, :1], recipes=["gaussian process"])
    (model,) = surrogate.models
    X = asked(16)[10:]
    unit = surrogate.unit(X)
    beliefs = Beliefs(surrogate, X)
    read = float(beliefs.mean[2, 0])
    beliefs.believe(2)
    A = torch.cat([model.data.X, unit[2:3]])
    y = torch.cat([model.warp(model.data.y), torch.tensor([read])])
    K = model.structure.covariance(model.theta, A, A) + 1.0
    K = K + model.noise * torch.eye(len(A), dtype=K.dtype)
    k = model.structure.covariance(model.theta, A, unit) + 1.0
    gain = torch.linalg.solve(K, k).mT
    torch.testing.assert_close(beliefs.mean[:, 0], gain @ y)
    variance = model.structure.variance(model.theta) + 1.0 - (gain * k.mT).sum(1)
    torch.testing.assert_close(beliefs.variance[:, 0], variance)


def test_draws_have_the_moments_of_what_is_believed() -> None:
    surrogate = fitted()
    X = asked(5)
    beliefs = Beliefs(surrogate, X)
    beliefs.believe(1)
    rows = np.array([0, 1, 4])
    draws = torch.stack([beliefs.draw(rows, seed) for seed in range(4000)])
    assert draws.shape == (4000, 3, 2)
    for j, model in enumerate(surrogate.models):
        mean, covariance = refitted(model, surrogate.unit(X), [1])
        spread = float(covariance.diagonal()[rows].max().sqrt())
        assert float((draws[..., j].mean(0) - mean[rows]).abs().max()) < 0.08 * spread
        found = torch.cov(draws[..., j].T)
        wanted = covariance[rows][:, rows]
        assert float((found - wanted).abs().max()) < 0.1 * spread**2
    assert torch.equal(beliefs.draw(rows, 7), beliefs.draw(rows, 7))
    assert not torch.equal(beliefs.draw(rows, 7), beliefs.draw(rows, 8))
