"""The spec: a campaign's YAML file, and what it means.

`load_spec` reads a file and names every mistake in it at once. A `Spec` is immutable and complete
by itself: `model_dump_json` and `model_validate_json` give the same spec, wherever and whenever.
Importing this loads no torch, no pymatgen and no pint.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from campaigns.bounds import Bound, parse_constraint
from campaigns.errors import InputErrors
from campaigns.predicted import all_bounds
from campaigns.spec_axes import Axis
from campaigns.spec_checks import Draft, check
from campaigns.spec_evaluate import (
    POTENTIAL_METRICS,
    Evaluate,
    evaluator_config,
)
from campaigns.spec_evaluators import Potential
from campaigns.spec_fidelity import (
    Earlier,
    Fidelity,
    FidelityName,
    axis_fidelities,
    cost_in,
    cost_unit,
    fidelity_axes,
    target_name,
)
from campaigns.spec_models import (
    Acquisition,
    Budget,
    Constraint,
    Lease,
    Name,
    Objective,
    Part,
    Screen,
    Stop,
    Text,
    Whole,
)
from campaigns.spec_resolve import bound_value, objective_numbers
from campaigns.spec_space import Sums, design_space, stand_in
from campaigns.spec_tuning import FineTune

if TYPE_CHECKING:
    import loop.fidelities
    import loop.problem
    from loop.stopping import StopRules

SCHEMA_FILE = Path(__file__).with_name("spec.schema.json")
"""The JSON Schema of a spec, as shipped."""


class Spec(Part):
    """A campaign: where to look, what to want, what to respect, who answers, what it may cost."""

    campaign: Annotated[
        Text,
        StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=64),
    ]
    """The campaign's name: letters, digits, and . _ - between them."""
    space: Annotated[dict[Name, Axis], Field(min_length=1)]
    """The design space: its axes by name. A design has a value on each."""
    objectives: Annotated[dict[Name, Objective], Field(min_length=1)]
    """What is wanted, by metric."""
    constraints: tuple[Constraint, ...] = ()
    """Bounds on metrics (learnt) or on parameters (exact): formation_energy <= -0.3 eV/atom."""
    screen: Screen = Screen()
    """What a proposed crystal must be before it costs an evaluation."""
    evaluate: Evaluate = Potential()
    """Who answers a trial."""
    approve: Annotated[bool, Field(strict=True)] = False
    """Whether a person must approve each proposal before a worker may have it."""
    lease: Lease = Lease()
    """How long a worker may be silent before its trial goes to another."""
    fidelities: Annotated[dict[FidelityName, Fidelity], Field(default_factory=dict)]
    """The levels at which a design may be tried, from cheap to dear: docs/fidelities.md."""
    learn_from: tuple[Earlier, ...] = ()
    """Other campaigns in the database, or tables, whose results teach this one: their names, or
    {table: FILE.csv}."""
    budget: Budget = Budget()
    """How much may be spent."""
    stop: Stop = Stop()
    """When to stop before that."""
    acquisition: Acquisition = "portfolio"
    """How designs are chosen: docs/acquisition.md."""
    fine_tune: FineTune | None = None
    """Whether the generator learns from the results: docs/fine-tuning.md. Without it, it stays as
    it is."""
    seed: Annotated[Whole, Field(ge=0, le=2**32 - 1)] = 0
    """Makes proposals reproducible."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Spec:
        draft = Draft(
            dict(self.space),
            dict(self.objectives),
            dict(enumerate(self.constraints)),
            self.screen,
            self.evaluate,
            self.stop,
            self.acquisition,
            self.budget,
            dict(self.fidelities),
            self.learn_from,
            self.campaign,
            self.fine_tune,
        )
        if complaints := list(check(draft)):
            lines = [f"{'.'.join(map(str, c.loc))}: {c.what}" for c in complaints]
            raise PydanticCustomError("matloop_parts", "{lines}", {"lines": "; ".join(lines)})
        return self

    @property
    def stalled_after_trials(self) -> int | None:
        """`stop.stalled_after` in trials: batches times the size of a batch."""
        after = self.stop.stalled_after
        return None if after is None else after * self.budget.batch

    def stop_rules(self) -> StopRules | None:
        """What `loop.stopping.judge` takes, each number in its metric's unit; None = no rule."""
        stop = self.stop
        if stop.stalled_after is None and stop.no_gain is None and not stop.target_met:
            return None
        from loop.stopping import NoGain, StopRules

        targets: dict[str, float] | None = None
        if isinstance(stop.target_met, dict):
            units = self.metric_units()
            targets = {}
            for name, value in stop.target_met.items():
                objective = self.objectives[name].model_copy(update={"threshold": value})
                targets[name] = objective_numbers(name, objective, units[name])["threshold"]
        return StopRules(
            stalled_after=self.stalled_after_trials,
            target_met=bool(stop.target_met),
            targets=targets,
            no_gain=None if stop.no_gain is None else NoGain(**stop.no_gain.model_dump()),
        )

    @property
    def cost_unit(self) -> str | None:
        """The unit of all costs; None = they are plain numbers."""
        return cost_unit(self.fidelities, self.space)

    @property
    def cost_budget(self) -> float | None:
        """`budget.cost` in `cost_unit`."""
        return None if self.budget.cost is None else cost_in(self.budget.cost, self.cost_unit)

    @cached_property
    def loop_fidelities(self) -> loop.fidelities.Fidelities | None:
        """The fidelities as `loop` has them, costs in `cost_unit`; None = there are none."""
        from loop.fidelities import NamedFidelities

        unit = self.cost_unit
        if self.fidelities:
            costs = {name: cost_in(f.cost, unit) for name, f in self.fidelities.items()}
            return NamedFidelities.of(costs, target_name(self.fidelities))
        for name, axis in fidelity_axes(self.space).items():
            found: loop.fidelities.Fidelities = axis_fidelities(name, axis, unit)
            return found
        return None

    def metric_units(self) -> dict[str, str]:
        """The unit of every metric: the objectives', then the constraints'."""
        constraints = dict(enumerate(self.constraints))
        return Draft(
            dict(self.space), dict(self.objectives), constraints, evaluate=self.evaluate
        ).metric_units

    def evaluator_config(self) -> dict[str, Any]:
        """What `loop.evaluators.make_evaluator` takes: the evaluator and its settings."""
        return evaluator_config(self.evaluate, self.metric_units())

    def problem(self) -> loop.problem.Problem:
        """The same as `loop` reads it: the generators loaded, every number in its metric's unit.

        Raises:
            MatloopError: A generator, a pool or a table of descriptors cannot be loaded, or the
                constraints exclude every design.
        """
        return self._problem(*self._constrained())

    def goals(self) -> loop.problem.Problem:
        """The problem with a stand-in for what the spec only names: to judge outcomes, and no more.

        So a campaign can be looked at where its generator or its pool is no more.
        """
        held, bounds = self._constrained()
        return self._problem(Sums({n: stand_in(axis) for n, axis in held.axes.items()}), bounds)

    def _constrained(self) -> tuple[Sums, list[Bound]]:
        """The axes as the constraints on parameters leave them, and the bounds on metrics."""
        held, bounds, metrics = Sums(dict(self.space)), [], self.metric_units()
        for text in self.constraints:
            for stated in parse_constraint(text):
                if isinstance(stated, Bound) and stated.name in metrics:
                    bounds.append(stated)
                else:
                    held.take(stated, text)
        return held, bounds

    def on_parameters(self, constraint: str) -> bool:
        """Whether one of the constraints is on parameters, so that every design meets it."""
        metrics = self.metric_units()
        return not any(
            isinstance(stated, Bound) and stated.name in metrics
            for stated in parse_constraint(constraint)
        )

    def metric_bounds(self) -> list[Bound]:
        """The constraints on metrics: with the objectives, what is sought."""
        return self._constrained()[1]

    def parameter_sums(self) -> list[tuple[dict[str, float], str, float, str]]:
        """Constraints on several parameters: coefficients, how they compare, bound, text."""
        return self._constrained()[0].sums

    def _problem(self, held: Sums, bounds: list[Bound]) -> loop.problem.Problem:
        from loop.problem import Objective as Goal
        from loop.problem import OutcomeConstraint, Problem, ScreenRules

        units = self.metric_units()
        outcomes = [
            OutcomeConstraint(b.name, b.op, bound_value(b, units[b.name], said=True), units[b.name])
            for b in bounds
        ]
        elements = self.screen.elements
        return Problem(
            space=design_space(held, list(units)),
            objectives=tuple(
                Goal(**objective_numbers(name, objective, units[name]))
                for name, objective in self.objectives.items()
            ),
            constraints=tuple(outcomes),
            screen=ScreenRules(
                include=elements.include,
                exclude=elements.exclude,
                charge_neutral=self.screen.charge_neutral,
                max_atoms=self.screen.max_atoms,
                predicted=all_bounds(self.screen.predicted),
                steady=self.screen.steady,
            ),
            fidelities=self.loop_fidelities,
        )


def load_spec(path: str | Path) -> Spec:
    """Read a spec.

    Paths in it (of generators, models, Python files) are taken from the spec's folder.

    Raises:
        InputErrors: Every mistake, with file, line and column, and what would be right.
    """
    from campaigns.spec_environment import check_environment, with_absolute_paths
    from campaigns.spec_reading import explain
    from campaigns.yaml_file import read_yaml

    document = read_yaml(path)
    data = with_absolute_paths(document.data, document.path.absolute().parent)
    problems = explain(Spec, data, document, check_environment)
    if problems:
        raise InputErrors(problems, str(path))
    return Spec.model_validate(data)


def written_seed(text: str) -> Any:
    """The seed that a spec's text names, the default's if it names none; None if it is no spec."""
    from campaigns.yaml_file import parse_yaml

    try:
        data = parse_yaml(text, Path("spec.yaml")).data
    except InputErrors:
        return None
    return data.get("seed", Spec.model_fields["seed"].default) if isinstance(data, dict) else None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec, for editors."""
    schema = _without_titles(Spec.model_json_schema())
    # An editor offers the metrics that a potential gives; any other name is right too.
    schema["properties"]["objectives"]["properties"] = {
        metric: {"$ref": "#/$defs/Objective", "description": f"By a potential, in {unit}."}
        for metric, unit in POTENTIAL_METRICS.items()
    }
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": "matloop campaign", **schema}


def _without_titles(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of names: an editor would show both."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(value)
        for key, value in schema.items()
        if key != "title" or not isinstance(value, str)
    }


def schema_text() -> str:
    """What `spec.schema.json` should hold: the output of `python -m campaigns.spec`."""
    import json

    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
