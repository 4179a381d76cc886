"""BoTorch's joint Monte Carlo acquisition functions, on the designs that the fast scores like best.

Expected hypervolume improvement under noise for several objectives ([Daulton2021]_), random
scalarisations for more than four, expected improvement under noise for one ([Letham2019]_): exact
in what the fast scores leave out, the uncertainty of the front itself and of the designs that are
being evaluated.

.. [Daulton2021] S. Daulton, M. Balandat and E. Bakshy, Parallel Bayesian Optimization of Multiple
   Noisy Objectives with Expected Hypervolume Improvement. NeurIPS 2021.
.. [Letham2019] B. Letham et al., Constrained Bayesian Optimization with Noisy Experiments. Bayesian
   Analysis 14, 2019.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.acquisition.multi_objective.parego import qLogNParEGO
from botorch.acquisition.objective import GenericMCObjective
from botorch.sampling import SobolQMCNormalSampler
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor

from loop.acquisition import MAX_HYPERVOLUME, Acquisition

# BoTorch would compile a C++ kernel at first use. Killed meanwhile, it leaves a lock that every
# later process waits for without end; and a few hundred designs need no such speed.
logei._load_attempted = True

SURVIVORS = 256
CHUNK = 64


class JointScore:
    """The joint acquisition of designs one at a time, given all designs chosen before them."""

    def __init__(
        self,
        acquisition: Acquisition,
        X: np.ndarray,
        pending: np.ndarray,
        samples: int,
        seed: int,
    ) -> None:
        """Start from designs being evaluated now.

        Args:
            acquisition: the goals, as the fast scores have them.
            X: n x f features of the completed designs.
            pending: p x f features.
            samples: Monte Carlo samples.
            seed: of the samples, and of BoTorch's own draws (pruning the baseline).
        """
        self._like = acquisition.surrogate.scales
        self._seed = seed
        self._pending = torch.as_tensor(pending).to(self._like)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A not p.d.", NumericalWarning)  # as below
            torch.manual_seed(seed)
            self._function = _function(
                acquisition, torch.as_tensor(X).to(self._like), samples, seed
            )

    def add(self, x: np.ndarray) -> None:
        """Count a design, f features, as chosen."""
        self._pending = torch.cat([self._pending, torch.as_tensor(x).to(self._like)[None]])

    def rescored(
        self, X: np.ndarray, fast: np.ndarray, alive: np.ndarray, bonus: np.ndarray
    ) -> np.ndarray:
        """Joint scores of the best by the fast ones; the rest come after them."""
        order = np.argsort(np.where(alive, -fast, np.inf), kind="stable")
        best = order[: min(SURVIVORS, int(alive.sum()))]
        values = np.where(alive, fast, -np.inf) - 1e6
        values[best] = self(X[best]) + bonus[best]
        return values

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Log acquisition value of each of q designs with q x f features: q numbers."""
        candidates = torch.as_tensor(X).to(self._like)[:, None, :]
        with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # A design equal to one already counted adds a zero to the covariance: the jitter that
            # linear_operator then adds, and tells of, is right.
            warnings.filterwarnings("ignore", "A not p.d.", NumericalWarning)
            torch.manual_seed(self._seed)
            self._function.set_X_pending(self._pending if len(self._pending) else None)
            parts = [self._function(chunk) for chunk in candidates.split(CHUNK)]
        return torch.cat(parts).cpu().numpy()


def _function(acquisition: Acquisition, X: Tensor, samples: int, seed: int) -> AcquisitionFunction:
    sampler = SobolQMCNormalSampler(torch.Size([samples]), seed=seed)
    model, problem = acquisition.surrogate.model, acquisition.problem

    def utilities(Y: Tensor, X: Tensor | None = None) -> Tensor:
        return acquisition._utilities(Y)

    def utility(Y: Tensor, X: Tensor | None = None) -> Tensor:
        return utilities(Y)[..., 0]

    def slack(metric: str, sign: float, bound: float) -> Callable[[Tensor], Tensor]:
        j = problem.metrics.index(metric)
        limit = acquisition.surrogate.models[j].warp(torch.tensor([bound]).to(X))
        return lambda Y: sign * (Y[..., j] - limit)

    constraints = [
        slack(c.metric, 1.0 if c.op == "<=" else -1.0, c.bound) for c in problem.constraints
    ] or None
    if len(problem.objectives) == 1:
        return qLogNoisyExpectedImprovement(
            model,
            X,
            sampler=sampler,
            objective=GenericMCObjective(utility),
            constraints=constraints,
            prune_baseline=True,
            cache_root=False,
        )
    objective = GenericMCMultiOutputObjective(utilities)
    if len(problem.objectives) > MAX_HYPERVOLUME:
        return qLogNParEGO(
            model,
            X,
            scalarization_weights=acquisition._weights,
            sampler=sampler,
            objective=objective,
            constraints=constraints,
            prune_baseline=True,
            cache_root=False,
        )
    return logei.qLogNoisyExpectedHypervolumeImprovement(
        model,
        acquisition.corner,
        X,
        sampler=sampler,
        objective=objective,
        constraints=constraints,
        prune_baseline=True,
        cache_root=False,
    )
