"""Quantum ESPRESSO's pw.x, where it is installed: plane waves and pseudopotentials, with PBE.

Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017). Its pseudopotentials are UPF files in
a folder of the user's, one for each element, named as they usually are (`Si.pbe-n-kjpaw.UPF`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.evaluators.base import EvaluationFailed, EvaluatorError, one_line
from loop.evaluators.dft_calculator import (
    NotConverged,
    PersistentCalculator,
    is_spin_polarised,
    starting_moments,
)
from loop.evaluators.files import sha256_of_text

if TYPE_CHECKING:
    from ase import Atoms

    from loop.evaluators.dft_settings import Accuracy

COMMAND = ("pw.x",)
RYDBERG = 13.605693122994

_LADDER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mixing 0.7", {"mixing_beta": 0.7, "electron_maxstep": 80}),
    ("mixing 0.3", {"mixing_beta": 0.3, "electron_maxstep": 150}),
    ("local mixing 0.2, conjugate gradients", {
        "mixing_beta": 0.2, "mixing_mode": "local-TF", "diagonalization": "cg",
        "electron_maxstep": 250,
    }),
)  # fmt: skip


def pseudopotentials(folder: str | Path | None) -> dict[str, Path]:
    """Return the PBE pseudopotential of every element that a folder has exactly one of.

    Raises:
        EvaluatorError: There is no such folder, or no UPF file of PBE in it.
    """
    if folder is None or not Path(folder).is_dir():
        raise EvaluatorError(
            f"there is no folder of pseudopotentials {folder}", "pseudopotentials: FOLDER"
        )
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).iterdir()):
        match = re.match(r"([A-Z][a-z]?)[._-]", path.name)
        if match and path.suffix.lower() == ".upf" and re.search("pbe", path.name, re.IGNORECASE):
            found.setdefault(match[1], []).append(path)
    if not found:
        raise EvaluatorError(
            f"{folder} has no PBE pseudopotential (SYMBOL.*pbe*.UPF)",
            "download a set such as SSSP or PseudoDojo",
        )
    return {symbol: paths[0] for symbol, paths in found.items()}


def elements(
    command: Sequence[str] = COMMAND, pseudopotentials: str | None = None
) -> frozenset[str]:
    """Return the elements that can be calculated.

    Raises:
        EvaluatorError: pw.x is not installed, or the folder has no pseudopotentials.
    """
    if shutil.which(command[0]) is None:
        raise EvaluatorError(f"Quantum ESPRESSO is not installed: there is no {command[0]}")
    return frozenset(_files(pseudopotentials))


_files = pseudopotentials


def versions(
    command: Sequence[str] = COMMAND, pseudopotentials: str | None = None
) -> dict[str, str]:
    """Return pw.x's version, and the hash of the names of its pseudopotentials."""
    with tempfile.TemporaryDirectory(prefix="matloop-espresso-") as folder:
        # Without an input it says its version, and ends.
        told = subprocess.run(
            [*command], cwd=folder, input=b"", capture_output=True, check=False, timeout=60,
            env=_environment(),
        ).stdout.decode("utf-8", "replace")  # fmt: skip
    match = re.search(r"Program PWSCF v\.?(\S+)", told)
    names = ",".join(f"{s}:{path.name}" for s, path in sorted(_files(pseudopotentials).items()))
    return {
        "pw.x": match[1] if match else "unknown",
        "pseudopotentials": sha256_of_text(names)[:16],
    }


def _environment() -> dict[str, str]:
    # One process a trial; as root, Open MPI wants to be told that this is meant.
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return os.environ | {"OMP_NUM_THREADS": "1"} | root


class EspressoCalculator(PersistentCalculator):
    """ASE calculator that runs pw.x, and tries again where the field does not converge.

    Args:
        accuracy: What decides the energy.
        kpoints: The grid, Gamma-centred.
        moments: Moment that each atom begins with; None = `accuracy.spin` decides.
        command: How pw.x is begun.
        pseudopotentials: The folder of UPF files.
    """

    def __init__(
        self,
        accuracy: Accuracy,
        kpoints: tuple[int, int, int],
        moments: Sequence[float] | None = None,
        command: Sequence[str] = COMMAND,
        pseudopotentials: str | None = None,
    ) -> None:
        super().__init__(len(_LADDER))
        self.accuracy = accuracy
        self.kpoints = kpoints
        self.moments = moments
        self.command = tuple(command)
        self.pseudopotentials = _files(pseudopotentials)
        self._folder = tempfile.TemporaryDirectory(prefix="matloop-espresso-")

    def close(self) -> None:
        """Delete its files. It cannot be used after."""
        self._folder.cleanup()

    def log(self) -> Path | None:
        """pw.x's own output."""
        return Path(self._folder.name) / "espresso.pwo"

    def run(self, atoms: Atoms, rung: int, properties: Sequence[str]) -> dict[str, Any]:
        """Calculate; see `PersistentCalculator.run`."""
        from ase.calculators.calculator import CalculationFailed
        from ase.calculators.espresso import Espresso, EspressoProfile

        symbols = atoms.get_chemical_symbols()
        bare = atoms.copy()
        bare.set_constraint()
        spin = is_spin_polarised(symbols, self.accuracy) or self.moments is not None
        if spin:
            bare.set_initial_magnetic_moments(self.moments or starting_moments(symbols))
        files = {symbol: self.pseudopotentials[symbol] for symbol in set(symbols)}
        folder = next(iter(files.values())).parent
        os.environ.update(_environment())
        bare.calc = Espresso(
            profile=EspressoProfile(command=" ".join(self.command), pseudo_dir=folder),
            pseudopotentials={symbol: path.name for symbol, path in files.items()},
            input_data=self.told(rung, spin),
            kpts=self.kpoints,
            directory=self._folder.name,
        )
        try:
            energy = float(bare.get_potential_energy())
            results = {"energy": energy, "free_energy": energy}
            if "forces" in properties:
                results |= {"forces": bare.get_forces(), "stress": bare.get_stress()}
        except (CalculationFailed, subprocess.CalledProcessError, OSError) as error:
            output = self.log_text()
            if "convergence NOT achieved" in output:
                raise NotConverged(_LADDER[rung][0]) from error
            told = re.findall(r"Error in routine[^%]*", output)
            why = " ".join(told[-1].split()) if told else one_line(error)
            raise EvaluationFailed(f"pw.x failed: {why[:200]}") from error
        except (KeyError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            if "convergence NOT achieved" in self.log_text():
                raise NotConverged(_LADDER[rung][0]) from error
            raise EvaluationFailed(f"pw.x's output is incomplete: {one_line(error)}") from error
        return results

    def told(self, rung: int, spin: bool) -> dict[str, Any]:
        """Return pw.x's input, by the means of a rung."""
        accuracy = self.accuracy
        wave = accuracy.cutoff / RYDBERG
        system = {
            "ecutwfc": wave,
            # Enough for ultrasoft and PAW, whose density is harder than their waves.
            "ecutrho": 8 * wave,
            "occupations": "smearing",
            "smearing": "fermi-dirac",
            "degauss": accuracy.smearing / RYDBERG,
        }
        if spin:
            system["nspin"] = 2
        means: dict[str, Any] = {}
        for _, more in _LADDER[: rung + 1]:
            means |= more
        return {
            "control": {"calculation": "scf", "tprnfor": True, "tstress": True, "disk_io": "none"},
            "system": system,
            "electrons": means | {"conv_thr": accuracy.convergence / RYDBERG},
        }

    def gap(self, atoms: Atoms, along: str) -> tuple[float, dict[str, Any]]:
        """Refuse: gaps by Quantum ESPRESSO are not in this version.

        Raises:
            EvaluatorError: Always.
        """
        raise EvaluatorError("band gaps by Quantum ESPRESSO are not in this version", "code: gpaw")
