"""Energies of the elements, which formation energies are counted from.

`matcalc.EnergeticsCalc` relaxes its elemental crystals at every call, which takes minutes. Here it
is done once per potential: tables for the potentials that ship with the chgnet package are in
`elemental/*.json` (written by `python -m loop.evaluators.references`), any other potential's are
computed element by element when first needed and kept in the user's cache.

The energy of an element is the lowest among matcalc's crystals of that element, each relaxed the
way `EnergeticsCalc` relaxes them (FIRE, 0.1 eV/angstrom), so that a formation energy is the one
that call would give. A test compares the two.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.evaluators.base import EvaluationFailed, EvaluatorError
from loop.evaluators.files import cache_folder, write_atomically
from loop.evaluators.models import (
    CHGNET_FILES,
    Potential,
    elemental_crystals,
    load_model,
    quiet_imports,
    quiet_use,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

SHIPPED = Path(__file__).parent / "elemental"
# As matcalc.EnergeticsCalc relaxes the elements.
OPTIMIZER, FMAX, MAX_STEPS = "FIRE", 0.1, 500
# matcalc's set MP-PBE holds up to 62 crystals of an element, 789 in all. Those whose energy as
# given lies this far above the lowest (eV/atom) are not relaxed: they do not come down below it.
_WINDOW = 0.15
_MOST_ATOMS = 110


def reference_energies(potential: Potential, symbols: Iterable[str]) -> dict[str, float]:
    """Return the energies of elements (eV/atom) by a potential.

    Shipped tables are used where the hash of the weights is theirs; else the user's cache; else
    the elements are computed (seconds each) and cached.

    Raises:
        EvaluationFailed: If there is no crystal of an element to count from.
    """
    shipped = _shipped_tables().get(potential.weights_sha256, {})
    return {
        symbol: shipped[symbol] if symbol in shipped else _cached_energy(potential, symbol)
        for symbol in symbols
    }


@cache
def _shipped_tables() -> dict[str, dict[str, float]]:
    tables = {}
    for path in sorted(SHIPPED.glob("*.json")):
        table = json.loads(path.read_text("utf-8"))
        tables[table["weights_sha256"]] = {
            symbol: float(entry["energy"]) for symbol, entry in table["elements"].items()
        }
    return tables


def _cached_energy(potential: Potential, symbol: str) -> float:
    folder = cache_folder() / "potentials" / potential.weights_sha256[:16]
    # The recipe and the code that computes are part of the name: another of either is another file.
    packages = potential.packages
    code = packages.get("matgl") or packages.get("chgnet") or packages.get("sevenn") or "own"
    path = folder / f"{symbol}-{potential.reference_set}-{code}.json"
    return kept_energy(path, lambda: _computed(potential, symbol))


def _computed(potential: Potential, symbol: str) -> dict[str, Any]:
    crystals = elemental_crystals(potential.reference_set).get(symbol)
    if not crystals:
        raise EvaluationFailed(
            f"no formation energy: the set {potential.reference_set} has no crystal of {symbol} to "
            "count from"
        )
    return element_energy(potential, crystals)


def kept_energy(path: Path, compute: Callable[[], dict[str, Any]]) -> float:
    """Return the `energy` that a file of the cache has; where it has none, compute and keep it."""
    with contextlib.suppress(OSError, ValueError, KeyError):  # absent or torn: compute it
        return float(json.loads(path.read_text("utf-8"))["energy"])
    entry = compute()
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(entry))
    return float(entry["energy"])


def element_energy(potential: Potential, crystals: Sequence[Structure]) -> dict[str, Any]:
    """Return the lowest relaxed energy among the crystals of one element.

    Returns:
        `energy` (eV/atom), `crystal` (its position in the set), `atoms` (in its cell), `relaxed`
        (how many were relaxed), `of` (how many the set has).

    Raises:
        EvaluationFailed: If the potential gives none of them a finite energy.
    """
    with quiet_imports():
        import numpy as np
        from matcalc import RelaxCalc
    still = RelaxCalc(potential.calculator, relax_atoms=False, relax_cell=False)
    moving = RelaxCalc(potential.calculator, optimizer=OPTIMIZER, fmax=FMAX, max_steps=MAX_STEPS)
    with quiet_use():
        small = [i for i, crystal in enumerate(crystals) if len(crystal) <= _MOST_ATOMS]
        given = {i: float(still.calc(crystals[i])["energy"]) / len(crystals[i]) for i in small}
        near = [i for i in small if given[i] <= min(given.values()) + _WINDOW]
        relaxed = {i: float(moving.calc(crystals[i])["energy"]) / len(crystals[i]) for i in near}
    if not relaxed or not np.isfinite(list(relaxed.values())).all():
        raise EvaluationFailed(f"{potential.name} gives an element no finite energy")
    best = min(relaxed, key=relaxed.__getitem__)
    return {
        "energy": relaxed[best],
        "crystal": best,
        "atoms": len(crystals[best]),
        "relaxed": len(near),
        "of": len(crystals),
    }


def make_table(model: str, progress: bool = True) -> dict[str, Any]:
    """Compute the table of all elements that `model` knows.

    Elements without a crystal in the model's own set (MP-PBE has no ytterbium) are taken from
    MatPES-PBE, and say so.

    Raises:
        EvaluatorError: If `model` is no potential.
    """
    potential = load_model(model)
    if not isinstance(potential, Potential):
        raise EvaluatorError(f"{model} is no potential")
    own = elemental_crystals(potential.reference_set)
    spare = elemental_crystals("MatPES-PBE")
    elements: dict[str, dict[str, Any]] = {}
    for symbol in sorted(potential.elements):
        started = time.perf_counter()
        crystals = own.get(symbol) or spare.get(symbol)
        if not crystals:
            continue
        entry = element_energy(potential, crystals)
        entry["set"] = potential.reference_set if symbol in own else "MatPES-PBE"
        elements[symbol] = entry | {"energy": round(entry["energy"], 6)}
        if progress:
            seconds = time.perf_counter() - started
            print(f"{symbol:2} {entry['energy']:10.5f} eV/atom  {seconds:6.1f} s", file=sys.stderr)
    return {
        "about": "Energies of the elements (eV/atom), see loop.evaluators.references",
        "model": potential.name,
        "weights_sha256": potential.weights_sha256,
        "crystals": "matcalc's elemental reference sets; Materials Project (CC-BY 4.0), MatPES",
        "recipe": {
            "optimizer": OPTIMIZER,
            "fmax_eV_per_angstrom": FMAX,
            "max_steps": MAX_STEPS,
            "relaxed_within_eV_per_atom": _WINDOW,
            "largest_cell_atoms": _MOST_ATOMS,
        },
        "packages": potential.packages,
        "elements": elements,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the shipped tables: `python -m loop.evaluators.references [MODEL ...]`."""
    parser = argparse.ArgumentParser(
        prog="python -m loop.evaluators.references", description=main.__doc__
    )
    parser.add_argument("models", nargs="*", default=[f"chgnet:{v}" for v in CHGNET_FILES])
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder to write to")
    given = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    for model in given.models:
        table = make_table(model)
        path = given.out / (table["model"].replace(":", "-") + ".json")
        write_atomically(path, json.dumps(table, indent=1) + "\n")
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
