"""What the parts of a spec must be to each other.

Each check works on what could be read of the rest, so that one mistake does not hide another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from campaigns import units
from campaigns.bounds import Bound, BoundError, Linear, Stated, parse_constraint
from campaigns.errors import did_you_mean, quoted
from campaigns.spec_axes import AnyAxis, Axis, LatentAxis
from campaigns.spec_evaluate import AnyEvaluator, Evaluate, wants_crystal
from campaigns.spec_fidelity import (
    Earlier,
    Fidelity,
    FidelityName,
    Table,
    check_earlier,
    check_fidelities,
    fidelity_axes,
)
from campaigns.spec_models import (
    Acquisition,
    Budget,
    Constraint,
    Level,
    Objective,
    Screen,
    Stop,
    Target,
)
from campaigns.spec_resolve import bound_value, metric_units, objective_numbers
from campaigns.spec_space import Sums, coordinates, parameters
from campaigns.spec_tuning import FineTune

RESERVED = ("trial", "status", "reason", "source", "cif")
"""Names of columns in a results file; no metric or axis can have them."""


@dataclass(frozen=True)
class Complaint:
    """Something wrong at a place in a spec.

    Attributes:
        loc: Keys and indices from the top.
        what: What is wrong.
        hint: What would be right.
        key: Whether the key is meant, not its value.
    """

    loc: tuple[str | int, ...]
    what: str
    hint: str | None = None
    key: bool = False


@dataclass
class Draft:
    """What could be read of a spec.

    Attributes:
        axes: Axes by name, without those that could not be read.
        objectives: Objectives by metric, likewise.
        constraints: Constraints by their place in the list, likewise.
        screen, evaluate, stop, acquisition: None where they could not be read.
        unread: Names of axes and metrics that are there, but could not be read.
    """

    axes: dict[str, AnyAxis] = field(default_factory=dict)
    objectives: dict[str, Objective] = field(default_factory=dict)
    constraints: dict[int, str] = field(default_factory=dict)
    screen: Screen | None = None
    evaluate: AnyEvaluator | None = None
    stop: Stop | None = None
    acquisition: str | None = None
    budget: Budget | None = None
    fidelities: dict[str, Fidelity] | None = None
    earlier: tuple[str | Table, ...] = ()
    campaign: Any = None
    fine_tune: FineTune | None = None
    unread: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Draft:
        """Read as much as can be read of a spec's data."""
        draft, kinds = cls(), _kinds()
        for section, into in (("space", draft.axes), ("objectives", draft.objectives)):
            entries = data.get(section)
            for name, value in entries.items() if isinstance(entries, dict) else ():
                if (read := _try(kinds[section], value)) is None:
                    draft.unread.add(name)
                else:
                    into[name] = read
        texts = data.get("constraints")
        for index, text in enumerate(texts if isinstance(texts, list | tuple) else ()):
            if (read := _try(kinds["constraints"], text)) is not None:
                draft.constraints[index] = read
        draft.screen = _try(kinds["screen"], data.get("screen", {}))
        draft.evaluate = _try(kinds["evaluate"], data.get("evaluate", {"with": "potential"}))
        draft.stop = _try(kinds["stop"], data.get("stop", {}))
        draft.budget = _try(kinds["budget"], data.get("budget", {}))
        draft.fidelities = _try(kinds["fidelities"], data.get("fidelities", {}))
        draft.earlier = _try(kinds["learn_from"], data.get("learn_from", ())) or ()
        draft.campaign = data.get("campaign")
        draft.fine_tune = _try(kinds["fine_tune"], data.get("fine_tune"))
        draft.acquisition = _try(kinds["acquisition"], data.get("acquisition", "portfolio"))
        return draft

    @property
    def stated(self) -> list[tuple[int, Stated]]:
        """All that the constraints state, with the place of its constraint."""
        return [(i, s) for i, text in self.constraints.items() for s in parse_constraint(text)]

    @property
    def known(self) -> dict[str, str | None] | None:
        """The metrics that the evaluator gives, with their units; None = any."""
        return self.evaluate.known_metrics() if self.evaluate else None

    @property
    def parameters(self) -> set[str]:
        """The names in constraints that are of parameters."""
        names = {name for _, stated in self.stated for name in names_in(stated)}
        return parameters(self.axes, names - {*self.objectives, *(self.known or {})})

    @property
    def metric_units(self) -> dict[str, str]:
        """The unit of every metric that has one."""
        bounds = [stated for _, stated in self.stated if isinstance(stated, Bound)]
        taken = {*self.axes, *self.parameters}
        return metric_units(self.objectives, bounds, taken, self.known)


def names_in(stated: Stated) -> tuple[str, ...]:
    """The names that a constraint speaks of."""
    return stated.names if isinstance(stated, Linear) else (stated.name,)


@cache
def _kinds() -> dict[str, TypeAdapter[Any]]:
    """What reads one entry of each section."""
    sections: dict[str, Any] = {
        "space": Axis,
        "objectives": Objective,
        "constraints": Constraint,
        "screen": Screen,
        "evaluate": Evaluate,
        "stop": Stop,
        "acquisition": Acquisition,
        "budget": Budget,
        "fidelities": dict[FidelityName, Fidelity],
        "learn_from": tuple[Earlier, ...],
        "fine_tune": FineTune | None,
    }
    return {section: TypeAdapter(kind) for section, kind in sections.items()}


def _try(kind: TypeAdapter[Any], value: Any) -> Any:
    try:
        return kind.validate_python(value)
    except ValidationError:
        return None


def check(draft: Draft) -> Iterator[Complaint]:
    """Everything that is wrong between the parts of a spec."""
    yield from _names(draft)
    yield from _latent_axes(draft)
    yield from _metrics(draft)
    yield from _objectives(draft)
    yield from _constraints(draft)
    yield from _stop(draft)
    yield from _acquisition(draft)
    yield from check_fidelities(draft)
    yield from check_earlier(draft.earlier, draft.campaign)


def _names(draft: Draft) -> Iterator[Complaint]:
    for section, names in (("space", draft.axes), ("objectives", draft.objectives)):
        for name in names:
            taken = name == "fidelity" and draft.fidelities
            if taken or name in RESERVED or name.endswith("_sem"):
                what = f"{name!r} is the name of a column in results files"
                yield Complaint((section, name), what, "choose another name", key=True)
    for name in draft.objectives:
        if name in draft.axes:
            what = f"{name!r} is the name of an axis too"
            yield Complaint(("objectives", name), what, "rename one of them", key=True)


def _latent_axes(draft: Draft) -> Iterator[Complaint]:
    latent = [name for name, axis in draft.axes.items() if isinstance(axis, LatentAxis)]
    if (kind := wants_crystal(draft.evaluate)) is not None:
        for name in latent[1:]:
            what = f"the evaluator {kind!r} takes one crystal, and {latent[0]!r} is one already"
            yield Complaint(("space", name), what, "remove one of the latent axes", key=True)
        if not latent and not draft.unread:
            hint = (
                "add an axis such as crystal: {latent: crystals}, say of what axes the evaluator "
                "makes one (crystal: {prototype: ..., elements: [...]}), or evaluate: {with: lab}"
            )
            yield Complaint(("space",), f"no crystal for the evaluator {kind!r}", hint, key=True)
    if not latent and not draft.unread and draft.screen not in (None, Screen()):
        what = "there is nothing to screen: no axis is latent"
        yield Complaint(("screen",), what, "remove it", key=True)
    if not latent and not draft.unread and draft.fine_tune is not None:
        what = "there is no generator to fine-tune: no axis is latent"
        yield Complaint(("fine_tune",), what, "remove it", key=True)


def _metrics(draft: Draft) -> Iterator[Complaint]:
    known = draft.evaluate.known_metrics() if draft.evaluate else None
    if known is not None:
        for name in draft.objectives:
            if name not in known:
                what = f"the evaluator does not give {name!r}"
                yield Complaint(("objectives", name), what, _which(name, known), key=True)
    metrics = {*draft.objectives, *(known or {})}
    for index, stated in draft.stated:
        for name in names_in(stated):
            if name in metrics | draft.parameters | draft.unread:
                continue
            if draft.unread & {name.partition(".")[0]}:
                continue
            # Where the evaluator answers anything, a new name is a new metric; a near miss is a
            # typo. A sum is of parameters alone.
            names = [*draft.objectives, *coordinates(draft.axes), *(known or {})]
            hint = did_you_mean(name, names)
            if isinstance(stated, Linear):
                if not draft.unread:
                    what = f"{name!r} is not a number, and no parameter"
                    yield Complaint(("constraints", index), what, hint)
            elif known is not None or "." in name or (hint is not None and "mean" in hint):
                what = f"{name!r} is no metric that the evaluator gives, and no axis"
                yield Complaint(("constraints", index), what, hint)


def _which(name: str, known: Mapping[str, str | None]) -> str:
    hint = did_you_mean(name, known)
    return hint or f"it gives {', '.join(known)}"


def _objectives(draft: Draft) -> Iterator[Complaint]:
    known = (draft.evaluate.known_metrics() if draft.evaluate else None) or {}
    for name, objective in draft.objectives.items():
        loc = ("objectives", name)
        native = known.get(name)
        if objective.unit and native and not units.compatible(objective.unit, native):
            what = f"the evaluator gives {name} in {native}: {objective.unit} is no unit of that"
            yield Complaint((*loc, "unit"), what, f"unit: {native}")
            continue
        unit = objective.unit or native
        if unit is None:
            if draft.evaluate is not None:
                hint = "add one, as in unit: GPa; of a pure number it is dimensionless"
                yield Complaint(loc, f"the unit of {name} is missing", hint)
            continue
        try:
            numbers = objective_numbers(name, objective, unit)
        except BoundError as error:
            yield Complaint((*loc, "threshold"), error.what, error.hint)
            continue
        threshold, within = numbers["threshold"], numbers.get("tolerance")
        if threshold is not None and within is not None and threshold <= within:
            what = "the largest distance worth having is no more than what is as good as none"
            hint = f"a threshold above {within:g} {unit}, or none"
            yield Complaint((*loc, "threshold"), what, hint)


def _constraints(draft: Draft) -> Iterator[Complaint]:
    known = draft.known or {}
    held = Sums(dict(draft.axes))
    parameters, metrics = draft.parameters, {*draft.objectives, *known}
    limits: dict[tuple[str, str], tuple[float, int]] = {}
    for index, bound in draft.stated:
        loc = ("constraints", index)
        names = set(names_in(bound))
        if draft.unread & {name.partition(".")[0] for name in names}:
            continue
        try:
            if isinstance(bound, Linear):
                if of := sorted(names & metrics):
                    raise _of_a_metric(bound, of[0])
                if names <= parameters:
                    held.take(bound, draft.constraints[index])
                continue
            if bound.name in parameters:
                held.take(bound, draft.constraints[index])
                continue
            objective = draft.objectives.get(bound.name)
            stated = objective is not None and objective.unit is not None
            unit = draft.metric_units.get(bound.name) or known.get(bound.name)
            if unit is None:
                if draft.evaluate is not None:
                    raise BoundError("a unit is missing", "of a pure number it is dimensionless")
                continue
            native = known.get(bound.name)
            if native is not None and bound.unit and not units.compatible(bound.unit, native):
                raise BoundError(
                    f"{bound.name} is in {native}, not in {bound.unit}", f"use {native}"
                )
            value = bound_value(bound, unit, stated)
        except BoundError as error:
            yield Complaint(loc, error.what, error.hint)
            continue
        sign = 1.0 if bound.op == "<=" else -1.0
        tightest = limits.get((bound.name, bound.op))
        if tightest is None or sign * value < sign * tightest[0]:
            limits[bound.name, bound.op] = (value, index)
        other = limits.get((bound.name, ">=" if bound.op == "<=" else "<="))
        if other is not None and sign * value <= sign * other[0]:
            what = (
                f"contradicts {draft.constraints[other[1]]!r}: no value of {bound.name} meets both"
            )
            yield Complaint(loc, what, "a single value is a target: an objective, not a constraint"
                            if value == other[0] else None)  # fmt: skip


def _of_a_metric(stated: Linear, name: str) -> BoundError:
    """Why a sum or an equality cannot be had of a metric."""
    if len(stated.terms) == 1 and stated.op == "==":
        return BoundError(
            "an equality cannot be met by measured values",
            "use <= or >=, or an objective with a target",
        )
    what = f"{name} is a metric: arithmetic on metrics is not in this version"
    return BoundError(what, "sums are of parameters; of a metric, NAME <= NUMBER UNIT")


def check_question(draft: Draft) -> Iterator[Complaint]:
    """A question that no stop rule would ever ask.

    Asked when a spec is read from a file, and not of one that the store kept: a campaign that began
    with such a question can still be looked at.
    """
    stop = draft.stop
    if stop is None or stop.then == "end":
        return
    if stop.stalled_after is None and stop.no_gain is None and not stop.target_met:
        what = "no stop rule is there that could ask"
        hint = "add stalled_after, target_met or no_gain; of a budget, write budget: {then: ask}"
        yield Complaint(("stop", "then"), what, hint, key=True)


def _stop(draft: Draft) -> Iterator[Complaint]:
    if draft.stop is None:
        return
    loc, objectives = ("stop", "target_met"), draft.objectives
    if draft.stop.target_met is True:
        if not (draft.unread or any(map(_says_when_it_is_met, objectives.values()))):
            hint = "give one a threshold (a target: within), or values here: {METRIC: 300 GPa}"
            yield Complaint(loc, "no objective says when it is met", hint)
    elif draft.stop.target_met:
        for name, value in draft.stop.target_met.items():
            if name not in objectives:
                if name not in draft.unread:
                    what = f"{quoted(name)} is no objective"
                    yield Complaint((*loc, name), what, did_you_mean(name, objectives), key=True)
                continue
            unit = draft.metric_units.get(name)
            if unit is None:
                continue
            try:
                with_it = objectives[name].model_copy(update={"threshold": value})
                objective_numbers(name, with_it, unit)
            except BoundError as error:
                yield Complaint((*loc, name), error.what, error.hint)
    if draft.stop.no_gain is not None and draft.stop.no_gain.cost and len(objectives) > 1:
        what = "what a unit is worth can be said of one objective only"
        yield Complaint(("stop", "no_gain", "cost"), what, "say `below` alone", key=True)


def _says_when_it_is_met(objective: Objective) -> bool:
    within = objective.goal.within if isinstance(objective.goal, Target) else None
    return objective.threshold is not None or within is not None


_OF_LEVELS = ("portfolio", "level-set", "uncertainty")
"""What may choose designs where a level is sought; the default then is level-set too."""


def _acquisition(draft: Draft) -> Iterator[Complaint]:
    levels = [n for n, o in draft.objectives.items() if isinstance(o.goal, Level)]
    if not levels:
        if draft.acquisition == "level-set" and not draft.unread:
            what = "no objective is a level whose contour could be sought"
            yield Complaint(("acquisition",), what, "goal: {level: 1.4} says which")
    else:
        yield from _levels(draft, levels)
    latent = any(isinstance(axis, LatentAxis) for axis in draft.axes.values())
    if draft.acquisition == "substitution" and not latent and not draft.unread:
        what = "there is no crystal whose elements could be substituted: no axis is latent"
        yield Complaint(("acquisition",), what, "evolution works in every space")
    cheaper = bool(draft.fidelities or fidelity_axes(draft.axes))
    if draft.acquisition in ("evolution", "substitution") and cheaper:
        what = f"{draft.acquisition} cannot choose between fidelities"
        yield Complaint(("acquisition",), what, "it takes a model to say what each would teach")


def _levels(draft: Draft, levels: list[str]) -> Iterator[Complaint]:
    for name in draft.objectives:
        if name not in levels:
            what = f"{levels[0]} is a level, and {name} is not: a contour is sought by itself"
            hint = f"make {name} a constraint, or begin two campaigns"
            yield Complaint(("objectives", name, "goal"), what, hint)
    if draft.acquisition is not None and draft.acquisition not in _OF_LEVELS:
        what = f"{draft.acquisition} looks for the best, and of a level there is no best"
        yield Complaint(("acquisition",), what, f"one of: {', '.join(_OF_LEVELS)}")
    stop = draft.stop or Stop()
    for key in ("stalled_after", "target_met", "no_gain"):
        if getattr(stop, key):
            what = f"{key} waits for something better, and of a level there is no better"
            yield Complaint(("stop", key), what, "remove it: the budget ends the campaign")
