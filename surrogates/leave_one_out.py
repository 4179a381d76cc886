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

INTERVALS = (50, 80, 95)


@dataclass(frozen=True)
class LeaveOneOut:
    """Predictions of each outcome from all the others, in the metric's unit.

    Attributes:
        observed: n outcomes.
        mean: n predicted means.
        sd: n predicted standard deviations, measurement noise included.
    """

    observed: Tensor
    mean: Tensor
    sd: Tensor

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
        if spread <= 1e-18 * max(1.0, float(self.observed.square().sum())):
            return math.nan
        return 1.0 - float((self.observed - self.mean).square().sum()) / spread

    def log_likelihood(self) -> float:
        """Mean log density of the observed outcomes (natural logarithm, per outcome)."""
        return float(torch.distributions.Normal(self.mean, self.sd).log_prob(self.observed).mean())

    def coverage(self) -> dict[str, float]:
        """Share of outcomes inside their central 50, 80 and 95 % interval."""
        z = (self.observed - self.mean).abs() / self.sd
        return {
            str(percent): float((z <= math.sqrt(2.0) * _erfinv(percent / 100)).double().mean())
            for percent in INTERVALS
        }


def _erfinv(p: float) -> float:
    return float(torch.erfinv(torch.tensor(p, dtype=torch.float64)))


def leave_one_out(
    cholesky: Tensor, residual: Tensor, observed: Tensor, scale: float
) -> LeaveOneOut:
    """Leave-one-out predictions from the factor of the noisy covariance.

    Args:
        cholesky: n x n lower factor of the covariance of the standardised noisy outcomes.
        residual: n standardised outcomes minus the prior mean.
        observed: n outcomes in the metric's unit.
        scale: the metric's units per standardised unit.
    """
    inverse = torch.cholesky_inverse(cholesky)
    precision = inverse.diagonal()
    error = (inverse @ residual) / precision
    return LeaveOneOut(observed, observed - scale * error, scale * precision.rsqrt())
