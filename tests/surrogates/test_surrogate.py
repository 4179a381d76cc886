"""Predictions, diagnostics and robustness of the Gaussian processes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from surrogates import Surrogate, feature_bounds, fit_surrogate


def data(n: int = 40, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.logspace(-2, 3, d)
    U = X / np.logspace(-2, 3, d)
    smooth = 100.0 + 30.0 * np.sin(U[:, 0]) + 10.0 * U[:, 1]
    return X, np.stack([smooth, 0.01 * U[:, 2] ** 2, rng.standard_normal(n)], axis=1)


@pytest.fixture(scope="module")
def fitted() -> Surrogate:
    X, Y = data()
    Y[5:20, 1] = math.nan
    return fit_surrogate(X, Y, metrics=["modulus", "energy", "dice"], seed=1)


def test_predicts_what_can_be_predicted(fitted: Surrogate) -> None:
    X, Y = data(n=300, seed=7)
    mean, variance = fitted.posterior(X)
    error = (mean[:, 0].numpy() - Y[:, 0]).std() / Y[:, 0].std()
    assert error < 0.5
    assert bool((variance > 0).all())
    z = np.abs(mean[:, 0].numpy() - Y[:, 0]) / variance[:, 0].sqrt().numpy()
    assert 0.85 <= (z < 1.96).mean() <= 1.0


def test_fast_posterior_is_botorchs(fitted: Surrogate) -> None:
    X, _ = data(n=20, seed=3)
    mean, variance = fitted.posterior(X)
    slow = fitted.model.posterior(torch.as_tensor(X))  # on standardised outcomes
    for j, model in enumerate(fitted.models):
        variance_ = model.inflation**2 * (slow.variance[:, j].detach() - 1e-6)
        told = model.warp.moments(slow.mean[:, j].detach(), variance_)
        torch.testing.assert_close(mean[:, j], told[0])
        torch.testing.assert_close(variance[:, j], told[1])
    Y = torch.as_tensor(data(n=20, seed=3)[1])
    torch.testing.assert_close(fitted.restore(fitted.standardise(Y))[:, 0], Y[:, 0])


def test_report(fitted: Surrogate) -> None:
    report = fitted.report()
    assert [report[m]["n"] for m in fitted.metrics] == [40, 25, 40]
    assert report["modulus"]["informative"]
    assert report["modulus"]["loo_r2"] > 0.7
    for figures in report.values():
        c = figures["coverage"]
        assert 0 <= c["50"] <= c["80"] <= c["95"] <= 1
    json.dumps(report, allow_nan=False)


def test_same_inputs_same_bits() -> None:
    X, Y = data(n=15)
    one, two = (fit_surrogate(X, Y, metrics=["a", "b", "c"], seed=4) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(one.posterior(X), two.posterior(X), strict=True))
    assert one.state() == two.state()


def test_warm_start_through_json_is_as_good(fitted: Surrogate) -> None:
    X, Y = data()
    Y[5:20, 1] = math.nan
    state = json.loads(json.dumps(fitted.state(), allow_nan=False))
    again = fit_surrogate(X, Y, metrics=fitted.metrics, warm_start=state, max_iter=5)
    for metric, figures in again.report().items():
        assert figures["loo_r2"] == pytest.approx(fitted.report()[metric]["loo_r2"], abs=0.1)


def test_warm_start_of_other_features_or_metrics_is_ignored(fitted: Surrogate) -> None:
    X, Y = data(n=10)
    cold = fit_surrogate(X[:, :3], Y[:, :1], metrics=["modulus"])
    warm = fit_surrogate(X[:, :3], Y[:, :1], metrics=["modulus"], warm_start=fitted.state())
    assert cold.state() == warm.state()
    fit_surrogate(X, Y[:, :1], metrics=["another"], warm_start=fitted.state())


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("constant", [False, True])
def test_hardly_any_data(n: int, constant: bool) -> None:
    X, Y = data(n=n)
    surrogate = fit_surrogate(X, Y * 0 + 5.0 if constant else Y, metrics=["a", "b", "c"])
    mean, variance = surrogate.posterior(data(n=4, seed=2)[0])
    assert bool(mean.isfinite().all())
    assert bool((variance > 0).all())
    report = surrogate.report()
    json.dumps([report, surrogate.state()], allow_nan=False)
    if constant or n == 1:
        assert report["a"]["loo_r2"] is None
        assert not report["a"]["informative"]


def test_duplicates_and_constant_columns() -> None:
    X, Y = data(n=12)
    X[:, 2] = 7.0
    X, Y = np.repeat(X, 3, axis=0), np.repeat(Y, 3, axis=0)
    mean, _ = fit_surrogate(X, Y, metrics=["a", "b", "c"]).posterior(X)
    assert bool(mean.isfinite().all())


def test_standard_errors_count() -> None:
    rng = np.random.default_rng(0)
    X = np.linspace(0.0, 1.0, 30)[:, None]
    truth = np.sin(6.0 * X[:, 0])
    sem = np.where(np.arange(30) % 2, 1.0, 0.02)
    Y = (truth + sem * rng.standard_normal(30))[:, None]
    blind = fit_surrogate(X, Y, metrics=["y"]).posterior(X)[0][:, 0].numpy()
    told = fit_surrogate(X, Y, sem[:, None], metrics=["y"]).posterior(X)[0][:, 0].numpy()
    half = np.where(np.arange(30) % 2, sem, np.nan)  # the precise ones are not known to be so
    mixed = fit_surrogate(X, Y, half[:, None], metrics=["y"]).posterior(X)[0][:, 0].numpy()
    error = {k: np.abs(v - truth).mean() for k, v in {"b": blind, "t": told, "m": mixed}.items()}
    assert error["t"] < 0.5 * error["b"]
    assert error["m"] < error["b"]


def test_zero_standard_errors_fit() -> None:
    X, Y = data(n=20)
    mean, _ = fit_surrogate(X, Y, np.zeros_like(Y), metrics=["a", "b", "c"]).posterior(X)
    assert bool(mean.isfinite().all())


def test_bounds_are_robust() -> None:
    X = np.random.default_rng(0).standard_normal((200, 3))
    X[0, 0] = 1e6
    X[:, 1] = 3.0
    X[:, 2] = 0.0
    X[7, 2] = 1.0  # all but one agree
    low, high = feature_bounds(X)
    assert float(high[0]) < 4
    assert (float(low[1]), float(high[1])) == (1.5, 4.5)
    assert (float(low[2]), float(high[2])) == (0.0, 1.0)


def test_wrong_input_is_refused() -> None:
    X, Y = data(n=5)
    with pytest.raises(ValueError, match="wanted n x d"):
        fit_surrogate(X, Y, metrics=["a"])
    with pytest.raises(ValueError, match="no outcome of c"):
        fit_surrogate(X, Y * [1, 1, math.nan], metrics=["a", "b", "c"])
    with pytest.raises(ValueError, match="negative"):
        fit_surrogate(X, Y, Y * 0 - 1, metrics=["a", "b", "c"])
    X[0, 0] = math.inf
    with pytest.raises(ValueError, match="finite"):
        fit_surrogate(X, Y, metrics=["a", "b", "c"])


def test_a_feature_that_foretells_a_metric_guides_its_process() -> None:
    errors: dict[bool, list[float]] = {False: [], True: []}
    known, asked = slice(0, 8), slice(8, None)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = rng.uniform(size=(120, 20))
        hidden = rng.uniform(size=len(X))
        truth = 100 * hidden + 20 * np.sin(6 * X[:, 0])
        X[:, 7] = 120 * hidden - 10 + rng.normal(0, 15, len(X))  # a rough prediction, off and noisy
        for guides in (None, [7]):
            surrogate = fit_surrogate(X[known], truth[known, None], metrics=["y"], guides=guides)
            mean, variance = surrogate.posterior(X[asked])
            assert (variance > 0).all()
            # the fast posterior is BoTorch's
            slow = surrogate.model.posterior(torch.as_tensor(X[asked]))
            (model,) = surrogate.models
            spread = model.inflation**2 * (slow.variance - 1e-6)
            reference, _ = model.warp.moments(slow.mean, spread)
            assert torch.allclose(mean, reference, atol=1e-6)
            error = float((mean[:, 0].numpy() - truth[asked]).std())
            errors[guides is not None].append(error)
    assert np.mean(errors[True]) < 0.9 * np.mean(errors[False])
    again = fit_surrogate(
        X[known], truth[known, None], metrics=["y"], guides=[7], warm_start=surrogate.state()
    )
    assert torch.allclose(again.posterior(X[asked])[0], mean, atol=5.0)


def test_a_warm_start_without_a_guide_is_taken_by_a_guided_fit() -> None:
    X = np.random.default_rng(1).uniform(size=(9, 3))
    plain = fit_surrogate(X, X[:, :1], metrics=["y"])
    guided = fit_surrogate(X, X[:, :1], metrics=["y"], guides=[1], warm_start=plain.state())
    assert guided.report()["y"]["converged"]
