"""What is believed of a few thousand designs, and how that changes as some of them are chosen.

Choosing a design (or knowing that it is being evaluated) updates the variances of all others by one
product of vectors: what will be measured there is taken to be what is expected there ("kriging
believer", [Ginsbourger2010]_).

.. [Ginsbourger2010] D. Ginsbourger, R. Le Riche and L. Carraro, Kriging Is Well-Suited to
   Parallelize Optimization. In: Computational Intelligence in Expensive Optimization Problems,
   Springer, 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogates import Surrogate


@dataclass(frozen=True)
class Reading:
    """What a reading at some design and source would say, given those believed before it.

    Attributes:
        unit: f features.
        sources: for each metric the source, None where nothing is known of it.
        covariance: m posterior covariances of what is sought of a design with what is read there.
        variance: m posterior variances of what is read, without noise; inf where nothing is known.
        noise: m variances of the noise.
        overlap: for each earlier reading m numbers, as a shrink of it has them.
    """

    unit: Tensor
    sources: tuple[int | None, ...]
    covariance: Tensor
    variance: Tensor
    noise: Tensor
    overlap: list[Tensor]


class Beliefs:
    """Standardised means and variances of q designs, given what was chosen before.

    Attributes:
        mean, variance: q x m.
    """

    def __init__(self, surrogate: Surrogate, X: np.ndarray) -> None:
        """Ask the surrogate about q x f raw features."""
        self._models = surrogate.models
        self._to_unit = surrogate.unit
        self._unit = surrogate.unit(X)
        self._shrinks: list[Tensor] = []
        self._readings: list[Reading] = []
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
        here = self._unit[i]
        overlap = [shrink[i] for shrink in self._shrinks]
        noise = self.mean.new_tensor([model.noise for model in self._models])
        sources = (0,) * len(self._models)
        read = Reading(here, sources, self.variance[i], self.variance[i], noise, overlap)
        self._keep(read, torch.stack(columns, -1))

    def reading(self, i: int, x: np.ndarray, sources: Sequence[int | None]) -> Reading:
        """What a reading would say of design i.

        Args:
            i: the design.
            x: raw features (f) of the design as it would be tried; those of i but for an axis that
                is a fidelity.
            sources: for each metric the source that would be read, as its model counts them; None
                where its model does not know it.
        """
        unit = self.reach(x)
        overlap = self._overlap(unit, sources)
        many = [torch.as_tensor(float("inf")).to(unit), unit.new_zeros(()), unit.new_ones(())]
        columns = []
        for j, (model, source) in enumerate(zip(self._models, sources, strict=True)):
            if source is None:
                columns.append(many)
                continue
            variance = model.marginal(unit[None], source)[1][0]
            covariance = model.covariances(self._unit[[i]], unit, source)[0]
            for shrink, shared in zip(self._shrinks, overlap, strict=True):
                variance = variance - shared[j].square()
                covariance = covariance - shrink[i, j] * shared[j]
            noise = unit.new_tensor(model.noise_of(source))
            columns.append([variance.clamp_min(1e-9), covariance, noise])
        variance, covariance, noise = (torch.stack(c) for c in zip(*columns, strict=True))
        return Reading(unit, tuple(sources), covariance, variance, noise, overlap)

    def take(self, read: Reading) -> None:
        """Count a reading as made: what is like it becomes less uncertain."""
        columns = []
        for j, (model, source) in enumerate(zip(self._models, read.sources, strict=True)):
            if source is None:
                columns.append(torch.zeros_like(self.mean[:, j]))
                continue
            covariance = model.covariances(self._unit, read.unit, source)
            for shrink, shared in zip(self._shrinks, read.overlap, strict=True):
                covariance = covariance - shrink[:, j] * shared[j]
            columns.append(covariance / (read.variance[j] + read.noise[j]).sqrt())
        self._keep(read, torch.stack(columns, -1))

    def reach(self, x: np.ndarray) -> Tensor:
        """Raw features (f) of one design on the models' scale."""
        return self._to_unit(x[None])[0]

    def _overlap(self, unit: Tensor, sources: Sequence[int | None]) -> list[Tensor]:
        """How much each earlier reading already says of one at a design and sources."""
        found: list[Tensor] = []
        for before in self._readings:
            columns = []
            for j, model in enumerate(self._models):
                ours, theirs = sources[j], before.sources[j]
                if ours is None or theirs is None:
                    columns.append(unit.new_zeros(()))
                    continue
                covariance = model.covariances(before.unit[None], unit, ours, theirs)[0]
                for mine, its in zip(found, before.overlap, strict=False):
                    covariance = covariance - mine[j] * its[j]
                columns.append(covariance / (before.variance[j] + before.noise[j]).sqrt())
            found.append(torch.stack(columns))
        return found

    def _keep(self, read: Reading, shrink: Tensor) -> None:
        self._readings.append(read)
        self._shrinks.append(shrink)
        self.variance = (self.variance - shrink.square()).clamp_min(1e-9)

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
