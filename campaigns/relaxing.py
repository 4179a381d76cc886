"""CHGNet as the potential that metrics of generators ask for: energies and crystals at rest."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from generators.crystals.metrics import Relaxed

FMAX = 0.05  # eV/angstrom, as Zeni et al. (2025) relax
MOST_STEPS = 500


class Rest:
    """A `generators.crystals.metrics.Potential`: CHGNet by way of matcalc.

    Each process loads the network when it first asks, so that it can be handed to forked ones.

    Args:
        model: `chgnet`, `chgnet:0.3.0` or `chgnet:r2scan`.
    """

    def __init__(self, model: str = "chgnet:0.3.0") -> None:
        self.name = model

    @cached_property
    def _potential(self) -> Any:
        from loop.evaluators.models import load_model

        return load_model(self.name)

    def relax(self, structure: Structure) -> Relaxed | None:
        """Relax cell and atoms to 0.05 eV/angstrom; None where it fails or needs over 500 steps."""
        import numpy as np

        from generators.crystals.metrics import Relaxed

        found = self._calculate(structure, relax=True)
        if found is None or len(found["final_structure"]) != len(structure):
            return None
        end: Structure = found["final_structure"]
        force = np.linalg.norm(found["forces"], axis=1).max()
        # Symmetry holds forces at zero in a rock salt of any volume: ask the virial too.
        stress = np.asarray(found["stress"], dtype=float)
        virial = np.linalg.norm(stress * end.volume / len(end), axis=1).max()
        if not max(force, virial) <= 1.1 * FMAX or not np.isfinite(found["energy"]):
            return None
        return Relaxed(end, float(found["energy"]))

    def energy(self, structure: Structure) -> float:
        """Energy of a cell as it is, eV; nan where there is none."""
        found = self._calculate(structure, relax=False)
        return float("nan") if found is None else float(found["energy"])

    def references(self, symbols: Iterable[str]) -> dict[str, float]:
        """Energies of elements (eV/atom), relaxed from matcalc's elemental crystals."""
        from loop.evaluators.base import EvaluationFailed
        from loop.evaluators.references import reference_energies

        found: dict[str, float] = {}
        for symbol in symbols:
            try:
                found |= reference_energies(self._potential, [symbol])
            except EvaluationFailed:
                continue  # no crystal to count from: it is left out, as is said above
        return found

    def _calculate(self, structure: Structure, relax: bool) -> dict[str, Any] | None:
        if not {e.symbol for e in structure.composition} <= self._potential.elements:
            return None
        from loop.evaluators.models import quiet_imports, quiet_use

        with quiet_imports():
            from matcalc import RelaxCalc

        calculation = RelaxCalc(
            self._potential.calculator,
            optimizer="BFGS",
            fmax=FMAX,
            max_steps=MOST_STEPS,
            relax_atoms=relax,
            relax_cell=relax,
        )
        try:
            with quiet_use():
                found: dict[str, Any] = calculation.calc(structure)
        # Cells gone to nothing: numpy, ASE and the neighbour search each fail in their way.
        except (ValueError, ArithmeticError, IndexError, RuntimeError):
            return None
        return found
