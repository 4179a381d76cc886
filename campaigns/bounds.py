"""Constraints as a person writes them: on metrics and on parameters.

On a metric: `formation_energy <= -0.3 eV/atom`. On parameters, sums of them too:
`a + b + c == 1`, `2*a - b <= 3 K`, `Fe + Co >= 0.5`. A column that is no plain name is written
between backquotes: "candidates.`band gap` <= 3".

Nothing is evaluated: a text is read token by token into coefficients.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from campaigns.units import UnitError, parse_quantity

NAME = r"[A-Za-z][A-Za-z0-9_]*"
"""How metrics and axes are named."""

_PART = rf"(?:{NAME}|`[^`<>=\n]+`)"
DOTTED = rf"{_PART}(?:\.{_PART})?"
"""How a number is named that is one of several of an axis: `alloy.Fe`.

What is no plain name, such as a column of a table, stands between backquotes, as pandas has it.
"""

_OPS: dict[str, Literal["<=", ">=", "=="]] = {
    "<=": "<=", ">=": ">=", "<": "<=", ">": ">=", "\u2264": "<=", "\u2265": ">=",
    "==": "==", "=": "==",
}  # fmt: skip
_FLIPPED: dict[str, Literal["<=", ">=", "=="]] = {"<=": ">=", ">=": "<=", "==": "=="}
_OP = re.compile("(<=|>=|==|<|>|=|\u2264|\u2265)")
_FORM = "write NAME <= NUMBER UNIT, as in formation_energy <= -0.3 eV/atom"
_SUM = "as in a + b == 1, or 2*a - b <= 3 K"
_TOKEN = re.compile(
    rf"\s*(?:(?P<name>{DOTTED})|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<mark>[-+*/()]))",
    re.ASCII,
)
_LONGEST = 1000
_DEEPEST = 20


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


@dataclass(frozen=True)
class Linear:
    """A sum of coefficients times names, compared with a value in `unit`; None as of a `Bound`.

    Attributes:
        terms: Names, each once, and their coefficients.
        text: As it was written.
        strict: It was written with < or >.
    """

    terms: tuple[tuple[str, float], ...]
    op: Literal["<=", ">=", "=="]
    value: float
    unit: str | None
    text: str
    strict: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it speaks of."""
        return tuple(name for name, _ in self.terms)


Stated = Bound | Linear


def parse_constraint(text: str) -> tuple[Stated, ...]:
    """The one or two things that a constraint states.

    Raises:
        BoundError: It cannot be read.
    """
    if len(text) > _LONGEST:
        raise BoundError(f"longer than {_LONGEST} characters", "write several constraints")
    parts = [part.strip() for part in _OP.split(text)]
    sides, ops = parts[::2], parts[1::2]
    if not ops:
        raise BoundError("no <= or >= in it")
    if len(ops) == 1:
        return (_compare(sides[0], ops[0], sides[1], text),)
    if len(ops) == 2 and _OPS[ops[0]] == _OPS[ops[1]] != "==":
        first, middle, last = sides
        pair = (
            _compare(middle, _turned(ops[0]), first, text),
            _compare(middle, ops[1], last, text),
        )
        # 0 <= x <= 1 GPa: the unit is said once, and at the end.
        return _same_unit(pair[0], pair[1].unit), pair[1]
    raise BoundError("two bounds that do not go the same way", "as in 0 <= x <= 1 GPa")


def parse_bounds(text: str) -> tuple[Bound, ...]:
    """The bounds on one name that a constraint states; none of a sum or an equality.

    Raises:
        BoundError: It cannot be read.
    """
    return tuple(stated for stated in parse_constraint(text) if isinstance(stated, Bound))


def _turned(op: str) -> str:
    return {"<": ">", ">": "<", "\u2264": "\u2265", "\u2265": "\u2264"}.get(op, _FLIPPED[_OPS[op]])


def _same_unit(stated: Stated, unit: str | None) -> Stated:
    if stated.unit is not None:
        return stated
    if isinstance(stated, Bound):
        return Bound(stated.name, stated.op, stated.value, unit, stated.strict)
    return Linear(stated.terms, stated.op, stated.value, unit, stated.text, stated.strict)


def _compare(left: str, op: str, right: str, text: str) -> Stated:
    if not re.fullmatch(DOTTED, left) and re.fullmatch(DOTTED, right) and _is_quantity(left):
        left, op, right = right, _turned(op), left
    way, strict = _OPS[op], op in ("<", ">")
    if re.fullmatch(DOTTED, left) and (_is_quantity(right) or not _Sum.fits(right)):
        value, unit = _quantity(right)
        if way != "==":
            return Bound(_bare(left), way, value, unit, strict)
        return Linear(((_bare(left), 1.0),), way, value, unit, text)
    terms: dict[str, float] = {}
    constant, unit = 0.0, None
    for side, sign in ((left, 1.0), (right, -1.0)):
        if _is_quantity(side):
            value, said = _quantity(side)
            unit = said or unit
            constant += sign * value
        else:
            found, value = _Sum(side).read()
            constant += sign * value
            for name, factor in found.items():
                terms[name] = terms.get(name, 0.0) + sign * factor
    kept = tuple((name, factor) for name, factor in terms.items() if factor)
    if not kept:
        raise BoundError("a name is missing" if not terms else "it says nothing of any name", _SUM)
    return Linear(kept, way, 0.0 - constant, unit, text, strict)


def _bare(name: str) -> str:
    """A name without its backquotes."""
    return name.replace("`", "")


def _is_quantity(text: str) -> bool:
    """Whether a side is a number, perhaps with a unit, and no arithmetic."""
    try:
        parse_quantity(text)
    except ValueError:
        return False
    except UnitError:
        return False
    return True


def _quantity(text: str) -> tuple[float, str | None]:
    try:
        return parse_quantity(text)
    except UnitError as error:
        raise BoundError(error.what, error.hint) from error
    except ValueError as error:
        raise BoundError(str(error) if text else "a number is missing") from error


class _Sum:
    """Reads a sum of products of numbers and at most one name each."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                odd = text[position:].strip()[:1]
                raise BoundError(f"{odd!r} cannot be in a sum of parameters", _SUM)
            kind = match.lastgroup or ""
            self.tokens.append((kind, match[kind]))
            position = match.end()
        self.at = 0

    @staticmethod
    def fits(text: str) -> bool:
        """Whether a text can be read as a sum that has a name in it."""
        try:
            return bool(_Sum(text).read()[0])
        except BoundError:
            return False

    def read(self) -> tuple[dict[str, float], float]:
        """Coefficients by name, and the constant."""
        if not self.tokens:
            raise BoundError("a side is empty", _SUM)
        terms, constant = self._sum(0)
        if self.at < len(self.tokens):
            (kind, before), (other, after) = self.tokens[self.at - 1 : self.at + 1]
            names = kind == other == "name"
            hint = f"a name of several words stands between backquotes: `{before} {after}`"
            what = f"between {before!r} and {after!r} a sign is missing"
            raise BoundError(what, hint if names and "`" not in before + after else _SUM)
        return terms, constant

    def _next(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def _sum(self, depth: int) -> tuple[dict[str, float], float]:
        terms, constant = self._product(depth)
        while self._next()[1] in ("+", "-"):
            sign = 1.0 if self.tokens[self.at][1] == "+" else -1.0
            self.at += 1
            more, number = self._product(depth)
            constant += sign * number
            for name, factor in more.items():
                terms[name] = terms.get(name, 0.0) + sign * factor
        return _finite(terms, constant)

    def _product(self, depth: int) -> tuple[dict[str, float], float]:
        terms, constant = self._factor(depth)
        while self._next()[1] in ("*", "/"):
            mark = self.tokens[self.at][1]
            self.at += 1
            others, number = self._factor(depth)
            if mark == "/":
                if others:
                    raise BoundError("a division by a parameter is not linear", _SUM)
                if number == 0:
                    raise BoundError("a division by zero", _SUM)
                number = 1.0 / number
            elif others and terms:
                raise BoundError("a product of parameters is not linear", _SUM)
            elif others:
                terms, constant, number = others, number, constant
            terms = {name: factor * number for name, factor in terms.items()}
            constant *= number
        return _finite(terms, constant)

    def _factor(self, depth: int) -> tuple[dict[str, float], float]:
        kind, token = self._next()
        self.at += 1
        if kind == "name":
            return {_bare(token): 1.0}, 0.0
        if kind == "number":
            return {}, float(token)
        if depth > _DEEPEST:
            raise BoundError("too many brackets in one another", _SUM)
        if token in ("+", "-"):
            terms, constant = self._factor(depth + 1)
            sign = 1.0 if token == "+" else -1.0
            return {name: sign * factor for name, factor in terms.items()}, sign * constant
        if token == "(":
            inside = self._sum(depth + 1)
            if self._next()[1] != ")":
                raise BoundError("a ) is missing", _SUM)
            self.at += 1
            return inside
        raise BoundError(f"{token!r} cannot stand there" if token else "it ends too early", _SUM)


def _finite(terms: dict[str, float], constant: float) -> tuple[dict[str, float], float]:
    if not all(map(math.isfinite, [*terms.values(), constant])):
        raise BoundError("a number in it is too large", _SUM)
    return terms, constant
