"""Crystals to start from: the AFLOW prototypes, or whatever file or folder a user names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import moyopy
import numpy as np
from pymatgen.core import Element, Lattice, Structure

from generators.crystals.baselines.recipe import AFLOW, Recipe, aflow_file
from generators.crystals.crystal_files import Read, Refused, read_crystals
from generators.crystals.symmetry import Array
from generators.crystals.wyckoff import SYMPREC, element_rank

_LARGEST = 8  # a cell of so many times the atoms that are allowed may still be a supercell of one


@dataclass(frozen=True)
class Parent:
    """A crystal in its primitive cell, its atoms told apart by element only.

    Attributes:
        name: Where it comes from.
        number: Space group number.
        structure: In the primitive cell.
        elements: Atomic numbers, the most electropositive first.
        counts: Atoms of each in the primitive cell.
    """

    name: str
    number: int
    structure: Structure
    elements: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def key(self) -> tuple[int, tuple[int, ...]]:
        """What crystals share that differ in their elements only."""
        return self.number, tuple(sorted(self.counts))

    def with_elements(self, elements: tuple[int, ...], volumes: Array) -> Structure:
        """The crystal of other elements, its volume scaled by those of their atoms.

        Args:
            elements: Atomic numbers, one for each of its own.
            volumes: Volume of an atom of each element (cubic angstrom), by atomic number.
        """
        new = dict(zip(self.elements, elements, strict=True))
        before, after = (
            sum(n * float(volumes[z]) for z, n in zip(kinds, self.counts, strict=True))
            for kinds in (self.elements, elements)
        )
        cell = self.structure.lattice.scale(self.structure.volume * after / before)
        kinds = [Element.from_Z(new[site.specie.Z]) for site in self.structure]
        return Structure(cell, kinds, self.structure.frac_coords)


def primitive(name: str, structure: Structure) -> Parent | Refused:
    """A crystal as a parent, whatever cell it is given in."""
    symbols = {site.specie.symbol for site in structure}
    if strange := sorted(s for s in symbols if not Element.is_valid_symbol(s)):
        return Refused(name, f"{', '.join(strange)}: no element")
    if not np.isfinite(structure.lattice.matrix).all() or structure.volume < 0.1 * len(structure):
        return Refused(name, f"its cell has {structure.volume:.3g} A^3 for {len(structure)} atoms")
    cell = moyopy.Cell(
        structure.lattice.matrix.tolist(),
        structure.frac_coords.tolist(),
        [site.specie.Z for site in structure],
    )
    try:
        data = moyopy.MoyoDataset(cell, symprec=SYMPREC, setting=moyopy.Setting.spglib())
    except ValueError as error:
        return Refused(name, f"no symmetry was found: {error}")
    small = data.prim_std_cell
    numbers = Counter(int(z) for z in small.numbers)
    elements = tuple(sorted(numbers, key=element_rank))
    made = Structure(
        Lattice(small.basis), [Element.from_Z(int(z)) for z in small.numbers], small.positions
    )
    return Parent(name, data.number, made, elements, tuple(numbers[z] for z in elements))


def load_parents(
    recipe: Recipe, source: str, max_atoms: int, distinct: int
) -> tuple[list[Parent], list[Refused]]:
    """Parents of a recipe, alike ones side by side, and the rows that cannot be used.

    Args:
        recipe: Its folder is where the path starts.
        source: `aflow`, or the path of a file or folder of crystals.
        max_atoms: In the primitive cell.
        distinct: Most different elements.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No row can be used.
    """
    path: Path = aflow_file() if source == AFLOW else recipe.path(source)
    parents: list[Parent] = []
    refused: list[Refused] = []
    for row in read_crystals(path):
        found = usable(row, max_atoms, distinct)
        if isinstance(found, Parent):
            parents.append(found)
        else:
            refused.append(found)
    if not parents:
        raise ValueError(f"{path} holds no crystal that can be a parent: {summary(refused)}")
    parents.sort(key=lambda p: (len(p.elements), p.counts, p.number, p.structure.volume, p.name))
    return parents, refused


def usable(row: Read | Refused, max_atoms: int, distinct: int) -> Parent | Refused:
    """A row as a parent, or why it is none."""
    if isinstance(row, Refused):
        return row
    if len(row.structure) > _LARGEST * max_atoms:
        return Refused(row.name, f"{len(row.structure)} atoms; at most {max_atoms} are taken")
    found = primitive(row.name, row.structure)
    if isinstance(found, Parent) and len(found.structure) > max_atoms:
        atoms = len(found.structure)
        return Refused(
            row.name, f"{atoms} atoms in its primitive cell; at most {max_atoms} are taken"
        )
    if isinstance(found, Parent) and len(found.elements) > distinct:
        return Refused(row.name, f"{len(found.elements)} elements; at most {distinct} are taken")
    return found


def told(refused: list[Refused]) -> list[dict[str, str]]:
    """Rows that cannot be used, for a card: the first hundred, and how many more."""
    rows = [{"name": row.name, "reason": row.reason} for row in refused[:100]]
    more = len(refused) - len(rows)
    return [*rows, {"name": f"{more} more", "reason": "not listed"}] if more else rows


def summary(refused: list[Refused]) -> str:
    """How many rows were refused, and the first of them with their reasons."""
    if not refused:
        return "it is empty"
    first = "; ".join(f"{r.name}: {r.reason}" for r in refused[:3])
    return f"{len(refused)} refused ({first}{'; ...' if len(refused) > 3 else ''})"
