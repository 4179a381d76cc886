"""What the evaluators that run a workflow may be told: `jobflow` and `aiida`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from campaigns.spec_evaluators import Crystal, Metrics, Workers
from campaigns.spec_models import Name, Part, Text, Time, Unit, Whole


class FlowOutput(Part):
    """Where one metric stands in a workflow's output."""

    pointer: Annotated[Text, Field(examples=["/energy_per_atom"])]
    """A pointer into it, as JSON."""
    unit: Unit
    """The metric's unit there."""
    sem: Text | None = None
    """A pointer to its standard error."""


class Workflow(Workers):
    """What they have in common."""

    with_: Annotated[str, Field(alias="with")]
    """The evaluator."""
    outputs: Annotated[dict[Name, FlowOutput], Field(min_length=1)]
    """Where each metric stands in what the workflow returns."""
    arguments: Annotated[dict[str, Any], Field(default_factory=dict)]
    """What the maker is made with, or the inputs of the process beside the design."""
    crystal: Crystal | None = None
    """A crystal made of the design's values, where no axis is one."""

    def known_metrics(self) -> Metrics:
        """The metrics that it returns, with their units."""
        return {name: output.unit for name, output in self.outputs.items()}


class Jobflow(Workflow):
    """A jobflow flow answers: one of atomate2's, or of yours."""

    with_: Annotated[Literal["jobflow"], Field(alias="with")]
    """The evaluator."""
    maker: Annotated[
        Text, Field(min_length=3, examples=["atomate2.forcefields.jobs:ForceFieldRelaxMaker"])
    ]
    """`module:Maker`, or `file.py:Maker` beside the spec; `make` is given the crystal."""


class Aiida(Workflow):
    """A process of AiiDA answers, and is kept in your profile."""

    with_: Annotated[Literal["aiida"], Field(alias="with")]
    """The evaluator."""
    process: Annotated[
        Text, Field(min_length=3, examples=["aiida.workflows:quantumespresso.pw.relax"])
    ]
    """An entry point, `module:name`, or `file.py:name` beside the spec: a process, or a function
    that is given the crystal and returns a ProcessBuilder."""
    profile: Annotated[Text, Field(min_length=1)] | None = None
    """AiiDA's profile; left out: its default one."""
    time_limit: Time = "2 h"
    """A trial that takes longer has failed."""
    infeasible_status: tuple[Whole, ...] = ()
    """Exit statuses that mean that such a design cannot be."""
