"""How much a design is worth evaluating.

Scores are functions of the marginal posterior alone, so that a million designs cost one matrix
product each, and can be differentiated by the features. A batch is chosen one design after the
other, each given those before it (`beliefs`). All are on a log scale ([Ament2023]_), so that the
chance of satisfying the constraints and of the trial succeeding are added. While no design has
satisfied the constraints, that chance is all that is sought.

*Portfolio*, the default, takes an upper confidence bound ([Srinivas2010]_), by turns a bold and a
cautious one: with one exponent all designs of a batch are alike, and which is right is not known
beforehand ([Hoffman2011]_ hedge for the same reason). For several objectives it is the hypervolume
that the bounds would add. *Improvement* is expected (hypervolume) improvement over the front
that the surrogate believes in, not the luckiest readings ([Letham2019]_, [Daulton2021]_); with more
than four objectives a random scalarisation takes hypervolume's place ([Knowles2006]_). *Joint* gives
the best by that to BoTorch's qLogNEI, qLogNEHVI or qLogNParEGO.

.. [Ament2023] S. Ament et al., Unexpected Improvements to Expected Improvement for Bayesian
   Optimization. NeurIPS 2023.
.. [Daulton2021] S. Daulton, M. Balandat and E. Bakshy, Parallel Bayesian Optimization of Multiple
   Noisy Objectives with Expected Hypervolume Improvement. NeurIPS 2021.
.. [Hoffman2011] M. Hoffman, E. Brochu and N. de Freitas, Portfolio Allocation for Bayesian
   Optimization. UAI 2011.
.. [Knowles2006] J. Knowles, ParEGO. IEEE Transactions on Evolutionary Computation 10, 2006.
.. [Letham2019] B. Letham et al., Constrained Bayesian Optimization with Noisy Experiments. Bayesian
   Analysis 14, 2019.
.. [Srinivas2010] N. Srinivas et al., Gaussian Process Optimization in the Bandit Setting. ICML 2010.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from botorch.utils.safe_math import log_softplus
from botorch.utils.sampling import draw_sobol_normal_samples
from torch import Tensor

from loop.front import counts, reference_point
from loop.problem import Problem
from surrogates import Surrogate

Strategy = Literal[
    "portfolio", "hedge", "improvement", "joint", "bound", "mean", "uncertainty", "thompson"
]
STRATEGIES: tuple[str, ...] = get_args(Strategy)

MAX_HYPERVOLUME = 4
"""With more objectives than this, hypervolume gives way to random scalarisations."""

BOLD, CAUTIOUS = 1.5, 0.25
"""Standard deviations above the mean of the portfolio's two confidence bounds."""

_SOFT = 0.02  # of an objective's spread: hopeless designs can still be told from worse ones


class Acquisition:
    """The worth of designs, given a surrogate and what was observed.

    Attributes:
        strategy: which score.
        constrained: whether only the chance of satisfying the constraints is sought.
    """

    def __init__(
        self,
        problem: Problem,
        surrogate: Surrogate,
        X: np.ndarray,
        outcomes: np.ndarray,
        *,
        strategy: Strategy = "portfolio",
        samples: int = 64,
        seed: int = 0,
    ) -> None:
        """Prepare the scores.

        Args:
            problem: the goals.
            surrogate: fitted to `problem.metrics`.
            X: n x f features of the completed designs.
            outcomes: n x m, their outcomes (nan = not measured).
            strategy: which score.
            samples: Monte Carlo samples of the improvement.
            seed: of the samples and scalarisations.

        Raises:
            ValueError: there is no such strategy.
        """
        if strategy not in STRATEGIES:
            raise ValueError(f"no strategy {strategy!r}, only {', '.join(STRATEGIES)}")
        self.problem, self.surrogate, self.strategy = problem, surrogate, strategy
        self._seed, self._samples = seed, samples
        self._columns = [problem.metrics.index(o.metric) for o in problem.objectives]
        self._spread = surrogate.scales[self._columns]
        feasible = counts(problem, outcomes)
        self.constrained = bool(problem.constraints) and not feasible.any()
        like = surrogate.scales
        corner, _ = reference_point(problem, outcomes)
        self.corner = torch.as_tensor(corner).to(like) / self._spread
        means = self._means(X)
        known = self._utilities(means)
        # What counts is what the readings, taken together, say of a design: not the luckiest one.
        self._front = known[torch.as_tensor(feasible, device=like.device)]
        self._all = known
        rng = np.random.default_rng(seed)
        weights = rng.dirichlet(np.ones(len(self._columns)))
        self._weights = torch.as_tensor(weights).to(like)
        self._boxes: tuple[Tensor, Tensor] | None = None

    @property
    def several(self) -> bool:
        """Whether there is more than one objective."""
        return len(self._columns) > 1

    def name(self, turn: int) -> str:
        """What the design of a turn is chosen by, for the record."""
        if self.constrained:
            return "PF"
        kind = self._member(turn)
        if kind[0] == "bound":
            return f"UCB{'-HVI' if self._volume else ''} {kind[1]:g}"
        if self.strategy == "joint":
            return "qLogNEI" if not self.several else "qLogNEHVI" if self._volume else "qLogNParEGO"
        names = {"improvement": "LogEHVI" if self._volume else "LogEI"}
        return names.get(kind[0], kind[0])

    @property
    def _volume(self) -> bool:
        return 1 < len(self._columns) <= MAX_HYPERVOLUME

    def _member(self, turn: int) -> tuple[str, float]:
        if self.strategy == "portfolio":
            return "bound", (BOLD, CAUTIOUS)[turn % 2]
        if self.strategy == "bound":
            return "bound", 1.0
        if self.strategy in ("joint", "hedge"):
            return "improvement", 0.0
        return self.strategy, 0.0

    def _means(self, X: np.ndarray) -> Tensor:
        unit = self.surrogate.unit(X)
        return torch.stack([m.marginal(unit)[0] for m in self.surrogate.models], -1)

    def _utilities(self, U: Tensor) -> Tensor:
        """Each objective, to be made large and in units of its spread: ... x m standardised
        outcomes to ... x k.

        A single objective stays on the unskewed scale, where differences are the same everywhere;
        a volume is one in the metrics' units.
        """
        parts = []
        for i, (column, objective) in enumerate(
            zip(self._columns, self.problem.objectives, strict=True)
        ):
            warp = self.surrogate.models[column].warp
            y = U[..., column]
            if objective.target is not None:
                y = -(warp.inverse(y) - objective.target).abs() / self._spread[i]
            elif self.several:
                y = warp.inverse(y) / self._spread[i]
            parts.append(-y if objective.goal == "minimize" else y)
        return torch.stack(parts, dim=-1)

    def log_chance(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Log probability of satisfying every outcome constraint: ... x m to ..."""
        total = torch.zeros_like(mean[..., 0])
        for c in self.problem.constraints:
            j = self.problem.metrics.index(c.metric)
            bound = self.surrogate.models[j].warp(torch.tensor([c.bound]).to(mean))
            z = (bound - mean[..., j]) / variance[..., j].sqrt()
            total = total + torch.special.log_ndtr(z if c.op == "<=" else -z)
        return total

    def score(self, mean: Tensor, variance: Tensor, turn: int) -> Tensor:
        """Log worth of q designs: q x m standardised means and variances to q numbers.

        Args:
            mean: standardised.
            variance: standardised.
            turn: number of the design that is to be chosen: portfolios take turns.
        """
        chance = self.log_chance(mean, variance)
        if self.constrained:
            return chance
        kind, weight = self._member(turn)
        if kind == "uncertainty":
            return variance.log().sum(-1) + chance
        if kind == "mean":
            kind, weight = "bound", 0.0
        if kind == "bound":
            return self._gain(self._bound(mean, variance, weight)) + chance
        if kind == "thompson":
            return self._gain(self._utilities(mean)) + chance
        return self._expected(mean, variance) + chance

    def _bound(self, mean: Tensor, variance: Tensor, weight: float) -> Tensor:
        """Utilities where every objective is better than expected by so many deviations."""
        up = mean + weight * variance.sqrt()
        down = mean - weight * variance.sqrt()
        columns = []
        for j in range(mean.shape[-1]):
            objective = next((o for o, c in zip(self.problem.objectives, self._columns, strict=True)
                              if c == j), None)  # fmt: skip
            if objective is None:
                columns.append(mean[..., j])
            elif objective.target is not None:  # as near the target as the deviations allow
                aim = self.surrogate.models[j].warp(torch.tensor([objective.target]).to(mean))
                columns.append(torch.minimum(torch.maximum(aim, down[..., j]), up[..., j]))
            else:
                columns.append(down[..., j] if objective.goal == "minimize" else up[..., j])
        return self._utilities(torch.stack(columns, -1))

    def _expected(self, mean: Tensor, variance: Tensor) -> Tensor:
        normal = draw_sobol_normal_samples(mean.shape[-1], self._samples, seed=self._seed)
        U = mean + variance.sqrt() * normal.to(mean)[:, None, :]
        return torch.logsumexp(self._gain(self._utilities(U)), 0) - math.log(self._samples)

    def _gain(self, U: Tensor) -> Tensor:
        """Log of the softened improvement of utilities over the front: ... x k to ..."""
        if not self.several:
            best = self._front.max() if len(self._front) else self._all.max()
            return log_softplus(U[..., 0] - best, tau=_SOFT)
        if not self._volume:  # augmented Chebyshev, from the worst that is known
            worst = self._all.amin(0)
            value = ((U - worst) * self._weights).amin(-1) + 0.05 * (U * self._weights).sum(-1)
            known = ((self._all - worst) * self._weights).amin(-1)
            known = known + 0.05 * (self._all * self._weights).sum(-1)
            return log_softplus(value - known.max(), tau=_SOFT)
        lower, upper = self._cells()
        # One box at a time: samples x q x boxes x k numbers at once would be large.
        total = torch.full_like(U[..., 0], -math.inf)
        for low, high in zip(lower, upper, strict=True):
            side = log_softplus(torch.minimum(U, high) - low, tau=_SOFT)
            total = torch.logaddexp(total, side.sum(-1))
        return total

    def _cells(self) -> tuple[Tensor, Tensor]:
        """Boxes that fill what lies between the front and infinity, beyond the corner."""
        if self._boxes is None:
            front = self._front[(self._front > self.corner).all(-1)]
            if len(front):
                lower, upper = FastNondominatedPartitioning(
                    self.corner, Y=front
                ).get_hypercell_bounds()
            else:
                lower = self.corner[None]
                upper = torch.full_like(lower, math.inf)
            self._boxes = (lower, upper)
        return self._boxes

    def believe(self, mean: Tensor) -> None:
        """Count a design with m standardised means as part of the front: it is being evaluated."""
        U = self._utilities(mean[None])
        self._front, self._boxes = torch.cat([self._front, U]), None

    def expected_gain(self, mean: Tensor, variance: Tensor) -> np.ndarray:
        """Expected improvement of q designs, as a share of what was observed so far.

        In standard deviations of the objective for one, of hypervolume for several.
        """
        if self.constrained:
            return np.full(len(mean), np.nan)
        gain = (self._expected(mean, variance) + self.log_chance(mean, variance)).exp()
        if self._volume:
            best = self._front[(self._front > self.corner).all(-1)]
            if not len(best):
                return np.full(len(mean), np.nan)
            from botorch.utils.multi_objective.hypervolume import Hypervolume

            gain = gain / max(float(Hypervolume(self.corner).compute(best)), 1e-12)
        return gain.cpu().numpy()


