"""Answers a trial with a machine-learned interatomic potential, through matcalc and ASE.

A crystal is reduced to its primitive cell and relaxed (cell and positions). From the relaxed cell:

* `energy` (eV/atom) and `formation_energy` (eV/atom; against the elements by the same potential),
* `density` (g/cm^3) and `volume_per_atom` (angstrom^3/atom),
* `bulk_modulus` (GPa): a Birch-Murnaghan equation of state, `matcalc.EOSCalc` with its defaults
  (11 cells between -10 and +10 % of linear strain, each relaxed at its volume).

matgl property models (one number for the crystal as it is given) go the same way.
"""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.evaluators.base import (
    Evaluation,
    EvaluationFailed,
    Evaluator,
    EvaluatorError,
    Measurement,
    crystal_of,
    one_line,
)
from loop.evaluators.models import (
    Potential,
    PropertyModel,
    check_model_name,
    fetch_matgl,
    is_chgnet,
    load_model,
    quiet_imports,
    quiet_use,
)
from loop.evaluators.references import reference_energies

if TYPE_CHECKING:
    from pymatgen.core import Structure

METRICS = {
    "formation_energy": "eV/atom",
    "density": "g/cm^3",
    "bulk_modulus": "GPa",
    "volume_per_atom": "angstrom^3/atom",
    "energy": "eV/atom",
}
# A relaxed cell this many times larger or smaller than the given one has come apart or collapsed.
_VOLUME_FACTOR = 2.0
# Equations of state whose inner points disagree by this factor are those of two crystals.
_STRUCTURES_DIFFER = 1.5
# Shorter than any bond (H-H is 0.74 angstrom).
_SHORTEST_PAIR = 0.5


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
    """

    fmax: float = 0.005
    max_steps: int = 300
    eos_points: int = 11
    eos_strain: float = 0.1
    r2_min: float = 0.98
    max_atoms: int = 200

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("fmax", self.fmax, 1e-4, 0.5),
            ("max_steps", self.max_steps, 1, 100_000),
            ("eos_points", self.eos_points, 5, 101),
            ("eos_strain", self.eos_strain, 0.005, 0.2),
            ("r2_min", self.r2_min, 0.5, 1.0),
            ("max_atoms", self.max_atoms, 1, 10_000),
        ):
            wanted = int if name in ("max_steps", "eos_points", "max_atoms") else (int, float)
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise EvaluatorError(f"{name} is {value!r}, not a number", f"{low} to {high}")
            if not low <= value <= high:
                raise EvaluatorError(f"{name} is {value}", f"it must lie between {low} and {high}")


class PotentialEvaluator(Evaluator):
    """Evaluator `potential`.

    Args:
        config: `model` (`chgnet`, `chgnet:0.3.0`, `chgnet:r2scan`, a matgl folder or hub name) and,
            all optional, the fields of `Settings` and for property models `property`, `unit` and
            `fidelity`.

    Raises:
        EvaluatorError: On an unknown key, a value out of range, or a model that cannot be had. The
            model itself is loaded and tested at the first use.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings = {field.name for field in dataclasses.fields(Settings)}
        known = settings | {"with", "model", "property", "unit", "fidelity"}
        unknown = sorted(set(config) - known)
        if unknown:
            raise EvaluatorError(
                f"evaluate: potential does not know {', '.join(unknown)}",
                f"it knows {', '.join(sorted(known - {'with'}))}",
            )
        self._config = dict(config)
        self.model_name = str(config.get("model", "chgnet"))
        check_model_name(self.model_name)
        self.settings = Settings(**{name: config[name] for name in settings & set(config)})
        self._metric = config.get("property")
        self._unit = config.get("unit")
        self._fidelity = str(config.get("fidelity", "PBE"))

    @cached_property
    def model(self) -> Potential | PropertyModel:
        """The model, loaded and tested.

        Raises:
            EvaluatorError: If it cannot be loaded or fails its self-test.
        """
        return load_model(
            self.model_name, metric=self._metric, unit=self._unit, fidelity=self._fidelity
        )

    def at(self, fidelity: str) -> PotentialEvaluator:
        """The same at a fidelity: of a property network that has several, by name `...-mfi`.

        Raises:
            EvaluatorError: The model has one fidelity.
        """
        if is_chgnet(self.model_name) or "mfi" not in self.model_name.lower():
            raise EvaluatorError(
                f"the model {self.model_name} has one fidelity, and the campaign asks for others",
                "an evaluator for each fidelity is not in this version: use a Python function that "
                "takes `fidelity`, or a laboratory",
            )
        return PotentialEvaluator({**self._config, "fidelity": fidelity})

    def prepare(self) -> None:
        """Download the model, where it is a name on the hub.

        Raises:
            EvaluatorError: If it cannot be had.
        """
        if not is_chgnet(self.model_name):
            fetch_matgl(self.model_name)

    def metrics(self) -> dict[str, str]:
        """Return metric to unit; loads the model, which decides what can be answered."""
        if isinstance(self.model, PropertyModel):
            return {self.model.metric: self.model.unit}
        return dict(METRICS)

    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Relax the design's crystal and measure `metrics`; `seed` plays no part.

        Raises:
            EvaluationFailed: If the crystal does not relax, comes apart, or gives no sane figures.
            EvaluatorError: On an unknown metric or a model that cannot be used.
        """
        started = time.perf_counter()
        self.check_metrics(metrics)
        crystal = crystal_of(design)
        model = self.model
        if isinstance(model, PropertyModel):
            value = model.predict(crystal)
            if not math.isfinite(value):
                raise EvaluationFailed(f"{model.name} predicts {value}")
            measurements = {model.metric: Measurement(value, None, model.unit)}
            artifacts: dict[str, str] = {}
            details: dict[str, Any] = {"relaxed": False}
        else:
            with quiet_use():
                measurements, artifacts, details = self._measure(model, crystal, metrics)
        return Evaluation(
            measurements,
            artifacts,
            seconds=time.perf_counter() - started,
            provenance={
                "evaluator": "potential",
                "model": model.name,
                "weights_sha256": model.weights_sha256,
                "packages": model.packages,
                "self_test": model.self_test,
                "settings": dataclasses.asdict(self.settings),
            }
            | details,
        )

    def _measure(
        self, potential: Potential, crystal: Structure, metrics: Sequence[str]
    ) -> tuple[dict[str, Measurement], dict[str, str], dict[str, Any]]:
        """Relax once, then compute only what is asked."""
        primitive = self._prepare(potential, crystal)
        references: dict[str, float] = {}
        if "formation_energy" in metrics:
            # First, since a missing reference needs no relaxation to be told.
            references = reference_energies(potential, [e.symbol for e in primitive.composition])
        relaxed, energy, details = self._relax(potential, primitive)
        values: dict[str, float] = {
            "energy": energy / len(relaxed),
            "density": float(relaxed.density),
            "volume_per_atom": relaxed.volume / len(relaxed),
        }
        if references:
            elements = sum(
                references[element.symbol] * amount
                for element, amount in relaxed.composition.items()
            )
            values["formation_energy"] = (energy - elements) / len(relaxed)
            details["elements"] = {
                "set": potential.reference_set,
                "energies": {symbol: round(value, 6) for symbol, value in references.items()},
            }
        if "bulk_modulus" in metrics:
            values["bulk_modulus"], details["equation_of_state"] = self._bulk_modulus(
                potential, relaxed
            )
        measurements = {name: Measurement(values[name], None, METRICS[name]) for name in metrics}
        return measurements, {"relaxed.cif": to_cif(relaxed)}, details

    def _prepare(self, potential: Potential, crystal: Structure) -> Structure:
        """Return the primitive cell.

        Raises:
            EvaluationFailed: If the crystal is nothing that a potential could relax.
        """
        strangers = sorted({e.symbol for e in crystal.composition} - potential.elements)
        if strangers:
            raise EvaluationFailed(f"{potential.name} was not trained on {', '.join(strangers)}")
        # Finding the primitive cell of thousands of atoms takes longer than relaxing a hundred; no
        # centring makes a cell more than four times its primitive one.
        if len(crystal) > 4 * self.settings.max_atoms:
            raise EvaluationFailed(
                f"{len(crystal)} atoms in the cell; at most {self.settings.max_atoms} in the "
                "primitive one are taken (max_atoms)"
            )
        _check_geometry(crystal, "the given crystal")
        crystal = crystal.copy().remove_oxidation_states()
        for name in list(crystal.site_properties):
            crystal.remove_site_property(name)
        primitive: Structure = crystal.get_primitive_structure(tolerance=0.01)
        if len(primitive) > self.settings.max_atoms:
            raise EvaluationFailed(
                f"{len(primitive)} atoms in the primitive cell; at most {self.settings.max_atoms} "
                "are taken (max_atoms)"
            )
        return primitive

    def _relax(
        self, potential: Potential, structure: Structure
    ) -> tuple[Structure, float, dict[str, Any]]:
        """Return the relaxed cell, its energy (eV) and what provenance should know of it."""
        with quiet_imports():
            from matcalc import RelaxCalc
        settings = self.settings
        try:
            result = RelaxCalc(
                potential.calculator,
                # Fewer than half the steps of matcalc's default, FIRE, at this fmax.
                optimizer="BFGS",
                fmax=settings.fmax,
                max_steps=settings.max_steps,
            ).calc(structure)
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
            raise EvaluationFailed(
                f"the volume went to {factor:.3g} times the given one while relaxing "
                f"({relaxed.volume / len(relaxed):.3g} angstrom^3/atom)"
            )
        _check_geometry(relaxed, "the relaxed crystal")
        return relaxed, energy, {"relaxed": True, "force": force, "volume_factor": factor}

    def _bulk_modulus(
        self, potential: Potential, relaxed: Structure
    ) -> tuple[float, dict[str, Any]]:
        """Return the bulk modulus (GPa) of a relaxed cell and the quality of its fit."""
        with quiet_imports():
            from matcalc import EOSCalc
        settings = self.settings
        try:
            with warnings.catch_warnings():
                # Below its own r2_min it warns; we refuse, at a stricter one.
                warnings.filterwarnings("ignore", message="Birch-Murnaghan EOS fit")
                result = EOSCalc(
                    potential.calculator,
                    n_points=settings.eos_points,
                    max_abs_strain=settings.eos_strain,
                    relax_structure=False,
                ).calc(relaxed)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            # Fits that do not converge (pymatgen's EOSError, numpy's LinAlgError, scipy's
            # RuntimeError) and cells that fall apart while squeezed.
            raise EvaluationFailed(f"no equation of state: {one_line(error)}") from error
        unit = result["_units"]["bulk_modulus_bm"]
        if unit != "GPa":
            raise EvaluatorError(f"this matcalc gives bulk moduli in {unit}, not GPa")
        modulus = float(np.real(result["bulk_modulus_bm"]))
        r2 = float(result["r2_score_bm"])
        energies = result["eos"]["energies"]
        if not (math.isfinite(modulus) and math.isfinite(r2)) or np.iscomplexobj(
            result["bulk_modulus_bm"]
        ):
            raise EvaluationFailed("the equation of state has no finite bulk modulus")
        if modulus <= 0:
            raise EvaluationFailed(f"the equation of state has a bulk modulus of {modulus:.3g} GPa")
        if int(np.argmin(energies)) in (0, len(energies) - 1):
            raise EvaluationFailed(
                "the energy has no minimum within "
                f"+-{100 * settings.eos_strain:g} % of linear strain: no bulk modulus"
            )
        if r2 < settings.r2_min:
            raise EvaluationFailed(
                f"the equation of state fits badly (R2 {r2:.4f} < {settings.r2_min}): the crystal "
                f"changes its structure within +-{100 * settings.eos_strain:g} % of linear strain"
            )
        inner = _inner_modulus(result["eos"]["volumes"], energies)
        if not modulus / _STRUCTURES_DIFFER <= inner <= modulus * _STRUCTURES_DIFFER:
            raise EvaluationFailed(
                f"the equation of state gives {modulus:.3g} GPa, its inner points {inner:.3g} GPa: "
                f"the crystal changes its structure within +-{100 * settings.eos_strain:g} % of "
                "linear strain"
            )
        return modulus, {"r2": r2, "points": len(energies), "inner_points_GPa": inner}


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


def to_cif(structure: Structure) -> str:
    """Return a CIF (P1, 12 decimals) from which any program gets this very cell back."""
    from pymatgen.io.cif import CifWriter

    return str(CifWriter(structure, significant_figures=12, refine_struct=False))


def _check_geometry(structure: Structure, which: str) -> None:
    """Raise EvaluationFailed where atoms overlap or the cell is no cell."""
    cell = structure.lattice.matrix
    if not (np.isfinite(cell).all() and np.isfinite(structure.frac_coords).all()):
        raise EvaluationFailed(f"{which} has coordinates that are no numbers")
    if structure.volume / len(structure) < 1.0:
        raise EvaluationFailed(
            f"{which} has {structure.volume / len(structure):.3g} angstrom^3/atom, less than any "
            "solid"
        )
    centers, neighbours, _, distances = structure.get_neighbor_list(_SHORTEST_PAIR)
    if len(distances):
        first = int(np.argmin(distances))
        a, b = structure[int(centers[first])], structure[int(neighbours[first])]
        raise EvaluationFailed(
            f"{which} has two atoms ({a.specie}, {b.specie}) {distances[first]:.2f} angstrom apart"
        )
