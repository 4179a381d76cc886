"""How far above the convex hull of given compounds a crystal is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from loop.evaluators.base import EvaluatorError
from loop.evaluators.table import number, read_rows

if TYPE_CHECKING:
    from pymatgen.core import Composition

FORMULA, ENERGY = "formula", "formation_energy"


@lru_cache(maxsize=4)
def read_entries(path: Path) -> tuple[tuple[str, float], ...]:
    """Return formula and formation energy (eV/atom) of the compounds in a table.

    Args:
        path: CSV or Parquet with the columns `formula` and `formation_energy (eV/atom)`.

    Raises:
        EvaluatorError: It cannot be read, or a row is no compound.
    """
    from pymatgen.core import Composition

    columns, rows = read_rows(path)
    if lacking := [name for name in (FORMULA, ENERGY) if name not in columns]:
        hint = f"{FORMULA} and {ENERGY} (eV/atom)"
        raise EvaluatorError(f"{path} has no column {', '.join(lacking)}", hint)
    if columns[ENERGY] not in (None, "eV/atom"):
        raise EvaluatorError(f"{path}: formation energies are in {columns[ENERGY]}, not eV/atom")
    found = []
    for line, row in enumerate(rows, start=2):
        energy = number(row[ENERGY])
        try:
            formula = Composition(str(row[FORMULA]), strict=True).formula
        except ValueError as error:
            raise EvaluatorError(f"{path}, row {line}: {row[FORMULA]!r} is no formula") from error
        if energy is None or not formula:
            raise EvaluatorError(f"{path}, row {line}: no compound and its formation energy")
        found.append((formula, energy))
    return tuple(found)


def above_hull(composition: Composition, formation_energy: float, path: Path) -> float:
    """Return the energy above the hull of the elements and the compounds given (eV/atom).

    Below zero where the crystal is more stable than whatever the given ones would make. The
    formation energies should be of one kind: the same potential's, or the same DFT's.

    Raises:
        EvaluatorError: As `read_entries`.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    system = {element.symbol for element in composition}
    energies: Mapping[str, float] = dict.fromkeys(system, 0.0)
    entries = [PDEntry(Composition(symbol), energy) for symbol, energy in energies.items()]
    for formula, energy in read_entries(path):
        compound = Composition(formula)
        if {element.symbol for element in compound} <= system:
            entries.append(PDEntry(compound, energy * compound.num_atoms))
    hull = float(PhaseDiagram(entries).get_hull_energy_per_atom(composition))
    return formation_energy - hull
