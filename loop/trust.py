"""Trust regions: boxes around the best designs in which a search in many dimensions stays.

In twenty dimensions and more, a surrogate is uncertain almost everywhere, and what it likes best
lies in corners that nobody has been to. A region keeps to where it knows something: a box around
the best design, long in the directions that matter little and short in those that matter much,
which grows while it brings improvements and shrinks while it does not ([Eriksson2019]_). For
several objectives there are several boxes, spread over the front ([Daulton2022]_).

Nothing is kept between proposals: how long the box is follows from replaying the outcomes in the
order of their trials.

.. [Daulton2022] S. Daulton et al., Multi-Objective Bayesian Optimization over High-Dimensional
   Search Spaces. UAI 2022.
.. [Eriksson2019] D. Eriksson et al., Scalable Global Optimization via Local Bayesian Optimization.
   NeurIPS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loop.front import counts, utilities
from loop.problem import Problem
from loop.search import encodable, spread_out
from loop.space import Design, DesignSpace
from surrogates import Surrogate

GROUPS = 15
"""With more groups of features than this, a space has many dimensions."""

LONGEST, FIRST, SHORTEST = 1.6, 0.8, 0.5**7
"""Lengths of a region, as shares of an axis; one shorter than the shortest begins anew."""

SUCCESSES = 3
"""Improvements without a run of failures between them, after which a region doubles."""

CENTRES = 4
"""Regions of several objectives."""

MOVED = 20
"""Coordinates that a move changes on average: in many dimensions, not all at once."""

_SLIGHT = 1e-3


@dataclass(frozen=True)
class Region:
    """A box around a design.

    Attributes:
        centre: width numbers, the code of the design in its middle.
        half: width numbers, how far the box reaches to each side, in code units.
        length: of the box before it was stretched by the lengthscales.
    """

    centre: np.ndarray
    half: np.ndarray
    length: float


def wanted(space: DesignSpace, completed: int) -> bool:
    """Whether a space has many dimensions, and enough is known for a region to have a shape."""
    groups = 1 + max(space.feature_groups, default=-1)
    return groups > GROUPS and completed > 2 * groups


def length(problem: Problem, outcomes: np.ndarray, first: int = 0) -> float:
    """How long a region is by now, replayed from the outcomes.

    It doubles after three improvements, halves after as many trials in a row without one as there
    are groups of features (four at least), and begins anew when it is all but a point.

    Args:
        problem: the goals.
        outcomes: n x m in the order of the trials; a row of nan for a failed one.
        first: trials at the beginning that no region proposed.
    """
    better = improved(problem, outcomes)
    patience = max(4, 1 + max(problem.space.feature_groups, default=0))
    now, good, bad = FIRST, 0, 0
    for success in better[first:]:
        good, bad = (good + 1, 0) if success else (good, bad + 1)
        if good == SUCCESSES:
            now, good, bad = min(2.0 * now, LONGEST), 0, 0
        elif bad == patience:
            now, good, bad = now / 2.0, 0, 0
        if now < SHORTEST:
            now, good, bad = FIRST, 0, 0
    return now


def improved(problem: Problem, outcomes: np.ndarray) -> np.ndarray:
    """Which trials brought something better than all before them: n booleans.

    Better than the best by a thousandth of the range; for several objectives, than every point of
    the front of that time, in some objective of each.
    """
    outcomes = np.asarray(outcomes, dtype=np.float64)
    usable = np.flatnonzero(counts(problem, outcomes))
    better = np.zeros(len(outcomes), dtype=bool)
    values = utilities(problem, outcomes)
    spread = np.ptp(values[usable], axis=0) if len(usable) else np.ones(values.shape[1])
    values = values / np.where(spread > 0, spread, 1.0)
    front = np.empty((0, values.shape[1]))
    for i in usable:
        ahead = (values[i] - front).max(axis=1)
        better[i] = not len(front) or bool(ahead.min() > _SLIGHT)
        if better[i]:
            front = np.vstack([front[~(values[i] >= front).all(axis=1)], values[i]])
    return better


def regions(
    problem: Problem,
    surrogate: Surrogate,
    designs: list[Design],
    X: np.ndarray,
    outcomes: np.ndarray,
    long: float,
) -> list[Region]:
    """Boxes around the best designs by the surrogate's mean, of one length.

    Args:
        problem: the goals.
        surrogate: fitted to `problem.metrics`.
        designs: n completed designs.
        X: n x f, their features.
        outcomes: n x m, what was measured of them.
        long: the length, see `length`.

    Returns:
        One region for one objective, up to `CENTRES` for several; none where no design can be
        encoded.
    """
    mean = np.asarray(surrogate.posterior(X)[0].detach().cpu(), dtype=np.float64)
    usable = counts(problem, outcomes)
    believed = np.where(usable[:, None], mean, np.nan) if usable.any() else mean
    values = utilities(problem, believed)
    if len(problem.objectives) == 1:
        rows = np.array([int(np.nanargmax(values[:, 0]))])
    else:
        # What the surrogate believes of a constraint does not unmake what was measured.
        front = _front(values)
        rows = front[spread_out(values[front], values[front].sum(axis=1), CENTRES, len(front))]
    codes, _ = encodable(problem.space.encode, [designs[int(i)] for i in rows])
    space = problem.space
    weights = code_weights(space, surrogate)
    half = np.minimum(0.5 * long * weights, 1.0)
    return [Region(code, half, long) for code in space.project(codes)] if len(codes) else []


def _front(values: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    keep = [
        i
        for i in known
        if not ((values[known] >= values[i]).all(1) & (values[known] > values[i]).any(1)).any()
    ]
    return np.array(keep, dtype=int)


def code_weights(space: DesignSpace, surrogate: Surrogate) -> np.ndarray:
    """How long a region is in each of the width coordinates beside the others; their mean is one.

    As long as the lengthscale of the coordinate's feature (the geometric mean of all metrics'),
    where the two are one number; other coordinates count as average.
    """
    weights = np.ones(space.width)
    if not space.smooth:
        return weights
    logs = []
    for model in surrogate.models:
        by_group = model.structure.unpack(model.theta)[0]
        logs.append(by_group[list(model.structure.groups)].detach().cpu().numpy())
    scale = np.exp(np.mean(logs, axis=0))
    for code, feature in space.smooth:
        weights[code] = scale[feature]
    smooth = [code for code, _ in space.smooth]
    # Lengths differ by orders of magnitude; Eriksson et al. keep the volume, and so the median.
    weights[smooth] /= np.exp(np.mean(np.log(weights[smooth])))
    return np.clip(weights, 0.2, 5.0)


def moves(space: DesignSpace, found: list[Region], n: int, rng: np.random.Generator) -> np.ndarray:
    """N allowed codes inside the regions, by turns: n x width.

    A move changes about `MOVED` coordinates and leaves the others as they are in the centre (the
    perturbation mask of Regis and Shoemaker 2013, which TuRBO uses).
    """
    if not found:
        return np.empty((0, space.width))
    which = np.arange(n) % len(found)
    centre = np.stack([r.centre for r in found])[which]
    half = np.stack([r.half for r in found])[which]
    share = min(1.0, MOVED / space.width)
    mask = rng.random(centre.shape) < share
    mask[np.arange(n), rng.integers(space.width, size=n)] = True
    smooth = [code for code, _ in space.smooth]
    moved = centre.copy()
    inside = centre + half * rng.uniform(-1.0, 1.0, centre.shape)
    moved[:, smooth] = np.where(mask, inside, centre)[:, smooth]
    rest = np.setdiff1d(np.arange(space.width), smooth)
    if len(rest):
        # The other axes know best what a step is: a category changes or stays.
        size = np.minimum(1.0, half.mean(axis=1))
        stepped = space.jitter(centre, size, rng)
        moved[:, rest] = np.where(mask, stepped, centre)[:, rest]
    return space.project(moved)
