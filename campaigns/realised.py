"""Parameters as they really were: what may be told of them, and what is learnt from them.

What was asked for stays the design: it is what was tried, and is not proposed again. The surrogate
learns from what was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from campaigns import units
from campaigns.errors import Problem, did_you_mean, quoted
from campaigns.spec_axes import AnyAxis, ChoiceAxis, CompositionAxis, RangeAxis

if TYPE_CHECKING:
    from campaigns.spec import Spec

FAR: Final = 1.0
"""A number further outside a range than this share of it is taken for a wrong unit or digit."""


def read(
    spec: Spec, told: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Parameters as they really were, in the units of their axes; and what is wrong with them.

    Args:
        spec: The campaign's.
        told: By parameter, `value`, and `unit` where that may not be the axis's.

    Returns:
        By parameter, `value`, `unit`, and `raw_value`, `raw_unit` where these are others.
    """
    made: dict[str, dict[str, Any]] = {}
    problems = []
    for name, one in told.items():
        value, unit = one["value"], one.get("unit")
        axis = spec.space.get(name.partition(".")[0])
        wanted = getattr(axis, "unit", None) or "dimensionless"
        converted = value
        if isinstance(value, str):
            if unit is not None:
                problems.append(Problem(name, f"{quoted(value)} has no unit"))
            made[name] = {"value": value}
        else:
            try:
                converted = value if unit is None else units.convert(value, unit, wanted)
            except units.UnitError as error:
                problems.append(Problem(f"{name}.unit", error.what))
                continue
            made[name] = {"value": converted, "unit": wanted}
            if unit is not None and unit != wanted:
                made[name] |= {"raw_value": value, "raw_unit": unit}
        if why := refusal(spec, name, converted):
            problems.append(Problem(name, why))
    return made, problems


def refusal(spec: Spec, name: str, value: float | str) -> str | None:
    """Why a parameter cannot have been so, in words; None = it can.

    Args:
        spec: The campaign's.
        name: Of the parameter: `temperature`, `alloy.Fe`.
        value: In the axis's unit.
    """
    name, _, part = name.partition(".")
    axis = spec.space.get(name)
    if isinstance(axis, CompositionAxis):
        names = (*axis.composition, *axis.retired)
        if part not in names:
            hint = did_you_mean(part, names)
            return f"{name} has no ingredient {quoted(part)}" + (f"; {hint}" if hint else "")
        if isinstance(value, str) or not 0 <= value <= axis.total * (1 + FAR):
            return f"{quoted(value)} is no amount of {axis.total:g} in all"
        return None
    if part or not isinstance(axis, RangeAxis | ChoiceAxis):
        return "the campaign has no such parameter"
    if isinstance(axis, ChoiceAxis):
        known = (*axis.choice, *axis.retired)
        if isinstance(value, str) != isinstance(known[0], str):
            return f"{quoted(value)} is none of {', '.join(map(str, known))}"
        if isinstance(value, str) and value not in known:
            return f"{quoted(value)} is none of {', '.join(map(str, known))}"
        return None
    if isinstance(value, str):
        return f"{quoted(value)} is no number"
    return None if _near(axis, value) else f"{value:g} is far from {_shown(axis)}: a wrong unit?"


def _near(axis: RangeAxis, value: float) -> bool:
    low, high = axis.range
    if axis.log:
        if value <= 0:
            return False
        low, high, value = math.log(low), math.log(high), math.log(value)
    return low - FAR * (high - low) <= value <= high + FAR * (high - low)


def _shown(axis: RangeAxis) -> str:
    low, high = axis.range
    unit = "" if axis.unit == "dimensionless" else f" {axis.unit}"
    return f"{low:g} to {high:g}{unit}"


def made(
    spec: Spec, design: Mapping[str, Any], realised: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A design with what was realised in place of what was asked for, for a surrogate.

    Ingredients that were not told share what is left of the total as they were to. A choice between
    numbers is what was asked for, unless another of the choices was made.

    Args:
        spec: The campaign's, as it is now: of axes that are no more, nothing is taken.
        design: What was asked for, as the space reads it.
        realised: By parameter, its `value` in the axis's unit.
    """
    found = dict(design)
    amounts: dict[str, dict[str, float]] = {}
    for name, told in realised.items():
        name, _, part = name.partition(".")
        axis: AnyAxis | None = spec.space.get(name)
        value = told["value"]
        if name not in found or refusal(spec, f"{name}.{part}" if part else name, value):
            continue
        if isinstance(axis, CompositionAxis):
            amounts.setdefault(name, {})[part] = value
        elif isinstance(axis, RangeAxis) or value in (*axis.choice, *axis.retired):  # type: ignore[union-attr]
            found[name] = value
    for name, known in amounts.items():
        total: float = spec.space[name].total  # type: ignore[union-attr]
        found[name] = _composed(found[name], known, total)
    return found


def _composed(
    asked: Mapping[str, float], known: Mapping[str, float], total: float
) -> dict[str, float]:
    others = {part: amount for part, amount in asked.items() if part not in known}
    left, theirs = max(total - sum(known.values()), 0.0), sum(others.values())
    amounts = {
        part: known.get(part, left * others.get(part, 0.0) / theirs if theirs > 0 else 0.0)
        for part in asked
    }
    whole = sum(amounts.values())
    return {part: amount * total / whole for part, amount in amounts.items()} if whole else amounts
