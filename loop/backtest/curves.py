"""What a choice was worth: pure functions of the table and the order in which it was opened.

A curve has one number for each evaluation, the first points included: `curve[i - 1]` after i
evaluations. Top %, enhancement and acceleration factors are those of Liang et al., npj Comput.
Mater. 7, 188 (2021); random search is not sampled but known: after i of N evaluations it has found
i / N of any set of designs on average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from loop.front import (
    best_so_far,
    counts,
    hypervolume,
    hypervolume_trace,
    pareto_mask,
    reference_point,
    utilities,
)
from loop.problem import Problem


def top_designs(problem: Problem, outcomes: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Which designs of a table are its best: N booleans.

    One objective: the `ceil(share * F)` best of the F feasible ones; which of those that tie at the
    threshold are in is drawn with the seed. Several: the front, however large it is.

    Args:
        problem: what is best.
        outcomes: N x m.
        share: above 0, at most 1.
        seed: of the draw.

    Raises:
        ValueError: a share out of its range, or no design is feasible.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share is above 0 and at most 1, not {share}")
    usable = counts(problem, outcomes)
    if not usable.any():
        raise ValueError("no design of the table satisfies the constraints")
    if len(problem.objectives) > 1:
        return pareto_mask(problem, outcomes)
    values = np.where(usable, utilities(problem, outcomes)[:, 0], -np.inf)
    ties = np.random.default_rng(seed).random(len(values))
    order = np.lexsort((ties, -values))
    mask = np.zeros(len(values), dtype=bool)
    mask[order[: math.ceil(share * int(usable.sum()) - 1e-9)]] = True
    return mask


def found_curve(picked: Sequence[int], top: np.ndarray) -> np.ndarray:
    """Share of the top designs found after each evaluation ("Top %", as a fraction)."""
    return np.asarray(np.cumsum(top[list(picked)]) / top.sum())


def evaluations_to(curve: np.ndarray, level: float) -> float:
    """Evaluations until a rising curve reaches a level, linear between them; nan if it does not.

    Before the first evaluation the curve is 0.
    """
    padded = np.append(0.0, curve)
    reached = np.flatnonzero(padded >= level - 1e-12)
    if not len(reached):
        return math.nan
    i = int(reached[0])
    if i == 0:
        return 0.0
    rise = padded[i] - padded[i - 1]
    return float(i - 1 + (level - padded[i - 1]) / rise)


def enhancement(curve: np.ndarray, designs: int) -> np.ndarray:
    """Enhancement factor after each evaluation: Top % over that of random search, i / N."""
    return curve * designs / np.arange(1, len(curve) + 1)


def acceleration(curve: np.ndarray, designs: int, level: float) -> float:
    """Acceleration factor: evaluations that random search needs to a level, over those needed here.

    Random search needs `level * N` on average. Nan where the curve does not reach the level.
    """
    return level * designs / evaluations_to(curve, level)


def regret_curve(problem: Problem, outcomes: np.ndarray, picked: Sequence[int]) -> np.ndarray:
    """Simple regret: how far the best found is from the table's best, over the table's range.

    Of one objective, among feasible designs; 1 until something is feasible, 0 at the best.

    Raises:
        ValueError: there are several objectives.
    """
    if len(problem.objectives) != 1:
        raise ValueError("simple regret is of one objective: several have a hypervolume")
    values = utilities(problem, outcomes)[:, 0]
    usable = counts(problem, outcomes)
    best, worst = values[usable].max(), values[usable].min()
    spread = best - worst or 1.0
    trace = best_so_far(problem, outcomes[list(picked)])
    found = np.full((len(trace), outcomes.shape[1]), np.nan)
    found[:, problem.metrics.index(problem.objectives[0].metric)] = trace[:, 0]
    regret = (best - utilities(problem, found)[:, 0]) / spread
    return np.where(np.isfinite(regret), regret, 1.0)


def best_curve(problem: Problem, outcomes: np.ndarray, picked: Sequence[int]) -> np.ndarray:
    """Best feasible value of the first objective so far, in its unit; nan until there is one."""
    return best_so_far(problem, outcomes[list(picked)])[:, 0]


def hypervolume_curve(problem: Problem, outcomes: np.ndarray, picked: Sequence[int]) -> np.ndarray:
    """Hypervolume found after each evaluation, over that of the whole table.

    Both count from the reference point of the whole table's feasible part (`reference_point`).
    """
    corner, _ = reference_point(problem, outcomes)
    whole = hypervolume(problem, outcomes, corner)
    trace = hypervolume_trace(problem, outcomes[list(picked)], corner)
    return trace / whole if whole > 0 else np.ones_like(trace)


def area(curve: np.ndarray) -> float:
    """Area under a curve: its mean over the evaluations."""
    return float(np.mean(curve))


def coverage(errors: np.ndarray, sd: np.ndarray, level: float) -> float:
    """Share of results inside the central interval of a normal prediction; nan of none.

    Args:
        errors: n results minus predicted means.
        sd: n standard deviations of what was predicted, noise included.
        level: such as 0.8.
    """
    if not len(errors):
        return math.nan
    return float(np.mean(np.abs(errors) <= norm.ppf(0.5 + level / 2) * sd))
