"""A Gaussian process of one metric, ready to answer.

Exact up to `MAX_EXACT` outcomes (hyperparameters are fitted to a sample of them where they are
many). Beyond, the answer is the fully independent training conditional ([Snelson2006]_) over
inducing designs that are spread out, whose cost grows in proportion to the outcomes.

Where a feature is itself a prediction of the metric (a pretrained network's), the process is the
correction to it: its mean is affine in that feature, with a slope near one.

.. [Snelson2006] E. Snelson and Z. Ghahramani, Sparse Gaussian Processes using Pseudo-inputs.
   NeurIPS 2006.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surrogates.fitting import Data, fit
from surrogates.kernel import Structure, squared_distances
from surrogates.leave_one_out import LeaveOneOut, leave_one_out
from surrogates.warping import Warp, standardise

MAX_FIT = 500
"""With more outcomes, hyperparameters are fitted to a sample of so many."""
MAX_EXACT = 1000
"""With more outcomes, the answer goes by inducing designs."""
INDUCING = 400
MIN_TO_FIT = 3
"""With fewer outcomes the hyperparameters stay at their prior's mode."""

Trend = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to model a metric: what `choosing` chooses between.

    Attributes:
        name: for a person.
        smoothness, additive, sparse: see `kernel` and `fitting`.
        warp: whether skewed outcomes are made normal first.
        forest: whether a random forest is the mean.
    """

    name: str
    smoothness: Any = "matern"
    additive: bool = False
    sparse: bool = False
    warp: bool = False
    forest: bool = False


@dataclass(frozen=True)
class Outcomes:
    """What was measured of one metric.

    Attributes:
        X: n x f features in the unit cube, give or take.
        y: n outcomes in the metric's unit.
        noise: n standard errors, nan = unknown.
        source: n source numbers, 0 = the one that is predicted.
        guide: a feature that foretells the metric, or None.
        guide_width: metric's units per unit of that feature.
        groups: lengthscale of each feature.
    """

    X: Tensor
    y: Tensor
    noise: Tensor
    source: Tensor
    groups: tuple[int, ...]
    guide: int | None = None
    guide_width: float = 1.0


@dataclass
class MetricModel:
    """The fitted Gaussian process of one metric.

    Features are those of the unit cube. *Standardised* is after the warp: what the acquisition
    works with; `predict` answers in the metric's unit, its intervals widened by `inflation`, which
    makes them hold for designs that were chosen and not drawn at random.
    """

    recipe: Recipe
    warp: Warp
    structure: Structure
    theta: Tensor
    anchors: Tensor
    anchor_source: Tensor
    factor: Tensor
    weights: Tensor
    data: Outcomes
    left_out: LeaveOneOut
    evidence: float
    converged: bool
    second: Tensor | None = None
    trend: Trend | None = None
    outliers: Tensor | None = None
    notes: list[str] = field(default_factory=list)
    tried: dict[str, float] = field(default_factory=dict)
    chosen_at: int = 0
    inflation: float = 1.0

    @property
    def n(self) -> int:
        """Outcomes that it knows, of all sources."""
        return len(self.data.y)

    @property
    def smooth(self) -> bool:
        """Whether the posterior can be differentiated by the features."""
        return self.trend is None

    @property
    def noise(self) -> float:
        """Variance of the noise of an outcome of source 0, standardised (typical)."""
        return self.noise_of(0)

    def warp_of(self, source: int) -> Warp:
        """What standardises the outcomes of a source: all but 0 have a plain scale."""
        if source == 0:
            return self.warp
        return standardise(self.data.y[self.data.source == source])

    def noise_of(self, source: int) -> float:
        """Variance of the noise of an outcome of a source, standardised (typical)."""
        learnt = float(self.structure.unpack(self.theta)[2].exp()[source])
        here = self.data.source == source
        slope = self.warp_of(source).slope(self.data.y[here])
        given = _known_variance(self.data.noise[here], slope)
        known = given[given.isfinite()]
        return learnt + (float(known.median()) if len(known) else 0.0)

    def _mean(self, X: Tensor) -> Tensor:
        mean = _guide(self.data, self.warp, X)[1]
        return mean if self.trend is None else mean + self.trend(X)

    def _cross(self, X: Tensor, source: int = 0) -> Tensor:
        """Covariance of ... x q x f features with the anchors: ... x q x a."""
        k = self.structure.covariance(self.theta, X, self.anchors)
        if self.structure.sources > 1:
            here = torch.full((1,), source, device=X.device)
            k = k * self.structure.between(self.theta, here, self.anchor_source)
            k = k + _offset(here, self.anchor_source).to(k)
        return k + _basis(self.data, self.warp, X, self.anchors)

    def _explained(self, X: Tensor, source: int = 0) -> tuple[Tensor, list[tuple[Tensor, float]]]:
        cross = self._cross(X, source)
        mean = self._mean(X) + cross @ self.weights
        solved = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False)
        parts = [(solved, -1.0)]
        if self.second is not None:
            parts.append((torch.linalg.solve_triangular(self.second, cross.mT, upper=False), 1.0))
        return mean, parts

    def marginal(self, X: Tensor, source: int = 0) -> tuple[Tensor, Tensor]:
        """Standardised mean and variance at ... x q x f features: two ... x q tensors."""
        mean, parts = self._explained(X, source)
        variance = self.structure.variance(self.theta) + _basis_diagonal(self.data, self.warp, X)
        if source:  # another source has a size of its own, and a constant
            extra = self.structure.coupling(self.theta)[1][source].square() - 1.0
            variance = variance + extra * self.structure.variance(self.theta) + _OFFSET_VARIANCE
        for solved, sign in parts:
            variance = variance + sign * solved.square().sum(-2)
        return mean, variance.clamp_min(1e-9)

    def joint(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised mean and covariance at ... x q x f features: ... x q and ... x q x q."""
        mean, parts = self._explained(X)
        covariance = self.structure.covariance(self.theta, X, X)
        covariance = covariance + _basis(self.data, self.warp, X, X)
        for solved, sign in parts:
            covariance = covariance + sign * solved.mT @ solved
        return mean, covariance

    def covariances(self, X: Tensor, x: Tensor, source: int = 0, of: int = 0) -> Tensor:
        """Posterior covariance of q x f features with one design x (f) of a source: q numbers.

        Args:
            X: the q designs.
            x: the one.
            source: that of x.
            of: that of the q.
        """
        _, many = self._explained(X, of)
        _, one = self._explained(x[None], source)
        k = self.structure.covariance(self.theta, X, x[None])[..., 0]
        if source or of:
            a = torch.tensor([of], device=X.device)
            b = torch.tensor([source], device=X.device)
            k = k * self.structure.between(self.theta, a, b)[0, 0] + _offset(a, b).to(k)[0, 0]
        k = k + _basis(self.data, self.warp, X, x[None]).expand(len(X), 1)[..., 0]
        for (a, sign), (b, _) in zip(many, one, strict=True):
            k = k + sign * (a * b).sum(-2)
        return k

    def predict(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance without noise, in the metric's unit: two q vectors."""
        mean, variance = self.marginal(X)
        return self.warp.moments(mean, self.inflation**2 * variance)

    def predictive_sd(self, X: Tensor) -> Tensor:
        """Standard deviation of a new outcome, noise included, in the metric's unit: q numbers."""
        mean, variance = self.marginal(X)
        whole = self.inflation**2 * (variance + self.noise)
        return self.warp.moments(mean, whole)[1].sqrt()

    def state(self) -> dict[str, Any]:
        """Hyperparameters as JSON, for the next fit."""
        return {
            "recipe": self.recipe.name,
            "theta": self.theta.tolist(),
            "chosen_at": self.chosen_at,
        }


def _guide(data: Outcomes, warp: Warp, X: Tensor) -> tuple[Tensor, Tensor]:
    """The guide as a basis function at ... x q features, and the prior mean that it gives."""
    if data.guide is None:
        nothing = X[..., 0] * 0.0
        return nothing, nothing
    # Outcomes that hardly differ would make of any guide a slope without measure.
    width = min(data.guide_width / (warp.spread * warp.scale), _FAR)
    h = (X[..., data.guide] - 0.5) * width
    return h, 0.8 * h  # of what it predicts, some or all is right: a half to all of it


_FAR = 1e3
_GUIDE_VARIANCE = 0.3**2
_CONSTANT_VARIANCE = 1.0
_OFFSET_VARIANCE = 1.0


def _offset(a: Tensor, b: Tensor) -> Tensor:
    """Covariance of the constants by which other sources differ from source 0: a x b."""
    return _OFFSET_VARIANCE * ((a[:, None] == b[None, :]) & (a[:, None] > 0))


def _basis(data: Outcomes, warp: Warp, A: Tensor, B: Tensor) -> Tensor:
    """Covariance of the basis functions: the constant, and the guide's share."""
    constant = torch.full((), _CONSTANT_VARIANCE, dtype=A.dtype, device=A.device)
    if data.guide is None:
        return constant
    a, b = _guide(data, warp, A)[0], _guide(data, warp, B)[0]
    return constant + _GUIDE_VARIANCE * a[..., :, None] * b[..., None, :]


def _basis_diagonal(data: Outcomes, warp: Warp, X: Tensor) -> Tensor:
    return _CONSTANT_VARIANCE + _GUIDE_VARIANCE * _guide(data, warp, X)[0].square()


def to_unit(X: Tensor, low: Tensor, width: Tensor) -> Tensor:
    """Raw features, ... x f, mapped to the unit cube by f lower ends and f widths.

    What lies very far outside stays at its edge of the world: differences between squares of large
    numbers are noise, and nothing is known there anyway.
    """
    return ((X - low) / width).clamp(-_FAR, _FAR)


def spread_out(X: Tensor, n: int, first: int = 0) -> Tensor:
    """Positions of n rows, each the farthest from those before it."""
    chosen = [first]
    distance = squared_distances(X, X[[first]])[:, 0]
    while len(chosen) < min(n, len(X)):
        at = int(distance.argmax())
        chosen.append(at)
        distance = torch.minimum(distance, squared_distances(X, X[[at]])[:, 0])
    return torch.tensor(chosen, device=X.device)


def _sample(outcomes: Outcomes, n: int, seed: int) -> Tensor:
    """Positions of n outcomes: the best and worst tenth of source 0, the rest at random.

    Source 0, which is what is predicted, has at least half of them, or all of its own.
    """
    generator = torch.Generator().manual_seed(seed)

    def some(rows: Tensor, k: int) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:k].to(rows.device)]

    order = outcomes.y.argsort()
    here, others = order[outcomes.source[order] == 0], order[outcomes.source[order] > 0]
    k = min(len(here), max(n // 2, n - len(others)))
    if k < len(here):
        ends = torch.cat([here[: k // 10], here[-(k // 10) :]])
        here = torch.cat([ends, some(here[k // 10 : -(k // 10)], k - len(ends))])
    return torch.cat([here, some(others, n - k)]).sort().values


def _at(outcomes: Outcomes, rows: Tensor) -> Outcomes:
    return replace(
        outcomes, X=outcomes.X[rows], y=outcomes.y[rows], noise=outcomes.noise[rows],
        source=outcomes.source[rows],
    )  # fmt: skip


def _known_variance(noise: Tensor, slope: Tensor) -> Tensor:
    """Standardised variances of standard errors (nan = unknown)."""
    return (noise * slope).square().clamp_max(1e12)  # so large a one says as little as infinity


def _factor(K: Tensor) -> Tensor:
    """Cholesky factor of a covariance that rounding may have made a little less than definite."""
    diagonal = K.diagonal()
    for jitter in (0.0, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3):
        factor, bad = torch.linalg.cholesky_ex(K + torch.diag(jitter * diagonal))
        if not bool(bad):
            return factor
    return torch.linalg.cholesky(K)  # which says what is wrong


def fit_gaussian_process(
    outcomes: Outcomes,
    recipe: Recipe,
    warp: Warp,
    *,
    warm: dict[str, Any] | None,
    max_iter: int,
    seed: int,
    trend: tuple[Trend, Tensor] | None = None,
    outliers: Tensor | None = None,
) -> MetricModel:
    """Fit one recipe.

    Args:
        outcomes: n >= 1 outcomes.
        recipe: how.
        warp: standardises the outcomes.
        warm: `MetricModel.state()` of an earlier fit.
        max_iter: cap on L-BFGS iterations.
        seed: of the sample that a fit to more than `MAX_FIT` outcomes is made of.
        trend: a function of features, standardised, and its n values at the outcomes, each by a
            fit that had not seen that outcome.
        outliers: n more noise variances, standardised, for readings that nothing explains.
    """
    sources = int(outcomes.source.max()) + 1
    structure = Structure(outcomes.groups, recipe.smoothness, recipe.additive, sources)
    extra = torch.zeros_like(outcomes.y) if outliers is None else outliers
    n = len(outcomes.y)
    rows = torch.arange(n, device=outcomes.y.device)
    if n > MAX_FIT:
        rows = _sample(outcomes, MAX_FIT, seed)
    part = _at(outcomes, rows)
    data = _data(part, warp, extra[rows], None if trend is None else trend[1][rows])
    steps = max_iter if n >= MIN_TO_FIT and float(outcomes.y.max() - outcomes.y.min()) > 0 else 0
    known = None
    if warm is not None and warm.get("recipe") == recipe.name:
        known = np.asarray(warm["theta"], dtype=np.float64)
    found = fit(structure, data, sparse=recipe.sparse, warm=known, max_iter=steps)
    if MAX_FIT < n <= MAX_EXACT:
        part, data = outcomes, _data(outcomes, warp, extra, None if trend is None else trend[1])
    K = structure.covariance(found.theta, data.X, data.X)
    if sources > 1:
        K = K * structure.between(found.theta, data.source, data.source)
    K = K + data.basis
    noise = structure.unpack(found.theta)[2].exp()[data.source] + data.given
    factor = _factor(K + torch.diag(noise))
    left_out = _left_out(factor, data, part, warp)
    model = MetricModel(
        recipe, warp, structure, found.theta, data.X, data.source, factor,
        torch.cholesky_solve(data.y[:, None], factor)[:, 0], outcomes, left_out, found.evidence,
        found.converged, trend=None if trend is None else trend[0], outliers=outliers,
        inflation=_inflation(factor, data),
    )  # fmt: skip
    if n <= MAX_EXACT:
        return model
    return _inducing(model, _data(outcomes, warp, extra, None if trend is None else trend[1]))


def _data(outcomes: Outcomes, warp: Warp, extra: Tensor, trend: Tensor | None) -> Data:
    y, slope = warp(outcomes.y), warp.slope(outcomes.y)
    for other in range(1, int(outcomes.source.max()) + 1):
        # Another source has a scale of its own: what it shares is the shape.
        rows = outcomes.source == other
        own = standardise(outcomes.y[rows])
        y[rows], slope[rows] = own(outcomes.y[rows]), own.slope(outcomes.y[rows])
    given = _known_variance(outcomes.noise, slope).nan_to_num(nan=0.0) + extra
    mean = _guide(outcomes, warp, outcomes.X)[1]
    if trend is not None:
        mean = mean + trend
    n = len(y)
    basis = _basis(outcomes, warp, outcomes.X, outcomes.X).expand(n, n)
    basis = basis + _offset(outcomes.source, outcomes.source).to(basis)
    return Data(outcomes.X, y - mean, given, basis, outcomes.source)


def _left_out(factor: Tensor, data: Data, outcomes: Outcomes, warp: Warp) -> LeaveOneOut:
    """Leave-one-out predictions of source 0, standardised and in the metric's unit."""
    here = outcomes.source == 0
    return leave_one_out(factor, data.y, warp, outcomes.y, here)


_INFLATION, _INFLATION_WEIGHT = 1.35, 8.0
"""What to expect of `_inflation`, and how many outcomes that expectation is worth."""


def _inflation(factor: Tensor, data: Data) -> float:
    """By how much predictions made before the result have been too sure.

    The factor of the covariance, taken in the order of the outcomes, holds the error of each one
    foretold from those before it, in predicted standard deviations. Designs are chosen for what is
    expected of them, so their errors are larger than those of designs drawn at random would be:
    intervals are widened by what was seen of that, which for few outcomes is a third.
    """
    errors = torch.linalg.solve_triangular(factor, data.y[:, None], upper=False)[:, 0]
    late = errors[data.source == 0][5:].square().clamp_max(9.0)
    total = _INFLATION_WEIGHT * _INFLATION**2 + float(late.sum())
    return float((total / (_INFLATION_WEIGHT + len(late))) ** 0.5)


def _inducing(model: MetricModel, data: Data) -> MetricModel:
    """The answer from all outcomes, by inducing designs."""
    structure, theta = model.structure, model.theta
    scale = structure.unpack(theta)[0].exp()[list(structure.groups)]
    at = spread_out(data.X / scale, INDUCING, first=int(model.data.y.argmax()))
    model.anchors, model.anchor_source = data.X[at], data.source[at]
    K = structure.covariance(theta, model.anchors, model.anchors)
    if structure.sources > 1:
        K = K * structure.between(theta, model.anchor_source, model.anchor_source)
        K = K + _offset(model.anchor_source, model.anchor_source).to(K)
    K = K + _basis(model.data, model.warp, model.anchors, model.anchors)
    K = K + 1e-6 * torch.eye(len(K)).to(K)
    factor = _factor(K)
    cross = structure.covariance(theta, data.X, model.anchors)
    if structure.sources > 1:
        cross = cross * structure.between(theta, data.source, model.anchor_source)
        cross = cross + _offset(data.source, model.anchor_source).to(cross)
    cross = cross + _basis(model.data, model.warp, data.X, model.anchors)  # n x m
    solved = torch.linalg.solve_triangular(factor, cross.mT, upper=False)
    sizes = structure.coupling(theta)[1][data.source]
    prior = sizes.square() * structure.variance(theta) + _OFFSET_VARIANCE * (data.source > 0)
    prior = prior + _basis_diagonal(model.data, model.warp, data.X)
    noise = structure.unpack(theta)[2].exp()[data.source] + data.given
    noise = noise + (prior - solved.square().sum(0)).clamp_min(0.0)
    # The factor of K + cross' noise^-1 cross, by way of a matrix whose condition is harmless.
    scaled = solved / noise.sqrt()
    inside = torch.eye(len(K)).to(K) + scaled @ scaled.mT
    model.factor, model.second = factor, factor @ torch.linalg.cholesky(inside)
    weights = torch.cholesky_solve((cross.mT @ (data.y / noise))[:, None], model.second)
    model.weights = weights[:, 0]
    model.notes.append(
        f"{len(data.y)} outcomes: by {len(at)} inducing designs, hyperparameters from a sample"
    )
    return model


def identify_outliers(model: MetricModel) -> Tensor | None:
    """More noise for readings that the others contradict; None where there is none.

    A reading of source 0 is an outlier where its leave-one-out residual is beyond four standard
    deviations; it gets the noise that makes it ordinary. At most a tenth of the readings.

    Returns:
        n noise variances, standardised, none of them for other sources.
    """
    z = model.left_out.z.abs()
    far, here = z > 4.0, model.data.source == 0
    count = int(far.sum())
    if not count or count > max(1, len(z) // 10) or len(z) < 8:
        return None
    if int(here.sum()) != len(z):  # by inducing designs: only a sample was foretold by the others
        return None
    excess = (model.left_out.residual.square() - model.left_out.spread.square()).clamp_min(0.0)
    extra = torch.zeros_like(model.data.y)
    extra[here] = torch.where(far, excess, torch.zeros_like(excess))
    return extra
