"""Properties of crystals, exact or by a generator's own heads, and bounds on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from generators.base import EncodeError, Generator

_CONSTRAINT = re.compile(r"^\s*([a-z_]\w*)\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*$")
_EXACT: dict[str, Callable[[Structure], float]] = {
    "density": lambda s: float(s.density),
    "atoms": lambda s: float(len(s)),
    "elements": lambda s: float(len(s.composition)),
    "volume_per_atom": lambda s: float(s.volume / len(s)),
}


class Unmeasured(Exception):
    """Why a group of metrics does not apply; told to the person, and the rest goes on."""


@dataclass(frozen=True)
class Constraint:
    """A bound on a property, as `formation_energy < -0.5`."""

    name: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Raise ValueError for what is no `NAME < NUMBER`."""
        if not (found := _CONSTRAINT.match(text)):
            raise ValueError(f"{text!r} is no constraint: write NAME < NUMBER or NAME > NUMBER")
        return cls(found[1], found[2], float(found[3]))

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.bound:g}"

    def met(self, values: NDArray[np.float64]) -> list[bool]:
        """Which of `n` values meet it; nan does not."""
        compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
        hits: list[bool] = compare[self.sign](values, self.bound).tolist()
        return hits


def number(value: Any) -> float:
    """A number from a table, nan for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def encodable(generator: Generator, structure: Structure) -> bool:
    """Whether a generator can represent a structure."""
    try:
        generator.embed([structure])
    except EncodeError:
        return False
    return True


def heads(generator: Generator) -> dict[str, int]:
    """Columns of a generator's features that predict properties, by the property's name."""
    return {
        name.removeprefix("predicted_"): i
        for i, name in enumerate(generator.feature_names)
        if name.startswith("predicted_")
    }


def predict(
    generator: Generator, name: str, structures: Sequence[Structure]
) -> NDArray[np.float64]:
    """A property by a generator's own head, nan for what it cannot encode."""
    values = np.full(len(structures), np.nan)
    at = [i for i, s in enumerate(structures) if encodable(generator, s)]
    if at:
        column = generator.features([structures[i] for i in at])[:, heads(generator)[name]]
        values[at] = column.numpy()
    return values


def property_of(
    generator: Generator | None, name: str, structures: Sequence[Structure]
) -> NDArray[np.float64]:
    """A property that is exact (density in g/cm^3, atoms, elements, volume_per_atom) or predicted.

    Raises:
        Unmeasured: There is no such property.
    """
    if name in _EXACT:
        return np.array([_EXACT[name](s) for s in structures], dtype=float)
    known = heads(generator) if generator is not None else {}
    if generator is None or name not in known:
        told = ", ".join([*_EXACT, *known])
        raise Unmeasured(f"there is no property {name!r}; known are {told}")
    return predict(generator, name, structures)
