"""What GPAW and Quantum ESPRESSO have in common here: an ASE calculator that tries again.

A self-consistent field that does not converge is tried again with other means, from those that
leave the answer as it is (a shorter step of the mixer, more iterations) to a wider smearing, which
the energy is extrapolated from. What was tried is told, and stays in use for the cells after.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from loop.evaluators.base import EvaluationFailed, one_line

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from loop.evaluators.dft_settings import Accuracy

# Moments in Bohr magnetons that a spin-polarised calculation begins with.
MOMENTS = {
    "Cr": 3.0, "Mn": 4.0, "Fe": 3.0, "Co": 2.0, "Ni": 1.0,
    "Ce": 1.0, "Pr": 2.0, "Nd": 3.0, "Pm": 4.0, "Sm": 5.0, "Eu": 7.0, "Gd": 7.0,
    "Tb": 6.0, "Dy": 5.0, "Ho": 4.0, "Er": 3.0, "Tm": 2.0,
}  # fmt: skip
_LOG_BYTES = 200_000


class NotConverged(Exception):
    """A self-consistent field that did not converge, and may with other means."""


def kpoint_grid(crystal: Structure, density: float) -> tuple[int, int, int]:
    """Return an even, Gamma-centred grid of at least `density * |b|` points along each vector b.

    Even, so that it holds the zone's boundary (X and L of a cubic zone) where many gaps are.
    """
    lengths = crystal.lattice.reciprocal_lattice.abc
    a, b, c = (max(2, 2 * int(np.ceil(density * length / 2 - 1e-9))) for length in lengths)
    return a, b, c


def is_spin_polarised(symbols: Sequence[str], accuracy: Accuracy) -> bool:
    """Tell whether a crystal of these elements is calculated with spin."""
    if accuracy.spin == "auto":
        return any(symbol in MOMENTS for symbol in symbols)
    return accuracy.spin == "on"


def starting_moments(symbols: Sequence[str]) -> list[float]:
    """Return the moment of each atom that a spin-polarised calculation begins with."""
    return [MOMENTS.get(symbol, 0.3) for symbol in symbols]


class PersistentCalculator(Calculator, ABC):
    """ASE calculator that tries a ladder of means until the field converges.

    Energy in eV, extrapolated to no smearing; forces in eV/angstrom; stress in eV/angstrom^3.

    Args:
        rungs: How many means there are.

    Attributes:
        rung: The one in use, from 0.
        retries: What failed before and what was done, for provenance.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - as ASE has it

    def __init__(self, rungs: int) -> None:
        super().__init__()
        self.rungs = rungs
        self.rung = 0
        self.retries: list[str] = []
        self.runs = 0

    @abstractmethod
    def run(self, atoms: Atoms, rung: int, properties: Sequence[str]) -> dict[str, Any]:
        """Calculate `properties` of `atoms` by the means of a rung.

        Raises:
            NotConverged: It may converge by the means of the next.
            EvaluationFailed: It cannot be calculated at all.
        """

    @abstractmethod
    def gap(self, atoms: Atoms, along: str) -> tuple[float, dict[str, Any]]:
        """Return the band gap (eV) and where it was looked for: `grid`, or a `path` as well.

        Raises:
            EvaluationFailed: As `calculate`.
        """

    @abstractmethod
    def log(self) -> Path | None:
        """The code's own output of its last run."""

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute what is asked for of `atoms` into `self.results`.

        Raises:
            EvaluationFailed: No rung converges, or atoms overlap.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        # Who asks for forces asks for the stress next, and it costs a tenth of the field.
        forces = {"forces", "stress"} & set(properties or ())
        wanted = ["energy", "forces", "stress"] if forces else ["energy"]
        while True:
            try:
                self.runs += 1
                self.results = self.run(self.atoms, self.rung, wanted)
                return
            except np.linalg.LinAlgError as error:
                raise EvaluationFailed(
                    f"atoms are too close for a calculation ({one_line(error)})", infeasible=True
                ) from error
            except NotConverged as error:
                self.retries.append(f"attempt {self.rung + 1}: {error}")
                if self.rung + 1 >= self.rungs:
                    raise EvaluationFailed(
                        f"not converged: the field did not, {self.rungs} times by other means "
                        f"({'; '.join(self.retries[-self.rungs :])})"
                    ) from error
                self.rung += 1

    def close(self) -> None:
        """Delete its files. It cannot be used after."""

    def log_text(self) -> str:
        """The end of the code's own output, as much as is worth keeping."""
        path = self.log()
        if path is None or not path.is_file():
            return ""
        text = path.read_bytes()[-_LOG_BYTES:]
        return text.decode("utf-8", errors="replace")
