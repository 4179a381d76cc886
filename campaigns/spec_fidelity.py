"""Fidelities and earlier campaigns in a spec: what may be written, and what must fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, StringConstraints

from campaigns import units
from campaigns.errors import did_you_mean, quoted
from campaigns.spec_models import Cost, Number, Part, Text, cost_parts, fault

if TYPE_CHECKING:
    from campaigns.spec_axes import RangeAxis
    from campaigns.spec_checks import Complaint, Draft

FidelityName = Annotated[
    Text, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._+:-]*[A-Za-z0-9+])?$", max_length=64)
]

NetworkFidelity = Literal["PBE", "GLLB-SC", "HSE", "SCAN"]
"""Those of the property models that have several."""


class Fidelity(Part):
    """A level at which a design may be tried: a potential, DFT, the laboratory."""

    cost: Cost
    """What one evaluation costs: a number, or one with a unit, of one kind for all fidelities."""
    target: bool = False
    """Whether this is the one that is sought; without it, the last is."""


class AxisFidelity(Part):
    """What makes a range a fidelity: a mesh, a number of k-points, an annealing time."""

    target: Number
    """The value that is sought: only results at it count."""
    cost: tuple[Cost, Cost]
    """What one evaluation costs at the low and at the high end of the range; linear between."""


class Table(Part):
    """A table of designs and results."""

    table: Annotated[Text, Field(min_length=1, examples=["earlier.csv"])]
    """A CSV file, as `matloop backtest` takes it."""


def _check_earlier(value: Any) -> Any:
    if isinstance(value, Table) or (isinstance(value, str) and value):
        return value
    if not isinstance(value, dict):
        raise fault(
            "what is learnt from is the name of a campaign, or a table",
            "as in [first-campaign, {table: earlier.csv}]",
        )
    return value


Earlier = Annotated[str | Table, BeforeValidator(_check_earlier)]
"""The name of a campaign in the same database, or a table."""


def cost_in(cost: float | str, unit: str | None) -> float:
    """A cost in a unit; as it is where there is none. Raises `units.UnitError`."""
    value, given = cost_parts(cost)
    return value if unit is None or given is None else units.convert(value, given, unit)


def target_name(fidelities: Mapping[str, Fidelity]) -> str:
    """The fidelity that is sought."""
    return next((n for n, f in fidelities.items() if f.target), list(fidelities)[-1])


def cost_unit(fidelities: Mapping[str, Fidelity], axes: Mapping[str, Any]) -> str | None:
    """The unit in which costs are counted: that of what is sought. None = they have none."""
    if fidelities:
        return cost_parts(fidelities[target_name(fidelities)].cost)[1]
    for axis in axes.values():
        if getattr(axis, "fidelity", None) is not None:
            return cost_parts(axis.fidelity.cost[1])[1]
    return None


def fidelity_axes(axes: Mapping[str, Any]) -> dict[str, RangeAxis]:
    """The axes that are fidelities."""
    return {n: a for n, a in axes.items() if getattr(a, "fidelity", None) is not None}


def check_fidelities(draft: Draft) -> Iterator[Complaint]:
    """What is wrong with the fidelities of a spec, and with a budget of costs."""
    from campaigns.spec_checks import Complaint

    named, axes = draft.fidelities or {}, fidelity_axes(draft.axes)
    unit = cost_unit(named, draft.axes)
    if named:
        yield from _check_named(named, unit)
        for name in axes:
            loc = ("space", name, "fidelity")
            what = "the fidelities have names already: they are of one kind or the other"
            yield Complaint(loc, what, "remove one of the two", key=True)
    yield from _check_evaluator(draft, named)
    if (named or axes) and draft.acquisition in ("evolution", "substitution"):
        what = f"{draft.acquisition} has no surrogate to choose fidelities by"
        yield Complaint(("acquisition",), what, "remove it, or the fidelities")
    for name in list(axes)[1:]:
        what = f"{next(iter(axes))!r} is a fidelity already: there can be one such axis"
        yield Complaint(("space", name, "fidelity"), what, "remove one of them", key=True)
    for name, axis in axes.items():
        yield from _check_axis(name, axis, unit)
    if draft.budget is not None and draft.budget.cost is not None:
        yield from _check_budget(draft, named, axes, unit)


def _check_named(named: Mapping[str, Fidelity], unit: str | None) -> Iterator[Complaint]:
    from campaigns.spec_checks import Complaint

    if len(named) < 2:
        what = "a single fidelity: what is evaluated then needs none"
        yield Complaint(("fidelities",), what, "name two or more, or remove it", key=True)
        return
    targets = [n for n, f in named.items() if f.target]
    for name in targets[1:]:
        what = f"{targets[0]!r} is the target already"
        yield Complaint(("fidelities", name, "target"), what, "one fidelity is what is sought")
    sought = target_name(named)
    for name, fidelity in named.items():
        loc = ("fidelities", name, "cost")
        if (wrong := _kind(fidelity.cost, unit)) is not None:
            yield Complaint(loc, *wrong)
        elif name != sought and cost_in(fidelity.cost, unit) >= cost_in(named[sought].cost, unit):
            what = f"it costs as much as {sought!r}, which is what is sought: it is of no use"
            hint = "the last one is sought, or that with target: true"
            yield Complaint(loc, what, hint)


def _kind(cost: float | str, unit: str | None) -> tuple[str, str] | None:
    """What is wrong with the unit of a cost, where another has this one."""
    given = cost_parts(cost)[1]
    if given is None and unit is None:
        return None
    if given is None or unit is None:
        shown = unit or given
        return f"one cost is in {shown}, another is a plain number", "give all a unit, or none"
    if not units.compatible(given, unit):
        return f"one cost is in {given}, another in {unit}", "units of one kind: money or time"
    return None


def _check_evaluator(draft: Draft, named: Mapping[str, Fidelity]) -> Iterator[Complaint]:
    from campaigns.spec_checks import Complaint
    from campaigns.spec_evaluate import Each
    from campaigns.spec_evaluators import Potential

    if isinstance(draft.evaluate, Each):
        for name in draft.evaluate.each:
            if not named:
                hint = f"fidelities: {{{name}: {{cost: 1}}, ...}}"
                yield Complaint(("evaluate",), "the campaign has no fidelities", hint, key=True)
                break
            if name not in named:
                what, hint_of_name = no_such_fidelity(name, list(named))
                yield Complaint(("evaluate", name), what, hint_of_name, key=True)
        for name in named:
            if name not in draft.evaluate.each:
                what = f"nobody is named who answers at the fidelity {quoted(name)}"
                yield Complaint(("evaluate",), what, f"{name}: {{with: ...}}", key=True)
    if isinstance(draft.evaluate, Potential):
        odd = [name for name in named if name not in get_args(NetworkFidelity)]
        if odd:
            what = f"a potential has no fidelity {quoted(odd[0])}"
            hint = (
                "a property model may have "
                + ", ".join(get_args(NetworkFidelity))
                + f"; else name an evaluator for each, as in {odd[0]}: {{with: dft}}"
            )
            yield Complaint(("evaluate",), what, hint, key=True)


def _check_axis(name: str, axis: RangeAxis, unit: str | None) -> Iterator[Complaint]:
    from campaigns.spec_checks import Complaint

    assert axis.fidelity is not None
    for k, cost in enumerate(axis.fidelity.cost):
        if (wrong := _kind(cost, unit)) is not None:
            yield Complaint(("space", name, "fidelity", "cost", k), *wrong)
            return
    try:
        axis_fidelities(name, axis, unit)
    except ValueError as error:
        what = str(error).removeprefix(f"{name}: ")
        yield Complaint(("space", name, "fidelity"), what, "a fidelity saves half the cost or more")


def axis_fidelities(name: str, axis: RangeAxis, unit: str | None) -> Any:
    """An axis as a `loop.fidelities.AxisFidelities`. Raises `ValueError`."""
    from loop.fidelities import AxisFidelities

    assert axis.fidelity is not None
    low, high = (cost_in(c, unit) for c in axis.fidelity.cost)
    return AxisFidelities(
        name, axis.fidelity.target, *axis.range, (low, high), axis.log, axis.integer
    )


def _check_budget(
    draft: Draft, named: Mapping[str, Fidelity], axes: Mapping[str, RangeAxis], unit: str | None
) -> Iterator[Complaint]:
    from campaigns.spec_checks import Complaint

    assert draft.budget is not None
    assert draft.budget.cost is not None
    loc, cost = ("budget", "cost"), draft.budget.cost
    if not named and not axes:
        if not draft.unread:
            what = "what an evaluation costs is not said"
            hint = "count trials, or name fidelities with their costs"
            yield Complaint(loc, what, hint, key=True)
        return
    if (wrong := _kind(cost, unit)) is not None:
        yield Complaint(loc, *wrong)
        return
    try:
        top = 0.0
        if named:
            top = cost_in(named[target_name(named)].cost, unit)
        for name, axis in axes.items():
            top = axis_fidelities(name, axis, unit).target.cost
    except ValueError:
        return  # told of the axis
    if cost_in(cost, unit) < top:
        what = f"it does not pay for one evaluation of what is sought, {top:g}"
        yield Complaint(loc, what, f"at least {top:g}{f' {unit}' if unit else ''}")


def check_earlier(earlier: Sequence[str | Table], campaign: Any) -> Iterator[Complaint]:
    """What is wrong with the list of what is learnt from."""
    from campaigns.spec_checks import Complaint

    for k, one in enumerate(earlier):
        if one == campaign:
            what = "this is the campaign itself: it learns from its own results anyway"
            yield Complaint(("learn_from", k), what, "name another, or remove it")
        elif one in earlier[:k]:
            yield Complaint(("learn_from", k), "it is there twice", "remove one of them")


def no_such_fidelity(name: str, known: Sequence[str]) -> tuple[str, str | None]:
    """What to say of a name that is none of the fidelities, and a hint."""
    if not known:
        return "the campaign has no fidelities", "leave the column out"
    return f"there is no fidelity {quoted(name)}", did_you_mean(name, known)
