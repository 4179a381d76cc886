"""How much a design is worth evaluating.

Scores are functions of the marginal posterior alone, so that a million designs cost one matrix
product each, and can be differentiated by the features. A batch is chosen one design after the
other, each given those before it (`beliefs`). All are on a log scale ([Ament2023]_), so that the
chance of satisfying the constraints and of the trial succeeding are added. While no design has
satisfied the constraints, that chance is all that is sought.

*Portfolio*, the default, takes an upper confidence bound ([Srinivas2010]_), by turns a bold and a
cautious one: with one exponent all designs of a batch are alike, and which is right is not known
beforehand. *Hedge* learns it ([Hoffman2011]_, see `hedge`). For several objectives it is the
hypervolume that the bounds would add. *Improvement* is expected (hypervolume) improvement over the
front that the surrogate believes in, not the luckiest readings ([Letham2019]_, [Daulton2021]_);
with more than four objectives a random scalarisation takes hypervolume's place ([Knowles2006]_).
*Joint* gives the best by that to BoTorch's qLogNEI, qLogNEHVI or qLogNParEGO. Where a person ranked
pairs of trials, the utility that this tells of takes the place of all these (see `preference`); of
a level set, the straddle does (see `level`).

.. [Ament2023] S. Ament et al., Unexpected Improvements to Expected Improvement for Bayesian
   Optimization. NeurIPS 2023.
.. [Daulton2021] S. Daulton, M. Balandat and E. Bakshy, Parallel Bayesian Optimization of Multiple
   Noisy Objectives with Expected Hypervolume Improvement. NeurIPS 2021.
.. [Hoffman2011] M. Hoffman, E. Brochu and N. de Freitas, Portfolio Allocation for Bayesian
   Optimization. UAI 2011.
.. [Knowles2006] J. Knowles, ParEGO. IEEE Transactions on Evolutionary Computation 10, 2006.
.. [Letham2019] B. Letham et al., Constrained Bayesian Optimization with Noisy Experiments. Bayesian
   Analysis 14, 2019.
.. [Srinivas2010] N. Srinivas et al., Gaussian Process Optimization in the Bandit Setting. ICML
   2010.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from botorch.acquisition.analytic import _log_ei_helper
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from botorch.utils.safe_math import log_softplus
from botorch.utils.sampling import draw_sobol_normal_samples
from torch import Tensor

from loop.front import counts, reference_point
from loop.hedge import MEMBERS
from loop.level import straddle
from loop.problem import Problem
from surrogates import Surrogate

if TYPE_CHECKING:
    from loop.preference import Preference

Strategy = Literal[
    "portfolio", "hedge", "improvement", "joint", "bound", "mean", "uncertainty", "thompson",
    "level-set", "evolution", "substitution",
]  # fmt: skip
STRATEGIES: tuple[str, ...] = get_args(Strategy)

WITHOUT_SURROGATE = ("evolution", "substitution")
"""Strategies that ask no surrogate: see `evolution`."""

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
        members: Sequence[str] = MEMBERS,
        preference: Preference | None = None,
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
            members: of a hedge, which choose by turns (see `hedge`).
            preference: a utility that was learnt from a person's answers; it takes the place of
                whatever looks for the best. Of several objectives only.

        Raises:
            ValueError: there is no such strategy, or it makes no sense for this problem.
        """
        if strategy not in STRATEGIES or strategy in WITHOUT_SURROGATE:
            others = [s for s in STRATEGIES if s not in WITHOUT_SURROGATE]
            raise ValueError(f"no strategy {strategy!r} asks a surrogate, only {', '.join(others)}")
        if strategy == "level-set" and not problem.contour:
            raise ValueError("no objective is a level whose contour could be sought")
        if problem.contour and strategy != "uncertainty":
            strategy = "level-set"  # of a level there is no best to look for
        self.problem, self.surrogate, self.strategy = problem, surrogate, strategy
        self.preference = None if strategy in ("uncertainty", "level-set") else preference
        self._members = tuple(members) or MEMBERS
        self._seed, self._samples = seed, samples
        self._columns = [problem.metrics.index(o.metric) for o in problem.objectives]
        self._spread = surrogate.scales[self._columns]
        feasible = counts(problem, outcomes)
        self.constrained = bool(problem.constraints) and not feasible.any()
        like = surrogate.scales
        corner, _ = reference_point(problem, outcomes, searching=True)
        self.corner = torch.as_tensor(corner).to(like) / self._spread
        means = self._means(X)
        known = self._utilities(means)
        # What counts is what the readings, taken together, say of a design: not the luckiest one.
        self._front = known[torch.as_tensor(feasible, device=like.device)]
        self._all = known
        rng = np.random.default_rng(seed)
        weights = rng.dirichlet(np.ones(len(self._columns)))
        self._weights = torch.as_tensor(weights).to(like)
        if self.preference is not None:
            counted = self._front if feasible.any() else known
            with torch.no_grad():
                self._wanted = self.preference.drawn(self._in_units(counted)).amax(0)
            self._want, self._beaten_by = self.preference.spread, counted
        self._boxes: tuple[Tensor, Tensor] | None = None
        self._observed = (self._front, self._wanted if self.preference is not None else None)

    @property
    def several(self) -> bool:
        """Whether there is more than one objective."""
        return len(self._columns) > 1

    def name(self, turn: int) -> str:
        """What the design of a turn is chosen by, for the record."""
        if self.constrained:
            return "PF"
        kind = self._member(turn)
        if kind[0] == "preference":
            return "EUI"
        if kind[0] == "bound":
            return f"UCB{'-HVI' if self._volume else ''} {kind[1]:g}"
        if self.strategy == "joint":
            return "qLogNEI" if not self.several else "qLogNEHVI" if self._volume else "qLogNParEGO"
        names = {
            "improvement": "LogEHVI" if self._volume else "LogEI", "level-set": "straddle",
        }  # fmt: skip
        return names.get(kind[0], kind[0])

    @property
    def _volume(self) -> bool:
        return 1 < len(self._columns) <= MAX_HYPERVOLUME

    def member(self, turn: int) -> str | None:
        """Which member of a hedge chooses the design of a turn; None where there is none."""
        if self.strategy != "hedge" or self.constrained or self.preference is not None:
            return None
        return self._members[turn % len(self._members)]

    def kind(self, turn: int) -> str:
        """What kind of score the design of a turn has."""
        return self._member(turn)[0]

    def turns(self, first: int) -> list[int]:
        """Turns from the first one on that have a score of their own, none twice."""
        found: dict[tuple[str, float], int] = {}
        for turn in range(first, first + max(2, len(self._members))):
            found.setdefault(self._member(turn), turn)
        return list(found.values())

    def _member(self, turn: int) -> tuple[str, float]:
        if self.preference is not None:
            return "preference", 0.0
        if self.strategy == "hedge":
            member = self._members[turn % len(self._members)]
            bounds = {"bold": BOLD, "cautious": CAUTIOUS}
            return ("bound", bounds[member]) if member in bounds else (member, 0.0)
        if self.strategy == "portfolio":
            return "bound", (BOLD, CAUTIOUS)[turn % 2]
        if self.strategy == "bound":
            return "bound", 1.0
        if self.strategy == "joint":
            return "improvement", 0.0
        return self.strategy, 0.0

    def _means(self, X: np.ndarray) -> Tensor:
        unit = self.surrogate.unit(X)
        return torch.stack([m.marginal(unit)[0] for m in self.surrogate.models], -1)

    def _utilities(self, U: Tensor) -> Tensor:
        """Each objective, to be made large, of ... x m standardised outcomes: ... x k spreads.

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
                distance = (warp.inverse(y) - objective.target).abs()
                y = -distance.clamp_min(objective.tolerance or 0.0) / self._spread[i]
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
            far = torch.finfo(z.dtype).max ** 0.25  # so that the worst still has a rank
            z = z.clamp(-far, far)
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
        if kind == "preference":
            return self._preferred(mean, variance) + chance
        if kind == "level-set":
            return straddle(self.problem, self.surrogate, mean, variance) + chance
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
            if objective is None or objective.target is not None:
                columns.append(mean[..., j])
            else:
                columns.append(down[..., j] if objective.goal == "minimize" else up[..., j])
        U = list(self._utilities(torch.stack(columns, -1)).unbind(-1))
        for i, objective in enumerate(self.problem.objectives):
            if objective.target is not None:
                distance = self._distance(i, mean, variance, weight)
                U[i] = -distance.clamp_min(objective.tolerance or -math.inf) / self._spread[i]
        return torch.stack(U, -1)

    def _distance(self, i: int, mean: Tensor, variance: Tensor, weight: float) -> Tensor:
        """How far objective i is from its target, less so many deviations of that distance.

        Of the distance, a folded normal: an outcome that may be anything may be on target too, and
        a bound of the outcome itself could not tell it from one that is known to be. At most one
        deviation: beyond 1.32, knowing nothing of a design would be best.
        """
        weight = min(weight, 1.0)
        j, target = self._columns[i], self.problem.objectives[i].target
        first, second = self.surrogate.models[j].warp.moments(mean[..., j], variance[..., j])
        assert target is not None
        away, sd = (first - target).abs(), second.sqrt()
        z = away / sd
        folded = away * torch.erf(z / math.sqrt(2.0))
        folded = folded + sd * math.sqrt(2.0 / math.pi) * (-0.5 * z.square()).exp()
        rest = second + (away - folded) * (away + folded)
        return folded - weight * torch.maximum(rest, 1e-6 * second).sqrt()

    def _expected(self, mean: Tensor, variance: Tensor) -> Tensor:
        if not self.several and self.problem.objectives[0].target is None:
            # Of one normal number it is known in closed form: 64 samples would cost more than the
            # surrogate does.
            best = self._front.max() if len(self._front) else self._all.max()
            sd = variance[..., self._columns[0]].sqrt()
            return _log_ei_helper((self._utilities(mean)[..., 0] - best) / sd) + sd.log()
        normal = draw_sobol_normal_samples(mean.shape[-1], self._samples, seed=self._seed)
        U = mean + variance.sqrt() * normal.to(mean)[:, None, :]
        return torch.logsumexp(self._gain(self._utilities(U)), 0) - math.log(self._samples)

    def _in_units(self, U: Tensor) -> Tensor:
        """Utilities of several objectives (... x k, of their spread) in the metrics' units."""
        return U * self._spread

    def _preferred(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Log expected improvement of the utility that a person's answers tell of: q numbers."""
        assert self.preference is not None
        normal = draw_sobol_normal_samples(mean.shape[-1], self._samples, seed=self._seed)
        parts = []
        for sample in normal.to(mean):  # one at a time: samples x q x points would be large
            U = self._utilities(mean + variance.sqrt() * sample)
            gain = (self.preference.drawn(self._in_units(U)) - self._wanted) / self._want
            # Whatever a person wants, it is not what a known design surpasses in everything.
            short = (self._beaten_by - U[:, None]).amin(-1).amax(-1)[:, None]
            gain = torch.where(short > 0, torch.minimum(gain, -short), gain)
            parts.append(torch.logsumexp(log_softplus(gain, tau=_SOFT), -1))
        total = self._samples * len(self._wanted)
        return torch.logsumexp(torch.stack(parts), 0) - math.log(total)

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
        if self.preference is not None:
            self._beaten_by = torch.cat([self._beaten_by, U])
            drawn = self.preference.drawn(self._in_units(U))[0]
            self._wanted = torch.maximum(self._wanted, drawn)

    def forget(self) -> None:
        """Count only what was observed again, and nothing that is being evaluated."""
        self._front, wanted = self._observed
        self._boxes = None
        if wanted is not None:
            self._wanted = wanted

    def expected_gain(self, mean: Tensor, variance: Tensor) -> np.ndarray:
        """Expected improvement of q designs, as a share of what was observed so far.

        In standard deviations of the objective for one, of hypervolume for several, and of the
        utility where a person's answers tell of one. Nan where nothing better is looked for.
        """
        if self.constrained or self.problem.contour:
            return np.full(len(mean), np.nan)
        if self.preference is not None:
            wanted = self._preferred(mean, variance) + self.log_chance(mean, variance)
            return wanted.detach().exp().cpu().numpy()
        gain = (self._expected(mean, variance) + self.log_chance(mean, variance)).exp()
        if self._volume:
            best = self._front[(self._front > self.corner).all(-1)]
            if not len(best):
                return np.full(len(mean), np.nan)
            from botorch.utils.multi_objective.hypervolume import Hypervolume

            gain = gain / max(float(Hypervolume(self.corner).compute(best)), 1e-12)
        return gain.cpu().numpy()
