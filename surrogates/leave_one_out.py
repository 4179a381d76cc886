"""Leave-one-out diagnostics of a Gaussian process in closed form.

With `K` the covariance of the noisy training outcomes, the prediction of outcome `i` from all
others has mean `y_i - [K^-1 (y - m)]_i / [K^-1]_ii` and variance `1 / [K^-1]_ii`: no refit is
needed [Rasmussen2006]_. Hyperparameters stay those fitted to all outcomes, so the figures flatter
slightly.

.. [Rasmussen2006] C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning,
   equations 5.10 to 5.12. MIT Press, 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogates.warping import Warp

INTERVALS = (50, 80, 95)


@dataclass(frozen=True)
class LeaveOneOut:
    """Predictions of each outcome from all the others.

    Attributes:
        observed: n outcomes in the metric's unit.
        mean: n predicted means in that unit.
        residual: n standardised outcomes minus their predictions.
        spread: n predicted standard deviations, standardised, measurement noise included.
        density: n log densities of the observed outcomes, per unit of the metric.
    """

    observed: Tensor
    mean: Tensor
    residual: Tensor
    spread: Tensor
    density: Tensor

    @property
    def z(self) -> Tensor:
        """Residuals in predicted standard deviations."""
        return self.residual / self.spread

    def r2(self) -> float:
        """Share of the squared error removed, against predicting the mean of the other outcomes.

        One is perfect, zero no better than the mean, negative worse. Nan for fewer than two
        outcomes or outcomes that are all equal.
        """
        n = len(self.observed)
        if n < 2:
            return math.nan
        others = (self.observed.sum() - self.observed) / (n - 1)
        spread = float((self.observed - others).square().sum())
        if spread <= 1e-18 * float(self.observed.square().sum()):
            return math.nan
        return 1.0 - float((self.observed - self.mean).square().sum()) / spread

    def log_likelihood(self) -> float:
        """Mean log density of the observed outcomes (natural logarithm, per outcome)."""
        return float(self.density.mean())

    def coverage(self) -> dict[str, float]:
        """Share of outcomes inside their central 50, 80 and 95 % interval."""
        z = self.z.abs()
        return {
            str(percent): float((z <= math.sqrt(2.0) * _erfinv(percent / 100)).double().mean())
            for percent in INTERVALS
        }


def _erfinv(p: float) -> float:
    return float(torch.erfinv(torch.tensor(p, dtype=torch.float64)))


def leave_one_out(
    cholesky: Tensor, residual: Tensor, warp: Warp, observed: Tensor, rows: Tensor
) -> LeaveOneOut:
    """Leave-one-out predictions from the factor of the noisy covariance.

    Args:
        cholesky: n x n lower factor of the covariance of the standardised noisy outcomes.
        residual: n standardised outcomes minus the prior mean.
        warp: from the metric's unit to standardised outcomes.
        observed: n outcomes in the metric's unit.
        rows: n booleans: the outcomes to predict (each from all others).
    """
    inverse = torch.cholesky_inverse(cholesky)
    precision = inverse.diagonal()
    error = ((inverse @ residual) / precision)[rows]
    spread = precision.rsqrt()[rows]
    observed = observed[rows]
    standard = warp(observed)
    mean, _ = warp.moments(standard - error, spread.square())
    density = torch.distributions.Normal(standard - error, spread).log_prob(standard)
    return LeaveOneOut(observed, mean, error, spread, density + warp.slope(observed).log())
