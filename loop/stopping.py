"""When to stop: pure functions of what was observed, so that a replay gives the same verdict."""

from __future__ import annotations

import numpy as np

from loop.front import counts, hypervolume_trace, utilities
from loop.problem import Problem


def stalled(
    problem: Problem, outcomes_in_order: np.ndarray, after: int, tolerance: float = 1e-3
) -> str | None:
    """Why to stop, where the last trials brought nothing; None while they still do.

    Progress is hypervolume for several objectives and the best value for one.

    Args:
        problem: the goals.
        outcomes_in_order: n x m in the order in which the trials ended; a row of nan for a failed
            trial, which counts as one that brought nothing.
        after: number of *trials* without progress that make a stall (for a rule in batches, pass
            batches times batch size).
        tolerance: relative gain below which it is none.

    Raises:
        ValueError: `after` is below one.
    """
    if after < 1:
        raise ValueError(f"a stall takes one trial or more, not {after}")
    outcomes = np.asarray(outcomes_in_order, dtype=np.float64)
    if len(outcomes) <= after or not counts(problem, outcomes[:-after]).any():
        return None  # before the first design that counts there is nothing to stall
    if len(problem.objectives) > 1:
        what, trace = "hypervolume", hypervolume_trace(problem, outcomes)
        scale = abs(trace[-1 - after])
        if scale == 0:
            return None  # no design has passed the thresholds yet
    else:
        what = problem.objectives[0].metric
        values = np.where(counts(problem, outcomes), utilities(problem, outcomes)[:, 0], -np.inf)
        trace = np.maximum.accumulate(values)
        scale = float(np.ptp(values[np.isfinite(values)]))
    gain = trace[-1] - trace[-1 - after]
    if gain > tolerance * scale:
        return None
    return f"the best {what} has not improved in the last {after} trials"
