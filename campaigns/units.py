"""Units: pint's, with `atom` as something that is counted, so that eV and eV/atom are not the same.

pint takes half a second to import: nothing here does before it is asked.
"""

from __future__ import annotations

import math
import re
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from campaigns.errors import UsageError, did_you_mean, quoted

if TYPE_CHECKING:
    import pint

COMMON = (
    "GPa", "MPa", "Pa", "eV", "meV", "eV/atom", "meV/atom", "g/cm^3", "kg/m^3", "angstrom", "nm",
    "angstrom^3", "angstrom^3/atom", "K", "degC", "s", "min", "hour", "percent", "dimensionless",
    "kJ/mol", "W/m/K", "S/cm", "ohm*cm", "V", "mV", "T", "J/m^2", "mAh/g", "eV/angstrom",
)  # fmt: skip
"""What a mistyped unit is compared with."""

# A unit as people write it: names, products, quotients, whole powers below 100. pint evaluates what
# it is given, so that 9**9**9**9 would keep it busy for ever: anything else is refused before.
_TOKEN = re.compile(
    r"\s+|°?[^\W\d]\w*|[%‰()/·]|(?:\*\*|\^)\s*[+-]?\d{1,2}(?!\s*(?:\*\*|\^|\d))|\*|1"
)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LONGEST = 80

_MISTAKEN = {
    "pH": "to pint that is a picohenry; a pH has no unit: write dimensionless",
    "at%": "write percent",
    "wt%": "write percent",
    "mol%": "write percent",
    "vol%": "write percent",
}


class UnitError(UsageError):
    """A unit that does not exist, or that does not fit."""


@cache
def registry() -> pint.UnitRegistry[Any]:
    """The unit registry: pint's own units, and `atom`."""
    import pint

    units: pint.UnitRegistry[Any] = pint.UnitRegistry()
    units.define("atom = [atom_count]")
    return units


@lru_cache(maxsize=1024)
def _unit(text: str) -> pint.Unit:
    cleaned = unicodedata.normalize("NFC", text).strip()
    hint = _MISTAKEN.get(cleaned)
    if hint is None and _is_unit(cleaned):
        try:
            unit = registry().Unit(cleaned)
            zero, one, two = (
                registry().Quantity(float(x), unit).to_base_units().m for x in range(3)
            )
        # pint answers odd units with whatever its parser stumbles over; each means "no unit".
        except Exception:
            hint = did_you_mean(cleaned, COMMON)
        else:
            if math.isclose(two - one, one - zero, rel_tol=1e-9):
                return unit
            hint = "logarithmic units are not taken: give the ratio"
    raise UnitError(
        f"{quoted(text)} is not a unit",
        hint=hint or "units are spelled as pint does: GPa, g/cm^3, eV/atom, dimensionless",
    )


def _is_unit(text: str) -> bool:
    if not 0 < len(text) <= _LONGEST:
        return False
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return False
        position = token.end()
    return True


def check_unit(text: str) -> str:
    """The unit as given, stripped.

    Raises:
        UnitError: pint knows no such unit.
    """
    _unit(text)
    return text.strip()


def compatible(a: str, b: str) -> bool:
    """Whether two units measure the same kind of thing. Raises `UnitError` for an unknown one."""
    return _unit(a).dimensionality == _unit(b).dimensionality


@lru_cache(maxsize=1024)
def _scale(from_unit: str, to_unit: str) -> tuple[float, float]:
    """Factor and offset from one unit to another."""
    source, target = _unit(from_unit), _unit(to_unit)
    if source.dimensionality != target.dimensionality:
        raise UnitError(
            f"{from_unit} cannot be converted to {to_unit}", hint=_explain(from_unit, to_unit)
        )
    if source == target:
        return 1.0, 0.0
    zero, one = (registry().Quantity(x, source).to(target).m for x in (0.0, 1.0))
    # Beyond 14 digits a factor such as 999.9999999999999 is only noise.
    return float(f"{one - zero:.14g}"), float(zero)


def _explain(from_unit: str, to_unit: str) -> str | None:
    dimensions = dict(_unit(to_unit).dimensionality), dict(_unit(from_unit).dimensionality)
    if any(re.search(r"(?<!\w)A(?!\w)", unit) for unit in (from_unit, to_unit)):
        return "A is the ampere: write angstrom (or Å)"
    if any("[atom_count]" in d for d in dimensions) and not all(
        "[atom_count]" in d for d in dimensions
    ):
        return f"one of them is per atom: give the value in {to_unit}"
    return f"give the value in {to_unit}, or in a unit of that kind"


def convert(value: float, from_unit: str, to_unit: str) -> float:
    """A value in another unit.

    Raises:
        UnitError: a unit is unknown, or the two measure different things.
    """
    factor, offset = _scale(from_unit, to_unit)
    return value * factor + offset


def convert_spread(value: float, from_unit: str, to_unit: str) -> float:
    """A difference or a standard error in another unit: 5 degC of spread is 5 K, not 278 K.

    Raises:
        UnitError: a unit is unknown, or the two measure different things.
    """
    return value * abs(_scale(from_unit, to_unit)[0])


def parse_number(text: str) -> float:
    """A finite number as written by hand: no thousands separators, no decimal comma, no nan.

    Raises:
        ValueError: one line that says what is wrong with it.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        value = float(text)
        if math.isfinite(value):
            return value
        raise ValueError(f"{quoted(text)} is too large for a number")
    if re.fullmatch(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", text):
        raise ValueError(
            f"{quoted(text)} has a comma: decimals have a point, {text.replace(',', '.')}"
        )
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise ValueError(f"{quoted(text)} is not a finite number")
    if re.fullmatch("[\N{MINUS SIGN}\N{EN DASH}\N{EM DASH}].*", text, re.DOTALL):
        raise ValueError(f"{quoted(text)} begins with a dash: a minus is '-'")
    raise ValueError(f"{quoted(text)} is not a number")


def parse_quantity(text: str) -> tuple[float, str | None]:
    """A number and, where there is one, its unit: `-0.3 eV/atom` is (-0.3, "eV/atom").

    Raises:
        ValueError: it does not begin with a number.
        UnitError: what follows the number is not a unit.
    """
    text = text.strip()
    number = _NUMBER.match(text)
    if number is None or re.match(r"[\d.,_]", text[number.end() :]):
        return parse_number(text.split()[0] if text else text), None
    unit = text[number.end() :].strip()
    return parse_number(number.group()), check_unit(unit) if unit else None
