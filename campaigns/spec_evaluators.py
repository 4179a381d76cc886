"""What each evaluator may be told: one model an evaluator. `campaigns.spec_evaluate` joins them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from campaigns.spec_models import (
    Element,
    Memory,
    Name,
    Number,
    Part,
    Text,
    Time,
    Unit,
    Whole,
    memory_bytes,
    seconds,
)

POTENTIAL_METRICS = {
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
"""What every interatomic potential answers, as `loop.evaluators.potential` has it (a test compares
them). It stands here again since that one loads torch, and `matloop validate` answers at once."""

DFT_METRICS = {
    "formation_energy": "eV/atom",
    "density": "g/cm^3",
    "bulk_modulus": "GPa",
    "volume_per_atom": "angstrom^3/atom",
    "energy": "eV/atom",
    "band_gap": "eV",
}
"""What DFT answers, as `loop.evaluators.dft` has it (a test compares them)."""

_BY_GPAW_ALONE = ("formation_energy", "band_gap")

Metrics = dict[str, str | None] | None


class Workers(Part):
    """What evaluators on this machine have in common: one child process a trial."""

    workers: Annotated[Whole, Field(ge=1, le=1024)] = 2
    """Trials evaluated at one time, each in a process of its own."""
    time_limit: Time = "10 min"
    """A trial that takes longer has failed."""
    memory_limit: Memory = "4 GiB"
    """A trial that needs more has failed."""

    def seconds(self) -> float:
        """`time_limit` in seconds."""
        return seconds(self.time_limit)

    def memory_bytes(self) -> int:
        """`memory_limit` in bytes."""
        return memory_bytes(self.memory_limit)


class Crystal(Part):
    """A crystal made of a design's values, where no axis is a crystal."""

    prototype: Annotated[Text, Field(min_length=1, examples=["lattice", "rocksalt"])]
    """The axis that names the prototype, or the prototype: rocksalt, zincblende, cesiumchloride,
    wurtzite, fluorite, diamond, bcc, fcc, hcp."""
    elements: Annotated[tuple[Text, ...], Field(min_length=1, examples=[["cation", "anion"]])]
    """The axes that name its elements, or the elements."""


class Squeezed(Workers):
    """How a crystal is relaxed and squeezed."""

    fmax: Annotated[Number, Field(ge=1e-4, le=0.5)] | None = None
    """A relaxation ends below this force, in eV/angstrom."""
    max_steps: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    """A relaxation that needs more steps has failed."""
    eos_points: Annotated[Whole, Field(ge=5, le=101)] | None = None
    """Cells that an equation of state is fitted to."""
    eos_strain: Annotated[Number, Field(ge=0.005, le=0.2)] | None = None
    """Their largest linear strain, both ways."""
    r2_min: Annotated[Number, Field(ge=0.5, le=1)] | None = None
    """An equation of state that fits worse gives no bulk modulus."""
    max_atoms: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    """Larger primitive cells are refused."""
    crystal: Crystal | None = None
    """A crystal made of the design's values, where no axis is one."""


class Imported(Part):
    """An ASE calculator of yours or of any package."""

    import_: Annotated[
        Text, Field(alias="import", min_length=3, examples=["ase.calculators.emt:EMT"])
    ]
    """What is called without an argument: module:callable, or file.py:callable beside the spec."""
    elements: tuple[Element, ...] = ()
    """The elements that it knows; left out: all."""


class Potential(Squeezed):
    """A machine-learned interatomic potential, or a property model, answers."""

    with_: Annotated[Literal["potential"], Field(alias="with")] = "potential"
    """The evaluator."""
    model: Annotated[Text, Field(min_length=1, examples=["chgnet", "sevennet"])] | None = None
    """chgnet (which it is without), chgnet:r2scan, sevennet, sevennet:l3i5, the folder of a matgl
    checkpoint, or the name of one on its hub."""
    calculator: Imported | None = None
    """In place of a model: any ASE calculator."""
    entries: Annotated[Text, Field(min_length=1, examples=["compounds.csv"])] | None = None
    """Of energy_above_hull: a table of compounds, formula and formation_energy (eV/atom)."""
    phonon_length: Annotated[Number, Field(ge=4, le=60)] | None = None
    """Of lowest_frequency: smallest width of the supercell, in angstrom."""
    property: Name | None = None
    """Of a property model: the metric that it gives, where its name does not tell."""
    unit: Unit | None = None
    """Of a property model: the unit of that metric."""
    fidelity: Literal["PBE", "GLLB-SC", "HSE", "SCAN"] | None = None
    """Of a property model of several fidelities: which."""

    def known_metrics(self) -> Metrics:
        """The metrics that it answers with their units (None = not known); None = any."""
        if self.property is not None:
            return {self.property: self.unit}
        name = (self.model or "").lower()
        if "eform" in name:
            return {"formation_energy": "eV/atom"}
        if "bandgap" in name:
            return {"band_gap": "eV"}
        return dict(POTENTIAL_METRICS)


class Dft(Squeezed):
    """Density-functional theory answers: GPAW, or Quantum ESPRESSO where it is installed."""

    with_: Annotated[Literal["dft"], Field(alias="with")]
    """The evaluator."""
    code: Literal["gpaw", "espresso"] = "gpaw"
    """Who calculates."""
    preset: Literal["fast", "standard", "accurate"] = "standard"
    """How precisely: docs/evaluators.md says what each converges to."""
    time_limit: Time = "2 h"
    """A trial that takes longer has failed."""
    cutoff: Annotated[Number, Field(ge=100, le=3000)] | None = None
    """Cut-off of plane waves, in eV; below 600 the stress of most crystals is wrong."""
    kpoint_density: Annotated[Number, Field(ge=0.3, le=20)] | None = None
    """Points along a reciprocal vector b (with 2 pi) for each of its reciprocal angstroms."""
    smearing: Annotated[Number, Field(ge=1e-3, le=1)] | None = None
    """Width of the Fermi-Dirac occupations, in eV."""
    convergence: Annotated[Number, Field(ge=1e-8, le=1e-2)] | None = None
    """Largest change of the energy in the last iterations, in eV a valence electron."""
    spin: Literal["auto", "on", "off"] | None = None
    """Whether it is spin-polarised; auto: where an element is usually magnetic."""
    prerelax: Annotated[Text, Field(min_length=1, examples=["chgnet", "none"])] | None = None
    """The potential that relaxes a crystal first; none = it begins as given."""
    gap_from: Literal["grid", "path"] | None = None
    """Where a band gap is looked for: the grid alone (an upper bound), or a band path as well."""
    command: Annotated[tuple[Text, ...], Field(min_length=1, examples=[["pw.x"]])] | None = None
    """Of Quantum ESPRESSO: how it is begun."""
    pseudopotentials: Annotated[Text, Field(min_length=1)] | None = None
    """Of Quantum ESPRESSO: the folder of its pseudopotentials."""

    def known_metrics(self) -> Metrics:
        """The metrics that it answers, with their units."""
        gpaw = self.code == "gpaw"
        return {m: u for m, u in DFT_METRICS.items() if gpaw or m not in _BY_GPAW_ALONE}


class Output(Part):
    """Where one metric stands in what a command leaves."""

    unit: Unit
    """The metric's unit there."""
    file: Annotated[Text, Field(min_length=1)] = "stdout.txt"
    """A file in the working folder; without it, what the command printed."""
    regex: Text | None = None
    """A pattern: its last match counts, and of that the first group."""
    pointer: Text | None = None
    """A pointer into a JSON file, as in /results/energy."""
    column: Text | None = None
    """A column of a CSV file, whose last row counts."""
    sem: Text | None = None
    """The same for the standard error: a pattern, a pointer or a column."""


class Command(Workers):
    """A program of yours answers, by files."""

    with_: Annotated[Literal["command"], Field(alias="with")]
    """The evaluator."""
    command: Annotated[tuple[Text, ...], Field(min_length=1, examples=[["./simulate", "in.txt"]])]
    """The program and its arguments; no shell reads them."""
    outputs: Annotated[dict[Name, Output], Field(min_length=1)]
    """Where each metric stands in what it leaves."""
    inputs: Annotated[dict[Text, Text], Field(default_factory=dict)]
    """Input files: their names in the working folder, and their templates (Jinja2)."""
    failed: tuple[Text, ...] = ()
    """Patterns in what was printed that mean that it failed."""
    infeasible: tuple[Text, ...] = ()
    """Patterns in what was printed that mean that such a design cannot be."""
    infeasible_status: tuple[Whole, ...] = ()
    """Exit statuses that mean the same."""
    keep: tuple[Text, ...] = ()
    """Files to keep with the trial, beside what was printed."""

    def known_metrics(self) -> Metrics:
        """The metrics that it leaves, with their units."""
        return {name: output.unit for name, output in self.outputs.items()}


class Table(Workers):
    """A table of designs that were measured before answers."""

    with_: Annotated[Literal["table"], Field(alias="with")]
    """The evaluator."""
    table: Annotated[Text, Field(min_length=1, examples=["measured.csv"])]
    """CSV or Parquet: a column for each axis and each metric, as in bulk_modulus (GPa)."""
    metrics: Annotated[dict[Name, Unit], Field(default_factory=dict)]
    """The units of columns that name none; left out: the campaign's."""

    def known_metrics(self) -> Metrics:
        """None: any that the table has a column of."""
        return None


class Python(Workers):
    """A Python function of yours answers."""

    with_: Annotated[Literal["python"], Field(alias="with")]
    """The evaluator."""
    function: Annotated[
        Text, Field(min_length=3, examples=["my_module:evaluate", "evaluate.py:evaluate"])
    ]
    """`module:function`, or `file.py:function` beside the spec."""

    metrics: Annotated[dict[Name, Unit], Field(default_factory=dict)]
    """What it returns, each with its unit; left out: what the campaign wants, in its units."""

    def known_metrics(self) -> Metrics:
        """The metrics that it returns, with their units; None = whatever the campaign wants."""
        return dict(self.metrics) or None


class Lab(Part):
    """A person or a laboratory answers: `matloop propose` asks, `matloop ingest` takes answers."""

    with_: Annotated[Literal["lab"], Field(alias="with")]
    """The evaluator."""

    def known_metrics(self) -> Metrics:
        """None: any."""
        return None


def config_of(evaluator: Any, metric_units: dict[str, str]) -> dict[str, Any]:
    """What `loop.evaluators.make_evaluator` takes for one evaluator."""
    shared = ("workers", "time_limit", "memory_limit")
    config: dict[str, Any] = evaluator.model_dump(mode="json", exclude_none=True)
    if isinstance(evaluator, Potential) and evaluator.calculator is None:
        config.setdefault("model", "chgnet")
    if isinstance(evaluator, Python | Table):
        config["metrics"] = metric_units | config["metrics"]
    return {key: value for key, value in config.items() if key not in shared}
