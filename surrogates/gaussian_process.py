"""A Gaussian process of one metric: BoTorch's `SingleTaskGP`, fitted under a cap.

The kernel is Matern-5/2 with one lengthscale a feature and the dimension-scaled prior of
[Hvarfner2024]_, which keeps a fit of forty trials and fifty features from overfitting. Of several
smooth kernels Matern is the one that forgives the small jumps left by decoding a latent vector.

Where a feature is itself a prediction of the metric (a pretrained network's), the process is the
correction to it: its mean is affine in that feature, with a slope near one.

.. [Hvarfner2024] C. Hvarfner, E. O. Hellsten and L. Nardi, Vanilla Bayesian Optimization Performs
   Great in High Dimensions. ICML 2024.
"""

from __future__ import annotations

from typing import Any

import gpytorch
import torch
from botorch.exceptions import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from botorch.models.utils.gpytorch_modules import (
    get_covar_module_with_dim_scaled_prior,
    get_gaussian_likelihood_with_lognormal_prior,
)
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from surrogates.leave_one_out import LeaveOneOut, leave_one_out


class GuidedMean(gpytorch.means.Mean):
    """A mean that is affine in one feature, which predicts the outcome.

    Args:
        column: the feature.
        slope: of standardised outcomes on the normalised feature where the prediction is right.
    """

    def __init__(self, column: int, slope: float) -> None:
        super().__init__()
        self.column, self.expected = column, slope
        self.register_parameter("constant", torch.nn.Parameter(torch.tensor(-0.5 * slope)))
        self.register_parameter("raw_share", torch.nn.Parameter(torch.tensor(0.8)))
        # of what it predicts, some or all may be right: a half to all of it, give or take
        prior = gpytorch.priors.NormalPrior(0.8, 0.3)
        self.register_prior("share_prior", prior, lambda module: module.raw_share)

    def forward(self, x: Tensor) -> Tensor:
        """Mean of ... x n x d normalised features: ... x n."""
        return self.constant + self.raw_share * self.expected * x[..., self.column]


MIN_TO_FIT = 3
"""With fewer outcomes the hyperparameters stay at their prior's mode."""


class MetricModel:
    """The fitted Gaussian process of one metric, with its training factor kept for fast answers.

    Attributes:
        model: the BoTorch model, in evaluation mode, on raw features and in the metric's unit.
        n: outcomes it was fitted to.
        converged: False where the fit failed and prior hyperparameters were kept.
    """

    def __init__(self, model: Any, y: Tensor, converged: bool) -> None:
        self.model = model.eval()  # a SingleTaskGP, whose attributes torch types too loosely to use
        self.n = len(y)
        self.converged = converged
        self._observed = y
        transform = model.outcome_transform
        self._offset = float(transform.means.squeeze())
        self.scale = float(transform.stdvs.squeeze())
        with torch.no_grad():
            self._inputs = model.train_inputs[0]  # already normalised: the model is in eval mode
            noise = model.likelihood.noise.expand(self.n)
            covariance = model.covar_module(self._inputs).to_dense() + torch.diag(noise)
            self._cholesky = torch.linalg.cholesky(covariance)
            self._residual = model.train_targets - model.mean_module(self._inputs)
            self._weights = torch.cholesky_solve(self._residual[:, None], self._cholesky)

    @torch.no_grad()
    def posterior(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Marginal mean and variance, without noise, at q x d raw features: two q vectors.

        Uses the cached factor, so that thousands of designs cost one matrix product and not the
        q x q covariance that `model.posterior` builds.
        """
        inputs = self.model.input_transform(X)
        cross = self.model.covar_module(inputs, self._inputs).to_dense()
        mean = self.model.mean_module(inputs) + (cross @ self._weights).squeeze(-1)
        shrink = torch.linalg.solve_triangular(self._cholesky, cross.T, upper=False)
        variance = (1.0 - shrink.square().sum(0)).clamp_min(1e-10)  # the kernel has unit variance
        return self._offset + self.scale * mean, self.scale**2 * variance

    def leave_one_out(self) -> LeaveOneOut:
        """Closed-form leave-one-out predictions of the outcomes it was fitted to."""
        return leave_one_out(self._cholesky, self._residual, self._observed, self.scale)

    def noise_sd(self) -> float:
        """Standard deviation of the noise on an outcome (typical, in the metric's unit)."""
        return self.scale * float(self.model.likelihood.noise.detach().median()) ** 0.5

    def state(self) -> dict[str, Any]:
        """Hyperparameters as JSON: lengthscales in raw units, mean and noise standardised."""
        mean = self.model.mean_module
        width = self.model.input_transform.coefficient.reshape(-1)
        lengthscale = self.model.covar_module.lengthscale.detach().reshape(-1) * width
        return {
            "lengthscale": lengthscale.tolist(),
            "mean": {k: float(v.detach()) for k, v in mean.named_parameters()},
            "noise": float(_learnt_noise(self.model).detach()),
        }


def _learnt_noise(model: Any) -> Tensor:
    likelihood = model.likelihood
    if isinstance(likelihood, FixedNoiseGaussianLikelihood):
        return likelihood.second_noise.reshape(())
    return likelihood.noise.reshape(())


def _likelihood(noise: Tensor, scale: float) -> gpytorch.likelihoods.Likelihood:
    """Inferred noise, plus the given variance where a standard error is known.

    The inferred part stays even where all standard errors are given: it takes up what the features
    cannot explain, which a standard error of the measurement knows nothing of.
    """
    inferred = get_gaussian_likelihood_with_lognormal_prior()
    if bool(noise.isnan().all()):
        return inferred
    floor = gpytorch.settings.min_fixed_noise.value(noise.dtype)
    given = (noise / scale).square().nan_to_num(nan=0.0).clamp_min(floor)
    return FixedNoiseGaussianLikelihood(
        noise=given,
        learn_additional_noise=True,
        noise_prior=inferred.noise_covar.noise_prior,
        noise_constraint=inferred.noise_covar.raw_noise_constraint,
    )


def _start(model: Any, warm: dict[str, Any], width: Tensor) -> None:
    """Set hyperparameters to an earlier fit's, inside today's constraints."""
    lengthscale = torch.as_tensor(warm["lengthscale"], dtype=width.dtype, device=width.device)
    model.covar_module.lengthscale = (lengthscale / width).clamp(0.026, 1e4)
    mean = dict(model.mean_module.named_parameters())
    if mean.keys() == warm["mean"].keys():
        for name, value in warm["mean"].items():
            mean[name].data.fill_(value)
    noise = torch.tensor(float(warm["noise"])).clamp_min(1.01e-4).to(width)
    if isinstance(model.likelihood, FixedNoiseGaussianLikelihood):
        model.likelihood.second_noise = noise
    else:
        model.likelihood.noise = noise


def _log_evidence(mll: ExactMarginalLogLikelihood) -> float:
    mll.train()
    with torch.no_grad():
        output = mll.model(*mll.model.train_inputs)
        return float(mll(output, mll.model.train_targets))


def fit_metric(
    X: Tensor,
    y: Tensor,
    noise: Tensor,
    bounds: Tensor,
    *,
    warm_start: dict[str, Any] | None,
    max_iter: int,
    seed: int,
    guide: int | None = None,
) -> MetricModel:
    """Fit one metric.

    Args:
        X: n x d raw features, n >= 1.
        y: n outcomes, all finite.
        noise: n standard errors (nan = unknown).
        bounds: 2 x d, mapped to the unit cube; no column may have width zero.
        warm_start: `MetricModel.state()` of an earlier fit with the same d; used where it explains
            the outcomes better than the prior's mode does.
        max_iter: cap on L-BFGS iterations.
        seed: of the restarts that BoTorch makes where a fit fails.
        guide: the feature that predicts this metric in its own unit, if there is one.
    """
    standardize = Standardize(m=1)
    standardize(y[:, None])
    scale = float(standardize.stdvs.squeeze())

    def build() -> SingleTaskGP:
        mean = None
        if guide is not None:
            slope = float(bounds[1, guide] - bounds[0, guide]) / scale
            mean = GuidedMean(guide, slope).to(X)
        return SingleTaskGP(
            X,
            y[:, None],
            likelihood=_likelihood(noise, scale),
            # Given explicitly, since BoTorch warns of points outside the unit cube otherwise:
            # robust bounds leave outliers there on purpose.
            mean_module=mean,
            covar_module=get_covar_module_with_dim_scaled_prior(X.shape[1], use_rbf_kernel=False),
            outcome_transform=Standardize(m=1),
            input_transform=Normalize(X.shape[1], bounds=bounds),
        )

    model = build()
    constant = float(y.max() - y.min()) <= 1e-9 * max(1.0, float(y.abs().max()))
    if len(y) < MIN_TO_FIT or constant:
        return MetricModel(model, y, converged=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mll = ExactMarginalLogLikelihood(model.likelihood, model)
        if warm_start is not None:
            warm = build()
            _start(warm, warm_start, bounds[1] - bounds[0])
            warm_mll = ExactMarginalLogLikelihood(warm.likelihood, warm)
            if _log_evidence(warm_mll) > _log_evidence(mll):
                mll = warm_mll
        try:
            fit_gpytorch_mll(mll, optimizer_kwargs={"options": {"maxiter": max_iter}})
        except ModelFittingError:
            return MetricModel(build(), y, converged=False)
    return MetricModel(mll.model, y, converged=True)
