"""Level sets: where a metric crosses a value, not where it is best.

What is sought is a classification: which designs are above the level and which below, with how much
certainty. The *straddle* heuristic ([Bryan2005]_) evaluates where the two are hardest to tell
apart: where the level lies well inside the interval that the surrogate gives. For several metrics
the worths are added ([Bryan2008]_).

.. [Bryan2005] B. Bryan et al., Active Learning for Identifying Function Threshold Boundaries.
   NeurIPS 2005.
.. [Bryan2008] B. Bryan and J. Schneider, Actively Learning Level-Sets of Composite Functions. ICML
   2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from botorch.utils.safe_math import log_softplus
from torch import Tensor

from loop.fitted import bounds_of, fitted
from loop.problem import Problem
from loop.search import encodable
from loop.space import Design
from surrogates import Surrogate

if TYPE_CHECKING:
    from loop.proposal import History

WIDTH = 1.96
"""Standard deviations to each side of the mean: 95 % of what a value may be."""

SAMPLE = 1000
"""Designs that are classified where none are given, of a space too large to be classified whole."""

_SOFT = 0.02


def straddle(problem: Problem, surrogate: Surrogate, mean: Tensor, variance: Tensor) -> Tensor:
    """Log worth of q designs: q x m standardised means and variances to q numbers.

    The logarithm of the straddle, smoothed so that designs which are surely on one side can still
    be told from each other.
    """
    parts = []
    for objective in problem.objectives:
        if objective.goal != "level":
            continue
        j = problem.metrics.index(objective.metric)
        level = surrogate.models[j].warp(torch.tensor([objective.target]).to(mean))
        reach = WIDTH * variance[..., j].sqrt() - (mean[..., j] - level).abs()
        parts.append(log_softplus(reach, tau=_SOFT))
    return torch.logsumexp(torch.stack(parts), 0)


@dataclass(frozen=True)
class Contour:
    """Which designs are above a level, and which below.

    Attributes:
        metric: whose.
        level: in `unit`.
        unit: of the metric.
        above: n probabilities of being above the level.
        certainty: probability from which on a side is said to be known.
    """

    metric: str
    level: float
    unit: str
    above: np.ndarray
    certainty: float

    @property
    def sides(self) -> list[str]:
        """For each design `above`, `below` or `unsure`."""
        return [
            "above" if p >= self.certainty else "below" if p <= 1.0 - self.certainty else "unsure"
            for p in self.above
        ]

    def as_dict(self) -> dict[str, Any]:
        """How many designs are on which side, JSON-able."""
        sides = self.sides
        return {
            "metric": self.metric,
            "level": self.level,
            "unit": self.unit,
            "certainty": self.certainty,
            "above": sides.count("above"),
            "below": sides.count("below"),
            "unsure": sides.count("unsure"),
        }


@dataclass(frozen=True)
class Classified:
    """Designs, and on which side of every level each is.

    Attributes:
        designs: n of them.
        contours: one for each objective that is a level.
    """

    designs: list[Design]
    contours: list[Contour]


def classified(
    problem: Problem,
    history: History,
    designs: Sequence[Design] | None = None,
    *,
    certainty: float = 0.95,
    seed: int = 0,
) -> Classified:
    """Say of designs whether they are above or below the levels: the result of such a campaign.

    Args:
        problem: with an objective that is a level.
        history: everything tried so far.
        designs: which to classify; those that cannot be encoded are left out. None = all there are
            where they can be counted and are few, else a sample of `SAMPLE` of them.
        certainty: probability from which on a side is said to be known, above a half.
        seed: of the fit and the sample.

    Raises:
        ValueError: no objective is a level, nothing was measured yet, or a certainty that is not
            between a half and one.
    """
    if not problem.contour:
        raise ValueError("no objective is a level")
    if not 0.5 < certainty < 1.0:
        raise ValueError(f"a certainty is between a half and one, not {certainty}")
    outcomes = np.asarray(history.outcomes, dtype=np.float64)
    X, kept = encodable(problem.space.features, history.made)
    outcomes, sem = outcomes[kept], np.asarray(history.sem, dtype=np.float64)[kept]
    source = np.zeros(len(kept), int)
    if history.source is not None:
        source = np.asarray(history.source, int)[kept]
    done = np.isfinite(outcomes).any(axis=1) & ~np.asarray(history.failed, dtype=bool)[kept]
    if not np.isfinite(outcomes[done & (source == 0)]).any(axis=0).all():
        raise ValueError("a metric has no result yet")
    asked = _some(problem, seed) if designs is None else list(designs)
    C, known = encodable(problem.space.features, asked)
    # A few designs that are asked about say nothing of how far the space reaches.
    others = [] if designs is None else _some(problem, seed)
    within, _ = encodable(problem.space.features, others)
    surrogate = fitted(
        problem,
        X[done],
        outcomes[done],
        sem[done],
        bounds=bounds_of(problem, X, C, within),
        seed=seed,
        source=source[done],
    )
    contours = []
    with torch.no_grad():
        unit = surrogate.unit(C)
        for objective in problem.objectives:
            if objective.target is None or objective.goal != "level":
                continue
            model = surrogate.models[problem.metrics.index(objective.metric)]
            mean, variance = model.marginal(unit)
            level = model.warp(torch.tensor([objective.target]).to(mean))
            above = torch.special.ndtr((mean - level) / variance.sqrt()).cpu().numpy()
            contours.append(
                Contour(objective.metric, objective.target, objective.unit, above, certainty)
            )
    return Classified([asked[i] for i in known], contours)


def _some(problem: Problem, seed: int) -> list[Design]:
    space = problem.space
    if space.size is not None and space.size <= SAMPLE:
        codes = space.codes_at(np.arange(space.size))
        found = space.decode(codes[space.allowed(codes)], seed)
    else:
        found = space.sample(SAMPLE, seed)
    return [design for design in found if design is not None]
