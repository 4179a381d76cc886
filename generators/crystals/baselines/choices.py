"""A chain of choices as a vector of normal numbers, and back."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from generators.crystals.symmetry import Array

_EDGE = 1e-4  # a number this close to 0 or 1 is moved there: the normal scale has no end


class Choices:
    """Reads choices from a latent vector, or writes those that were made into one.

    The same chain of calls reads and writes: what is written and then read again is the same.

    Args:
        z: `d` numbers to read; None to write.
        size: Numbers `d` to write.
    """

    def __init__(self, z: Array | None = None, size: int = 0) -> None:
        self.reads = z is not None
        self.z = np.zeros(size) if z is None else np.asarray(z, dtype=float)

    def pick(self, at: int, weights: Array, made: int | None = None) -> int:
        """One of `k` options with weights of their own (not negative, one above zero).

        Args:
            at: Which of the numbers decides.
            weights: `k` weights.
            made: Where writing, the option that was chosen.

        Raises:
            ValueError: Nothing can be chosen, or what was chosen cannot.
        """
        total = float(weights.sum())
        if not total > 0 or (made is not None and not weights[made] > 0):
            raise ValueError("what was chosen is not among the options")
        ends = np.cumsum(weights) / total
        if self.reads:
            u = float(ndtr(self.z[at]))
            return int(min(np.searchsorted(ends, u, side="right"), np.flatnonzero(weights)[-1]))
        assert made is not None
        self.z[at] = _normal(ends[made] - 0.5 * weights[made] / total)
        return made

    def uniform(self, at: int, made: float | None = None) -> float:
        """A number between 0 and 1."""
        if self.reads:
            return float(ndtr(self.z[at]))
        assert made is not None
        self.z[at] = _normal(made)
        return made

    def normal(self, at: int, mean: float, sd: float, made: float | None = None) -> float:
        """A number from a normal distribution, as it is."""
        if self.reads:
            return mean + sd * float(self.z[at])
        assert made is not None
        self.z[at] = (made - mean) / sd
        return made


def _normal(u: float) -> float:
    return float(ndtri(np.clip(u, _EDGE, 1 - _EDGE)))
