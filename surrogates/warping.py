"""Outcomes as a Gaussian process likes them: standardised, and unskewed where that helps.

The unskewing is the power transformation of [Yeo2000]_, whose single exponent is fitted by maximum
likelihood. It is monotone, so that better stays better, and a bound stays a bound.

.. [Yeo2000] I.-K. Yeo and R. A. Johnson, A New Family of Power Transformations to Improve Normality
   or Symmetry. Biometrika 87, 2000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

MIN_TO_WARP = 5
_HERMITE, _WEIGHTS = np.polynomial.hermite_e.hermegauss(16)


@dataclass(frozen=True)
class Warp:
    """A monotone map from the metric's unit to standardised outcomes and back.

    Attributes:
        offset, spread: mean and standard deviation of the raw outcomes.
        power: exponent of Yeo and Johnson; one changes nothing.
        center, scale: mean and standard deviation after the power.
        low, high: standardised outcomes beyond which the way back does not extrapolate: there a
            power grows without measure.
    """

    offset: float
    spread: float
    power: float = 1.0
    center: float = 0.0
    scale: float = 1.0
    low: float = -math.inf
    high: float = math.inf

    @property
    def linear(self) -> bool:
        """Whether it is no more than a shift and a scale."""
        return self.power == 1.0

    def __call__(self, y: Tensor) -> Tensor:
        """Standardised outcomes."""
        z = (y - self.offset) / self.spread
        if self.linear:
            return z
        return (_power(z, self.power) - self.center) / self.scale

    def inverse(self, u: Tensor) -> Tensor:
        """Outcomes in the metric's unit."""
        if self.linear:
            return self.offset + self.spread * u
        inside = u.clamp(self.low, self.high)
        z = _unpower(self.center + self.scale * inside, self.power)
        return self.offset + self.spread * (z + (u - inside))

    def slope(self, y: Tensor) -> Tensor:
        """Derivative of the standardised outcome by the raw one."""
        if self.linear:
            return torch.full_like(y, 1.0 / self.spread)
        z = (y - self.offset) / self.spread
        exponent = (self.power - 1.0) * torch.where(z >= 0, 1.0, -1.0).to(z)
        return (1.0 + z.abs()).pow(exponent) / (self.spread * self.scale)

    def moments(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance in the metric's unit of a normal standardised outcome."""
        if self.linear:
            return self.offset + self.spread * mean, self.spread**2 * variance
        nodes = torch.as_tensor(_HERMITE).to(mean)
        weights = torch.as_tensor(_WEIGHTS / math.sqrt(2.0 * math.pi)).to(mean)
        values = self.inverse(mean[..., None] + variance.sqrt()[..., None] * nodes)
        first = (values * weights).sum(-1)
        second = ((values - first[..., None]).square() * weights).sum(-1)
        return first, second.clamp_min(1e-18 * self.spread**2)


def _power(z: Tensor, power: float) -> Tensor:
    def one_side(x: Tensor, p: float) -> Tensor:
        return torch.log1p(x) if abs(p) < 1e-6 else ((1.0 + x).pow(p) - 1.0) / p

    positive, negative = z.clamp_min(0.0), (-z).clamp_min(0.0)
    return one_side(positive, power) - one_side(negative, 2.0 - power)


def _unpower(u: Tensor, power: float) -> Tensor:
    def one_side(x: Tensor, p: float) -> Tensor:
        if abs(p) < 1e-6:
            return torch.expm1(x.clamp_max(20.0))
        # Beyond the end of the map's range (1 + p x <= 0) a far value stands for infinity.
        return (1.0 + p * x).clamp_min(0.02).pow(1.0 / p) - 1.0

    positive, negative = u.clamp_min(0.0), (-u).clamp_min(0.0)
    return one_side(positive, power) - one_side(negative, 2.0 - power)


def standardise(y: Tensor) -> Warp:
    """Shift and scale to mean zero and standard deviation one (a scale of one if all are equal).

    What is small against the mean is rounding; what is small in itself may be a diffusivity.
    """
    offset = float(y.mean())
    spread = float(y.std()) if len(y) > 1 else 0.0
    return Warp(offset, spread if spread > 1e-12 * abs(offset) else 1.0)


def unskew(y: Tensor) -> Warp | None:
    """The power transformation that makes n outcomes most normal.

    None where there are too few, or they don't vary.
    """
    plain = standardise(y)
    z = ((y - plain.offset) / plain.spread).cpu()
    if len(y) < MIN_TO_WARP or float(z.std()) < 0.5:
        return None

    jacobian = float((z.sign() * z.abs().log1p()).sum())

    def negative_likelihood(power: float) -> float:
        variance = float(_power(z, power).var(unbiased=False))
        return 0.5 * len(z) * math.log(max(variance, 1e-12)) - (power - 1.0) * jacobian

    found = minimize_scalar(negative_likelihood, bounds=(-0.5, 2.5), method="bounded")
    power = float(found.x)
    if abs(power - 1.0) < 0.05:
        return None
    u = _power(z, power)
    center, scale = float(u.mean()), float(u.std())
    low, high = (float(u.min()) - center) / scale - 1.0, (float(u.max()) - center) / scale + 1.0
    return Warp(plain.offset, plain.spread, power, center, scale, low, high)
