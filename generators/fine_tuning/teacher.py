"""Who teaches an adapter: a Gaussian process that learnt a property from examined designs."""

from __future__ import annotations

import warnings

import numpy as np

from generators.fine_tuning.recipe import Array

MOST = 1500
"""Designs that a teacher learns from."""

_CHECKED = 0.2  # share of designs that only judge it


class Teacher:
    """A property of designs, from few of them: a Gaussian process on latent vector and features.

    Args:
        x: Latent vectors and features, `n x c`.
        y: The property, standardised, `n`.
        latent: How many of the columns are the latent vector's; these are on one scale already.
        seed: Of the fit.
    """

    def __init__(self, x: Array, y: Array, latent: int, seed: int) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self._mean, self._scale = x.mean(0), x.std(0) + 1e-9
        self._mean[:latent], self._scale[:latent] = 0.0, 1.0
        kernel = ConstantKernel() * Matern(3.0, nu=2.5) + WhiteKernel(0.1)
        self._process = GaussianProcessRegressor(kernel, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # a length or a noise at its bound: there is nothing to learn, and so it expects
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._process.fit(self._scaled(x), y)

    def _scaled(self, x: Array) -> Array:
        return np.asarray(np.clip((x - self._mean) / self._scale, -4, 4))

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """What it expects, and the standard deviation of what would be measured, each `n`."""
        mean, deviation = self._process.predict(self._scaled(x), return_std=True)
        return np.asarray(mean), np.asarray(deviation)


def r2(x: Array, y: Array, latent: int, seed: int) -> float | None:
    """R2 of a teacher on designs that it did not see; None where they are too few to tell."""
    order = np.random.default_rng(seed).permutation(len(y))[:MOST]
    checked = round(_CHECKED * len(order))
    judge, teach = order[:checked], order[checked:]
    if checked < 5 or not y[judge].std():
        return None
    said, _ = Teacher(x[teach], y[teach], latent, seed)(x[judge])
    return round(float(1 - ((said - y[judge]) ** 2).mean() / y[judge].var()), 3)
