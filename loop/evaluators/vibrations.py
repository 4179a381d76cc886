"""Elastic moduli and lattice vibrations with an ASE calculator, through matcalc."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.evaluators.base import EvaluationFailed, EvaluatorError, one_line
from loop.evaluators.models import quiet_imports

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure

    from loop.evaluators.measuring import Settings

GPA_PER_EV_A3 = 160.21766208
# Largest part of a tensor that may go against the symmetry of its crystal.
_ASYMMETRY = 0.1


def elastic_moduli(
    calculator: Calculator, relaxed: Structure, settings: Settings
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return Voigt-Reuss-Hill moduli (GPa) of a relaxed cell, and the tensor.

    Stresses of 24 strained cells, atoms relaxed in each; `matcalc.ElasticityCalc`.

    Raises:
        EvaluationFailed: The crystal is elastically unstable, or the strains fit no tensor.
    """
    with quiet_imports():
        from matcalc import ElasticityCalc
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Elastic strain-stress fits")
            result = ElasticityCalc(
                calculator,
                fmax=settings.fmax,
                relax_structure=False,
                relax_deformed_structures=True,
                shear_strains=(-0.02, -0.01, 0.01, 0.02),
            ).calc(relaxed)
    except (EvaluationFailed, EvaluatorError, MemoryError):
        raise
    except Exception as error:  # of numpy, pymatgen and whatever the calculator meets
        raise EvaluationFailed(f"no elastic tensor: {one_line(error)}") from error
    unit = result["_units"]["elastic_tensor"]
    factor = {"GPa": 1.0, "eV/A^3": GPA_PER_EV_A3}.get(unit)
    if factor is None:
        raise EvaluatorError(f"this matcalc gives elastic tensors in {unit}")
    tensor = np.asarray(result["elastic_tensor"].voigt, dtype=float) * factor
    lowest = float(np.linalg.eigvalsh((tensor + tensor.T) / 2).min())
    if lowest <= 0:
        raise EvaluationFailed(
            f"elastically unstable: the tensor's lowest eigenvalue is {lowest:.3g} GPa"
        )
    # matcalc's R2 is of noise where symmetry makes a component zero; symmetry itself tells.
    fitted = np.asarray(result["elastic_tensor"].fit_to_structure(relaxed).voigt) * factor
    off = float(np.abs(tensor - fitted).max() / np.abs(tensor).max())
    if off > _ASYMMETRY:
        raise EvaluationFailed(
            f"the strains fit no tensor of the crystal's symmetry: {100 * off:.0f} % off"
        )
    moduli = {
        "bulk_modulus_vrh": float(result["bulk_modulus_vrh"]) * factor,
        "shear_modulus": float(result["shear_modulus_vrh"]) * factor,
        "youngs_modulus": float(result["youngs_modulus"]) * factor,
    }
    if not all(math.isfinite(value) for value in moduli.values()):
        raise EvaluationFailed("the elastic moduli are no finite numbers")
    return moduli, {"tensor_GPa": tensor.round(3).tolist(), "lowest_eigenvalue_GPa": lowest}


def lowest_frequency(
    calculator: Calculator, relaxed: Structure, length: float
) -> tuple[float, dict[str, Any]]:
    """Return the lowest frequency (THz; below zero: imaginary) of a relaxed cell.

    Finite displacements of 0.015 angstrom in a supercell at least `length` angstrom wide,
    `matcalc.PhononCalc`; the three modes that shift the whole crystal are left out.

    Raises:
        EvaluationFailed: Phonopy finds no forces that it can use.
    """
    with quiet_imports():
        from matcalc import PhononCalc
    try:
        result = PhononCalc(
            calculator, relax_structure=False, min_length=length, write_phonon=False, t_max=20.0
        ).calc(relaxed)
        mesh = result["phonon"].mesh
    except (EvaluationFailed, EvaluatorError, MemoryError):
        raise
    except Exception as error:  # of phonopy, numpy and whatever the calculator meets
        raise EvaluationFailed(f"no vibrations: {one_line(error)}") from error
    if result["_units"]["frequencies"] != "THz":
        raise EvaluatorError(f"this matcalc gives frequencies in {result['_units']['frequencies']}")
    lowest = math.inf
    for place, frequencies in zip(mesh.qpoints, mesh.frequencies, strict=True):
        ordered = np.sort(np.asarray(frequencies, dtype=float))
        if np.abs(place).max() < 1e-8:
            ordered = np.sort(ordered[np.argsort(np.abs(ordered))][3:])
        if len(ordered):
            lowest = min(lowest, float(ordered[0]))
    if not math.isfinite(lowest):
        raise EvaluationFailed("the vibrations have no finite frequency")
    supercell = np.asarray(result["phonon"].supercell_matrix).round().astype(int).tolist()
    return lowest, {"supercell": supercell, "q_points": len(mesh.qpoints)}
