"""Constraints as a person writes them: `formation_energy <= -0.3 eV/atom`, `0 <= x <= 1`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from campaigns.units import UnitError, parse_quantity

NAME = r"[A-Za-z][A-Za-z0-9_]*"
"""How metrics and axes are named."""

_OPS = {"<=": "<=", ">=": ">=", "<": "<=", ">": ">=", "\u2264": "<=", "\u2265": ">="}
_FLIPPED = {"<=": ">=", ">=": "<="}
_OP = re.compile("(<=|>=|<|>|\u2264|\u2265)")
_FORM = "write NAME <= NUMBER UNIT, as in formation_energy <= -0.3 eV/atom"


class BoundError(ValueError):
    """A text that is no constraint.

    Attributes:
        what: What is wrong with it.
        hint: What would be right.
    """

    def __init__(self, what: str, hint: str | None = _FORM) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


@dataclass(frozen=True)
class Bound:
    """`name op value`, in `unit`; None = in the unit of the thing that `name` names.

    Attributes:
        strict: It was written with < or >. For a measured metric that is no difference.
    """

    name: str
    op: Literal["<=", ">="]
    value: float
    unit: str | None
    strict: bool = False


def parse_bounds(text: str) -> tuple[Bound, ...]:
    """The one or two bounds that a constraint states.

    Raises:
        BoundError: It cannot be read.
    """
    parts = [part.strip() for part in _OP.split(text)]
    sides, ops = parts[::2], parts[1::2]
    if not ops:
        equals = "=" in text
        raise BoundError(
            "an equality cannot be met by measured values" if equals else "no <= or >= in it",
            "use <= or >=, or an objective with a target" if equals else _FORM,
        )
    if len(ops) == 1:
        name, other, op = (*sides, ops[0])
        if not re.fullmatch(NAME, name) and re.fullmatch(NAME, other):
            return (_bound(other, _FLIPPED[_OPS[op]], name, op),)
        return (_bound(name, _OPS[op], other, op),)
    if len(ops) == 2 and _OPS[ops[0]] == _OPS[ops[1]]:
        first, name, last = sides
        bounds = (
            _bound(name, _FLIPPED[_OPS[ops[0]]], first, ops[0]),
            _bound(name, _OPS[ops[1]], last, ops[1]),
        )
        # 0 <= x <= 1 GPa: the unit is said once, and at the end.
        if bounds[0].unit is None:
            a = bounds[0]
            return Bound(a.name, a.op, a.value, bounds[1].unit, a.strict), bounds[1]
        return bounds
    raise BoundError("two bounds that do not go the same way", "as in 0 <= x <= 1 GPa")


def _bound(name: str, op: str, quantity: str, written: str) -> Bound:
    if not re.fullmatch(NAME, name):
        arithmetic = any(mark in name for mark in "+-*/(") and re.search("[A-Za-z]", name)
        raise BoundError(
            "arithmetic in a constraint is not in this version"
            if arithmetic
            else f"{name!r} is not the name of a metric or parameter"
            if name
            else "a name is missing"
        )
    try:
        value, unit = parse_quantity(quantity)
    except UnitError as error:
        raise BoundError(error.what, error.hint) from error
    except ValueError as error:
        raise BoundError(str(error) if quantity else "a number is missing") from error
    return Bound(name, "<=" if op == "<=" else ">=", value, unit, written in ("<", ">"))
