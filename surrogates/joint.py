"""The surrogate as BoTorch's acquisition functions want it: a model with joint posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from gpytorch.distributions import MultitaskMultivariateNormal, MultivariateNormal
from torch import Tensor

from surrogates.gaussian_process import MetricModel, to_unit

_JITTER = {torch.float64: 1e-6, torch.float32: 1e-4}


class JointModel(Model):
    """Independent Gaussian processes of m metrics, on standardised (and unskewed) outcomes.

    Args:
        models: one a metric.
        low, width: f numbers each: what maps raw features to the unit cube.
    """

    def __init__(self, models: Sequence[MetricModel], low: Tensor, width: Tensor) -> None:
        super().__init__()
        self._models, self._low, self._width = tuple(models), low, width

    @property
    def num_outputs(self) -> int:
        """Metrics."""
        return len(self._models)

    @property
    def batch_shape(self) -> torch.Size:
        """None: one model a metric."""
        return torch.Size()

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: Any = None,
    ) -> Any:
        """Joint posterior, without noise, at ... x q x f raw features.

        Args:
            X: the designs.
            output_indices: only these metrics.
            observation_noise: not offered: an acquisition asks for the truth, not for a reading.
            posterior_transform: applied to the posterior.

        Raises:
            NotImplementedError: noise was asked for.
        """
        if observation_noise is not False:
            raise NotImplementedError("the joint posterior is that of the truth, without noise")
        unit = to_unit(X, self._low, self._width)
        wanted = range(len(self._models)) if output_indices is None else output_indices
        normals = []
        for i in wanted:
            mean, covariance = self._models[i].joint(unit)
            eye = torch.eye(covariance.shape[-1], dtype=X.dtype, device=X.device)
            normals.append(MultivariateNormal(mean, covariance + _JITTER[X.dtype] * eye))
        several = len(normals) > 1
        normal = MultitaskMultivariateNormal.from_independent_mvns(normals) if several else None
        posterior = GPyTorchPosterior(normals[0] if normal is None else normal)
        return posterior if posterior_transform is None else posterior_transform(posterior)
