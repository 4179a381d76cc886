"""The report's charts of progress: hypervolume and each objective, trial by trial."""

from __future__ import annotations

import math

from campaigns.facts import Facts
from dashboards.charts import better, draw_bounds, drawing_order, legend
from dashboards.figures import Figure, Plot, Scale
from dashboards.typography import listed, name, number, plural, product, unit
from loop.front import best_so_far, hypervolume_trace, reference_point


def figures(facts: Facts) -> list[Figure]:
    """Hypervolume (several objectives), and each objective's values and best, trial by trial."""
    if not facts.ended:
        return []
    volume = facts.several and facts.usable.any() and not facts.problem.contour
    figures = [_hypervolume(facts)] if volume else []
    return figures + [_best(facts, k) for k in range(len(facts.problem.objectives))]


def reference_words(facts: Facts) -> str:
    """The reference point in words, and which of its coordinates were inferred."""
    corner, notes = reference_point(facts.problem, facts.outcomes)
    parts = []
    for objective, value in zip(facts.problem.objectives, corner, strict=True):
        shown = -value if objective.goal != "maximize" else value
        away = " away from its target" if objective.goal == "target" else ""
        said = f"{number(float(shown))} {unit(objective.unit)}".strip()
        given = "threshold" if objective.threshold is not None else "inferred from the results"
        parts.append(f"{name(objective.metric)} {said}{away} ({given})")
    return f"Counted from the reference point {listed(parts)}" + (
        "; a threshold in the spec would fix what is inferred." if notes else "."
    )


def _hypervolume(facts: Facts) -> Figure:
    rows = facts.ended
    corner, _ = reference_point(facts.problem, facts.outcomes)
    trace = hypervolume_trace(facts.problem, facts.outcomes[rows], corner)
    units = product(o.unit for o in facts.problem.objectives)
    plot = Plot(
        Scale(0.0, max(len(rows), 1) * 1.03, whole=True),
        Scale(0.0, max(float(trace.max()) * 1.08, 1e-12)),
        "trials ended",
        f"hypervolume ({units})" if units else "hypervolume",
    )
    _first_by_model(plot, facts)
    plot.steps([(0.0, 0.0), *((k + 1.0, float(v)) for k, v in enumerate(trace))], "trace")
    shown = []
    for k, row in enumerate(rows):
        kind = facts.kinds[row]
        if kind == "front" or (k and trace[k] > trace[k - 1]) or (not k and trace[k] > 0):
            plot.mark(k + 1.0, float(trace[k]), kind, facts.trials[row]["trial"])
            shown.append(kind)
    title = "Hypervolume against the number of trials"
    said = f"It ends at {number(float(trace[-1]))} {units} after {plural(len(rows), 'trial')}."
    return Figure(
        title,
        plot.render("volume", title, said),
        f"{said} {reference_words(facts)} Marked: the trials that moved it, and the front.",
        legend(shown),
    )


def _best(facts: Facts, k: int) -> Figure:
    objective = facts.problem.objectives[k]
    column, rows = facts.metrics.index(objective.metric), facts.ended
    values = facts.outcomes[rows, column]
    best = best_so_far(facts.problem, facts.outcomes[rows])[:, k]
    around = [*values, *([objective.target] if objective.target is not None else [])]
    plot = Plot(
        Scale(0.0, len(rows) + 1.0, whole=True),
        Scale.around(around),
        "trials ended",
        better(objective),
    )
    _first_by_model(plot, facts)
    draw_bounds(plot, facts, objective, "y")
    known = [(j + 1.0, float(b)) for j, b in enumerate(best) if math.isfinite(b)]
    plot.steps([*known, (len(rows) + 1.0, known[-1][1])] if known else [], "trace")
    shown = []
    places = {row: j + 1.0 for j, row in enumerate(rows)}
    floor = plot.y.low + 0.025 * (plot.y.high - plot.y.low)
    for row in (r for r in drawing_order(facts) if r in places):
        kind, value = facts.kinds[row], facts.outcomes[row, column]
        if kind == "failed":
            value = floor  # it has no value: at the foot
        elif math.isfinite(value):
            plot.error(places[row], value, dy=facts.sem[row, column])
        plot.mark(places[row], value, kind, facts.trials[row]["trial"])
        shown.append(kind)
    word = "best"
    if objective.target is not None:
        word = f"closest to the {objective.goal}"
    title = f"{name(objective.metric).capitalize()}, trial by trial"
    what = "feasible value so far" if facts.problem.constraints else "value so far"
    caption = [f"Line: the {word} {what}."]
    if "failed" in shown:
        caption.append("Failed trials stand at the foot.")
    return Figure(
        title,
        plot.render(f"best{k}", title, f"Values of {plural(len(rows), 'trial')} as they ended."),
        " ".join(caption),
        legend(shown),
    )


def _first_by_model(plot: Plot, facts: Facts) -> None:
    """Mark where the first trial ended that a model chose."""
    for k, row in enumerate(facts.ended):
        if facts.trials[row]["provenance"].get("method") not in ("prior", None):
            if k:
                plot.across("divide", x=k + 0.5)
                plot.note(k + 0.5, "← drawn blindly | chosen by the model →")
            return
