"""Maps of the trials: in the latent space, or against the parameters of a space without one."""

from __future__ import annotations

import itertools
import math

import numpy as np

from campaigns.facts import Facts
from campaigns.handout import flat_design
from campaigns.spec_axes import ChoiceAxis, CompositionAxis, RangeAxis
from dashboards.charts import better, drawing_order, legend
from dashboards.figures import Figure, Plot, Scale, viridis
from dashboards.typography import label, name, number, percent, plural

MOST_MAPS = 4
MOST_PARAMETERS = 6


def maps(facts: Facts) -> list[Figure]:
    """Where the trials lie: in the latent space, or against each parameter without one."""
    rows, latents = facts.latents
    if len(rows) >= 3 and latents.shape[1] >= 2:
        return _latent_maps(facts, rows, latents)
    return _parameter_maps(facts)


def _latent_maps(facts: Facts, rows: list[int], latents: np.ndarray) -> list[Figure]:
    middle = latents.mean(axis=0)
    _, stretch, axes = np.linalg.svd(latents - middle, full_matrices=False)
    shares = stretch**2 / max(float((stretch**2).sum()), 1e-300)
    places = (latents - middle) @ axes[:2].T
    # Seen along two directions at right angles, the standard normal prior is one of two
    # dimensions, its middle at the origin of the latent space: no sample is needed to show it.
    prior = -middle @ axes[:2].T
    radius = math.sqrt(2 * math.log(10))  # holds 90 % of it
    edge = [prior + radius * d for d in np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])]
    together = np.vstack([places, edge])
    figures = []
    for k, objective in enumerate(facts.problem.objectives[:MOST_MAPS]):
        column = facts.metrics.index(objective.metric)
        values = facts.outcomes[rows, column]
        plot = Plot(
            Scale.around(together[:, 0]),
            Scale.around(together[:, 1]),
            f"first component ({percent(float(shares[0]))} of the variance)",
            f"second component ({percent(float(shares[1]))})",
        )
        for share in (0.5, 0.9):
            radius_of = math.sqrt(-2 * math.log(1 - share))
            plot.circle(float(prior[0]), float(prior[1]), radius_of, "prior")
        if objective.target is not None:
            values = np.abs(values - objective.target)
        shown = _coloured(plot, facts, rows, places, values)
        plot.note(float(prior[0]), "90 % of the prior", y=float(prior[1] + radius))
        title = f"Coloured by {name(objective.metric)}"
        finite = values[np.isfinite(values)]
        bar = None
        if len(finite):
            said = label(objective.metric, objective.unit)
            said = f"distance of {said} from its target" if objective.target is not None else said
            bar = (number(float(finite.min())), said, number(float(finite.max())))
        told = f"{plural(len(rows), 'trial')} in the first two principal components."
        figures.append(Figure(title, plot.render(f"map{k}", title, told), "", shown, bar))
    return figures


def _coloured(
    plot: Plot, facts: Facts, rows: list[int], places: np.ndarray, values: np.ndarray
) -> tuple[str, ...]:
    finite = values[np.isfinite(values)]
    low, spread = (float(finite.min()), float(np.ptp(finite)) or 1.0) if len(finite) else (0.0, 1.0)
    order = {row: n for n, row in enumerate(drawing_order(facts))}
    shown = []
    for n in sorted(range(len(rows)), key=lambda n: order[rows[n]]):
        kind = facts.kinds[rows[n]]
        known = math.isfinite(values[n])
        fill = viridis((float(values[n]) - low) / spread) if known else None
        x, y = (float(v) for v in places[n])
        plot.mark(x, y, kind, facts.trials[rows[n]]["trial"], fill)
        if not known or kind == "front":  # the others are told apart by their colour
            shown.append(kind)
    return legend(shown)


def _numbers_and_choices(facts: Facts) -> list[tuple[str, RangeAxis | ChoiceAxis]]:
    """The parameters that a picture can show, each ingredient of a composition as a range."""
    found: list[tuple[str, RangeAxis | ChoiceAxis]] = []
    for axis_name, axis in facts.spec.space.items():
        if isinstance(axis, RangeAxis | ChoiceAxis):
            found.append((axis_name, axis))
        elif isinstance(axis, CompositionAxis):
            amounts = RangeAxis(range=(0.0, axis.total), unit=axis.unit)
            found += [(f"{axis_name}.{i}", amounts) for i in axis.composition]
    return found


def _parameter_maps(facts: Facts) -> list[Figure]:
    """Each objective against each parameter, at most six pictures."""
    figures: list[Figure] = []
    axes = _numbers_and_choices(facts)[:MOST_PARAMETERS]
    for (axis_name, axis), objective in itertools.product(axes, facts.problem.objectives):
        column = facts.metrics.index(objective.metric)
        if len(figures) == MOST_PARAMETERS or not np.isfinite(facts.outcomes[:, column]).any():
            break
        if isinstance(axis, RangeAxis):
            x_scale = Scale.around(axis.range, log=axis.log, pad=0.03)
            said = label(axis_name, axis.unit)
        else:
            x_scale, said = Scale.of_names([str(v) for v in axis.choice]), name(axis_name)
        plot = Plot(x_scale, Scale.around(facts.outcomes[:, column]), said, better(objective))
        shown = []
        for row in drawing_order(facts):
            value = flat_design(facts.trials[row]["design"]).get(axis_name)
            y = facts.outcomes[row, column]
            if isinstance(axis, ChoiceAxis):
                value = axis.choice.index(value) if value in axis.choice else None
            if isinstance(value, int | float) and math.isfinite(y):
                plot.mark(float(value), float(y), facts.kinds[row], facts.trials[row]["trial"])
                shown.append(facts.kinds[row])
        title = f"{name(objective.metric).capitalize()} by {name(axis_name)}"
        told = f"{plural(len(shown), 'trial')}."
        key = f"by-{axis_name}-{column}"
        figures.append(Figure(title, plot.render(key, title, told), "", legend(shown)))
    return figures
