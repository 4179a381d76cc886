"""Methods compared over seeds: every figure with its confidence interval, as JSON-able data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loop.backtest import curves as measure
from loop.backtest.replay import Trace
from loop.backtest.statistics import Estimate, Figure, band, difference, estimate, ratio
from loop.backtest.table import LookupTable
from loop.problem import Problem

LEVELS = (0.5, 0.8, 0.95)
"""Of the prediction intervals whose coverage is told."""

OURS = "matloop"


def summarise(
    problem: Problem,
    table: LookupTable,
    traces: Mapping[str, Sequence[Trace]],
    *,
    top: float = 0.05,
    level: float = 0.5,
) -> dict[str, Any]:
    """Compare methods.

    Args:
        problem: what was wanted.
        table: the truth; a choice is judged by the means, whatever was answered.
        traces: method to its replays, at least one, each of another seed.
        top: share of the table that is its best.
        level: share of those at which acceleration is told.

    Returns:
        `table` (designs, top, ...), `methods` (each with `figures`: name to value, low, high;
        `curves`: name to mean, low, high; `seconds`; `coverage`), and `against` (method to the
        differences ours minus theirs of the figures, over the seeds both have; of the acceleration
        the ratio). What is not reached, or not known, is None.
    """
    judge = _Judge(problem, table, top, level)
    return {
        "table": {
            "designs": len(table),
            "measurements": sum(len(r) for r in table.repeats),
            "top": int(judge.top.sum()),
            "top_share": top,
            "acceleration_level": level,
        },
        "methods": {name: judge.method(list(found)) for name, found in traces.items()},
        "against": {
            name: judge.against(traces[OURS], found)
            for name, found in traces.items()
            if name != OURS and OURS in traces
        },
    }


class _Judge:
    def __init__(self, problem: Problem, table: LookupTable, top: float, level: float) -> None:
        self._problem, self._table, self._level = problem, table, level
        self.top = measure.top_designs(problem, table.outcomes, top)
        self._several = len(problem.objectives) > 1

    def curves(self, traces: Sequence[Trace]) -> dict[str, np.ndarray]:
        """Each kind of curve, s x n; cut to the shortest of the replays."""
        n = min(len(trace.picked) for trace in traces)
        picked = [trace.picked[:n] for trace in traces]
        outcomes = self._table.outcomes
        found = {"top": np.stack([measure.found_curve(p, self.top) for p in picked])}
        one = (self._problem, outcomes)
        if self._several:
            found["hypervolume"] = np.stack([measure.hypervolume_curve(*one, p) for p in picked])
        else:
            found["regret"] = np.stack([measure.regret_curve(*one, p) for p in picked])
            found["best"] = np.stack([measure.best_curve(*one, p) for p in picked])
        return found

    def figures(self) -> dict[str, tuple[str, Figure]]:
        """Name of each figure to the curve it is of, and how."""
        n, level = len(self._table), self._level
        wanted: dict[str, tuple[str, Figure]] = {
            "top": ("top", lambda c: float(c[-1])),
            "top_area": ("top", measure.area),
            "acceleration": ("top", lambda c: measure.acceleration(c, n, level)),
            "enhancement": ("top", lambda c: float(measure.enhancement(c, n)[-1])),
            "enhancement_peak": ("top", lambda c: float(measure.enhancement(c, n).max())),
        }
        if self._several:
            wanted["hypervolume"] = ("hypervolume", lambda c: float(c[-1]))
            wanted["hypervolume_area"] = ("hypervolume", measure.area)
        else:
            wanted["regret"] = ("regret", lambda c: float(c[-1]))
            wanted["regret_area"] = ("regret", measure.area)
        return wanted

    def method(self, traces: list[Trace]) -> dict[str, Any]:
        """All that is told of one method."""
        found = self.curves(traces)
        shown = {}
        for name, values in found.items():
            mean, low, high = band(values)
            shown[name] = {"mean": mean.tolist(), "low": low.tolist(), "high": high.tolist()}
        return {
            "seeds": sorted(trace.seed for trace in traces),
            "evaluations": len(next(iter(found.values()))[0]),
            "figures": {
                name: _told(estimate(found[curve], number))
                for name, (curve, number) in self.figures().items()
            },
            "seconds": _seconds(traces),
            "coverage": self._coverage(traces),
            "curves": shown,
        }

    def against(self, ours: Sequence[Trace], theirs: Sequence[Trace]) -> dict[str, Any]:
        """Ours minus theirs, over the seeds both have."""
        mine, other = ({t.seed: t for t in traces} for traces in (ours, theirs))
        seeds = sorted(mine.keys() & other.keys())
        if not seeds:
            return {"seeds": []}
        a, b = self.curves([mine[s] for s in seeds]), self.curves([other[s] for s in seeds])
        n = min(len(a["top"][0]), len(b["top"][0]))
        told: dict[str, Any] = {"seeds": seeds}
        for name, (curve, number) in self.figures().items():
            pair = a[curve][:, :n], b[curve][:, :n]
            if name == "acceleration":
                told["acceleration_ratio"] = _told(ratio(*pair, number))
            else:
                told[name] = _told(difference(*pair, number))
        return told

    def _coverage(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """Of each metric: how many predictions, and the share of results inside their intervals."""
        told: dict[str, Any] = {}
        for j, metric in enumerate(self._problem.metrics):
            errors, sds = [], []
            for trace in traces:
                for step in trace.steps:
                    told_there = zip(step.predictions, step.outcomes, step.sem, strict=True)
                    for prediction, outcomes, sem in told_there:
                        if metric not in prediction:
                            continue
                        p = prediction[metric]
                        noisy = math.hypot(p.sd, sem[j] or 0.0)
                        errors.append(outcomes[j] - p.mean)
                        sds.append(noisy if p.predictive_sd is None else p.predictive_sd)
            if errors:
                shares = {
                    f"{level:g}": measure.coverage(np.array(errors), np.array(sds), level)
                    for level in LEVELS
                }
                told[metric] = {"predictions": len(errors), "inside": shares}
        return told


def _seconds(traces: Sequence[Trace]) -> dict[str, float | None]:
    """Seconds a proposal: median and mean, as they passed and of the processor."""
    told: dict[str, float | None] = {}
    for kind in ("wall", "cpu"):
        times = [getattr(step, kind) for trace in traces for step in trace.steps]
        told[kind] = float(np.median(times)) if times else None
        told[f"{kind}_mean"] = float(np.mean(times)) if times else None
    return told


def _told(found: Estimate) -> dict[str, float | None]:
    numbers = {"value": found.value, "low": found.low, "high": found.high}
    return {key: value if math.isfinite(value) else None for key, value in numbers.items()}
