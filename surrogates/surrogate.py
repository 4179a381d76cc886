"""The surrogate of a campaign: one independent Gaussian process per metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from surrogates.choosing import RECIPES, fit_metric
from surrogates.gaussian_process import MetricModel, Outcomes, to_unit

if TYPE_CHECKING:
    from surrogates.joint import JointModel

ArrayLike = Tensor | np.ndarray


class Surrogate:
    """What the observations say about every design, metric by metric.

    Independent models, one per metric, let each metric have its own observations (nothing has to be
    measured on every design), noise and relevant features.

    Attributes:
        metrics: m names, in the order of the columns of everything below.
        models: m models, on features of the unit cube and standardised outcomes.
    """

    def __init__(
        self, metrics: Sequence[str], models: Sequence[MetricModel], bounds: Tensor
    ) -> None:
        self.metrics = tuple(metrics)
        self.models = tuple(models)
        self._low, self._width = bounds[0], bounds[1] - bounds[0]
        self.dtype, self.device = bounds.dtype, bounds.device

    def unit(self, X: ArrayLike) -> Tensor:
        """Raw features, mapped to the unit cube."""
        X = torch.as_tensor(X, dtype=self.dtype, device=self.device)
        return to_unit(X, self._low, self._width)

    def posterior(self, X: ArrayLike) -> tuple[Tensor, Tensor]:
        """Marginal mean and variance of every metric, measurement noise not included.

        Args:
            X: n x d raw features.

        Returns:
            Two n x m tensors, in the metrics' units and units squared.
        """
        unit = self.unit(X)
        columns = [m.predict(unit) for m in self.models]
        return torch.stack([c[0] for c in columns], -1), torch.stack([c[1] for c in columns], -1)

    def predictive_sd(self, X: ArrayLike) -> Tensor:
        """Standard deviation of new readings, noise included, of n designs: n x m."""
        unit = self.unit(X)
        return torch.stack([m.predictive_sd(unit) for m in self.models], -1)

    def standardise(self, Y: Tensor) -> Tensor:
        """Outcomes (... x m, in the metrics' units) as the models see them."""
        columns = [m.warp(Y[..., j]) for j, m in enumerate(self.models)]
        return torch.stack(columns, -1)

    def restore(self, U: Tensor) -> Tensor:
        """Standardised outcomes (... x m) in the metrics' units."""
        return torch.stack([m.warp.inverse(U[..., j]) for j, m in enumerate(self.models)], -1)

    @cached_property
    def model(self) -> JointModel:
        """The BoTorch model, on raw features and standardised outcomes."""
        from surrogates.joint import JointModel

        return JointModel(self.models, self._low, self._width)

    @property
    def scales(self) -> Tensor:
        """Standard deviations of the m metrics' outcomes (one where they don't vary)."""
        spreads = [m.warp.spread for m in self.models]
        return torch.tensor(spreads, dtype=self.dtype, device=self.device)

    @property
    def smooth(self) -> bool:
        """Whether the posterior can be differentiated by the features."""
        return all(m.smooth for m in self.models)

    def report(self) -> dict[str, dict[str, Any]]:
        """How far each metric's model can be trusted, from leave-one-out predictions.

        Returns:
            For each metric: `model` (what was chosen), `tried` (leave-one-out log likelihood of
            each that was compared), `n`, `loo_r2` and `loo_log_likelihood` (None where undefined),
            `coverage` of the 50, 80 and 95 % intervals, `noise` (a standard deviation in the
            metric's unit), `converged`, `notes`, and `informative`: whether the model predicts a
            left-out outcome better than the mean of the others does. JSON-able.
        """
        return {name: _report(model) for name, model in zip(self.metrics, self.models, strict=True)}

    def state(self) -> dict[str, Any]:
        """Hyperparameters as JSON, for the `warm_start` of the next fit."""
        states = {n: m.state() for n, m in zip(self.metrics, self.models, strict=True)}
        return {"features": len(self._low), "metrics": states}


def _report(model: MetricModel) -> dict[str, Any]:
    left_out = model.left_out
    r2, likelihood = left_out.r2(), left_out.log_likelihood()
    return {
        "model": model.recipe.name,
        "tried": {name: value for name, value in model.tried.items() if math.isfinite(value)},
        "n": model.n,
        "loo_r2": r2 if math.isfinite(r2) else None,
        "loo_log_likelihood": likelihood if math.isfinite(likelihood) else None,
        "coverage": left_out.coverage(),
        "noise": model.warp.spread * model.warp.scale * model.noise**0.5,
        "converged": model.converged,
        "notes": list(model.notes),
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
    narrow = high - low <= 1e-9 * X.abs().amax(0)
    low, high = torch.where(narrow, X.amin(0), low), torch.where(narrow, X.amax(0), high)
    constant = high - low <= 1e-9 * X.abs().amax(0)
    half = torch.where(constant, 0.5 * low.abs().clamp_min(1.0), torch.zeros_like(low))
    return torch.stack([low - half, high + half])


def fit_surrogate(
    X: ArrayLike,
    Y: ArrayLike,
    noise: ArrayLike | None = None,
    *,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    warm_start: dict[str, Any] | None = None,
    max_iter: int = 75,
    bounds: ArrayLike | None = None,
    guides: Sequence[int | None] | None = None,
    groups: Sequence[int] | None = None,
    source: ArrayLike | None = None,
    recipes: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Surrogate:
    """Fit one Gaussian process per metric, each by the recipe that its outcomes prefer.

    Args:
        X: n x d features of the designs.
        Y: n x m outcomes in the metrics' units; nan = not measured.
        noise: n x m standard errors in the same units; nan = unknown (then inferred). None = all
            unknown.
        metrics: m names; by default y0, y1, ...
        seed: makes the fit reproducible.
        warm_start: `Surrogate.state()` of an earlier fit. Ignored where the number of features
            differs, or for a metric that it does not know.
        max_iter: cap on L-BFGS iterations of a fit. Seventy-five lose nothing that can be measured
            and save most of the time at fifty features.
        bounds: 2 x d, mapped to the unit cube; by default `feature_bounds(X)`. Give bounds of a
            larger set (all designs within reach) where you have one.
        guides: for each metric the feature that predicts it in its own unit (None = there is none);
            the process then models what that prediction leaves.
        groups: d numbers: features with one number share a lengthscale. None = each its own.
        source: n numbers: 0 = what is predicted, 1 and up = other laboratories, materials or levels
            of theory, from whose shape is learnt. None = all 0.
        recipes: names of `RECIPES` to choose from; None = what the amount of data allows.
        device: where to compute.
        dtype: double precision unless you know why not.

    Raises:
        ValueError: shapes that do not fit, features or outcomes that are not finite, a negative
            standard error, an unknown recipe, or a metric without a single outcome of source 0.
    """
    X = torch.as_tensor(X, dtype=dtype, device=device)
    Y = torch.as_tensor(Y, dtype=dtype, device=device)
    names = tuple(f"y{j}" for j in range(Y.shape[-1])) if metrics is None else tuple(metrics)
    sem = torch.full_like(Y, math.nan) if noise is None else torch.as_tensor(noise).to(Y)
    if X.ndim != 2 or Y.shape != (len(X), len(names)) or sem.shape != Y.shape:
        raise ValueError(
            f"X is {tuple(X.shape)}, Y {tuple(Y.shape)} and noise {tuple(sem.shape)}: wanted"
            f" n x d, n x {len(names)} and n x {len(names)} for metrics {list(names)}"
        )
    if not bool(X.isfinite().all()):
        raise ValueError("a feature is not finite")
    if bool(Y.isinf().any()):
        raise ValueError("an outcome is infinite; nan stands for one that was not measured")
    huge = torch.finfo(dtype).max ** (1 / 3)  # its square, times many, is still a number
    if bool((X.abs() > huge).any()) or bool((Y.abs() > huge).any()):
        raise ValueError(f"a feature or an outcome is larger than {huge:.0e} in size")
    if bool((sem < 0).any()) or bool(sem.isinf().any()):
        raise ValueError("a standard error is negative or infinite")
    unknown = [name for name in recipes or () if name not in RECIPES]
    if unknown:
        raise ValueError(f"no such recipe as {unknown[0]!r}; there are {', '.join(RECIPES)}")
    where = torch.zeros(len(X), dtype=torch.long, device=device)
    if source is not None:
        where = torch.as_tensor(source, dtype=torch.long, device=device)
        if where.shape != (len(X),) or bool((where < 0).any()):
            raise ValueError(f"source: wanted {len(X)} numbers of 0 or more")
    shared = tuple(range(X.shape[1])) if groups is None else tuple(int(g) for g in groups)
    if len(shared) != X.shape[1] or set(shared) != set(range(max(shared, default=-1) + 1)):
        raise ValueError(f"groups: wanted {X.shape[1]} numbers from 0 up, none left out")
    if not X.shape[1]:
        raise ValueError("there is no feature to learn from")
    if not bool(Y.isfinite().any()):
        raise ValueError(f"no outcome of {names[0]} is known: a surrogate needs at least one")
    box = (feature_bounds(X) if bounds is None else torch.as_tensor(bounds)).to(X)
    if box.shape != (2, X.shape[1]) or not bool((box[1] > box[0]).all()):
        raise ValueError(f"bounds: wanted 2 x {X.shape[1]} numbers, the second row the larger")
    unit = to_unit(X, box[0], box[1] - box[0])
    known: dict[str, Any] = {}
    if warm_start is not None and warm_start.get("features") == X.shape[1]:
        known = warm_start.get("metrics", {})
    models = []
    for j, metric in enumerate(names):
        rows = Y[:, j].isfinite()
        if not bool((rows & (where == 0)).any()):
            raise ValueError(f"no outcome of {metric} is known: a surrogate needs at least one")
        guide = None if guides is None else guides[j]
        outcomes = Outcomes(
            unit[rows], Y[rows, j], sem[rows, j], _consecutive(where[rows]), shared, guide,
            1.0 if guide is None else float(box[1, guide] - box[0, guide]),
        )  # fmt: skip
        wanted = None if recipes is None else [RECIPES[name] for name in recipes]
        warm = known.get(metric)
        models.append(
            fit_metric(outcomes, warm=warm, max_iter=max_iter, seed=seed + j, recipes=wanted)
        )
    return Surrogate(names, models, box)


def _consecutive(source: Tensor) -> Tensor:
    """Source numbers without gaps; 0 stays 0."""
    present = torch.unique(torch.cat([source, source.new_zeros(1)]))
    return torch.searchsorted(present, source)
