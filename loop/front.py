"""Fronts, hypervolumes and best-so-far, from outcomes alone: numpy in, numpy out.

Outcomes are n x m arrays in the order of `problem.metrics`, in the metrics' units, nan = not
measured. Only designs that satisfy every outcome constraint count anywhere here.
"""

from __future__ import annotations

import numpy as np

from loop.problem import Problem


def utilities(problem: Problem, outcomes: np.ndarray) -> np.ndarray:
    """Each objective as a number to be made large: n x k, nan where not measured.

    The outcome itself to maximise, its negative to minimise, minus the distance from a target (or a
    level); distances within a target's tolerance are as good as that tolerance, all alike.
    """
    columns = []
    for objective in problem.objectives:
        y = np.asarray(outcomes, dtype=np.float64)[:, problem.metrics.index(objective.metric)]
        if objective.target is not None:
            y = -np.maximum(np.abs(y - objective.target), objective.tolerance or 0.0)
        columns.append(-y if objective.goal == "minimize" else y)
    return np.stack(columns, axis=1)


def feasible(problem: Problem, outcomes: np.ndarray) -> np.ndarray:
    """Whether every outcome constraint is known to hold: n booleans (nan holds nothing)."""
    ok = np.ones(len(outcomes), dtype=bool)
    for constraint in problem.constraints:
        y = np.asarray(outcomes, dtype=np.float64)[:, problem.metrics.index(constraint.metric)]
        ok &= y <= constraint.bound if constraint.op == "<=" else y >= constraint.bound
    return ok


def counts(problem: Problem, outcomes: np.ndarray) -> np.ndarray:
    """Whether a design is feasible and all its objectives are known: n booleans."""
    known = np.isfinite(utilities(problem, outcomes)).all(axis=1)
    return known & feasible(problem, outcomes)


def pareto_mask(problem: Problem, outcomes: np.ndarray) -> np.ndarray:
    """Which designs no other beats: n booleans. Of exact ties all are kept."""
    mask = counts(problem, outcomes)
    values = utilities(problem, outcomes)
    for i in np.flatnonzero(mask):
        others = values[mask]
        at_least = (others >= values[i]).all(axis=1)
        mask[i] = not (at_least & (others > values[i]).any(axis=1)).any()
    return mask


def reference_point(
    problem: Problem, outcomes: np.ndarray, searching: bool = False
) -> tuple[np.ndarray, list[str]]:
    """The corner that hypervolume is measured from.

    An objective's threshold where it has one; else a tenth of the spread below the worst value on
    the front, so that the front's ends count too (Ishibuchi 2018). Spread and front are those of
    the feasible designs, or of all measured ones while none is feasible.

    Args:
        problem: the goals.
        outcomes: n x m.
        searching: below the worst value of all in place of the front's. From so low a corner, what
            lies beyond the ends of a young front is worth going for; from below the front's own
            ends next to nothing is, and the search stays where the front happened to begin.

    Returns:
        k utilities (see `utilities`), and a sentence for each that was inferred. Nan where nothing
        is known yet.
    """
    values = utilities(problem, outcomes)
    rows = counts(problem, outcomes)
    front = pareto_mask(problem, outcomes)
    corner = np.full(len(problem.objectives), np.nan)
    notes = []
    for j, objective in enumerate(problem.objectives):
        known = rows if rows.any() else np.isfinite(values[:, j])
        ends = front if rows.any() and not searching else known
        if objective.threshold is not None:
            corner[j] = objective.threshold * (1.0 if objective.goal == "maximize" else -1.0)
        elif known.any():
            spread = np.ptp(values[known, j]) or max(1e-3, abs(values[known, j][0]))
            corner[j] = values[ends, j].min() - 0.1 * spread
            shown = corner[j] if objective.goal == "maximize" else -corner[j]
            what = "a distance from the target of " if objective.goal == "target" else ""
            notes.append(
                f"hypervolume counts {what}{objective.metric} from {shown:.4g} {objective.unit}"
                " (inferred; a threshold would fix it)"
            )
    return corner, notes


def hypervolume(
    problem: Problem, outcomes: np.ndarray, reference: np.ndarray | None = None
) -> float:
    """Volume between the front and the reference point, in the product of the objectives' units.

    Args:
        problem: the goals.
        outcomes: n x m.
        reference: k utilities; by default `reference_point` of these outcomes.
    """
    if reference is None:
        reference, _ = reference_point(problem, outcomes)
    values = utilities(problem, outcomes)[pareto_mask(problem, outcomes)]
    values = values[(values > reference).all(axis=1)]
    if not len(values):
        return 0.0
    if values.shape[1] == 1:
        return float(values.max() - reference[0])
    if values.shape[1] == 2:
        # Strips under the staircase, without waiting seconds for torch to import.
        x, y = (values[np.argsort(-values[:, 0])] - reference).T
        risen = np.maximum.accumulate(np.append(0.0, y))
        return float(np.sum(x * np.diff(risen)))
    import torch
    from botorch.utils.multi_objective.hypervolume import Hypervolume

    return float(Hypervolume(torch.as_tensor(reference)).compute(torch.as_tensor(values)))


def hypervolume_trace(
    problem: Problem, outcomes: np.ndarray, reference: np.ndarray | None = None
) -> np.ndarray:
    """Hypervolume after each of n trials, all from one reference point: n numbers, never falling.

    Args:
        problem: the goals.
        outcomes: n x m, in the order of the trials; a row of nan for a failed one.
        reference: k utilities; by default `reference_point` of all outcomes.
    """
    outcomes = np.asarray(outcomes, dtype=np.float64)
    if reference is None:
        reference, _ = reference_point(problem, outcomes)
    usable = counts(problem, outcomes)
    trace, volume = np.zeros(len(outcomes)), 0.0
    front: list[int] = []  # the rest adds nothing to the volume
    for i in range(len(outcomes)):
        if usable[i]:
            rows = [*front, i]
            on = pareto_mask(problem, outcomes[rows])
            if on[-1]:
                front = [row for row, kept in zip(rows, on, strict=True) if kept]
                volume = max(volume, hypervolume(problem, outcomes[front], reference))
        trace[i] = volume
    return trace


def best_so_far(problem: Problem, outcomes: np.ndarray) -> np.ndarray:
    """Best feasible value of each objective after each trial: n x k, in the metrics' units.

    For a target, the value closest to it. Nan until something counts.
    """
    outcomes = np.asarray(outcomes, dtype=np.float64)
    columns = [problem.metrics.index(o.metric) for o in problem.objectives]
    values, raw = utilities(problem, outcomes), outcomes[:, columns]
    usable = feasible(problem, outcomes)[:, None] & np.isfinite(values)
    trace = np.full(values.shape, np.nan)
    best = np.full(values.shape[1], -np.inf)
    for i in range(len(values)):
        better = usable[i] & (values[i] > best)
        best = np.where(better, values[i], best)
        previous = trace[i - 1] if i else trace[0]
        trace[i] = np.where(better, raw[i], previous)
    return trace
