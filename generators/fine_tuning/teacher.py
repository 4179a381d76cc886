"""Who teaches an adapter: a Gaussian process that learnt a property from examined designs."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.linalg import cho_solve

from generators.fine_tuning.recipe import Array

MOST = 1500
"""Designs that a teacher learns from."""


class Teacher:
    """A property of designs, from few of them: a Gaussian process on latent vector and features.

    Where something foretells the property, a line through that comes first, and the process learns
    what the line leaves. The line is fitted, so that neither the unit nor the scale matters.

    Args:
        x: Latent vectors and features, `n x c`.
        y: The property, standardised, `n`.
        latent: How many of the columns are the latent vector's; these are on one scale already.
        seed: Of the fit.
        foretold: What foretells the property, `n`; NaN throughout where nothing does.
    """

    def __init__(
        self, x: Array, y: Array, latent: int, seed: int, foretold: Array | None = None
    ) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        variance = max(float(y.var()), 1e-12)
        self._line = (0.0, 1.0, 0.0)  # middle and scale of what foretells, slope
        if foretold is not None and np.isfinite(foretold).all() and foretold.std() > 0:
            middle, scale = float(foretold.mean()), float(foretold.std())
            # the ridge is that of a slope of about one, on standard scales
            slope = float((foretold - middle) @ y / scale / (len(y) + 1))
            self._line = (middle, scale, slope)
        y = y - self._along(foretold)
        self._mean, self._scale = x.mean(0), x.std(0) + 1e-9
        self._mean[:latent], self._scale[:latent] = 0.0, 1.0
        kernel = ConstantKernel() * Matern(3.0, nu=2.5) + WhiteKernel(0.1)
        self._process = GaussianProcessRegressor(kernel, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # a length or a noise at its bound: there is nothing to learn, and so it expects
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._process.fit(self._scaled(x), y)
        self._variance = variance

    def _scaled(self, x: Array) -> Array:
        return np.asarray(np.clip((x - self._mean) / self._scale, -4, 4))

    def _along(self, foretold: Array | None) -> Array | float:
        middle, scale, slope = self._line
        return slope * (foretold - middle) / scale if foretold is not None and slope else 0.0

    def r2(self) -> float:
        """R2 of what it would expect of each design without that design, by closed form.

        Rasmussen and Williams (2006), equation 5.12; its line, lengths and noise have seen all.
        """
        inverse = cho_solve((self._process.L_, True), np.eye(len(self._process.alpha_)))
        error = self._process.alpha_ / np.diag(inverse)
        return float(1 - (error**2).mean() / self._variance)

    def __call__(self, x: Array, foretold: Array | None = None) -> tuple[Array, Array]:
        """What it expects, and the standard deviation of what would be measured, each `n`."""
        mean, deviation = self._process.predict(self._scaled(x), return_std=True)
        return np.asarray(mean) + self._along(foretold), np.asarray(deviation)
