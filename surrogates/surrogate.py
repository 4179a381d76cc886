"""The surrogate of a campaign: one independent Gaussian process per metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from botorch.models import ModelListGP
from torch import Tensor

from surrogates.gaussian_process import MetricModel, fit_metric

ArrayLike = Tensor | np.ndarray


class Surrogate:
    """What the observations say about every design, metric by metric.

    Independent models, one per metric, let each metric have its own observations (nothing has to be
    measured on every design), noise and relevant features.

    Attributes:
        metrics: m names, in the order of the columns of everything below.
    """

    def __init__(self, metrics: Sequence[str], models: Sequence[MetricModel]) -> None:
        self.metrics = tuple(metrics)
        self._models = tuple(models)
        self.model = ModelListGP(*(m.model for m in models)).eval()
        reference = models[0].model.train_targets
        self.dtype, self.device = reference.dtype, reference.device

    def posterior(self, X: ArrayLike) -> tuple[Tensor, Tensor]:
        """Marginal mean and variance of every metric, measurement noise not included.

        Args:
            X: n x d raw features.

        Returns:
            Two n x m tensors, in the metrics' units and units squared.
        """
        X = torch.as_tensor(X, dtype=self.dtype, device=self.device)
        columns = [m.posterior(X) for m in self._models]
        return torch.stack([c[0] for c in columns], -1), torch.stack([c[1] for c in columns], -1)

    @property
    def scales(self) -> Tensor:
        """Standard deviations of the m metrics' outcomes (one where they don't vary)."""
        return torch.tensor([m.scale for m in self._models], dtype=self.dtype, device=self.device)

    def report(self) -> dict[str, dict[str, Any]]:
        """How far each metric's model can be trusted, from leave-one-out predictions.

        Returns:
            For each metric: `n`, `loo_r2` and `loo_log_likelihood` (None where undefined),
            `coverage` of the 50, 80 and 95 % intervals, `noise` (a standard deviation in the
            metric's unit), `converged`, and `informative`: whether the model predicts a left-out
            outcome better than the mean of the others does. JSON-able.
        """
        return {
            name: _report(model) for name, model in zip(self.metrics, self._models, strict=True)
        }

    def state(self) -> dict[str, Any]:
        """Hyperparameters as JSON, for the `warm_start` of the next fit."""
        states = {n: m.state() for n, m in zip(self.metrics, self._models, strict=True)}
        return {"features": self._models[0].model.train_inputs[0].shape[-1], "metrics": states}


def _report(model: MetricModel) -> dict[str, Any]:
    left_out = model.leave_one_out()
    r2, likelihood = left_out.r2(), left_out.log_likelihood()
    return {
        "n": model.n,
        "loo_r2": r2 if math.isfinite(r2) else None,
        "loo_log_likelihood": likelihood if math.isfinite(likelihood) else None,
        "coverage": left_out.coverage(),
        "noise": model.noise_sd(),
        "converged": model.converged,
        "informative": math.isfinite(r2) and r2 > 0.0,
    }


def feature_bounds(X: ArrayLike, tail: float = 0.02) -> Tensor:
    """Bounds for mapping features to the unit cube that a few wild values cannot stretch.

    Args:
        X: n x d features.
        tail: share of rows left outside at each end of a column.

    Returns:
        2 x d. A column that does not vary gets a width of one (or of its own size, where larger),
        so that a later design which does differ there is seen as different, and nothing divides by
        zero.
    """
    X = torch.as_tensor(X, dtype=torch.float64)
    ends = torch.tensor([tail, 1.0 - tail], dtype=X.dtype, device=X.device)
    low, high = torch.quantile(X, ends, dim=0)
    # More than 1 - 2 tail of the rows may agree while the rest differ: then use the full range.
    narrow = high - low <= 1e-9 * X.abs().amax(0).clamp_min(1e-3)
    low, high = torch.where(narrow, X.amin(0), low), torch.where(narrow, X.amax(0), high)
    constant = high - low <= 1e-9 * X.abs().amax(0).clamp_min(1e-3)
    half = torch.where(constant, 0.5 * low.abs().clamp_min(1.0), torch.zeros_like(low))
    return torch.stack([low - half, high + half])


def fit_surrogate(
    X: ArrayLike,
    Y: ArrayLike,
    noise: ArrayLike | None = None,
    *,
    metrics: Sequence[str],
    seed: int = 0,
    warm_start: dict[str, Any] | None = None,
    max_iter: int = 75,
    bounds: ArrayLike | None = None,
    guides: Sequence[int | None] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Surrogate:
    """Fit one Gaussian process per metric.

    Args:
        X: n x d features of the designs.
        Y: n x m outcomes in the metrics' units; nan = not measured.
        noise: n x m standard errors in the same units; nan = unknown (then inferred). None = all
            unknown.
        metrics: m names.
        seed: makes the fit reproducible.
        warm_start: `Surrogate.state()` of an earlier fit. Ignored where the number of features
            differs, or for a metric that it does not know.
        max_iter: cap on L-BFGS iterations a metric. Seventy-five lose nothing that can be measured
            and save most of the time at fifty features.
        bounds: 2 x d, mapped to the unit cube; by default `feature_bounds(X)`. Give bounds of a
            larger set (all designs within reach) where you have one.
        guides: for each metric the feature that predicts it in its own unit (None = there is none);
            the process then models what that prediction leaves.
        device: where to compute.
        dtype: double precision unless you know why not.

    Raises:
        ValueError: shapes that do not fit, features that are not finite, a negative standard error,
            or a metric without a single outcome.
    """
    X = torch.as_tensor(X, dtype=dtype, device=device)
    Y = torch.as_tensor(Y, dtype=dtype, device=device)
    sem = torch.full_like(Y, math.nan) if noise is None else torch.as_tensor(noise).to(Y)
    if X.ndim != 2 or Y.shape != (len(X), len(metrics)) or sem.shape != Y.shape:
        raise ValueError(
            f"X is {tuple(X.shape)}, Y {tuple(Y.shape)} and noise {tuple(sem.shape)}: wanted"
            f" n x d, n x {len(metrics)} and n x {len(metrics)} for metrics {list(metrics)}"
        )
    if not bool(X.isfinite().all()):
        raise ValueError("a feature is not finite")
    if bool((sem < 0).any()):
        raise ValueError("a standard error is negative")
    box = feature_bounds(X) if bounds is None else torch.as_tensor(bounds)
    box = box.to(X)
    known: dict[str, Any] = {}
    if warm_start is not None and warm_start.get("features") == X.shape[1]:
        known = warm_start.get("metrics", {})
    models = []
    for j, metric in enumerate(metrics):
        rows = Y[:, j].isfinite()
        if not bool(rows.any()):
            raise ValueError(f"no outcome of {metric} is known: a surrogate needs at least one")
        models.append(
            fit_metric(
                X[rows],
                Y[rows, j],
                sem[rows, j],
                box,
                warm_start=known.get(metric),
                max_iter=max_iter,
                seed=seed + j,
                guide=None if guides is None else guides[j],
            )
        )
    return Surrogate(metrics, models)
