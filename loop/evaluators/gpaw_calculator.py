"""GPAW: plane waves and the projector augmented-wave method, with PBE.

Mortensen et al., J. Chem. Phys. 160, 092503 (2024); the functional is that of Perdew, Burke and
Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996). GPAW is under the GPL: it is imported only in the child
process of a trial.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.evaluators.base import EvaluationFailed, EvaluatorError, one_line
from loop.evaluators.dft_calculator import (
    NotConverged,
    PersistentCalculator,
    is_spin_polarised,
    starting_moments,
)

if TYPE_CHECKING:
    from ase import Atoms

    from loop.evaluators.dft_settings import Accuracy

FUNCTIONAL = "PBE"
HOW_TO_INSTALL = "docs/evaluators.md says how GPAW is installed: pip install 'matloop[dft]'"

# Each adds to those before it. The first two leave the answer as it is.
_LADDER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("GPAW's own mixer", {"maxiter": 100}),
    ("a slow Pulay mixer", {"mixer": {"name": "pulay", "beta": 0.03}, "maxiter": 250}),
    ("twice the smearing", {"smearing": 2.0, "maxiter": 400}),
    ("four times the smearing", {"smearing": 4.0, "mixer": {"name": "pulay", "beta": 0.01}}),
)


def is_installed() -> bool:
    """Tell whether GPAW can be imported, without importing it."""
    return importlib.util.find_spec("gpaw") is not None


@cache
def elements() -> frozenset[str]:
    """Return the elements that there are PBE data sets of.

    Raises:
        EvaluatorError: GPAW is not installed, or finds no data sets.
    """
    if not is_installed():
        raise EvaluatorError("GPAW is not installed", HOW_TO_INSTALL)
    gpaw = importlib.import_module("gpaw")
    found = {
        match[1]
        for folder in gpaw.setup_paths
        for path in Path(folder).glob(f"*.{FUNCTIONAL}*")
        if (match := re.fullmatch(rf"([A-Z][a-z]?)\.{FUNCTIONAL}(\.gz)?", path.name))
    }
    if not found:
        raise EvaluatorError(
            f"GPAW has no {FUNCTIONAL} data sets in {', '.join(map(str, gpaw.setup_paths)) or '-'}",
            "pip install gpaw-data, or set GPAW_SETUP_PATH",
        )
    return frozenset(found)


def versions() -> dict[str, str]:
    """Return the versions of GPAW and of its data sets, which decide an energy."""
    from importlib import metadata

    told = {"gpaw": metadata.version("gpaw")}
    try:
        told["gpaw-data"] = metadata.version("gpaw-data")
    except metadata.PackageNotFoundError:
        told["gpaw-data"] = "of GPAW_SETUP_PATH"
    return told


class GPAWCalculator(PersistentCalculator):
    """ASE calculator that runs GPAW, and tries again where the field does not converge.

    Args:
        accuracy: What decides the energy.
        kpoints: The grid, Gamma-centred; the same for every cell, so that energies compare.
        moments: Moment that each atom begins with; None = `accuracy.spin` decides.
    """

    def __init__(
        self,
        accuracy: Accuracy,
        kpoints: tuple[int, int, int],
        moments: Sequence[float] | None = None,
    ) -> None:
        super().__init__(len(_LADDER))
        self.accuracy = accuracy
        self.kpoints = kpoints
        self.moments = moments
        self._folder = tempfile.TemporaryDirectory(prefix="matloop-gpaw-")
        self._gpaw: Any = None
        self._key: tuple[Any, ...] = ()

    def close(self) -> None:
        """Delete its files. It cannot be used after."""
        self._folder.cleanup()

    def log(self) -> Path | None:
        """GPAW's own output."""
        return Path(self._folder.name) / "gpaw.txt"

    def run(self, atoms: Atoms, rung: int, properties: Sequence[str]) -> dict[str, Any]:
        """Calculate; see `PersistentCalculator.run`."""
        gpaw = importlib.import_module("gpaw")
        symbols = atoms.get_chemical_symbols()
        bare = atoms.copy()
        bare.calc = None
        bare.set_constraint()
        # The calculator of the cell before is used again: it begins with that one's orbitals.
        key = (rung, tuple(symbols))
        if self._gpaw is None or self._key != key:
            self._gpaw, self._key = gpaw.GPAW(**self.told(symbols, rung)), key
        if is_spin_polarised(symbols, self.accuracy) or self.moments is not None:
            bare.set_initial_magnetic_moments(self.moments or starting_moments(symbols))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its dependencies; errors are what counts
                bare.calc = self._gpaw
                energy = float(bare.get_potential_energy())
                results = {"energy": energy, "free_energy": energy}
                if "forces" in properties:
                    results["forces"] = bare.get_forces()
                if "stress" in properties:
                    results["stress"] = bare.get_stress()
        except gpaw.KohnShamConvergenceError as error:
            self._gpaw = None
            raise NotConverged(f"{_LADDER[rung][0]}: {one_line(error)}") from error
        except FileNotFoundError as error:
            self._gpaw = None
            raise EvaluatorError(f"GPAW lacks a data set: {one_line(error, 160)}") from error
        except (ValueError, RuntimeError, AssertionError, ArithmeticError) as error:
            self._gpaw = None
            raise EvaluationFailed(f"GPAW broke down: {one_line(error)}") from error
        return results

    def told(self, symbols: Sequence[str], rung: int) -> dict[str, Any]:
        """Return what GPAW is told, by the means of a rung."""
        means: dict[str, Any] = {}
        for _, more in _LADDER[: rung + 1]:
            means |= more
        accuracy = self.accuracy
        width = accuracy.smearing * float(means.pop("smearing", 1.0))
        return means | {
            "mode": {"name": "pw", "ecut": accuracy.cutoff},
            "xc": FUNCTIONAL,
            "kpts": {"size": self.kpoints, "gamma": True},
            "occupations": {"name": "fermi-dirac", "width": width},
            "convergence": {
                "energy": accuracy.convergence,
                "density": 10 * accuracy.convergence,
                "eigenstates": accuracy.convergence,
            },
            "txt": str(self.log()),
        }

    def gap(self, atoms: Atoms, along: str) -> tuple[float, dict[str, Any]]:
        """Return the band gap (eV) and where it was looked for.

        Args:
            atoms: The crystal, as it was calculated last.
            along: `grid`: among the points of the grid, an upper bound of the gap; `path`: along
                the lines between the zone's corners too, the field held fixed.

        Raises:
            EvaluationFailed: As `calculate`.
        """
        from ase.dft.bandgap import bandgap

        atoms.calc = self
        atoms.get_potential_energy()
        calculator = self._gpaw
        found, low, high = bandgap(calculator, output=None)
        told: dict[str, Any] = {"from": "grid", "grid": list(self.kpoints)}
        if along == "path":
            path = atoms.cell.bandpath(density=20.0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fixed = calculator.fixed_density(
                    kpts=path.kpts, symmetry="off", txt=None, convergence={"bands": "occupied"}
                )
            on_path, low_on_path, high_on_path = bandgap(fixed, output=None)
            told |= {"from": "grid and path", "path": path.path, "points": len(path.kpts)}
            if on_path < found:
                found, low, high = on_path, low_on_path, high_on_path
        told["direct"] = bool(found > 0 and low[1] == high[1])
        return max(0.0, float(found)), told
