"""Who answers a trial: the part `evaluate` of a spec, one evaluator or one for each fidelity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from campaigns.errors import did_you_mean, quoted
from campaigns.spec_evaluators import DFT_METRICS as DFT_METRICS
from campaigns.spec_evaluators import POTENTIAL_METRICS as POTENTIAL_METRICS
from campaigns.spec_evaluators import (
    Command,
    Dft,
    Lab,
    Metrics,
    Potential,
    Python,
    Squeezed,
    Table,
    Workers,
    config_of,
)
from campaigns.spec_models import Part, fault
from campaigns.spec_workflows import Aiida, Jobflow

_NOW = ("potential", "dft", "command", "table", "python", "jobflow", "aiida", "lab")

One = Potential | Dft | Command | Table | Python | Jobflow | Aiida | Lab


def _check(value: Any) -> Any:
    """Say what an evaluator is, before pydantic says which of eight models it is not."""
    if not isinstance(value, dict):
        return value
    name = value.get("with")
    if name is None:
        raise fault("the key 'with' is missing: which evaluator?", f"one of: {', '.join(_NOW)}")
    if name not in _NOW:
        hint = did_you_mean(str(name), _NOW)
        raise fault(f"{quoted(name)} is not an evaluator", hint, ("with",))
    return value


def _kind(value: Any) -> str | None:
    name = value.get("with") if isinstance(value, dict) else getattr(value, "with_", None)
    return str(name).title() if name in (*_NOW, "each") else None


_AnyOne = Annotated[
    Annotated[Potential, Tag("Potential")]
    | Annotated[Dft, Tag("Dft")]
    | Annotated[Command, Tag("Command")]
    | Annotated[Table, Tag("Table")]
    | Annotated[Python, Tag("Python")]
    | Annotated[Jobflow, Tag("Jobflow")]
    | Annotated[Aiida, Tag("Aiida")]
    | Annotated[Lab, Tag("Lab")],
    Discriminator(_kind),
    BeforeValidator(_check),
]


class Each(Part):
    """An evaluator for each fidelity."""

    with_: Annotated[Literal["each"], Field(alias="with")] = "each"
    """The evaluator; may be left out, and `each` with it."""
    each: Annotated[dict[str, _AnyOne], Field(min_length=1)]
    """The evaluator of every fidelity, by its name."""

    @property
    def on_this_machine(self) -> list[Workers]:
        """Those that no person answers."""
        return [one for one in self.each.values() if isinstance(one, Workers)]

    @property
    def workers(self) -> int:
        """The most that any of them says."""
        return max((one.workers for one in self.on_this_machine), default=1)

    def seconds(self) -> float:
        """The longest time limit of any, in seconds."""
        return max((one.seconds() for one in self.on_this_machine), default=0.0)

    def memory_bytes(self) -> int:
        """The largest memory limit of any, in bytes."""
        return max((one.memory_bytes() for one in self.on_this_machine), default=0)

    def known_metrics(self) -> Metrics:
        """Those that every one answers, in the unit of the first that knows; None = any."""
        told = [known for one in self.each.values() if (known := one.known_metrics()) is not None]
        if not told:
            return None
        first, *others = told
        return {name: unit for name, unit in first.items() if all(name in o for o in others)}


def _check_any(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "with" not in value and value and all(isinstance(one, dict) for one in value.values()):
        return {"with": "each", "each": value}
    return value if value.get("with") == "each" else _check(value)


Evaluate = Annotated[
    Annotated[Potential, Tag("Potential")]
    | Annotated[Dft, Tag("Dft")]
    | Annotated[Command, Tag("Command")]
    | Annotated[Table, Tag("Table")]
    | Annotated[Python, Tag("Python")]
    | Annotated[Jobflow, Tag("Jobflow")]
    | Annotated[Aiida, Tag("Aiida")]
    | Annotated[Lab, Tag("Lab")]
    | Annotated[Each, Tag("Each")],
    Discriminator(_kind),
    BeforeValidator(_check_any),
]

AnyEvaluator = One | Each


def evaluators(evaluate: AnyEvaluator | None) -> Iterator[tuple[tuple[str, ...], One]]:
    """Every evaluator of a spec, and its place below `evaluate`."""
    if isinstance(evaluate, Each):
        yield from (((name,), one) for name, one in evaluate.each.items())
    elif evaluate is not None:
        yield (), evaluate


def evaluator_at(evaluate: AnyEvaluator, fidelity: str | None) -> One | None:
    """The evaluator of a fidelity; None where it has none."""
    if isinstance(evaluate, Each):
        return None if fidelity is None else evaluate.each.get(fidelity)
    return evaluate


def wants_crystal(evaluate: AnyEvaluator | None) -> str | None:
    """The name of an evaluator that takes a crystal and makes none; None where there is none."""
    for _, one in evaluators(evaluate):
        if isinstance(one, Squeezed) and one.crystal is None:
            return str(one.with_)
    return None


def evaluator_config(evaluate: AnyEvaluator, metric_units: dict[str, str]) -> dict[str, Any]:
    """What `loop.evaluators.make_evaluator` takes."""
    if isinstance(evaluate, Each):
        each = {name: config_of(one, metric_units) for name, one in evaluate.each.items()}
        return {"with": "each", "each": each}
    return config_of(evaluate, metric_units)


def runs_code(config: Mapping[str, Any]) -> bool:
    """Whether an evaluator's configuration names code or a program to run, or a file to read.

    Asked of what came from elsewhere: a spec that is sent to a server, an evaluator that comes with
    a lease. What is not known counts as code.
    """
    kind = config.get("with")
    if kind == "each":
        each = config.get("each")
        return not isinstance(each, Mapping) or any(
            not isinstance(one, Mapping) or runs_code(one) for one in each.values()
        )
    if kind in ("potential", "dft"):
        return "calculator" in config or "command" in config
    return kind != "lab"
