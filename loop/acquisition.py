"""How much a design is worth evaluating: a cheap score for thousands and an exact one for hundreds.

The exact score is BoTorch's: expected hypervolume improvement under noise for several objectives
([Daulton2021]_), expected improvement under noise for one ([Letham2019]_), both on a log scale
([Ament2023]_), with outcome constraints, pending designs and the probability that the trial
succeeds. While no design has satisfied the constraints, it is the probability of satisfying them.

The cheap score is the same improvement with two shortcuts: metrics and designs are independent, and
the front is the observed one. It only decides who reaches the exact score.

.. [Ament2023] S. Ament et al., Unexpected Improvements to Expected Improvement for Bayesian
   Optimization. NeurIPS 2023.
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
from botorch.acquisition.logei import qLogNoisyExpectedImprovement, qLogProbabilityOfFeasibility
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.acquisition.multi_objective.parego import qLogNParEGO
from botorch.acquisition.objective import GenericMCObjective
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from botorch.utils.safe_math import log_softplus
from botorch.utils.sampling import draw_sobol_normal_samples
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor

from loop.front import counts, pareto_mask, reference_point, utilities
from loop.problem import Problem
from surrogates import Surrogate

# BoTorch would compile a C++ kernel at first use. Killed meanwhile, it leaves a lock that every
# later process waits for without end; and a few hundred designs need no such speed.
logei._load_attempted = True

MAX_HYPERVOLUME = 4
"""With more objectives than this, hypervolume gives way to random scalarisations (qLogNParEGO)."""

CHUNK = 256


class Acquisition:
    """The worth of designs, given a surrogate and what was observed.

    Attributes:
        method: the exact score's name: qLogNEHVI, qLogNParEGO, qLogNEI or qLogPF.
        X: n x f features of the completed designs.
    """

    def __init__(
        self,
        problem: Problem,
        surrogate: Surrogate,
        X: np.ndarray,
        outcomes: np.ndarray,
        *,
        samples: int,
        seed: int,
    ) -> None:
        """Prepare the scores.

        Args:
            problem: the goals.
            surrogate: fitted to `problem.metrics`.
            X: n x f features of the completed designs.
            outcomes: n x m, their outcomes (nan = not measured).
            samples: Monte Carlo samples of the exact score.
            seed: of the samples.
        """
        self._problem, self._surrogate = problem, surrogate
        self.X = torch.as_tensor(X, dtype=surrogate.dtype, device=surrogate.device)
        self._samples, self._seed = samples, seed
        self._scales = surrogate.scales
        objectives = problem.objectives
        self._columns = [problem.metrics.index(o.metric) for o in objectives]
        unit = self._scales[self._columns]
        corner, _ = reference_point(problem, outcomes)
        self._corner = torch.as_tensor(corner).to(unit) / unit
        best = utilities(problem, outcomes)[pareto_mask(problem, outcomes)]
        self._front = torch.as_tensor(best).to(unit) / unit
        self._any_feasible = bool(counts(problem, outcomes).any())
        if problem.constraints and not self._any_feasible:
            self.method = "qLogPF"
        elif len(objectives) == 1:
            self.method = "qLogNEI"
        else:
            self.method = "qLogNEHVI" if len(objectives) <= MAX_HYPERVOLUME else "qLogNParEGO"

    def _utilities(self, Y: Tensor, X: Tensor | None = None) -> Tensor:
        """Each objective, to be made large and in units of its spread: ... x m to ... x k."""
        parts = []
        for column, objective in zip(self._columns, self._problem.objectives, strict=True):
            y = Y[..., column]
            if objective.target is not None:
                y = -(y - objective.target).abs()
            parts.append((-y if objective.goal == "minimize" else y) / self._scales[column])
        return torch.stack(parts, dim=-1)

    def _first_utility(self, Y: Tensor, X: Tensor | None = None) -> Tensor:
        return self._utilities(Y)[..., 0]

    def _slacks(self) -> list[Callable[[Tensor], Tensor]]:
        """One function a constraint, ... x m to ...: at most zero where it holds."""

        def slack(metric: str, sign: float, bound: float) -> Callable[[Tensor], Tensor]:
            j = self._problem.metrics.index(metric)
            return lambda Y: sign * (Y[..., j] - bound) / self._scales[j]

        return [
            slack(c.metric, 1.0 if c.op == "<=" else -1.0, c.bound)
            for c in self._problem.constraints
        ]

    @torch.no_grad()
    def cheap(self, X: np.ndarray, samples: int) -> np.ndarray:
        """Log of the approximate improvement of q designs with q x f features: q numbers."""
        mean, variance = self._surrogate.posterior(X)
        slacks = self._slacks()
        if self.method == "qLogPF":
            # Normal marginals: the chance of each constraint in closed form.
            total = torch.zeros_like(mean[:, 0])
            for c in self._problem.constraints:
                j = self._problem.metrics.index(c.metric)
                z = (c.bound - mean[:, j]) / variance[:, j].sqrt()
                total = total + torch.special.log_ndtr(z if c.op == "<=" else -z)
            return total.cpu().numpy()
        noise = draw_sobol_normal_samples(mean.shape[1], samples, seed=self._seed).to(mean)
        Y = mean + variance.sqrt() * noise[:, None, :]  # samples x q x m
        gain = self._improvement(self._utilities(Y))
        for slack in slacks:
            gain = gain + torch.nn.functional.logsigmoid(-slack(Y) / 0.05)
        return (torch.logsumexp(gain, 0) - np.log(samples)).cpu().numpy()

    def _improvement(self, U: Tensor) -> Tensor:
        """Log of the softened volume that utilities add to the front: ... x k to ..."""
        if U.shape[-1] == 1:
            start = self._front.max() if len(self._front) else self._corner[0]
            lower, upper = start.reshape(1, 1), torch.full_like(start.reshape(1, 1), np.inf)
        elif len(self._front) and U.shape[-1] <= MAX_HYPERVOLUME:
            boxes = FastNondominatedPartitioning(self._corner, Y=self._front)
            lower, upper = boxes.get_hypercell_bounds()
        else:  # nothing observed counts yet, or too many objectives: the volume above the corner
            lower = self._corner[None]
            upper = torch.full_like(lower, np.inf)
        # One box at a time: samples x q x boxes x k numbers at once would be large. Softplus
        # instead of a hard zero, so that hopeless designs can still be told from worse ones.
        soft = 0.02
        total = torch.full_like(U[..., 0], -np.inf)
        for low, high in zip(lower, upper, strict=True):
            side = log_softplus(torch.minimum(U, high) - low, tau=soft)
            total = torch.logaddexp(total, side.sum(-1))
        return total

    def exact(self) -> AcquisitionFunction:
        """BoTorch's acquisition function, without pending designs (`set_X_pending` adds them)."""
        model = self._surrogate.model
        sampler = SobolQMCNormalSampler(torch.Size([self._samples]), seed=self._seed)
        constraints = self._slacks() or None
        if self.method == "qLogPF":
            return qLogProbabilityOfFeasibility(model, self._slacks(), sampler=sampler)
        if self.method == "qLogNEI":
            return qLogNoisyExpectedImprovement(
                model,
                self.X,
                sampler=sampler,
                objective=GenericMCObjective(self._first_utility),
                constraints=constraints,
                prune_baseline=True,
            )
        objective = GenericMCMultiOutputObjective(self._utilities)
        if self.method == "qLogNParEGO":
            rng = np.random.default_rng(self._seed)
            weights = torch.as_tensor(rng.dirichlet(np.ones(len(self._columns)))).to(self.X)
            return qLogNParEGO(
                model,
                self.X,
                scalarization_weights=weights,
                sampler=sampler,
                objective=objective,
                constraints=constraints,
                prune_baseline=True,
            )
        return logei.qLogNoisyExpectedHypervolumeImprovement(
            model,
            self._corner,
            self.X,
            sampler=sampler,
            objective=objective,
            constraints=constraints,
            prune_baseline=True,
        )

    def chance(self, X: np.ndarray) -> np.ndarray:
        """Probability that each of q designs satisfies every outcome constraint (independently)."""
        mean, variance = self._surrogate.posterior(X)
        total = np.zeros(len(mean))
        for c in self._problem.constraints:
            j = self._problem.metrics.index(c.metric)
            z = (c.bound - mean[:, j]) / variance[:, j].sqrt()
            total += torch.special.log_ndtr(z if c.op == "<=" else -z).cpu().numpy()
        return np.exp(total)


class JointScore:
    """The exact score of designs one at a time, given all designs chosen before them."""

    def __init__(self, acquisition: Acquisition, pending: np.ndarray, seed: int) -> None:
        """Start from designs being evaluated now.

        Args:
            acquisition: the worth of designs.
            pending: p x f features.
            seed: of BoTorch's own draws (pruning the baseline).
        """
        self._like = acquisition.X
        self._seed = seed
        self._pending = torch.as_tensor(pending).to(self._like)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A not p.d.", NumericalWarning)  # as below
            torch.manual_seed(seed)
            self._function = acquisition.exact()

    def add(self, x: np.ndarray) -> None:
        """Count a design, f features, as chosen."""
        self._pending = torch.cat([self._pending, torch.as_tensor(x).to(self._like)[None]])

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
