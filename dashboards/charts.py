"""The report's charts: which facts go on which axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from campaigns.calibration import Record
from campaigns.facts import KINDS, Facts
from dashboards.figures import Figure, Plot, Point, Scale
from dashboards.typography import (
    MINUS,
    design_name,
    label,
    name,
    plural,
    short,
)
from loop.front import reference_point, utilities
from loop.problem import Objective

MOST_PAIRS = 6
_DRAWN_LAST = ("abandoned", "failed", "open", "part", "out", "ok", "front")


def better(objective: Objective) -> str:
    """The label of an objective's axis, with an arrow to the better side."""
    text = label(objective.metric, objective.unit)
    if objective.goal == "maximize":
        return f"{text} · better →"
    if objective.goal == "minimize":
        return f"← better · {text}"
    assert objective.target is not None
    asked = "level" if objective.goal == "level" else "wanted"
    return f"{text}, {asked} {short(objective.target)}"


def objective_space(facts: Facts) -> list[Figure]:
    """Every pair of objectives (at most six) against each other; none for one objective."""
    pairs = list(itertools.combinations(range(len(facts.problem.objectives)), 2))
    return [_pair(facts, a, b) for a, b in pairs[:MOST_PAIRS]]


def _pair(facts: Facts, a: int, b: int) -> Figure:
    goals = facts.problem.objectives
    first, second = goals[a], goals[b]
    i, j = (facts.metrics.index(o.metric) for o in (first, second))
    places = np.where(np.isfinite(facts.outcomes), facts.outcomes, np.nan)
    at = np.array(
        [
            # what was never measured stands where it was expected
            facts.predicted[row, [i, j]] if kind in ("failed", "open") else places[row, [i, j]]
            for row, kind in enumerate(facts.kinds)
        ]
    ).reshape(-1, 2)
    plot = Plot(
        Scale.around(at[:, 0]), Scale.around(at[:, 1]), better(first), better(second)
    )  # fmt: skip
    caption = []
    two = len(goals) == 2 and first.target is None and second.target is None
    if two and facts.front.any():
        caption.append(_staircase(plot, facts))
    for objective, axis in ((first, "x"), (second, "y")):
        draw_bounds(plot, facts, objective, axis)
    shown = []
    for row in drawing_order(facts):
        kind, (x, y) = facts.kinds[row], at[row]
        if kind == "abandoned" or not (math.isfinite(x) and math.isfinite(y)):
            continue
        if kind not in ("failed", "open"):
            plot.error(x, y, dx=facts.sem[row, i], dy=facts.sem[row, j])
        plot.mark(x, y, kind, facts.trials[row]["trial"])
        shown.append(kind)
    for row in np.flatnonzero(facts.front).tolist():
        plot.name(float(at[row, 0]), float(at[row, 1]), _short_name(facts, row))
    nowhere = [k for k, (x, y) in zip(facts.kinds, at, strict=True) if not math.isfinite(x + y)]
    lost = sum(k in ("failed", "open") for k in nowhere)
    if {"failed", "open"} & set(shown):
        caption.append("Failed and unanswered trials stand where they were predicted to be.")
    if lost:
        caption.append(
            f"Not shown: {plural(lost, 'failed or unanswered trial')} of which nothing was "
            "predicted."
        )
    title = f"{name(first.metric).capitalize()} and {name(second.metric)}"
    return Figure(
        title,
        plot.render(f"pair{a}{b}", title, f"Scatter of {plural(len(shown), 'trial')}."),
        " ".join(caption),
        legend(shown),
    )


def _staircase(plot: Plot, facts: Facts) -> str:
    """Draw what the front beats, down to the reference point; say which point that is."""
    corner, _ = reference_point(facts.problem, facts.outcomes)
    signs = np.array([-1.0 if o.goal == "minimize" else 1.0 for o in facts.problem.objectives])
    values = utilities(facts.problem, facts.outcomes)[facts.front]
    values = values[(values > corner).all(axis=1)]
    if not len(values):
        return "No trial on the front is better than the reference point."
    values = values[np.argsort(values[:, 0])]
    points: list[Point] = [(corner[0], values[0, 1])]
    for here, after in itertools.zip_longest(values, values[1:]):
        points.append((here[0], here[1]))
        points.append((here[0], corner[1] if after is None else after[1]))
    stairs = [(x * signs[0], y * signs[1]) for x, y in points]
    plot.area([*stairs, (corner[0] * signs[0], corner[1] * signs[1])], "beaten")
    plot.line(stairs, "stairs")
    beyond = int(facts.front.sum()) - len(values)
    text = "Shaded: what the front beats, down to the reference point."
    return text + (f" {plural(beyond, 'trial')} of the front lie beyond it." if beyond else "")


def draw_bounds(plot: Plot, facts: Facts, objective: Objective, axis: str) -> None:
    """Draw an objective's target, and constraints on the same metric."""
    if objective.target is not None:
        _across(plot, axis, "target", objective.target)
        if objective.tolerance:
            _across(plot, axis, "bound", objective.target - objective.tolerance)
            _across(plot, axis, "bound", objective.target + objective.tolerance)
    for constraint in facts.problem.constraints:
        if constraint.metric == objective.metric:
            _across(plot, axis, "bound", constraint.bound)


def _across(plot: Plot, axis: str, css: str, at: float) -> None:
    if axis == "x":
        plot.across(css, x=at)
    else:
        plot.across(css, y=at)


def parity(facts: Facts, records: Sequence[Record]) -> list[Figure]:
    """For each metric: what was predicted before, against the result."""
    figures = []
    for n, record in enumerate(records):
        of = facts.units[record.metric]
        scale = Scale.around([*record.result, *record.predicted], pad=0.08)
        shown = label(record.metric, of)
        plot = Plot(
            scale, scale, f"result: {shown}", f"predicted before: {name(record.metric)}", True
        )
        plot.line([(scale.low, scale.low), (scale.high, scale.high)], "diagonal")
        kinds = []
        for k, row in enumerate(record.rows):
            x, y = float(record.result[k]), float(record.predicted[k])
            plot.error(x, y, dx=float(record.result_sem[k]), dy=float(record.sd[k]))
            plot.mark(x, y, facts.kinds[row], facts.trials[row]["trial"])
            kinds.append(facts.kinds[row])
        title = f"{name(record.metric).capitalize()}"
        told = f"Prediction against result of {plural(len(record), 'trial')}, with the diagonal."
        figures.append(Figure(title, plot.render(f"parity{n}", title, told), "", legend(kinds)))
    return figures


def learning(facts: Facts) -> Figure | None:
    """How much the surrogate explained of left-out results, fit after fit."""
    fits = [f for f in facts.fits if f["report"]]
    if len(fits) < 2:
        return None
    last = max(f["trials"] for f in fits)
    plot = Plot(
        Scale(min(f["trials"] for f in fits) - 0.5, last * 1.02 + 0.5, whole=True),
        Scale(-0.55, 1.05),
        "trials when it was fitted",
        "R² of left-out results",
    )
    plot.across("diagonal", y=0.0)
    for n, metric in enumerate(facts.metrics):
        line = [
            (float(f["trials"]), max(-0.5, float(f["report"][metric]["loo_r2"])))
            for f in fits
            if f["report"].get(metric, {}).get("loo_r2") is not None
        ]
        plot.line(line, f"series s{n % 4}")
        for x, y in line:
            plot.mark(x, y, f"dot s{n % 4}")
    title = "How the surrogate learnt"
    return Figure(
        title,
        plot.render("learning", title, "Leave-one-out R² of each metric, fit after fit."),
        "One is perfect, zero no better than the mean of the others; what lies below "
        f"{MINUS}0.5 is drawn at {MINUS}0.5.",
    )


def drawing_order(facts: Facts) -> Iterable[int]:
    """Rows in the order in which they are drawn: the front last, above the others."""
    return sorted(range(len(facts)), key=lambda row: _DRAWN_LAST.index(facts.kinds[row]))


def _short_name(facts: Facts, row: int) -> str:
    """What to write beside a mark: the formula, or the trial's number where there is none."""
    text = design_name(facts.trials[row]["name"]).partition(" (")[0]
    return text if len(text) <= 14 else f"#{facts.trials[row]['trial']}"


def legend(shown: Iterable[str]) -> tuple[str, ...]:
    """The kinds of trials among those, in the order of a legend."""
    present = set(shown)
    return tuple(kind for kind in KINDS if kind in present)
