"""Covariance of a Gaussian process in closed form, with its derivatives in closed form too.

A few matrix products give value and gradient of the evidence, where automatic differentiation
through a general library takes ten times as long; that is what makes it possible to try several
models at every proposal and to let the data choose.

Features come in groups that share a lengthscale (the one-hot columns of one choice are a group).
Two structures: *joint*, one kernel of all features, and *additive*, a sum of one kernel a group and
a joint one ([Duvenaud2011]_). Where observations come from several sources (laboratories, levels of
theory), the kernel is multiplied by a covariance between sources ([Bonilla2007]_): each has a
correlation with source 0 and a size of its own, and two others are alike only through source 0, so
that a source that teaches nothing takes nothing from the rest. A constant, and
the share that is right of a feature that foretells the outcome, are basis functions with normal
priors, marginalised ([Rasmussen2006]_, section 2.7).

.. [Bonilla2007] E. V. Bonilla, K. M. Chai and C. K. I. Williams, Multi-task Gaussian Process
   Prediction. NeurIPS 2007.
.. [Duvenaud2011] D. Duvenaud, H. Nickisch and C. E. Rasmussen, Additive Gaussian Processes.
   NeurIPS 2011.
.. [Rasmussen2006] C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning.
   MIT Press, 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Smoothness = Literal["matern", "rbf"]

_ROOT5 = math.sqrt(5.0)


def squared_distances(A: Tensor, B: Tensor) -> Tensor:
    """Squared Euclidean distances of ... x a x d to ... x b x d points: ... x a x b."""
    # As one product: |a|^2 - 2 a b + |b|^2, without three more passes over a x b numbers.
    a, b = A.square().sum(-1, keepdim=True), B.square().sum(-1, keepdim=True)
    left = torch.cat([A, a, torch.ones_like(a)], -1)
    right = torch.cat([-2.0 * B, torch.ones_like(b), b], -1)
    r2 = left @ right.mT
    return r2.clamp_min_(0.0) if _in_place(r2) else r2.clamp_min(0.0)


def _in_place(x: Tensor) -> bool:
    """Whether nobody will ask for the derivative of a tensor just made.

    Then its memory can be used again, which for many designs takes half the time.
    """
    return not (torch.is_grad_enabled() and x.requires_grad)


def correlation(r2: Tensor, smoothness: Smoothness) -> Tensor:
    """Correlation at squared scaled distances."""
    if smoothness == "rbf":
        return torch.exp(-0.5 * r2)
    # The clamp keeps the root's derivative finite where a design meets itself.
    r = r2.clamp_min(1e-20)
    if _in_place(r2):
        r = r.sqrt_().mul_(_ROOT5)
        shape = r.add(1.0).add_(r2, alpha=5.0 / 3.0)
        return r.neg_().exp_().mul_(shape)
    r = r.sqrt()
    return (1.0 + _ROOT5 * r + (5.0 / 3.0) * r2) * torch.exp(-_ROOT5 * r)


def _slope(r2: Tensor, value: Tensor, smoothness: Smoothness) -> Tensor:
    """Derivative of the correlation by the squared distance."""
    if smoothness == "rbf":
        return -0.5 * value
    r = r2.sqrt()
    return (-5.0 / 6.0) * (1.0 + _ROOT5 * r) * torch.exp(-_ROOT5 * r)


@dataclass(frozen=True)
class Structure:
    """Which kernel: everything but its numbers.

    Attributes:
        groups: f numbers: the lengthscale of each feature.
        smoothness: Matern-5/2, which forgives small jumps, or the squared exponential.
        additive: a kernel a group beside the joint one.
        sources: s, how many sources of observations there are.
    """

    groups: tuple[int, ...]
    smoothness: Smoothness = "matern"
    additive: bool = False
    sources: int = 1

    @property
    def scales(self) -> int:
        """Lengthscales."""
        return max(self.groups) + 1

    @property
    def parts(self) -> int:
        """Kernels that are summed."""
        return 1 + self.scales if self.additive else 1

    @property
    def size(self) -> int:
        """Hyperparameters: see `unpack`."""
        weights = self.parts if self.additive else 0
        return self.scales + weights + self.sources + 2 * (self.sources - 1)

    def columns(self, part: int) -> list[int]:
        """Features of a part; part 0 has all."""
        return [j for j, g in enumerate(self.groups) if part in (0, g + 1)]

    def unpack(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is what in the vector of hyperparameters.

        Returns:
            Log lengthscales, log weights of the parts, log noises of the s sources, and for the
            s - 1 sources but 0 the logits of their correlations with it, then their log sizes.
        """
        g, a = self.scales, self.parts if self.additive else 0
        weights = theta[g : g + a] if a else theta.new_zeros(1)
        end = g + a + self.sources
        return theta[:g], weights, theta[g + a : end], theta[end:]

    def coupling(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Correlation with source 0, and size, of each source: two s vectors; 1 of source 0."""
        coupled = self.unpack(theta)[3]
        one, others = theta.new_ones(1), self.sources - 1
        return (
            torch.cat([one, torch.sigmoid(coupled[:others])]),
            torch.cat([one, coupled[others:].exp()]),
        )

    def between(self, theta: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Covariance between sources a (n) and b (m), that of source 0 being 1: n x m."""
        share, size = self.coupling(theta)
        same = a[:, None] == b[None, :]
        correlation = torch.where(same, same.to(theta), torch.outer(share[a], share[b]))
        return correlation * torch.outer(size[a], size[b])

    def covariance(self, theta: Tensor, A: Tensor, B: Tensor) -> Tensor:
        """Covariance of ... x a x f and ... x b x f features of one source: ... x a x b."""
        log_scale, log_weight, *_ = self.unpack(theta)
        scale = log_scale.exp()[list(self.groups)]
        total: Tensor | None = None
        for part in range(self.parts):
            at = self.columns(part)
            r2 = squared_distances(A[..., at] / scale[at], B[..., at] / scale[at])
            k = correlation(r2, self.smoothness)
            weight = log_weight[part].exp()
            k = k.mul_(weight) if _in_place(k) else weight * k
            total = k if total is None else total + k
        assert total is not None
        return total

    def variance(self, theta: Tensor) -> Tensor:
        """Covariance of a design with itself."""
        return self.unpack(theta)[1].exp().sum()


def value_and_gradient(
    structure: Structure,
    theta: Tensor,
    X: Tensor,
    y: Tensor,
    given: Tensor,
    basis: Tensor,
    source: Tensor,
) -> tuple[float, Tensor]:
    """Negative log evidence and its gradient by `theta`.

    Args:
        structure: the kernel.
        theta: hyperparameters.
        X: n x f features.
        y: n outcomes, less the prior mean.
        given: n noise variances that are known, added to the learnt ones.
        basis: n x n covariance of the basis functions.
        source: n source numbers.

    Raises:
        torch.linalg.LinAlgError: the covariance is not positive definite.
    """
    log_scale, log_weight, log_noise, _ = structure.unpack(theta)
    scale = log_scale.exp()[list(structure.groups)]
    several = structure.sources > 1
    between = structure.between(theta, source, source) if several else None
    parts, inside = [], torch.zeros_like(basis)
    for part in range(structure.parts):
        at = structure.columns(part)
        Z = X[:, at] / scale[at]
        r2 = squared_distances(Z, Z)
        r2.fill_diagonal_(0.0)
        k = correlation(r2, structure.smoothness)
        weight = log_weight[part].exp()
        parts.append((at, Z, r2, k, weight))
        inside = inside + weight * k
    noise = log_noise.exp()[source]
    K = (inside if between is None else inside * between) + basis
    K.diagonal().add_(noise + given)
    L = torch.linalg.cholesky(K)
    inverse = torch.cholesky_inverse(L)
    a = inverse @ y
    value = 0.5 * y @ a + L.diagonal().log().sum() + 0.5 * len(y) * math.log(2.0 * math.pi)
    G = 0.5 * (inverse - torch.outer(a, a))  # of the value by K
    inner = G if between is None else G * between
    gradient = torch.zeros_like(theta)
    by_scale, by_weight, by_noise, by_source = structure.unpack(gradient)
    for part, (at, Z, r2, k, weight) in enumerate(parts):
        M = inner * (weight * _slope(r2, k, structure.smoothness))
        per_column = 2.0 * (M.sum(1) @ Z.square() - (Z * (M @ Z)).sum(0))
        groups = torch.tensor([structure.groups[j] for j in at], device=theta.device)
        by_scale.index_add_(0, groups, -2.0 * per_column)
        if structure.additive:
            by_weight[part] = (inner * k).sum() * weight
    by_noise.index_add_(0, source, G.diagonal() * noise)
    if between is not None:
        share, _ = structure.coupling(theta)
        slope = G * inside * between
        differ = source[:, None] != source[None, :]
        for s in range(1, structure.sources):
            rows = source == s
            # Twice: the matrix is symmetric. Of itself a share has the derivative 1 - share.
            by_source[s - 1] = 2.0 * slope[rows][differ[rows]].sum() * (1.0 - share[s])
            by_source[structure.sources - 2 + s] = 2.0 * slope[rows].sum()
    return float(value), gradient
