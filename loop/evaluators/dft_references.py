"""Energies of the elements by DFT, which formation energies are counted from.

Solids are matcalc's elemental crystals of the set MatPES-PBE, as they are given: relaxed with PBE
by another code, whose lattice differs by so little that the energy does by about 1 meV an atom.
Hydrogen, nitrogen, oxygen, fluorine and chlorine are molecules in a box, oxygen a triplet: what
holds a crystal of them together, PBE lacks. So a formation energy is PBE's own at 0 K, without any
correction.

Energies of one accuracy, code and version are computed once: shipped in `elemental/dft/gpaw-*.json`
(written by `python -m loop.evaluators.dft_references`), else kept in the user's cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from loop.evaluators.base import EvaluationFailed
from loop.evaluators.dft_calculator import PersistentCalculator, kpoint_grid
from loop.evaluators.dft_settings import PRESETS, Accuracy
from loop.evaluators.files import cache_folder, write_atomically
from loop.evaluators.models import elemental_crystals
from loop.evaluators.references import kept_energy

# Not among the tables of potentials, which are known by their weights.
SHIPPED = Path(__file__).parent / "elemental" / "dft"
# Bond length in angstrom by PBE, and the moment of each atom.
MOLECULES = {
    "H": (0.750, 0.0),
    "N": (1.103, 0.0),
    "O": (1.219, 1.0),
    "F": (1.416, 0.0),
    "Cl": (2.004, 0.0),
}
_BOX = (7.5, 7.6, 7.7)
# Larger elemental cells (P 84 atoms, Se 64, S 32, Ta 30) would take hours.
_MOST_ATOMS = 16


def reference_energies(
    code: str, accuracy: Accuracy, versions: dict[str, str], symbols: Iterable[str]
) -> dict[str, float]:
    """Return the energies of elements (eV/atom) by a code at an accuracy.

    Raises:
        EvaluationFailed: If there is no crystal of an element to count from.
    """
    key = accuracy.digest(code=code, **versions)
    shipped = _shipped().get(key, {})
    return {
        symbol: shipped[symbol]
        if symbol in shipped
        else _cached_energy(key, code, accuracy, symbol)
        for symbol in symbols
    }


@cache
def _shipped() -> dict[str, dict[str, float]]:
    tables = {}
    for path in sorted(SHIPPED.glob("gpaw-*.json")):
        table = json.loads(path.read_text("utf-8"))
        tables[table["key"]] = {s: float(e["energy"]) for s, e in table["elements"].items()}
    return tables


def _cached_energy(key: str, code: str, accuracy: Accuracy, symbol: str) -> float:
    path = cache_folder() / "dft" / key / f"{symbol}.json"
    return kept_energy(path, lambda: element_energy(code, accuracy, symbol))


def element_energy(code: str, accuracy: Accuracy, symbol: str) -> dict[str, Any]:
    """Return the energy of an element: `energy` (eV/atom), `atoms`, `what`, `seconds`.

    Raises:
        EvaluationFailed: There is no crystal of it, or it does not converge.
    """
    from ase import Atoms
    from pymatgen.core import Structure
    from pymatgen.io.ase import AseAtomsAdaptor

    from loop.evaluators.dft import make_calculator

    started = time.perf_counter()
    moments: list[float] | None = None
    if symbol in MOLECULES:
        bond, moment = MOLECULES[symbol]
        atoms = Atoms([symbol] * 2, [[0, 0, 0], [0, 0, bond]], cell=_BOX, pbc=True)
        atoms.center()
        moments = [moment] * 2 if moment else None
        grid, what = (1, 1, 1), "molecule"
    else:
        crystals = elemental_crystals("MatPES-PBE").get(symbol)
        if not crystals or len(crystals[0]) > _MOST_ATOMS:
            size = f"one of {len(crystals[0])} atoms, too large" if crystals else "none"
            raise EvaluationFailed(
                f"no formation energy: of the crystals of {symbol} to count from, there is {size}"
            )
        crystal: Structure = crystals[0]
        atoms = AseAtomsAdaptor.get_atoms(crystal)
        atoms.set_initial_magnetic_moments(None)
        grid, what = kpoint_grid(crystal, accuracy.kpoint_density), "crystal"
    calculator: PersistentCalculator = make_calculator(code, accuracy, grid, moments)
    atoms.calc = calculator
    with contextlib.closing(calculator):
        energy = float(atoms.get_potential_energy()) / len(atoms)
    return {
        "energy": energy,
        "atoms": len(atoms),
        "what": what,
        "kpoints": list(grid),
        "retries": calculator.retries,
        "seconds": round(time.perf_counter() - started, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Add elements to the shipped tables: `python -m loop.evaluators.dft_references fast Mg O`."""
    from loop.evaluators.gpaw_calculator import versions

    parser = argparse.ArgumentParser(
        prog="python -m loop.evaluators.dft_references", description=main.__doc__
    )
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("symbols", nargs="+")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder to write to")
    given = parser.parse_args(arguments)
    accuracy = PRESETS[given.preset][0]
    key = accuracy.digest(code="gpaw", **versions())
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"gpaw-{given.preset}.json"
    table: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if table.get("key") != key:
        table = {
            "about": "Energies of the elements (eV/atom), see loop.evaluators.dft_references",
            "key": key,
            "accuracy": vars(accuracy),
            "packages": versions(),
            "elements": {},
        }
    for symbol in given.symbols:
        if symbol in table["elements"]:
            continue
        entry = element_energy("gpaw", accuracy, symbol)
        table["elements"][symbol] = entry | {"energy": round(entry["energy"], 6)}
        table["elements"] = dict(sorted(table["elements"].items()))
        write_atomically(path, json.dumps(table, indent=1) + "\n")
        told = f"{entry['energy']:10.5f} eV/atom  {entry['seconds']:6.1f} s"
        print(f"{symbol:2} {told}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
