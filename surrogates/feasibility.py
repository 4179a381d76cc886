"""The probability that a trial succeeds, learnt from trials that failed and trials that did not.

A Gaussian-process classifier with a logistic likelihood and Laplace's approximation
([Rasmussen2006]_, algorithms 3.1 and 3.2). Its two hyperparameters, one lengthscale and one
amplitude, are averaged over a small grid by their evidence instead of being optimised: with a
handful of failures the evidence is flat, and averaging is what keeps the probabilities calibrated.
Amplitude zero, failure by pure chance, is on the grid.

.. [Rasmussen2006] C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning,
   chapter 3. MIT Press, 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit
from torch import Tensor

from surrogates.surrogate import ArrayLike, feature_bounds

LENGTHSCALES = (0.15, 0.3, 0.6, 1.2)  # times sqrt(d), in the unit cube
AMPLITUDES = (1.0, 3.0)  # standard deviation of the logit
MIN_OF_EACH = 2


@dataclass(frozen=True)
class _Fit:
    """Laplace's approximation at one point of the grid."""

    lengthscale: float
    variance: float
    evidence: float  # logarithm
    gradient: np.ndarray  # of the log likelihood at the mode, n
    root: np.ndarray  # square roots of the likelihood's curvature, n
    cholesky: np.ndarray  # of I + root K root, n x n


class Feasibility:
    """Probability of success as a function of features.

    Attributes:
        base_rate: smoothed share of successes, `(successes + 1) / (trials + 2)`.
        informative: False where the answer is the base rate everywhere.
    """

    def __init__(
        self,
        base_rate: float,
        bounds: np.ndarray,
        inputs: np.ndarray,
        fits: list[_Fit],
        weights: np.ndarray,
    ) -> None:
        self.base_rate = base_rate
        self.informative = bool(fits)
        self._bounds, self._inputs = bounds, inputs
        self._fits, self._weights = fits, weights

    def probability(self, X: ArrayLike) -> np.ndarray:
        """Probability of success, in (0, 1), of designs with n x d features: n numbers."""
        x = _unit(_array(X), self._bounds)
        result = np.full(len(x), (1.0 - self._weights.sum()) * self.base_rate)
        if self._fits:
            distances = _squared_distances(x, self._inputs)
        for fit, weight in zip(self._fits, self._weights, strict=True):
            cross = fit.variance * np.exp(-0.5 * distances / fit.lengthscale**2)
            mean = _logit(self.base_rate) + cross @ fit.gradient
            shrink = np.linalg.solve(fit.cholesky, fit.root[:, None] * cross.T)
            variance = np.maximum(fit.variance - (shrink**2).sum(0), 0.0)
            # MacKay's approximation of the logistic function averaged over a normal distribution.
            result += weight * expit(mean / np.sqrt(1.0 + math.pi * variance / 8.0))
        return np.clip(result, 1e-6, 1.0 - 1e-6)


def _array(X: ArrayLike) -> np.ndarray:
    return np.asarray(X.detach().cpu() if isinstance(X, Tensor) else X, dtype=np.float64)


def _unit(X: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    return (X - bounds[0]) / (bounds[1] - bounds[0])


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))


def _squared_distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    cross = (A**2).sum(1)[:, None] + (B**2).sum(1)[None, :] - 2.0 * A @ B.T
    return np.maximum(cross, 0.0)


def _laplace(
    distances: np.ndarray, sign: np.ndarray, mean: float, lengthscale: float, variance: float
) -> _Fit:
    """Newton's method to the posterior's mode, for n x n squared distances and n signs."""
    K = variance * np.exp(-0.5 * distances / lengthscale**2)
    f = np.zeros(len(sign))
    target = (sign + 1.0) / 2.0
    for _ in range(50):
        p = expit(f + mean)
        root = np.sqrt(p * (1.0 - p))
        L = np.linalg.cholesky(np.eye(len(f)) + root[:, None] * K * root[None, :])
        b = root**2 * f + target - p
        a = b - root * np.linalg.solve(L.T, np.linalg.solve(L, root * (K @ b)))
        step = K @ a - f
        f = f + step
        if np.abs(step).max() < 1e-8:
            break
    fits = log_expit(sign * (f + mean)).sum()
    evidence = float(fits - 0.5 * a @ f - np.log(np.diag(L)).sum())
    return _Fit(lengthscale, variance, evidence, target - expit(f + mean), root, L)


def fit_feasibility(
    X: ArrayLike, ok: np.ndarray, *, bounds: ArrayLike | None = None
) -> Feasibility:
    """Learn where trials succeed.

    Args:
        X: n x d features of the trials that ended.
        ok: n booleans, True where the trial completed and False where it failed.
        bounds: 2 x d, mapped to the unit cube; by default `feature_bounds(X)`.

    Returns:
        A constant (the smoothed share of successes) for fewer than two failures or successes.
    """
    features, ok = _array(X), np.asarray(ok, dtype=bool)
    d = features.shape[1]
    base_rate = float((ok.sum() + 1.0) / (len(ok) + 2.0))
    if min(ok.sum(), (~ok).sum()) < MIN_OF_EACH:
        nowhere = np.stack([np.zeros(d), np.ones(d)])
        return Feasibility(base_rate, nowhere, features[:0], [], np.empty(0))
    box = _array(feature_bounds(features) if bounds is None else bounds)
    inputs = _unit(features, box)
    distances = _squared_distances(inputs, inputs)
    sign, mean = np.where(ok, 1.0, -1.0), _logit(base_rate)
    fits = [
        _laplace(distances, sign, mean, scale * math.sqrt(d), amplitude**2)
        for scale in LENGTHSCALES
        for amplitude in AMPLITUDES
    ]
    # Half the prior weight on chance, the other half spread over the grid.
    chance = float(log_expit(sign * mean).sum())
    log_weights = np.array([chance] + [f.evidence - math.log(len(fits)) for f in fits])
    weights = np.exp(log_weights - log_weights.max())
    return Feasibility(base_rate, box, inputs, fits, weights[1:] / weights.sum())
