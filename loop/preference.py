"""What a person would rather have: a utility over the objectives, learnt from ranked pairs.

A front says what can be had, and not which of it is wanted. Asked which of two trials is better, a
person can say; from a few such answers a Gaussian process learns how much of one objective is worth
how much of another ([Chu2005]_), and designs are then chosen by the utility that they are expected
to add ([Lin2022]_) in place of hypervolume. What the directions of the objectives say is known
without asking: more of what is to be large is better.

The process is over the *outcomes*, not the designs, so what was learnt holds for designs that
nobody has seen yet. How unsure it still is of the utility is carried along: the worth of a design
is a mean over utilities that agree with the answers.

.. [Chu2005] W. Chu and Z. Ghahramani, Preference Learning with Gaussian Processes. ICML 2005.
.. [Lin2022] Z. J. Lin et al., Preference Exploration for Efficient Bayesian Optimization with
   Multiple Outcomes. AISTATS 2022.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models.pairwise_gp import PairwiseGP, PairwiseLaplaceMarginalLogLikelihood
from botorch.posteriors.gpytorch import GPyTorchPosterior
from botorch.utils.sampling import draw_sobol_normal_samples
from gpytorch.constraints import Interval
from gpytorch.kernels import LinearKernel, RBFKernel, ScaleKernel
from gpytorch.priors import GammaPrior, LogNormalPrior
from torch import Tensor

from loop.front import counts, pareto_mask, utilities
from loop.problem import Problem

ENOUGH = 3
"""With fewer ranked pairs, hypervolume chooses."""

_BEND = 0.05
"""Variance of a utility's curved part beside that of its linear part, before there are answers."""

MOST_ASKED = 24
"""Trials, of the front first, among which the next question is sought."""

Pair = tuple[int, int]
"""Rows of two trials: the better one, the worse one."""


class Preference:
    """A utility over k objectives.

    Attributes:
        pairs: how many answers it rests on.
        notes: sentences for a person.
    """

    def __init__(
        self,
        problem: Problem,
        outcomes: np.ndarray,
        pairs: Sequence[Pair],
        *,
        samples: int = 16,
        seed: int = 0,
    ) -> None:
        """Learn it.

        Args:
            problem: with two objectives or more.
            outcomes: n x m, in the order of `problem.metrics`.
            pairs: rows of ranked trials, all objectives of which are known; one pair or more.
            samples: utilities that agree with the answers, drawn from the posterior.
            seed: of the draws.

        Raises:
            ValueError: no pair, or one of a trial whose objectives are not all known.
        """
        values = utilities(problem, outcomes)
        rows = sorted({row for pair in pairs for row in pair})
        if not rows or not np.isfinite(values[rows]).all():
            raise ValueError("preferences are between trials all objectives of which are known")
        self.pairs, self.notes = len(pairs), list[str]()
        self._names = [o.metric for o in problem.objectives]
        known = values[np.isfinite(values).all(axis=1)]
        low, high = known.min(axis=0), known.max(axis=0)
        self._low = torch.as_tensor(low)
        self._width = torch.as_tensor(np.where(high > low, high - low, 1.0))
        self._known = (torch.as_tensor(known) - self._low) / self._width
        at = {row: i for i, row in enumerate(rows)}
        points = (torch.as_tensor(values[rows]) - self._low) / self._width
        answers = [(at[better], at[worse]) for better, worse in pairs]
        points, answers = _with_directions(points, answers)
        self._points = points
        with _numpy_seed(seed % 2**32):
            self._model = self._fit(points, answers)
        self._weights = self._draw(samples, seed)

    def _fit(self, points: Tensor, answers: list[Pair]) -> PairwiseGP:
        k = points.shape[-1]
        # Linear in the large, so that it goes on rising beyond what was compared; curved in the
        # small, where a person has enough of something.
        bend = ScaleKernel(
            RBFKernel(ard_num_dims=k, lengthscale_prior=GammaPrior(3.0, 3.0)),
            outputscale_prior=LogNormalPrior(math.log(_BEND), 0.5),
        )
        bend.outputscale = _BEND
        shape = LinearKernel(variance_prior=LogNormalPrior(0.0, 1.0)) + bend
        model = PairwiseGP(
            points,
            torch.tensor(answers),
            covar_module=ScaleKernel(
                shape,
                outputscale_prior=LogNormalPrior(4.0, 0.5),
                outputscale_constraint=Interval(5e-3, 2e2, initial_value=20.0),
            ).double(),
        )
        before = {name: value.clone() for name, value in model.state_dict().items()}
        likelihood = PairwiseLaplaceMarginalLogLikelihood(model.likelihood, model)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of optimisers that try again by themselves
                fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": 75}})
        except ModelFittingError as error:
            model.load_state_dict(before)
            self.notes.append(f"the utility keeps its prior shape: {' '.join(str(error).split())}")
        model.eval()
        model.requires_grad_(False)
        return model

    def _draw(self, samples: int, seed: int) -> Tensor:
        """Weights of the covariances with the points, for the mean utility and for each draw."""
        with torch.no_grad():
            mean, covariance = self._posterior(self._points)
            normal = draw_sobol_normal_samples(len(mean), samples, seed=seed % 2**31).to(mean)
            drawn = mean + normal @ _root(covariance).mT
            K = self._model.covar_module(self._points).to_dense()
            K = K + 1e-6 * K.diagonal().mean() * torch.eye(len(K)).to(K)
            every = torch.cat([mean[None], drawn])
            return torch.linalg.solve(K, every.mT)

    def _posterior(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the utility at p x k scaled points."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the points lie outside a cube that nobody asked for
            found = self._model.posterior(points)
            mean = cast(GPyTorchPosterior, found).mean.squeeze(-1)
            return mean, cast(GPyTorchPosterior, found).distribution.covariance_matrix

    def drawn(self, U: Tensor) -> Tensor:
        """Utilities, drawn: ... x k utilities of the objectives (see `front`) to ... x samples."""
        return self._at(U)[..., 1:]

    def mean(self, U: Tensor) -> Tensor:
        """Mean utility: ... x k utilities of the objectives to ..."""
        return self._at(U)[..., 0]

    def _at(self, U: Tensor) -> Tensor:
        scaled = (U.to(self._low) - self._low) / self._width
        cross = self._model.covar_module(scaled.reshape(-1, scaled.shape[-1]), self._points)
        return (cross.to_dense() @ self._weights).reshape(*U.shape[:-1], -1)

    @property
    def spread(self) -> float:
        """Standard deviation of the mean utility over everything that was observed."""
        with torch.no_grad():
            values = self.mean(self._known * self._width + self._low)
        return max(float(values.std()) if len(values) > 1 else 0.0, 1e-9)

    def shares(self) -> dict[str, float]:
        """How much each objective counts, over the range that was observed: they add up to one."""
        here = (self._known * self._width + self._low).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.mean(here).sum(), here)
        weight = (slope * self._width).mean(0).clamp_min(0.0)
        total = max(float(weight.sum()), 1e-12)
        return {m: float(w) / total for m, w in zip(self._names, weight, strict=True)}

    def told(self) -> str:
        """What was learnt, in a sentence."""
        parts = [f"{name} {100 * share:.0f} %" for name, share in self.shares().items()]
        return (
            f"chosen by what {self.pairs} ranked pairs say is better: over what was seen so far"
            f" {', '.join(parts)} of what counts"
        )


def _with_directions(points: Tensor, answers: list[Pair]) -> tuple[Tensor, list[Pair]]:
    """The same with what needs no asking: for each objective, more of it is better."""
    centre = points.mean(0)
    added: list[Tensor] = []
    for j in range(points.shape[-1]):
        step = torch.zeros_like(centre)
        step[j] = 0.5
        at = len(points) + len(added)
        added += [centre + step, centre - step]
        answers = [*answers, (at, at + 1)]
    return torch.cat([points, torch.stack(added)]), answers


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """BoTorch starts the search for the utility at a point that numpy's global state draws."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0.0).sqrt()


def _trade(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether neither of two k utilities is as good as the other everywhere."""
    return bool((a > b).any() and (b > a).any())


def question(
    problem: Problem, outcomes: np.ndarray, pairs: Sequence[Pair], seed: int = 0
) -> Pair | None:
    """The two trials whose ranking would teach most; None where fewer than two can be compared.

    Before there is an answer, the two ends of the front that are farthest apart; then those of
    which the better one is expected to be best (EUBO of [Lin2022]_). Where one trial is as good as
    the other in every objective, nothing is to be asked.

    Args:
        problem: with two objectives or more.
        outcomes: n x m.
        pairs: rows that were ranked already: they are not asked again.
        seed: of the utility's draws.
    """
    values = utilities(problem, outcomes)
    rows = np.flatnonzero(counts(problem, outcomes))
    if len(rows) < 2:
        rows = np.flatnonzero(np.isfinite(values).all(axis=1))
    front = set(np.flatnonzero(pareto_mask(problem, outcomes)).tolist())
    order = sorted(rows.tolist(), key=lambda row: row not in front)[:MOST_ASKED]
    asked = {frozenset(pair) for pair in pairs}
    left = [
        (a, b)
        for i, a in enumerate(order)
        for b in order[i + 1 :]
        if frozenset((a, b)) not in asked and _trade(values[a], values[b])
    ]
    if not left:
        return None
    if not pairs:
        scale = np.ptp(values[order], axis=0)
        scaled = values / np.where(scale > 0, scale, 1.0)
        inner = [p for p in left if p[0] in front and p[1] in front] or left
        return max(inner, key=lambda p: float(((scaled[p[0]] - scaled[p[1]]) ** 2).sum()))
    learnt = Preference(problem, outcomes, pairs, seed=seed)
    where = {row: i for i, row in enumerate(order)}
    points = (torch.as_tensor(values[order]) - learnt._low) / learnt._width
    mean, covariance = learnt._posterior(points)

    def best_of(pair: Pair) -> float:
        a, b = where[pair[0]], where[pair[1]]
        sd = (covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]).clamp_min(1e-12).sqrt()
        z = (mean[a] - mean[b]) / sd
        density = torch.exp(-0.5 * z**2) / (2 * torch.pi) ** 0.5
        chance = torch.special.ndtr(z)
        return float(mean[a] * chance + mean[b] * (1 - chance) + sd * density)

    return max(left, key=best_of)
