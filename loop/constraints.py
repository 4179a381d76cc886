"""Linear constraints on the parameters of a design, equalities too: what they say.

`loop.coupled` meets them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Op = Literal["<=", ">=", "=="]


@dataclass(frozen=True)
class LinearConstraint:
    """A sum of coefficients times parameters, compared with a bound.

    Attributes:
        coefficients: by name of an axis of numbers, `axis.ingredient` of a composition, or
            `axis.column` of a pool. An ingredient or column that only one axis has needs no axis.
        op: how the sum compares.
        bound: with what, in the parameters' units.
        text: as a person wrote it; empty = made up of the numbers.

    Raises:
        ValueError: no coefficient, one that is not finite, or no such comparison.
    """

    coefficients: Mapping[str, float]
    op: Op
    bound: float
    text: str = ""

    def __post_init__(self) -> None:
        numbers = [*self.coefficients.values(), self.bound]
        if not any(self.coefficients.values()) or not np.isfinite(numbers).all():
            raise ValueError(f"no constraint: {dict(self.coefficients)} {self.op} {self.bound}")
        if self.op not in ("<=", ">=", "=="):
            raise ValueError(f"no such comparison as {self.op!r}, only <=, >= and ==")

    def __str__(self) -> str:
        if self.text:
            return self.text
        terms = " + ".join(
            name if factor == 1 else f"{factor:g} * {name}"
            for name, factor in self.coefficients.items()
            if factor
        )
        return f"{terms} {self.op} {self.bound:g}"


class Infeasible(ValueError):
    """Constraints that exclude every design.

    Attributes:
        constraints: as few of them as exclude everything together.
    """

    def __init__(self, constraints: Sequence[LinearConstraint]) -> None:
        told = " and ".join(f"{str(c)!r}" for c in constraints)
        several = (
            "exclude every design together" if len(constraints) > 1 else "excludes every design"
        )
        super().__init__(f"{told} {several}")
        self.constraints = tuple(constraints)
