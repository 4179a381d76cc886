"""What is believed of a few thousand designs, and how that changes as some of them are chosen.

Choosing a design (or knowing that it is being evaluated) updates the variances of all others by one
product of vectors: what will be measured there is taken to be what is expected there ("kriging
believer", [Ginsbourger2010]_).

.. [Ginsbourger2010] D. Ginsbourger, R. Le Riche and L. Carraro, Kriging Is Well-Suited to
   Parallelize Optimization. In: Computational Intelligence in Expensive Optimization Problems,
   Springer, 2010.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from surrogates import Surrogate


class Beliefs:
    """Standardised means and variances of q designs, given what was chosen before.

    Attributes:
        mean, variance: q x m.
    """

    def __init__(self, surrogate: Surrogate, X: np.ndarray) -> None:
        """Ask the surrogate about q x f raw features."""
        self._models = surrogate.models
        self._unit = surrogate.unit(X)
        self._shrinks: list[Tensor] = []
        answers = [m.marginal(self._unit) for m in self._models]
        self.mean = torch.stack([a[0] for a in answers], -1)
        self.variance = torch.stack([a[1] for a in answers], -1)

    def believe(self, i: int) -> None:
        """Count design i as chosen: it, and what is like it, becomes less uncertain."""
        columns = []
        for j, model in enumerate(self._models):
            covariance = model.covariances(self._unit, self._unit[i])
            for shrink in self._shrinks:
                covariance = covariance - shrink[:, j] * shrink[i, j]
            # A reading will have noise, so that measuring a design twice still teaches something.
            columns.append(covariance / (covariance[i].clamp_min(1e-9) + model.noise).sqrt())
        self._shrinks.append(torch.stack(columns, -1))
        self.variance = (self.variance - self._shrinks[-1].square()).clamp_min(1e-9)

    def draw(self, rows: np.ndarray, seed: int) -> Tensor:
        """One joint draw from the posterior of some designs, standardised: len(rows) x m."""
        source = torch.Generator().manual_seed(seed)
        columns = []
        for j, model in enumerate(self._models):
            mean, covariance = model.joint(self._unit[rows])
            for shrink in self._shrinks:
                covariance = covariance - torch.outer(shrink[rows, j], shrink[rows, j])
            values, vectors = torch.linalg.eigh(covariance)
            normal = torch.randn(len(rows), generator=source, dtype=mean.dtype).to(mean)
            columns.append(mean + vectors @ (values.clamp_min(0.0).sqrt() * normal))
        return torch.stack(columns, -1)
