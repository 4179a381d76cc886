"""Several sources of observations: other campaigns, cheaper levels of theory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogates import fit_surrogate
from surrogates.kernel import Structure, value_and_gradient


def three_sources(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six outcomes of what is sought, sixty of a good proxy and sixty of noise."""
    rng = np.random.default_rng(seed)
    X = rng.random((126, 2))
    source = np.repeat([0, 1, 2], [6, 60, 60])
    truth = np.sin(5.0 * X[:, 0]) + X[:, 1] ** 2
    proxy = 30.0 + 5.0 * truth + 0.3 * np.cos(3.0 * X[:, 1])
    y = np.where(source == 0, truth, np.where(source == 1, proxy, rng.standard_normal(126)))
    return X, y[:, None], source


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("sources", [2, 3])
def test_the_gradient_is_that_of_the_evidence(sources: int, additive: bool) -> None:
    torch.manual_seed(1)
    structure = Structure((0, 1, 1), additive=additive, sources=sources)
    X, y = torch.rand(20, 3, dtype=torch.float64), torch.randn(20, dtype=torch.float64)
    source = torch.arange(20) % sources
    basis = torch.ones(20, 20, dtype=torch.float64)
    theta = 0.3 * torch.randn(structure.size, dtype=torch.float64)

    def value(at: torch.Tensor) -> tuple[float, torch.Tensor]:
        return value_and_gradient(structure, at, X, y, torch.zeros(20).double(), basis, source)

    _, gradient = value(theta)
    for i in range(structure.size):
        step = torch.zeros_like(theta)
        step[i] = 1e-5
        slope = (value(theta + step)[0] - value(theta - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, abs=1e-5, rel=1e-4)


def test_a_good_source_helps_and_a_useless_one_does_no_harm() -> None:
    X, Y, source = three_sources()
    T = np.random.default_rng(9).random((300, 2))
    truth = np.sin(5.0 * T[:, 0]) + T[:, 1] ** 2

    def error(rows: np.ndarray) -> float:
        fitted = fit_surrogate(X[rows], Y[rows], source=source[rows], recipes=["gaussian process"])
        return float(np.abs(fitted.posterior(T)[0][:, 0].numpy() - truth).mean())

    alone, both = error(source == 0), error(source < 2)
    assert both < 0.4 * alone
    assert error(source >= 0) < 1.3 * both
    model = fit_surrogate(X, Y, source=source, recipes=["gaussian process"]).models[0]
    share, _ = model.structure.coupling(model.theta)
    assert share[1] > share[2]


def test_covariances_between_sources_are_those_of_one_matrix() -> None:
    X, Y, source = three_sources()
    model = fit_surrogate(X, Y, source=source, recipes=["gaussian process"]).models[0]
    x = torch.rand(1, 2, dtype=torch.float64)
    at = [0, 1, 2]
    K = torch.stack(
        [torch.stack([model.covariances(x, x[0], source=b, of=a)[0] for b in at]) for a in at]
    )
    torch.testing.assert_close(K, K.mT)
    assert bool((torch.linalg.eigvalsh(K) > -1e-9).all())
    for s in at:
        torch.testing.assert_close(K[s, s], model.marginal(x, source=s)[1][0])


def test_a_source_is_predicted_on_its_own_scale() -> None:
    X, Y, source = three_sources()
    model = fit_surrogate(X, Y, source=source, recipes=["gaussian process"]).models[0]
    unit = model.data.X[model.data.source == 1]
    mean, _ = model.warp_of(1).moments(*model.marginal(unit, source=1))
    measured = model.data.y[model.data.source == 1]
    assert float((mean - measured).abs().mean()) < 0.2 * float(measured.std())
    assert model.noise_of(1) > 0.0


@pytest.mark.parametrize("seed", range(3))
def test_a_wild_reading_beside_another_source_is_set_aside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.random((60, 2))
    source = np.repeat([0, 1], [40, 20])
    truth = np.sin(5.0 * X[:, 0]) + X[:, 1]
    Y = np.where(source == 0, truth, 3.0 + 2.0 * truth) + 0.05 * rng.standard_normal(60)
    clean = fit_surrogate(X, Y[:, None], source=source).report()["y0"]
    Y[7] += 8.0
    fitted = fit_surrogate(X, Y[:, None], source=source)
    told = fitted.report()["y0"]
    assert clean["notes"] == []
    assert told["notes"] == ["1 of 40 readings contradict the others and count for less"]
    off = fitted.posterior(X)[0][:, 0].numpy() - truth
    assert np.abs(off).max() < 0.3
