"""Answers a trial with density-functional theory: GPAW, or Quantum ESPRESSO where it is installed.

A crystal is reduced to its primitive cell, relaxed by a potential (`prerelax`), then by DFT:

* where symmetry leaves only the volume free (rock salt, zinc blende, perovskite), by an equation of
  state, which gives volume, energy and bulk modulus at once;
* else cell and positions by forces and stress, and the equation of state only if it is asked for.

`energy` and `formation_energy` are in eV/atom (PBE at 0 K, uncorrected; see `dft_references`),
`density` in g/cm^3, `volume_per_atom` in angstrom^3/atom, `bulk_modulus` in GPa, `band_gap` in eV.
A gap is PBE's, and said to be of the grid (an upper bound) or of a path as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loop.evaluators.base import (
    Evaluation,
    EvaluationFailed,
    Evaluator,
    EvaluatorError,
    Measurement,
)
from loop.evaluators.dft_calculator import PersistentCalculator, kpoint_grid
from loop.evaluators.dft_references import reference_energies
from loop.evaluators.dft_settings import Accuracy, Recipe
from loop.evaluators.geometry import only_volume_is_free, primitive_of, symmetrised, to_cif
from loop.evaluators.measuring import Settings, bulk_modulus, equation_of_state, relax
from loop.evaluators.models import Potential, load_model, quiet_use
from loop.evaluators.prototypes import check_recipe, crystal_for

if TYPE_CHECKING:
    from pymatgen.core import Structure

METRICS = {
    "formation_energy": "eV/atom",
    "density": "g/cm^3",
    "bulk_modulus": "GPa",
    "volume_per_atom": "angstrom^3/atom",
    "energy": "eV/atom",
    "band_gap": "eV",
}
# Of Quantum ESPRESSO there are no energies of the elements, and no bands.
_BY_GPAW_ALONE = ("formation_energy", "band_gap")


def make_calculator(
    code: str,
    accuracy: Accuracy,
    kpoints: tuple[int, int, int],
    moments: Sequence[float] | None = None,
    **more: Any,
) -> PersistentCalculator:
    """Return the calculator of a code; `more` is what Quantum ESPRESSO alone takes."""
    if code == "gpaw":
        from loop.evaluators.gpaw_calculator import GPAWCalculator

        return GPAWCalculator(accuracy, kpoints, moments)
    from loop.evaluators.espresso_calculator import EspressoCalculator

    return EspressoCalculator(accuracy, kpoints, moments, **more)


class DFTEvaluator(Evaluator):
    """Evaluator `dft`.

    Args:
        config: All optional: `code` (`gpaw`, `espresso`), `preset` (`fast`, `standard`,
            `accurate`), the fields of `Accuracy` and `Settings`, `prerelax` (a potential's name, or
            `none`), `gap_from` (`grid`, `path`), `crystal` (see `prototypes`), and for Quantum
            ESPRESSO `command` and `pseudopotentials`.

    Raises:
        EvaluatorError: On an unknown key, or a value that cannot be.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        of_espresso = {"command", "pseudopotentials"}
        known = Recipe.keys() | of_espresso | {"with", "crystal"}
        if unknown := sorted(set(config) - known):
            raise EvaluatorError(
                f"evaluate: dft does not know {', '.join(unknown)}",
                f"it knows {', '.join(sorted(known - {'with'}))}",
            )
        self.recipe = Recipe.of(config)
        self._more = {name: config[name] for name in sorted(of_espresso & set(config))}
        if self._more and self.recipe.code == "gpaw":
            raise EvaluatorError(f"GPAW takes no {next(iter(self._more))}", "code: espresso does")
        self._crystal = config.get("crystal")
        if self._crystal is not None:
            check_recipe(self._crystal)

    def metrics(self) -> dict[str, str]:
        """Return metric to unit."""
        gpaw = self.recipe.code == "gpaw"
        return {m: u for m, u in METRICS.items() if gpaw or m not in _BY_GPAW_ALONE}

    def check(self, metrics: Sequence[str]) -> None:
        """Refuse unknown metrics, a code that is not installed, and one without data sets.

        Raises:
            EvaluatorError: With the reason.
        """
        super().check(metrics)
        self.elements()
        if self.recipe.prerelax is not None:
            load_model(self.recipe.prerelax)

    def elements(self) -> frozenset[str]:
        """Return the elements that the code can calculate.

        Raises:
            EvaluatorError: It is not installed, or has no data sets.
        """
        found: frozenset[str] = self._code.elements(**self._more)
        return found

    def versions(self) -> dict[str, str]:
        """Return the versions of what decides an energy."""
        told: dict[str, str] = self._code.versions(**self._more)
        return told

    @property
    def _code(self) -> Any:
        return importlib.import_module(f"loop.evaluators.{self.recipe.code}_calculator")

    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Relax the design's crystal and measure `metrics`; `seed` plays no part.

        Raises:
            EvaluationFailed: No data set of an element, atoms that overlap, a field or a relaxation
                that does not converge, no sane figures.
            EvaluatorError: On an unknown metric, or a code that cannot be used.
        """
        started = time.perf_counter()
        self.check_metrics(metrics)
        recipe = self.recipe
        given = primitive_of(crystal_for(design, self._crystal), recipe.settings.max_atoms)
        symbols = sorted(element.symbol for element in given.composition)
        if lacking := sorted(set(symbols) - self.elements()):
            raise EvaluationFailed(
                f"unsupported element: {recipe.code} has no data set of {', '.join(lacking)}"
            )
        references: dict[str, float] = {}
        if "formation_energy" in metrics:
            references = reference_energies(recipe.code, recipe.accuracy, self.versions(), symbols)
        start, details = self._prerelaxed(given)
        start = symmetrised(start)
        grid = kpoint_grid(start, recipe.accuracy.kpoint_density)
        calculator = make_calculator(recipe.code, recipe.accuracy, grid, **self._more)
        with contextlib.closing(calculator):
            values, relaxed, more = self._measure(calculator, start, metrics)
            log = calculator.log_text()
        details |= more
        if references:
            count = relaxed.composition.get_el_amt_dict()
            elements = sum(references[symbol] * amount for symbol, amount in count.items())
            values["formation_energy"] = values["energy"] - elements / len(relaxed)
            details["elements"] = {s: round(e, 6) for s, e in references.items()}
        return Evaluation(
            {name: Measurement(values[name], None, METRICS[name]) for name in metrics},
            {"relaxed.cif": to_cif(relaxed), f"{recipe.code}.txt": log},
            seconds=time.perf_counter() - started,
            provenance={
                "evaluator": "dft",
                "code": recipe.code,
                "functional": "PBE",
                "preset": recipe.preset,
                "accuracy": dataclasses.asdict(recipe.accuracy),
                "settings": dataclasses.asdict(recipe.settings),
                "kpoints": list(grid),
                "packages": self.versions(),
                "runs": calculator.runs,
                "retries": calculator.retries,
            }
            | details,
        )

    def _prerelaxed(self, given: Structure) -> tuple[Structure, dict[str, Any]]:
        """Return the crystal as a potential relaxes it, or as it is where that fails."""
        if self.recipe.prerelax is None:
            return given, {"prerelaxed": None}
        potential = load_model(self.recipe.prerelax)
        if not isinstance(potential, Potential):
            raise EvaluatorError(f"prerelax: {self.recipe.prerelax} is no potential")
        if not {element.symbol for element in given.composition} <= potential.elements:
            return given, {"prerelaxed": f"{potential.name} does not know an element"}
        try:
            with quiet_use():
                gently = Settings(fmax=0.02, keep_symmetry=self.recipe.settings.keep_symmetry)
                relaxed, _, _ = relax(potential.calculator, given, gently)
        except EvaluationFailed as error:
            return given, {"prerelaxed": f"{potential.name} failed: {error.reason}"}
        return relaxed, {"prerelaxed": potential.name}

    def _measure(
        self, calculator: PersistentCalculator, start: Structure, metrics: Sequence[str]
    ) -> tuple[dict[str, float], Structure, dict[str, Any]]:
        """Relax by DFT, then compute only what is asked."""
        settings, details = self.recipe.settings, {}
        values: dict[str, float] = {}
        with quiet_use():
            if only_volume_is_free(start):
                relaxed, energy, modulus, state = equation_of_state(calculator, start, settings)
                values["bulk_modulus"] = modulus
                details = {"relaxed": "by an equation of state", "equation_of_state": state}
            else:
                relaxed, energy, details = relax(calculator, start, settings)
                if "bulk_modulus" in metrics:
                    values["bulk_modulus"], details["equation_of_state"] = bulk_modulus(
                        calculator, relaxed, settings
                    )
            if "band_gap" in metrics:
                values["band_gap"], details["band_gap"] = self._gap(calculator, relaxed)
        values["energy"] = energy / len(relaxed)
        values["density"] = float(relaxed.density)
        values["volume_per_atom"] = relaxed.volume / len(relaxed)
        return values, relaxed, details

    def _gap(
        self, calculator: PersistentCalculator, relaxed: Structure
    ) -> tuple[float, dict[str, Any]]:
        from pymatgen.io.ase import AseAtomsAdaptor

        return calculator.gap(AseAtomsAdaptor.get_atoms(relaxed), self.recipe.gap_from)
