"""Who answers a trial: the part `evaluate` of a spec, one model an evaluator."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from campaigns.errors import did_you_mean, quoted
from campaigns.spec_models import (
    Memory,
    Name,
    Number,
    Part,
    Text,
    Time,
    Unit,
    Whole,
    fault,
    memory_bytes,
    seconds,
)

POTENTIAL_METRICS = {
    "formation_energy": "eV/atom",
    "density": "g/cm^3",
    "bulk_modulus": "GPa",
    "volume_per_atom": "angstrom^3/atom",
    "energy": "eV/atom",
}
"""What every interatomic potential answers, as `loop.evaluators.potential` has it (a test compares
them). It stands here again since that one loads torch, and `matloop validate` answers at once."""

LATER = ("dft", "command", "table")
_NOW = ("potential", "python", "lab")


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


class Potential(Workers):
    """A machine-learned interatomic potential, or a property model, answers."""

    with_: Annotated[Literal["potential"], Field(alias="with")] = "potential"
    """The evaluator."""
    model: Annotated[Text, Field(min_length=1, examples=["chgnet", "chgnet:r2scan"])] = "chgnet"
    """chgnet, chgnet:r2scan, the folder of a matgl checkpoint, or the name of one on its hub."""
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
    property: Name | None = None
    """Of a property model: the metric that it gives, where its name does not tell."""
    unit: Unit | None = None
    """Of a property model: the unit of that metric."""
    fidelity: Literal["PBE", "GLLB-SC", "HSE", "SCAN"] | None = None
    """Of a property model of several fidelities: which."""

    def known_metrics(self) -> dict[str, str | None] | None:
        """The metrics that it answers with their units (None = not known); None = any."""
        if self.property is not None:
            return {self.property: self.unit}
        name = self.model.lower()
        if "eform" in name:
            return {"formation_energy": "eV/atom"}
        if "bandgap" in name:
            return {"band_gap": "eV"}
        return dict(POTENTIAL_METRICS)


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

    def known_metrics(self) -> dict[str, str | None] | None:
        """The metrics that it returns, with their units; None = whatever the campaign wants."""
        return dict(self.metrics) or None


class Lab(Part):
    """A person or a laboratory answers: `matloop propose` asks, `matloop ingest` takes answers."""

    with_: Annotated[Literal["lab"], Field(alias="with")]
    """The evaluator."""

    def known_metrics(self) -> dict[str, str | None] | None:
        """None: any."""
        return None


def _check(value: Any) -> Any:
    """Say what an evaluator is, before pydantic says which of three models it is not."""
    if not isinstance(value, dict):
        return value
    name = value.get("with")
    if name is None and value and all(isinstance(one, dict) for one in value.values()):
        raise fault(
            "an evaluator for each fidelity is not in this version",
            "one for all: {with: lab}, or {with: python} and a function that takes the fidelity",
        )
    if name is None:
        raise fault("the key 'with' is missing: which evaluator?", f"one of: {', '.join(_NOW)}")
    if name in LATER:
        raise fault(
            f"the evaluator {name!r} is not in this version", f"{', '.join(_NOW)} are", ("with",)
        )
    if name not in _NOW:
        hint = did_you_mean(str(name), _NOW)
        raise fault(f"{quoted(name)} is not an evaluator", hint, ("with",))
    return value


def _kind(value: Any) -> str | None:
    name = value.get("with") if isinstance(value, dict) else getattr(value, "with_", None)
    return str(name).title() if name in _NOW else None


Evaluate = Annotated[
    Annotated[Potential, Tag("Potential")]
    | Annotated[Python, Tag("Python")]
    | Annotated[Lab, Tag("Lab")],
    Discriminator(_kind),
    BeforeValidator(_check),
]
