"""The fitted process of one metric against dense algebra, and against a general library."""

from __future__ import annotations

import itertools
import math
from typing import Any

import gpytorch
import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from torch import Tensor

from surrogates import Surrogate, fit_surrogate, gaussian_process
from surrogates.choosing import RECIPES
from surrogates.gaussian_process import MetricModel, Outcomes, fit_gaussian_process
from surrogates.warping import standardise, unskew


def outcomes(
    n: int = 30, d: int = 3, seed: int = 0, *, sources: int = 1, guide: int | None = None
) -> Outcomes:
    rng = np.random.default_rng(seed)
    X = torch.as_tensor(rng.random((n, d)))
    y = 50.0 + 20.0 * torch.sin(4.0 * X[:, 0]) + 8.0 * X[:, 1] + torch.as_tensor(rng.normal(size=n))
    noise = torch.as_tensor(np.where(rng.random(n) < 0.3, 2.0 * rng.random(n), math.nan))
    source = torch.arange(n) % sources
    groups = (*range(d - 1), d - 2)  # the last two share a lengthscale
    return Outcomes(X, y, noise, source, groups, guide, 90.0 if guide is not None else 1.0)


def fitted(data: Outcomes, name: str = "gaussian process", **more: Any) -> MetricModel:
    recipe = RECIPES[name]
    here = data.y[data.source == 0]
    warp = unskew(here) if recipe.warp else standardise(here)
    return fit_gaussian_process(
        data, recipe, warp or standardise(here), warm=None, max_iter=40, seed=0, **more
    )


CASES = [
    (name, sources, guide)
    for name, sources, guide in itertools.product(
        [name for name, recipe in RECIPES.items() if not recipe.forest], (1, 3), (None, 1)
    )
]


def dense(model: MetricModel, A: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and covariance of the standardised outcome, as the books write it."""
    data, structure, theta, warp = model.data, model.structure, model.theta, model.warp
    y = warp(data.y)
    slope = warp.slope(data.y)
    for s in range(1, structure.sources):
        rows = data.source == s
        own = standardise(data.y[rows])
        y[rows], slope[rows] = own(data.y[rows]), own.slope(data.y[rows])
    everything = torch.cat([data.X, A])
    source = torch.cat([data.source, torch.zeros(len(A), dtype=torch.long)])
    K = structure.covariance(theta, everything, everything)
    if structure.sources > 1:
        K = K * structure.between(theta, source, source)
    K = K + 1.0 + ((source[:, None] == source) & (source > 0)).to(K)
    mean = torch.zeros(len(everything), dtype=K.dtype)
    if data.guide is not None:
        h = (everything[:, data.guide] - 0.5) * data.guide_width / (warp.spread * warp.scale)
        K = K + 0.3**2 * torch.outer(h, h)
        mean = 0.8 * h
    n = len(y)
    noise = structure.unpack(theta)[2].exp()[data.source]
    noise = noise + (data.noise * slope).square().nan_to_num(nan=0.0)
    gain = torch.linalg.solve(K[:n, :n] + torch.diag(noise), K[:n, n:]).mT
    return mean[n:] + gain @ (y - mean[:n]), K[n:, n:] - gain @ K[:n, n:]


@pytest.mark.parametrize(("name", "sources", "guide"), CASES)
def test_posterior_is_dense_algebra(name: str, sources: int, guide: int | None) -> None:
    model = fitted(outcomes(sources=sources, guide=guide), name)
    A = torch.rand(9, 3, dtype=torch.float64)
    A[0] = model.data.X[0]
    wanted, covariance = dense(model, A)
    mean, variance = model.marginal(A)
    torch.testing.assert_close(mean, wanted)
    torch.testing.assert_close(variance, covariance.diagonal())
    mean, joint = model.joint(A)
    torch.testing.assert_close(mean, wanted)
    torch.testing.assert_close(joint, covariance)
    for i in range(3):
        torch.testing.assert_close(model.covariances(A, A[i]), covariance[:, i])
    batch = A.reshape(3, 3, 3)
    mean, joint = model.joint(batch)
    torch.testing.assert_close(mean, wanted.reshape(3, 3))
    torch.testing.assert_close(joint[1], covariance[3:6, 3:6])
    mean, variance = model.marginal(batch)
    torch.testing.assert_close(variance, covariance.diagonal().reshape(3, 3))


@pytest.mark.parametrize("smooth", [False, True])
def test_posterior_is_that_of_single_task_gp(smooth: bool) -> None:
    data = outcomes()
    model = fitted(data, "smooth gaussian process" if smooth else "gaussian process")
    base: Any = gpytorch.kernels.RBFKernel if smooth else gpytorch.kernels.MaternKernel
    kernel = base(ard_num_dims=3) + gpytorch.kernels.ConstantKernel()
    log_scale, _, log_noise, _ = model.structure.unpack(model.theta)
    kernel.kernels[0].lengthscale = log_scale.exp()[list(data.groups)]
    kernel.kernels[1].constant = torch.ones(1).double()
    noise = log_noise.exp() + (data.noise / model.warp.spread).square().nan_to_num(nan=0.0)
    theirs = SingleTaskGP(
        data.X, model.warp(data.y)[:, None], noise[:, None], covar_module=kernel,
        mean_module=gpytorch.means.ZeroMean(), outcome_transform=None,
    )  # fmt: skip
    A = torch.rand(7, 3, dtype=torch.float64)
    with torch.no_grad():
        wanted = theirs.posterior(A)
        mean, covariance = model.joint(A)
        torch.testing.assert_close(mean, wanted.mean[:, 0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(
            covariance, wanted.distribution.covariance_matrix, rtol=1e-5, atol=1e-6
        )
        theirs.train()
        likelihood = gpytorch.ExactMarginalLogLikelihood(theirs.likelihood, theirs)
        evidence = len(data.y) * likelihood(theirs(data.X), theirs.train_targets)
        assert model.evidence == pytest.approx(float(evidence), abs=1e-4)


def test_the_fit_is_a_maximum() -> None:
    from surrogates.fitting import Data, _prior, fit
    from surrogates.kernel import Structure, value_and_gradient

    for additive, sparse, sources in itertools.product((False, True), (False, True), (1, 2)):
        data = outcomes(sources=sources)
        structure = Structure(data.groups, "matern", additive, sources)
        y = standardise(data.y)(data.y)
        one = Data(data.X, y, 0.0 * y, torch.ones(30, 30).double(), data.source)
        found = fit(structure, one, sparse=sparse, max_iter=500)
        assert found.converged

        def value(
            theta: np.ndarray, structure: Structure = structure, one: Data = one,
            sparse: bool = sparse,
        ) -> tuple[float, np.ndarray]:  # fmt: skip
            prior, slope = _prior(structure, sparse, theta)
            nll, gradient = value_and_gradient(
                structure, torch.as_tensor(theta), one.X, one.y, one.given, one.basis, one.source
            )
            return nll + prior, gradient.numpy() + slope

        theta = found.theta.numpy()
        best, _ = value(theta)
        rng = np.random.default_rng(0)
        at = theta + 0.3 * rng.standard_normal(len(theta))
        _, gradient = value(at)  # with the prior in it
        for i in range(len(theta)):
            ends = [value(at + sign * 1e-5 * np.eye(len(at))[i])[0] for sign in (1, -1)]
            assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-6)
        low, high = np.log(1e-4), np.log(1e3)
        for _ in range(50):
            near = np.clip(theta + 0.05 * rng.standard_normal(len(theta)), low, high)
            noise = slice(structure.size - 2 * (sources - 1) - sources, structure.size)
            near[noise] = np.maximum(near[noise], theta[noise])  # which may lie on its bound
            assert value(near)[0] > best - 1e-3


def test_joint_model_is_the_marginals() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(25, 4)) * [1.0, 50.0, 1e-3, 1.0]
    Y = np.stack([X[:, 0] ** 2, np.exp(X[:, 1] / 40.0), 1e-12 * X[:, 3]], 1)
    Y[3:7, 1] = math.nan
    surrogate = fit_surrogate(X, Y)
    A = torch.as_tensor(X[:6] * 1.1)
    posterior = surrogate.model.posterior(A)
    for j, model in enumerate(surrogate.models):
        mean, variance = model.marginal(surrogate.unit(A))
        torch.testing.assert_close(posterior.mean[:, j], mean)
        torch.testing.assert_close(posterior.variance[:, j], variance + 1e-6)
    some = surrogate.model.posterior(A.reshape(3, 2, 4), output_indices=[2])
    assert some.mean.shape == (3, 2, 1)
    torch.testing.assert_close(some.mean[..., 0].reshape(6), posterior.mean[:, 2])
    with pytest.raises(NotImplementedError, match="without noise"):
        surrogate.model.posterior(A, observation_noise=True)
    assert surrogate.model.num_outputs == 3


def test_leave_one_out_is_refitting_by_hand() -> None:
    data = outcomes(n=14)
    model = fitted(data)
    for i in range(14):
        rest = torch.tensor([j for j in range(14) if j != i])
        without = gaussian_process._at(data, rest)
        part = MetricModel(
            model.recipe, model.warp, model.structure, model.theta, *[torch.empty(0)] * 4, without,
            model.left_out, 0.0, True,
        )  # fmt: skip
        mean, covariance = dense(part, data.X[[i]])
        known = (data.noise[i] / model.warp.spread).square().nan_to_num(nan=0.0)
        noise = model.structure.unpack(model.theta)[2].exp()[0] + known
        torch.testing.assert_close(model.left_out.mean[i], model.warp.inverse(mean)[0])
        torch.testing.assert_close(
            model.left_out.spread[i], (covariance[0, 0] + noise).sqrt(), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize(
    "name", ["gaussian process", "additive gaussian process", "random forest and gaussian process"]
)
def test_inducing_designs_answer_like_all_of_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    X, A = rng.random((320, 2)), rng.random((100, 2))

    def truth(X: np.ndarray) -> np.ndarray:
        return 40.0 + 9.0 * np.sin(6 * X[:, :1]) * np.cos(4 * X[:, 1:])

    Y = truth(X) + 0.3 * rng.normal(size=(320, 1))
    exact = fit_surrogate(X, Y, recipes=[name])
    monkeypatch.setattr(gaussian_process, "MAX_EXACT", 300)
    fast = fit_surrogate(X, Y, recipes=[name])
    assert "inducing" in fast.report()["y0"]["notes"][0]
    mean, variance = exact.posterior(A)
    near, about = fast.posterior(A)
    assert float((near - mean).abs().max()) < 0.2 * float(Y.std())
    assert float((near - mean).abs().mean()) < 0.03 * float(Y.std())
    assert float((about / variance).sqrt().median()) == pytest.approx(1.0, abs=0.25)
    assert float((near[:, 0] - torch.as_tensor(truth(A)[:, 0])).abs().mean()) < 0.6
    unit = fast.unit(A)
    joint = fast.models[0].joint(unit)
    torch.testing.assert_close(joint[1].diagonal(), fast.models[0].marginal(unit)[1])
    torch.testing.assert_close(joint[1][:, 3], fast.models[0].covariances(unit, unit[3]))


def test_as_many_inducing_designs_as_outcomes_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    data = outcomes(n=80)
    exact = fitted(data)
    monkeypatch.setattr(gaussian_process, "MAX_EXACT", 50)
    fast = fitted(data)
    A = torch.rand(20, 3, dtype=torch.float64)
    for a, b in zip(exact.marginal(A), fast.marginal(A), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(exact.joint(A)[1], fast.joint(A)[1], rtol=1e-3, atol=1e-3)


def test_a_few_outcomes_among_thousands_of_another_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_process, "MAX_FIT", 60)
    monkeypatch.setattr(gaussian_process, "MAX_EXACT", 120)
    rng = np.random.default_rng(0)
    X = rng.random((205, 2))
    source = (np.arange(205) >= 5).astype(int)
    Y = np.sin(5 * X[:, :1]) + np.where(source, 100.0, 0.0)[:, None]
    surrogate = fit_surrogate(X, Y, source=source)
    report = surrogate.report()["y0"]
    assert report["loo_r2"] is not None
    A = rng.random((50, 2))
    mean, _ = surrogate.posterior(A)
    assert float((mean[:, 0] - torch.as_tensor(np.sin(5 * A[:, 0]))).abs().mean()) < 0.25


def test_hyperparameters_of_many_outcomes_come_from_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gaussian_process, "MAX_FIT", 40)
    data = outcomes(n=100)
    rows = gaussian_process._sample(data, 40, seed=0)
    assert len(rows) == len(set(rows.tolist())) == 40
    assert int(data.y.argmax()) in rows.tolist()
    assert int(data.y.argmin()) in rows.tolist()
    model = fitted(data)
    assert model.n == len(model.anchors) == len(model.left_out.mean) == 100
    wanted, covariance = dense(model, data.X[:5])
    torch.testing.assert_close(model.marginal(data.X[:5])[0], wanted)
    torch.testing.assert_close(model.marginal(data.X[:5])[1], covariance.diagonal())


def contaminated(n: int, wild: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2))
    clean = np.sin(5.0 * X[:, 0]) + X[:, 1] + 0.05 * rng.normal(size=n)
    Y = clean.copy()
    Y[rng.choice(n, wild, replace=False)] += rng.choice([-6.0, 6.0], wild)
    return X, Y, clean


@pytest.mark.parametrize("seed", range(3))
def test_outliers_are_set_aside(seed: int) -> None:
    X, Y, _ = contaminated(40, 2, seed)
    A = np.random.default_rng(99).random((200, 2))
    truth = np.sin(5.0 * A[:, 0]) + A[:, 1]
    robust = fit_surrogate(X, Y[:, None], recipes=["gaussian process"])
    told = " ".join(robust.report()["y0"]["notes"])
    assert "2 of 40 readings contradict" in told
    plain = Surrogate(["y0"], [fit_plain(X, Y)], torch.tensor([[0.0, 0], [1, 1]]).double())
    error = [float(np.abs(s.posterior(A)[0][:, 0].numpy() - truth).mean()) for s in (robust, plain)]
    assert error[0] < 0.6 * error[1]


def fit_plain(X: np.ndarray, Y: np.ndarray) -> MetricModel:
    """Without the search for outliers."""
    y = torch.as_tensor(Y)
    data = Outcomes(torch.as_tensor(X), y, y * math.nan, torch.zeros(len(y)).long(), (0, 1))
    return fit_gaussian_process(
        data, RECIPES["gaussian process"], standardise(y), warm=None, max_iter=75, seed=0
    )


@pytest.mark.parametrize("seed", range(6))
def test_honest_data_are_left_alone(seed: int) -> None:
    X, _, clean = contaminated(40, 0, seed)
    assert fit_surrogate(X, clean[:, None]).report()["y0"]["notes"] == []


def test_a_needle_is_not_an_outlier_for_long() -> None:
    """The best design of a sharp peak, measured twice, is not what the others contradict."""
    X, _, clean = contaminated(40, 0, 0)
    X = np.vstack([X, [[0.5, 0.5], [0.5, 0.5], [0.52, 0.5]]])
    Y = np.append(clean, [7.0, 7.1, 6.0])
    assert fit_surrogate(X, Y[:, None]).report()["y0"]["notes"] == []


def test_precise_features_far_outside_the_cube_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((60, 2))
    X[:3, 0] = [1e9, 1e9 + 1, -1e12]
    Y = np.sin(5 * X[:, 1:])
    mean, variance = fit_surrogate(X, Y).posterior(X)
    assert bool(mean.isfinite().all())
    assert bool((variance > 0).all())
    assert float((mean - torch.as_tensor(Y)).abs().mean()) < 0.1
