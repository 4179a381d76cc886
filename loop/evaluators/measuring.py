"""What is measured of a crystal with an ASE calculator, through matcalc: relaxed, then squeezed."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.evaluators.base import EvaluationFailed, EvaluatorError, one_line
from loop.evaluators.geometry import check_geometry
from loop.evaluators.models import quiet_imports

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure

# A relaxed cell this many times larger or smaller than the given one has come apart or collapsed.
_VOLUME_FACTOR = 2.0
# Equations of state whose inner points disagree by this factor are those of two crystals.
_STRUCTURES_DIFFER = 1.5


class CameApart(EvaluationFailed):
    """A cell that is another by far after its relaxation."""


class NoMinimum(EvaluationFailed):
    """The energy of an equation of state is lowest at one of its ends.

    Attributes:
        volume: that end's, angstrom^3.
    """

    def __init__(self, reason: str, volume: float) -> None:
        super().__init__(reason)
        self.volume = volume


@dataclass(frozen=True)
class Settings:
    """How a crystal is relaxed and squeezed; what a user may set under `evaluate`.

    Attributes:
        fmax: Relaxation ends below this force (eV/angstrom; also the stress, as ASE scales it).
            Tight, since 0.05 leaves soft crystals several percent away from their volume.
        max_steps: A relaxation that needs more steps has failed.
        eos_points: Number of cells of the equation of state.
        eos_strain: Their largest linear strain, both ways.
        r2_min: An equation of state that fits worse than this has no bulk modulus.
        max_atoms: Larger primitive cells are refused.
        phonon_length: Smallest width of the supercell that vibrations are computed in (angstrom).
        keep_symmetry: A relaxation keeps the symmetry that a crystal begins with: of one that is
            asked for as a rock salt, the answer is a rock salt's.
    """

    fmax: float = 0.005
    max_steps: int = 300
    eos_points: int = 11
    eos_strain: float = 0.05
    r2_min: float = 0.98
    max_atoms: int = 200
    phonon_length: float = 12.0
    keep_symmetry: bool = False

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("fmax", self.fmax, 1e-4, 0.5),
            ("max_steps", self.max_steps, 1, 100_000),
            ("eos_points", self.eos_points, 5, 101),
            ("eos_strain", self.eos_strain, 0.005, 0.2),
            ("r2_min", self.r2_min, 0.5, 1.0),
            ("max_atoms", self.max_atoms, 1, 10_000),
            ("phonon_length", self.phonon_length, 4.0, 60.0),
        ):
            wanted = int if name in ("max_steps", "eos_points", "max_atoms") else (int, float)
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise EvaluatorError(f"{name} is {value!r}, not a number", f"{low} to {high}")
            if not low <= value <= high:
                raise EvaluatorError(f"{name} is {value}", f"it must lie between {low} and {high}")


def relax(
    calculator: Calculator, structure: Structure, settings: Settings
) -> tuple[Structure, float, dict[str, Any]]:
    """Return the relaxed cell, its energy (eV) and what provenance should know of it.

    Far from its minimum a squeezed cell may be thrown apart by a first long step; one that is, is
    relaxed again by an optimiser that takes short ones.

    Raises:
        EvaluationFailed: The crystal comes apart, collapses, or does not relax in time.
    """
    # BFGS: fewer than half the steps of matcalc's default, FIRE, at this fmax.
    try:
        return _relax(calculator, structure, settings, "BFGS")
    except CameApart:
        relaxed, energy, details = _relax(calculator, structure, settings, "FIRE")
        return relaxed, energy, details | {"optimizer": "FIRE"}


def _relax(
    calculator: Calculator, structure: Structure, settings: Settings, optimizer: str
) -> tuple[Structure, float, dict[str, Any]]:
    with quiet_imports():
        from matcalc import RelaxCalc
    try:
        result = RelaxCalc(
            calculator,
            optimizer=optimizer,
            fix_symmetry=settings.keep_symmetry,
            fmax=settings.fmax,
            max_steps=settings.max_steps,
        ).calc(structure)
    except EvaluationFailed:
        raise
    except (ValueError, ArithmeticError, IndexError, RuntimeError) as error:
        # Cells gone to nothing: numpy, ASE and the neighbour search each fail in their way.
        raise EvaluationFailed(f"the relaxation broke down: {one_line(error)}") from error
    relaxed: Structure = result["final_structure"]
    energy = float(result["energy"])
    if not math.isfinite(energy):
        raise EvaluationFailed(f"the relaxation ended with an energy of {energy} eV")
    if len(relaxed) != len(structure):
        raise EvaluationFailed(
            f"the relaxation ended with {len(relaxed)} atoms of {len(structure)}"
        )
    # matcalc's own `is_converged` looks at forces only, which symmetry holds at zero in a
    # rock salt of any volume; ASE stops at forces and virial (per atom) alike, so ask both.
    force = float(np.linalg.norm(result["forces"], axis=1).max())
    stress = np.asarray(result["stress"], dtype=float)
    virial = float(np.linalg.norm(stress * relaxed.volume / len(relaxed), axis=1).max())
    # ASE measures the virial along the logarithm of the strain: equal at convergence, with a
    # little slack for its rounding.
    if not max(force, virial) <= 1.1 * settings.fmax:
        raise EvaluationFailed(
            f"not relaxed after {settings.max_steps} steps: force {force:.3g} eV/angstrom and "
            f"virial {virial:.3g} eV/atom, wanted {settings.fmax:g}"
        )
    factor = relaxed.volume / structure.volume
    if not 1 / _VOLUME_FACTOR <= factor <= _VOLUME_FACTOR:
        raise CameApart(
            f"the volume went to {factor:.3g} times the given one while relaxing "
            f"({relaxed.volume / len(relaxed):.3g} angstrom^3/atom)"
        )
    check_geometry(relaxed, "the relaxed crystal")
    return relaxed, energy, {"relaxed": True, "force": force, "volume_factor": factor}


def bulk_modulus(
    calculator: Calculator,
    relaxed: Structure,
    settings: Settings,
    shape: bool = True,
    halvings: int = 0,
) -> tuple[float, dict[str, Any]]:
    """Return the bulk modulus (GPa) of a relaxed cell and the quality of its fit.

    Args:
        calculator: What gives energy, forces and stress.
        relaxed: The cell.
        settings: How it is squeezed.
        shape: Whether the shape of a cell is relaxed at each volume; atoms are in any case.
        halvings: How often to squeeze it half as far where that makes another crystal of it: the
            modulus is the curvature at the cell's own volume.

    Raises:
        EvaluationFailed: There is no trustworthy equation of state.
    """
    try:
        return _within(calculator, relaxed, settings, shape, settings.eos_strain)
    except EvaluationFailed:
        for i in range(1, halvings + 1):
            with contextlib.suppress(EvaluationFailed):  # the first one tells what was asked for
                return _within(calculator, relaxed, settings, shape, settings.eos_strain / 2**i)
        raise


def _within(
    calculator: Calculator, relaxed: Structure, settings: Settings, shape: bool, strain: float
) -> tuple[float, dict[str, Any]]:
    """As `bulk_modulus`, within one linear strain both ways."""
    with quiet_imports():
        from matcalc import EOSCalc
    try:
        with warnings.catch_warnings():
            # Below its own r2_min it warns; we refuse, at a stricter one.
            warnings.filterwarnings("ignore", message="Birch-Murnaghan EOS fit")
            result = EOSCalc(
                calculator,
                n_points=settings.eos_points,
                max_abs_strain=strain,
                relax_structure=False,
                allow_shape_change=shape,
                relax_calc_kwargs={"fix_symmetry": settings.keep_symmetry},
            ).calc(relaxed)
    except (EvaluationFailed, EvaluatorError, MemoryError):
        raise
    except Exception as error:
        # Fits that do not converge (pymatgen's EOSError, numpy's LinAlgError, scipy's
        # RuntimeError) and cells that fall apart while squeezed.
        raise EvaluationFailed(f"no equation of state: {one_line(error)}") from error
    unit = result["_units"]["bulk_modulus_bm"]
    if unit != "GPa":
        raise EvaluatorError(f"this matcalc gives bulk moduli in {unit}, not GPa")
    energies = result["eos"]["energies"]
    if int(np.argmin(energies)) in (0, len(energies) - 1):
        raise NoMinimum(
            "the energy has no minimum within "
            f"+-{100 * strain:g} % of linear strain: no bulk modulus",
            result["eos"]["volumes"][int(np.argmin(energies))],
        )
    modulus = float(np.real(result["bulk_modulus_bm"]))
    r2 = float(result["r2_score_bm"])
    if not (math.isfinite(modulus) and math.isfinite(r2)) or np.iscomplexobj(
        result["bulk_modulus_bm"]
    ):
        raise EvaluationFailed("the equation of state has no finite bulk modulus")
    if modulus <= 0:
        raise EvaluationFailed(f"the equation of state has a bulk modulus of {modulus:.3g} GPa")
    if r2 < settings.r2_min:
        raise EvaluationFailed(
            f"the equation of state fits badly (R2 {r2:.4f} < {settings.r2_min}): the crystal "
            f"changes its structure within +-{100 * strain:g} % of linear strain"
        )
    inner = _inner_modulus(result["eos"]["volumes"], energies)
    if not modulus / _STRUCTURES_DIFFER <= inner <= modulus * _STRUCTURES_DIFFER:
        raise EvaluationFailed(
            f"the equation of state gives {modulus:.3g} GPa, its inner points {inner:.3g} GPa: "
            f"the crystal changes its structure within +-{100 * strain:g} % of "
            "linear strain"
        )
    return modulus, {
        "r2": r2,
        "points": len(energies),
        "strain": strain,
        "inner_points_GPa": inner,
        "volumes": [float(v) for v in result["eos"]["volumes"]],
        "energies": [float(e) for e in energies],
    }


def equation_of_state(
    calculator: Calculator, start: Structure, settings: Settings, rounds: int = 4
) -> tuple[Structure, float, float, dict[str, Any]]:
    """Return the cell of lowest energy, that energy (eV), the bulk modulus (GPa) and details.

    For crystals of which nothing but the volume is free. Where the energy is lowest at an end, the
    cells are moved to there, `rounds` times at most.

    Raises:
        EvaluationFailed: As `bulk_modulus`.
    """
    from pymatgen.analysis.eos import BirchMurnaghan

    at = start.copy()
    for left in reversed(range(rounds)):
        try:
            modulus, details = bulk_modulus(calculator, at, settings, shape=False)
            break
        except NoMinimum as error:
            if not left:
                raise
            at.scale_lattice(error.volume)
    fit = BirchMurnaghan(volumes=details["volumes"], energies=details["energies"])
    fit.fit()
    at.scale_lattice(float(fit.v0))
    check_geometry(at, "the relaxed crystal")
    return at, float(fit.e0), modulus, details | {"rounds": rounds - left}


def _inner_modulus(volumes: Sequence[float], energies: Sequence[float]) -> float:
    """Return the bulk modulus (GPa) of an equation of state without its ends, nan if none.

    A crystal that turns into another one at the ends may still be fitted with an R2 near one; its
    inner points tell.
    """
    from pymatgen.analysis.eos import BirchMurnaghan, EOSError

    left_out = len(volumes) // 6
    inner = slice(left_out, len(volumes) - left_out)
    fit = BirchMurnaghan(volumes=volumes[inner], energies=energies[inner])
    try:
        fit.fit()
    except (EOSError, ValueError, ArithmeticError, RuntimeError):
        return math.nan
    return float(np.real(fit.b0_GPa))
