"""What the parts of a spec mean together: units of metrics, bounds in them, narrowed axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from campaigns import units
from campaigns.bounds import Bound, BoundError
from campaigns.spec_axes import AnyAxis, ChoiceAxis, CompositionAxis, LatentAxis, RangeAxis
from campaigns.spec_models import Level, Objective, Target

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


def narrow(axis: AnyAxis, bound: Bound, ingredient: str | None = None) -> AnyAxis:
    """The part of an axis that a bound leaves: constraints on parameters are exact.

    Args:
        axis: The axis.
        bound: The bound.
        ingredient: Which one is bounded, of a composition.

    Raises:
        BoundError: The axis has no numbers, or less than two values are left.
    """
    if isinstance(axis, RangeAxis):
        return _narrow_range(axis, bound)
    if isinstance(axis, CompositionAxis) and ingredient is not None:
        return _narrow_composition(axis, bound, ingredient)
    if not isinstance(axis, ChoiceAxis):
        raise no_number(axis, bound.name)
    value = bound_value(bound, "dimensionless", said=True)
    kept = []
    for choice in axis.choice:
        if isinstance(choice, str):
            raise no_number(axis, bound.name)
        outside = choice > value if bound.op == "<=" else choice < value
        if not outside and not (bound.strict and choice == value):
            kept.append(choice)
    if len(kept) < 2:
        raise BoundError(f"it leaves {bound.name} {'one value' if kept else 'no value'}", None)
    removed = tuple(choice for choice in axis.choice if choice not in kept)
    # What was observed of them before the constraint was there still has to be understood.
    return axis.model_copy(update={"choice": tuple(kept), "retired": axis.retired + removed})


def no_number(axis: AnyAxis, name: str) -> BoundError:
    """Why an axis has no number that a constraint could speak of."""
    if isinstance(axis, LatentAxis):
        return BoundError(f"{name} is a latent axis: it has no number to bound", "bound a metric")
    if isinstance(axis, CompositionAxis):
        hint = f"as in {name}.{axis.composition[0]} <= {axis.total / 2:g}"
        return BoundError(f"{name} is a composition: its ingredients have numbers", hint)
    if isinstance(axis, ChoiceAxis):
        return BoundError(
            f"{name} is a choice between words: it has no number to bound",
            "remove the words you do not want",
        )
    return BoundError(f"{name} is a pool: its columns have numbers", f"as in {name}.COLUMN <= 1")


def fix(axis: AnyAxis, name: str, value: float, ingredient: str | None = None) -> AnyAxis:
    """An axis at one value: `name == value`, in the axis' unit.

    Raises:
        BoundError: The axis has no numbers, or not that one.
    """
    if isinstance(axis, CompositionAxis) and ingredient is not None:
        low, high = axis.bounds.get(ingredient, (0.0, axis.total))
        if not low - 1e-9 <= value <= high + 1e-9:
            raise BoundError(f"{ingredient} is from {low:g} to {high:g}", None)
        return _rebound(axis, ingredient, value, value)
    if isinstance(axis, RangeAxis):
        low, high = axis.range
        if not low <= value <= high:
            raise BoundError(f"{name} is from {low:g} to {high:g}", None)
        if axis.integer and value % 1:
            raise BoundError(f"{name} is a whole number", None)
        return axis.model_copy(update={"fixed": value})
    if isinstance(axis, ChoiceAxis) and not any(isinstance(c, str) for c in axis.choice):
        at = next((choice for choice in axis.choice if choice == value), None)
        if at is None:
            raise BoundError(f"{value:g} is not one of the choice", None)
        return axis.model_copy(update={"fixed": at})
    raise no_number(axis, name)


def _narrow_composition(axis: CompositionAxis, bound: Bound, ingredient: str) -> CompositionAxis:
    value = bound_value(bound, axis.unit, said=True)
    low, high = axis.bounds.get(ingredient, (0.0, axis.total))
    low, high = (low, min(high, value)) if bound.op == "<=" else (max(low, value), high)
    if low > high or high < 0:
        raise BoundError(
            f"it leaves no amount of {ingredient}",
            f"it is from 0 to {axis.total:g}, and constraints cut that",
        )
    return _rebound(axis, ingredient, max(low, 0.0), high)


def _rebound(axis: CompositionAxis, ingredient: str, low: float, high: float) -> CompositionAxis:
    narrowed = axis.model_copy(update={"bounds": {**axis.bounds, ingredient: (low, high)}})
    try:
        narrowed.check_bounds()
    except PydanticCustomError as error:
        told = error.context or {}
        raise BoundError(f"{ingredient}: {told['what']}", None) from error
    return narrowed


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
    to_target = isinstance(objective.goal, Target)
    if isinstance(objective.goal, Level):
        if objective.threshold is not None:
            raise BoundError(
                "a level has no threshold: both sides of it are sought", "remove the threshold"
            )
        return fields | {"goal": "level", "target": objective.goal.level, "threshold": None}
    if isinstance(objective.goal, Target):
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
