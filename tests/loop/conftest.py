"""Small real generators to search with, and a problem with a known answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Lattice, Structure
from torch import Tensor

from generators.base import EncodeError, Generator
from loop import DesignSpace, LatentAxis, Objective, OutcomeConstraint, Problem, ScreenRules


class Points(Generator):
    """Six numbers between 0 and 1, in steps of 0.02, decoded from six latent ones by a bent map.

    As with a real decoder, neighbouring codes give one design, a few give none, and encoding does
    not quite undo decoding.
    """

    name, version, parent, dim = "points", "1", None, 6
    feature_names = tuple(f"x{i}" for i in range(6))
    card: ClassVar[dict[str, Any]] = {}

    def decode(self, z: Tensor, seed: int = 0) -> list[Any | None]:
        bent = z + 0.4 * torch.sin(2.0 * z.roll(1, -1))
        grid = torch.round(50 * torch.special.ndtr(bent)) / 50
        return [None if row[0] > 0.99 else tuple(row) for row in grid.tolist()]

    def encode(self, designs: Sequence[Any]) -> Tensor:
        for index, design in enumerate(designs):
            if not all(0 <= x <= 1 for x in design):
                raise EncodeError(index, "a coordinate outside 0 to 1")
        x = torch.tensor(designs, dtype=torch.float64).reshape(-1, 6)
        return torch.special.ndtri(x.clamp(0.01, 0.99))

    def features(self, designs: Sequence[Any]) -> Tensor:
        self.encode(designs)
        return torch.tensor(designs, dtype=torch.float64).reshape(-1, 6)

    def to_json(self, design: Any) -> dict[str, Any]:
        return {"x": list(design)}

    def from_json(self, data: dict[str, Any]) -> Any:
        return tuple(data["x"])

    def same(self, a: Any, b: Any) -> bool:
        return bool(a == b)

    def describe(self, design: Any) -> str:
        return "point " + " ".join(f"{x:.2f}" for x in design)


class Rocksalt(Generator):
    """Rocksalt crystals AB of eight cations, six anions and a lattice constant."""

    name, version, parent, dim = "rocksalt", "1", None, 3
    feature_names = ("Z cation", "X cation", "Z anion", "X anion", "a")
    card: ClassVar[dict[str, Any]] = {}
    cations = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Ti", "Fe")
    anions = ("F", "Cl", "Br", "O", "S", "N")

    def decode(self, z: Tensor, seed: int = 0) -> list[Any | None]:
        u = torch.special.ndtr(z)
        half = 2.5 * torch.exp(0.25 * z[:, 2])
        face_centred = np.ones((3, 3)) - np.eye(3)
        return [
            Structure(
                Lattice(float(h) * face_centred),
                [self.cations[int(p[0] * 8)], self.anions[int(p[1] * 6)]],
                [[0, 0, 0], [0.5, 0.5, 0.5]],
            )
            for h, p in zip(half, u.clamp(0.0, 0.999), strict=True)
        ]

    def _parts(self, designs: Sequence[Any]) -> list[tuple[str, str, float]]:
        parts = []
        for index, crystal in enumerate(designs):
            symbols = {e.symbol for e in crystal.composition}
            cation, anion = symbols & set(self.cations), symbols & set(self.anions)
            if len(crystal) != 2 or not (cation and anion):
                raise EncodeError(index, f"{crystal.formula} is no rocksalt of ours")
            parts.append((cation.pop(), anion.pop(), (4.0 * crystal.volume) ** (1 / 3)))
        return parts

    def encode(self, designs: Sequence[Any]) -> Tensor:
        rows = [
            [(self.cations.index(c) + 0.5) / 8, (self.anions.index(a) + 0.5) / 6]
            for c, a, _ in self._parts(designs)
        ]
        size = [[4.0 * np.log(length / 5.0)] for *_, length in self._parts(designs)]
        z = torch.special.ndtri(torch.tensor(rows, dtype=torch.float64).reshape(-1, 2))
        return torch.cat([z, torch.tensor(size, dtype=torch.float64).reshape(-1, 1)], 1)

    def features(self, designs: Sequence[Any]) -> Tensor:
        rows = [
            [Element(c).Z, Element(c).X, Element(a).Z, Element(a).X, length]
            for c, a, length in self._parts(designs)
        ]
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)

    def to_json(self, design: Any) -> dict[str, Any]:
        return {"cif": design.to(fmt="cif")}

    def from_json(self, data: dict[str, Any]) -> Any:
        return Structure.from_str(data["cif"], fmt="cif")

    def same(self, a: Any, b: Any) -> bool:
        return bool(StructureMatcher().fit(a, b))

    def describe(self, design: Any) -> str:
        return f"{design.composition.reduced_formula} ({len(design)} atoms)"


@pytest.fixture
def points() -> Points:
    return Points()


@pytest.fixture
def rocksalt() -> Rocksalt:
    return Rocksalt()


@pytest.fixture
def problem(points: Points) -> Problem:
    """Maximise a, minimise b, subject to c at most 0.3, over `Points`."""
    return Problem(
        DesignSpace((LatentAxis("point", points),)),
        (
            Objective("a", "maximize", "GPa", threshold=0.0),
            Objective("b", "minimize", "g/cm^3", threshold=2.0),
        ),
        (OutcomeConstraint("c", "<=", 0.3, "eV"),),
        ScreenRules(),
    )


@pytest.fixture
def answer() -> Callable[[dict[str, Any]], list[float]]:
    """The evaluator of `problem`: a design to its a, b and c."""

    def evaluate(design: dict[str, Any]) -> list[float]:
        x = np.array(design["point"])
        a = 3.0 * np.exp(-4.0 * ((x[:4] - [0.8, 0.2, 0.5, 0.7]) ** 2).sum()) + 0.3 * x[4]
        b = 0.4 + 2.0 * (x[0] + x[3]) ** 2 / 4 + 1.5 * (x[5] - 0.5) ** 2
        return [float(a), float(b), float(abs(x[1] - x[2]) + 0.3 * x[4] - 0.05)]

    return evaluate
