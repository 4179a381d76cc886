"""What the parts of a spec mean together: units of metrics, bounds in them, narrowed axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from campaigns import units
from campaigns.bounds import Bound, BoundError
from campaigns.spec_models import ChoiceAxis, LatentAxis, Objective, RangeAxis

KnownMetrics = Mapping[str, str | None] | None
"""Metrics that an evaluator answers and their units, None = not known; None = it answers any."""


def metric_units(
    objectives: Mapping[str, Objective],
    bounds: Iterable[Bound],
    parameters: Iterable[str],
    known: KnownMetrics,
) -> dict[str, str]:
    """The unit of every metric, objectives first.

    It is what the objective says, else the evaluator, else the first constraint. Metrics without
    any are left out.
    """
    answers = dict(known or {})
    named = {name: objective.unit or answers.get(name) for name, objective in objectives.items()}
    skipped = set(parameters)
    for bound in bounds:
        if bound.name not in skipped:
            named[bound.name] = named.get(bound.name) or bound.unit
    return {name: unit for name, unit in named.items() if unit is not None}


def bound_value(bound: Bound, unit: str, said: bool) -> float:
    """The value of a bound in the unit of what it bounds.

    Args:
        bound: The bound.
        unit: The unit of the metric or parameter.
        said: Whether the spec says that unit elsewhere, so that the bound may leave it out.

    Raises:
        BoundError: It has no unit and should, or one of another kind.
    """
    if bound.unit is None:
        if said or unit == "dimensionless":
            return bound.value
        raise BoundError("a unit is missing", f"{bound.name} {bound.op} {bound.value:g} {unit}?")
    try:
        return units.convert(bound.value, bound.unit, unit)
    except units.UnitError as error:
        raise BoundError(f"{bound.name} is in {unit}: {error.what}", error.hint) from error


def narrow(axis: LatentAxis | RangeAxis | ChoiceAxis, bound: Bound) -> RangeAxis | ChoiceAxis:
    """The part of an axis that a bound leaves: constraints on parameters are exact.

    Raises:
        BoundError: The axis has no numbers, or less than two values are left.
    """
    if isinstance(axis, RangeAxis):
        return _narrow_range(axis, bound)
    if isinstance(axis, LatentAxis):
        raise BoundError(
            f"{bound.name} is a latent axis: it has no number to bound", "bound a metric"
        )
    value = bound_value(bound, "dimensionless", said=True)
    kept = []
    for choice in axis.choice:
        if isinstance(choice, str):
            raise BoundError(
                f"{bound.name} is a choice between words: it has no number to bound",
                "remove the words you do not want",
            )
        outside = choice > value if bound.op == "<=" else choice < value
        if not outside and not (bound.strict and choice == value):
            kept.append(choice)
    if len(kept) < 2:
        raise BoundError(f"it leaves {bound.name} {'one value' if kept else 'no value'}", None)
    return axis.model_copy(update={"choice": tuple(kept)})


def _narrow_range(axis: RangeAxis, bound: Bound) -> RangeAxis:
    low, high = axis.range
    value = bound_value(bound, axis.unit, said=True)
    if bound.op == "<=":
        if axis.integer:
            value = math.ceil(value) - 1 if bound.strict else math.floor(value)
        high = min(high, value)
    else:
        if axis.integer:
            value = math.floor(value) + 1 if bound.strict else math.ceil(value)
        low = max(low, value)
    if low >= high:
        unit = "" if axis.unit == "dimensionless" else f" {axis.unit}"
        low, high = axis.range
        raise BoundError(
            f"it leaves {bound.name} nothing to choose from {low:g} to {high:g}{unit}",
            "constraints cut the range: they must leave some of it",
        )
    return axis.model_copy(update={"range": (float(low), float(high))})


def objective_numbers(name: str, objective: Objective, unit: str) -> dict[str, Any]:
    """The fields of `loop.problem.Objective`, its numbers in the metric's unit.

    Raises:
        BoundError: The threshold does not fit.
    """
    fields: dict[str, Any] = {"metric": name, "goal": objective.goal, "unit": unit}
    to_target = not isinstance(objective.goal, str)
    if not isinstance(objective.goal, str):
        fields |= {
            "goal": "target",
            "target": objective.goal.target,
            "tolerance": objective.goal.within,
        }
    threshold = objective.threshold
    if isinstance(threshold, str):
        value, given = units.parse_quantity(threshold)
        convert = units.convert_spread if to_target else units.convert
        try:
            threshold = value if given is None else convert(value, given, unit)
        except units.UnitError as error:
            raise BoundError(f"{name} is in {unit}: {error.what}", error.hint) from error
    if to_target and threshold is not None and threshold <= 0:
        raise BoundError(
            "of a target, the threshold is the largest distance from it: above zero", None
        )
    return fields | {"threshold": threshold}
