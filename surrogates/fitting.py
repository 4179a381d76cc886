"""Hyperparameters of a Gaussian process: the most probable ones, by L-BFGS on the exact gradient.

Lengthscales have a log-normal prior whose median grows as the root of the number of features
([Hvarfner2024]_), tighter than theirs: over twelve tables of measured materials (see
docs/benchmarks.md) a standard deviation of 0.8 in place of 1.7 found the best designs sooner, since
five results cannot tell a short lengthscale from a lucky reading. *Sparse* puts a half-Cauchy prior
on inverse lengthscales instead, which switches most features off ([Eriksson2021]_).

.. [Eriksson2021] D. Eriksson and M. Jankowiak, High-Dimensional Bayesian Optimization with Sparse
   Axis-Aligned Subspaces. UAI 2021.
.. [Hvarfner2024] C. Hvarfner, E. O. Hellsten and L. Nardi, Vanilla Bayesian Optimization Performs
   Great in High Dimensions. ICML 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from surrogates.kernel import Structure, value_and_gradient

SCALE_MEDIAN, SCALE_SD = math.exp(0.25), 0.8  # of lengthscales, the median times sqrt(groups)
NOISE_MEDIAN, NOISE_SD = math.exp(-4.0), 1.0  # of the noise's variance, standardised outcomes
SCALE_RANGE = (0.025, 1e3)
NOISE_RANGE = (1e-4, 2.0)
WEIGHT_SD = 1.0  # of the logarithm of a part's weight
SIZE_SD = 0.5  # of the logarithm of another source's size, both standardised
TWO_STARTS = 200
"""Up to so many outcomes the density may have two modes, and the search begins at two places. On
Hartmann-6 in 6 to 32 inputs with 20 to 100 outcomes one fit in four gained, up to 15 nats."""
SPARSE_TAU = 0.1  # global shrinkage of inverse squared lengthscales


@dataclass(frozen=True)
class Data:
    """Standardised outcomes and what belongs to them.

    Attributes:
        X: n x f features in the unit cube, give or take.
        y: n standardised outcomes, less the basis' prior mean.
        given: n known noise variances, standardised.
        basis: n x n covariance of the basis functions.
        source: n source numbers.
    """

    X: Tensor
    y: Tensor
    given: Tensor
    basis: Tensor
    source: Tensor


@dataclass(frozen=True)
class Fit:
    """The most probable hyperparameters.

    Attributes:
        theta: see `Structure.unpack`.
        evidence: log evidence, priors not counted.
        converged: whether the optimiser was content.
    """

    theta: Tensor
    evidence: float
    converged: bool


def _bounds(structure: Structure) -> list[tuple[float, float]]:
    def log(low: float, high: float) -> tuple[float, float]:
        return math.log(low), math.log(high)

    weights = structure.parts if structure.additive else 0
    return (
        [log(*SCALE_RANGE)] * structure.scales
        + [log(1e-4, 20.0)] * weights
        + [log(*NOISE_RANGE)] * structure.sources
        + [(-4.0, 6.0)] * (structure.sources - 1)
        + [log(0.1, 10.0)] * (structure.sources - 1)
    )


def _prior(structure: Structure, sparse: bool, theta: np.ndarray) -> tuple[float, np.ndarray]:
    """Negative log prior density and its gradient."""
    value, gradient = 0.0, np.zeros_like(theta)
    g, weights = structure.scales, structure.parts if structure.additive else 0

    def log_normal(at: slice, median: float, sd: float) -> None:
        # Density of the quantity, not of its logarithm: its mode, which is what is sought, lies
        # lower.
        nonlocal value
        z = (theta[at] - math.log(median)) / sd
        value += float((0.5 * z**2 + theta[at]).sum())
        gradient[at] += z / sd + 1.0

    if sparse:
        # rho = exp(-2 log ls) ~ half-Cauchy(tau); density of log rho
        log_rho = -2.0 * theta[:g]
        ratio = np.exp(2.0 * (log_rho - math.log(SPARSE_TAU)))
        value += float((np.log1p(ratio) - log_rho).sum())
        gradient[:g] += -2.0 * (2.0 * ratio / (1.0 + ratio) - 1.0)
    else:
        log_normal(slice(0, g), SCALE_MEDIAN * math.sqrt(g), SCALE_SD)
    if weights:
        at = slice(g, g + weights)
        z = (theta[at] + math.log(weights)) / WEIGHT_SD  # together they explain the spread
        value += float((0.5 * z**2).sum())
        gradient[at] += z / WEIGHT_SD
    end = g + weights + structure.sources
    log_normal(slice(g + weights, end), NOISE_MEDIAN, NOISE_SD)
    if structure.sources > 1:  # sources of one quantity mostly agree: 0.5 to 0.98
        others = structure.sources - 1
        means = np.repeat([2.0, 0.0], others)
        sds = np.repeat([1.0, SIZE_SD], others)
        z = (theta[end:] - means) / sds
        value += float((0.5 * z**2).sum())
        gradient[end:] += z / sds
    return value, gradient


def start(structure: Structure, sparse: bool) -> np.ndarray:
    """Hyperparameters from which the search begins: about the prior's mode."""
    g, weights = structure.scales, structure.parts if structure.additive else 0
    mode = SCALE_MEDIAN * math.sqrt(g) * math.exp(-(SCALE_SD**2))
    return np.concatenate(
        [
            np.full(g, math.log(mode) + (0.5 if sparse else 0.0)),
            np.full(weights, -math.log(max(weights, 1))),
            np.full(structure.sources, math.log(0.02)),
            np.repeat([2.0, 0.0], structure.sources - 1),
        ]
    )


def _by_relevance(structure: Structure, X: Tensor, y: Tensor, theta: np.ndarray) -> np.ndarray:
    """A start with short lengthscales where a feature, or its square, goes with the outcomes."""
    inputs, outcomes = X.cpu().numpy(), y.cpu().numpy()
    relevance = np.full(structure.scales, 1e-3)
    for column, group in enumerate(structure.groups):
        x = inputs[:, column] - inputs[:, column].mean()
        for shape in (x, x**2 - (x**2).mean()):
            size = np.linalg.norm(shape) * np.linalg.norm(outcomes - outcomes.mean())
            if size > 1e-9:
                share = abs(shape @ (outcomes - outcomes.mean())) / size
                relevance[group] = max(relevance[group], share)
    theta[: structure.scales] += np.log(np.clip(relevance.mean() / relevance, 0.4, 3.0))
    return theta


def fit(
    structure: Structure,
    data: Data,
    *,
    sparse: bool = False,
    warm: np.ndarray | None = None,
    max_iter: int = 75,
) -> Fit:
    """Find the most probable hyperparameters.

    Args:
        structure: the kernel.
        data: n >= 1 outcomes.
        sparse: with the prior that switches features off.
        warm: hyperparameters of an earlier fit, used where they explain the data better than the
            default start.
        max_iter: cap on L-BFGS iterations.
    """
    # Single precision, where that is asked for, would end a line search before its end.
    X, y, given, basis = (t.double() for t in (data.X, data.y, data.given, data.basis))

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        prior, slope = _prior(structure, sparse, theta)
        try:
            value, gradient = value_and_gradient(
                structure, torch.as_tensor(theta).to(X), X, y, given, basis, data.source
            )
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            return 1e12, np.zeros_like(theta)
        return value + prior, gradient.cpu().double().numpy() + slope

    bounds = _bounds(structure)
    low, high = np.array(bounds).T
    begin = start(structure, sparse)
    if warm is not None and warm.shape == begin.shape:
        warm = np.clip(warm, low, high)
        if objective(warm)[0] < objective(begin)[0]:
            begin = warm
    begins = [begin]
    if len(y) <= TWO_STARTS:
        begins.append(np.clip(_by_relevance(structure, X, y, start(structure, sparse)), low, high))
    found = min(
        (
            minimize(
                objective, b, jac=True, method="L-BFGS-B", bounds=bounds,
                options={"maxiter": max_iter},
            )
            for b in begins
        ),
        key=lambda one: float(one.fun),
    )  # fmt: skip
    prior, _ = _prior(structure, sparse, found.x)
    theta = torch.as_tensor(found.x).to(data.X)
    return Fit(theta, -(float(found.fun) - prior), bool(found.fun < 1e11))
