"""What was measured, from the units in which it came to the campaign's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from campaigns import units
from campaigns.errors import did_you_mean
from campaigns.realised import read
from campaigns.service.bodies import Measured, Realised
from campaigns.service.core import Known
from campaigns.service.problems import Refused

LARGEST = 1e100
"""As `loop.evaluators.base` has it, which need not be imported for it."""


@dataclass(frozen=True)
class Reading:
    """A mean and its standard error in the campaign's unit, and as they came."""

    mean: float
    sem: float | None
    unit: str
    raw_value: float
    raw_unit: str

    @property
    def raw(self) -> dict[str, Any]:
        """What came, where that was in another unit."""
        if self.raw_unit == self.unit:
            return {}
        return {"raw_value": self.raw_value, "raw_unit": self.raw_unit}


def readings(known: Known, metrics: Mapping[str, Measured]) -> dict[str, Reading]:
    """What was measured, in the campaign's units.

    Raises:
        Refused: A metric that the campaign has not, a unit of another kind, a number that cannot
            be; all are named.
    """
    read, errors = {}, []
    for name, m in metrics.items():
        where = f"metrics.{name}"
        unit = known.units.get(name)
        if unit is None:
            hint = did_you_mean(name, known.units) or "send other things as artifacts"
            errors.append({"where": where, "what": "the campaign has no such metric", "hint": hint})
            continue
        try:
            mean = units.convert(m.value, m.unit, unit)
            sem = None if m.sem is None else units.convert_spread(m.sem, m.unit, unit)
        except units.UnitError as error:
            errors.append({"where": f"{where}.unit", "what": error.what})
            if error.hint:
                errors[-1]["hint"] = error.hint
            continue
        if not abs(mean) <= LARGEST or not math.isfinite(sem or 0.0):
            errors.append({"where": where, "what": f"{mean:g} {unit} cannot be"})
            continue
        read[name] = Reading(mean, sem, unit, m.value, m.unit.strip())
    if errors:
        raise Refused(422, "what was measured cannot be taken in", unchanged="the trial",
                      errors=errors)  # fmt: skip
    return read


def realised(
    known: Known, params: Mapping[str, Realised | float | str] | None
) -> dict[str, dict[str, Any]]:
    """Parameters as they really were: `value` in the axis's unit, and `raw_value`, `raw_unit`.

    Raises:
        Refused: A parameter that the campaign has not, a unit of another kind, or a value that
            cannot be.
    """
    told = {
        name: {"value": given.value, "unit": given.unit} if isinstance(given, Realised)
        else {"value": given}
        for name, given in (params or {}).items()
    }  # fmt: skip
    made, problems = read(known.spec, told)
    if problems:
        raise Refused(
            422, "parameters as realised cannot be taken in", unchanged="the trial",
            errors=[{"where": f"realised.{p.where}", "what": p.what} for p in problems],
        )  # fmt: skip
    return made
