"""From the axes and constraints of a spec to the design space that `loop` searches.

Constraints on parameters are exact. One on a single number narrows its axis; one on a sum stays.
Up to `Sums`, this loads nothing heavy: a spec is checked by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns import units
from campaigns.bounds import Bound, BoundError, Linear, Stated
from campaigns.errors import MatloopError, UsageError
from campaigns.spec_axes import (
    ELEMENTS,
    AnyAxis,
    ChoiceAxis,
    CompositionAxis,
    LatentAxis,
    PoolAxis,
    RangeAxis,
)
from campaigns.spec_resolve import bound_value, fix, narrow, no_number

if TYPE_CHECKING:
    import loop.space
    from generators.base import Generator


@dataclass(frozen=True)
class Coordinate:
    """A number of a design that a constraint may speak of.

    Attributes:
        axis: Its axis.
        part: Ingredient or column; None where the axis is the number.
        unit: Its unit.
        integer: Whether it is always whole.
    """

    axis: str
    part: str | None
    unit: str
    integer: bool = False

    @property
    def full(self) -> str:
        """The name by which it is known to `loop`."""
        return self.axis if self.part is None else f"{self.axis}.{self.part}"


def columns(axis: PoolAxis) -> tuple[str, ...]:
    """Of a pool; none where its file cannot be read, which is told where it is opened."""
    if axis.columns is not None:
        return axis.columns
    try:
        return _head(axis.pool, Path(axis.pool).stat().st_mtime_ns)
    except OSError:
        return ()


@lru_cache(maxsize=64)  # each name in a constraint asks
def _head(pool: str, _changed: int) -> tuple[str, ...]:
    from loop.axes.pool_reader import PoolError, PoolReader

    try:
        return tuple(PoolReader(Path(pool), None).names())
    except PoolError:
        return ()


def coordinates(axes: Mapping[str, AnyAxis]) -> dict[str, list[Coordinate]]:
    """By each name that a constraint may use, what it may mean."""
    found: dict[str, list[Coordinate]] = {}
    for name, axis in axes.items():
        if isinstance(axis, RangeAxis):
            found[name] = [Coordinate(name, None, axis.unit, axis.integer)]
        elif isinstance(axis, ChoiceAxis):
            whole = all(isinstance(c, int) for c in axis.choice)
            found[name] = [Coordinate(name, None, "dimensionless", whole)]
        parts: tuple[str, ...] = ()
        unit = "dimensionless"
        if isinstance(axis, CompositionAxis):
            parts, unit = axis.composition, axis.unit
        elif isinstance(axis, PoolAxis):
            parts = columns(axis)
        for part in parts:
            found.setdefault(f"{name}.{part}", []).append(Coordinate(name, part, unit))
            if part not in axes:
                found.setdefault(part, []).append(Coordinate(name, part, unit))
    return found


def parameters(axes: Mapping[str, AnyAxis], names: Iterable[str]) -> set[str]:
    """Those of some names that are parameters of a design: axes, ingredients, columns."""
    known = coordinates(axes)
    return {
        name
        for name in names
        if name in axes or name in known or ("." in name and name.partition(".")[0] in axes)
    }


def find(axes: Mapping[str, AnyAxis], name: str) -> Coordinate:
    """The number that a name means.

    Raises:
        BoundError: It has no number, or may mean more than one.
    """
    found = coordinates(axes).get(name, [])
    if len(found) == 1:
        axis = axes[found[0].axis]
        if isinstance(axis, ChoiceAxis) and any(isinstance(c, str) for c in axis.choice):
            raise no_number(axis, name)
        return found[0]
    if found:
        told = " or ".join(c.full for c in found)
        raise BoundError(f"{name!r} may be {told}", f"write {found[0].full}")
    if name in axes:
        raise no_number(axes[name], name)
    owner, _, part = name.partition(".")
    axis_ = axes.get(owner)
    if isinstance(axis_, PoolAxis) and part and not columns(axis_):
        return Coordinate(owner, part, "dimensionless")
    if isinstance(axis_, CompositionAxis):
        raise BoundError(
            f"{owner} has no ingredient {part!r}", f"one of: {', '.join(axis_.composition)}"
        )
    if isinstance(axis_, PoolAxis):
        raise BoundError(
            f"{part!r} is not one of the columns", f"one of: {', '.join(columns(axis_))}"
        )
    raise BoundError(f"{name!r} is not a number, and no parameter", None)


@dataclass
class Sums:
    """The axes of a spec, as its constraints leave them.

    Attributes:
        axes: By name.
        sums: What remains of the constraints: coefficients by full name, how they compare, the
            bound, and the text.
    """

    axes: dict[str, AnyAxis]
    sums: list[tuple[dict[str, float], str, float, str]] = field(default_factory=list)

    def take(self, stated: Stated, text: str) -> None:
        """Take in a constraint on parameters.

        Raises:
            BoundError: It says nothing of the axes, adds what cannot be added, or leaves nothing.
        """
        if isinstance(stated, Linear) and len(stated.terms) == 1:
            (name, factor), value = stated.terms[0], stated.value / stated.terms[0][1]
            if stated.op == "==":
                return self._fix(Linear(((name, 1.0),), "==", value, stated.unit, text), text)
            way = stated.op if factor > 0 else ("<=" if stated.op == ">=" else ">=")
            stated = Bound(name, way, value, stated.unit, stated.strict)
        if isinstance(stated, Linear):
            self.sums.append((*self._sum(stated), text))
            return None
        at = find(self.axes, stated.name)
        axis = self.axes[at.axis]
        if isinstance(axis, PoolAxis):
            value = bound_value(stated, at.unit, said=True)
            self.sums.append(({at.full: 1.0}, stated.op, value, text))
        else:
            self.axes[at.axis] = narrow(axis, stated, at.part)
        return None

    def _fix(self, stated: Linear, text: str) -> None:
        at = find(self.axes, stated.terms[0][0])
        value = bound_value(Bound(at.full, "<=", stated.value, stated.unit), at.unit, said=True)
        if isinstance(self.axes[at.axis], PoolAxis):
            self.sums.append(({at.full: 1.0}, "==", value, text))
        else:
            self.axes[at.axis] = fix(self.axes[at.axis], at.full, value, at.part)

    def _sum(self, stated: Linear) -> tuple[dict[str, float], str, float]:
        """Coefficients, comparison and bound of a sum, each number in its axis' own unit."""
        found = [(find(self.axes, name), factor) for name, factor in stated.terms]
        pools = {at.axis for at, _ in found if isinstance(self.axes[at.axis], PoolAxis)}
        if pools and len({at.axis for at, _ in found}) > 1:
            what = (
                f"{' and '.join(sorted(pools))} is a pool: its columns go with no other parameter"
            )
            raise BoundError(what, "a constraint on a pool is on its columns alone")
        unit = self._unit(stated, [at for at, _ in found])
        coefficients: dict[str, float] = {}
        bound = stated.value
        for at, factor in found:
            try:
                zero, one = (units.convert(x, at.unit, unit) for x in (0.0, 1.0))
            except units.UnitError as error:
                raise BoundError(f"{at.full} is in {at.unit}: {error.what}", error.hint) from error
            coefficients[at.full] = coefficients.get(at.full, 0.0) + factor * (one - zero)
            bound -= factor * zero
        whole = all(at.integer for at, _ in found) and all(not c % 1 for c in coefficients.values())
        if stated.strict and whole:
            bound = math.ceil(bound) - 1 if stated.op == "<=" else math.floor(bound) + 1
        return coefficients, stated.op, bound

    def _unit(self, stated: Linear, found: list[Coordinate]) -> str:
        """The unit that a sum is in: the one it says, else that of its parameters."""
        if stated.unit is not None:
            return stated.unit
        first = found[0]
        for at in found[1:]:
            if at.unit == first.unit:
                continue
            if not units.compatible(at.unit, first.unit):
                what = f"{first.full} is in {first.unit} and {at.full} in {at.unit}"
                raise BoundError(
                    f"{what}: they cannot be added",
                    "add like to like: numbers that are to be added need units of one kind",
                )
            if stated.value:
                what = f"a unit is missing: {first.full} is in {first.unit}, {at.full} in {at.unit}"
                raise BoundError(what, f"write {stated.value:g} {first.unit}?")
        return first.unit


# As `loop` has it


def build(held: Sums, metrics: Sequence[str] = ()) -> loop.space.DesignSpace:
    """The design space of a spec, for surrogates of these metrics.

    Raises:
        MatloopError: A generator, a pool or a table of descriptors cannot be read.
        loop.space.Infeasible: The constraints exclude every design.
        ValueError: An axis or a constraint makes no sense.
    """
    from loop.space import DesignSpace, LinearConstraint

    axes = tuple(loop_axis(name, axis, metrics) for name, axis in held.axes.items())
    constraints = tuple(
        LinearConstraint(coefficients, op, bound, text)  # type: ignore[arg-type]
        for coefficients, op, bound, text in held.sums
    )
    return DesignSpace(axes, constraints)


def design_space(held: Sums, metrics: Sequence[str] = ()) -> loop.space.DesignSpace:
    """The same for who is not told where in the spec it is wrong.

    Raises:
        UsageError: The constraints exclude every design.
        MatloopError: A generator, a pool or a table of descriptors cannot be read.
    """
    from loop.space import Infeasible

    try:
        return build(held, metrics)
    except Infeasible as error:
        raise UsageError(
            "the constraints exclude everything",
            where="constraints",
            why=str(error),
            hint="loosen one of them, or the bounds of the axes",
        ) from error
    except ValueError as error:
        raise UsageError(
            "the design space makes no sense", where="space", why=str(error)
        ) from error


def stand_in(axis: AnyAxis) -> AnyAxis:
    """An axis that needs nothing from outside the spec: for who looks at outcomes only."""
    if isinstance(axis, LatentAxis | PoolAxis):
        return RangeAxis(range=(0.0, 1.0))
    return undescribed_axis(axis)


def undescribed_axis(axis: AnyAxis) -> AnyAxis:
    """An axis of categories without their descriptors."""
    if isinstance(axis, ChoiceAxis | CompositionAxis):
        return axis.model_copy(update={"descriptors": None})
    return axis


def _latent(name: str, axis: LatentAxis, metrics: Sequence[str]) -> loop.space.LatentAxis:
    from campaigns.spec_environment import load_latent
    from generators.crystals import embedding
    from generators.crystals.generator import CrystalGenerator
    from loop.axes.latent import Embedding, LatentVector
    from loop.space import LatentAxis

    generator = load_latent(axis.latent)
    suits, asked = embedding.PredictedProperties.suits, axis.embed
    if asked is not None and "predicted" in asked and not suits(generator):
        raise UsageError(
            f"what predictors tell does not go with the generator {axis.latent}",
            where=f"space: {name}: embed",
            why="it does not foretell the same properties",
            hint="leave `predicted` out",
        )
    kinds: dict[str, Callable[[Generator], Embedding]] = {
        "predicted": embedding.PredictedProperties,
        "latent": LatentVector,
        "matgl": embedding.MatglEmbedding,
        "chgnet": embedding.ChgnetEmbedding,
    }
    wanted: list[str] = list(asked or ())
    if asked is None:
        wanted += ["predicted"] if suits(generator) else []
        if isinstance(generator, CrystalGenerator):
            told = {f"predicted_{metric}" for metric in metrics} <= set(generator.feature_names)
            wanted += [] if told else ["matgl"]  # of what nothing foretells a summary tells little
    embeddings = tuple(kinds[k](generator) for k in dict.fromkeys(wanted))
    return LatentAxis(name, _conditioned(name, generator, axis), embeddings)


def _conditioned(name: str, generator: Generator, axis: LatentAxis) -> Generator:
    """The generator, held to the conditions of the axis."""
    from generators.crystals.conditioned import Conditioned
    from generators.crystals.conditions import ConditionError
    from generators.crystals.generator import CrystalGenerator

    if not axis.conditions:
        return generator
    where = f"space: {name}: conditions"
    if not isinstance(generator, CrystalGenerator):
        raise UsageError(
            f"the generator {axis.latent} takes no conditions",
            where=where,
            hint="a recipe says in its own keys what is drawn",
        )
    try:
        return Conditioned(generator, axis.conditions)
    except ConditionError as error:
        raise UsageError("the conditions cannot be met", where=where, why=str(error)) from error


def loop_axis(name: str, axis: AnyAxis, metrics: Sequence[str] = ()) -> loop.space.Axis:
    """One axis as `loop` has it, for surrogates of these metrics.

    Raises:
        MatloopError: A file of it cannot be read.
    """
    import loop.space

    if isinstance(axis, RangeAxis):
        low, high = axis.range
        # Of fidelities, the search looks for what is sought; the loop then chooses among them.
        fixed = axis.fixed if axis.fidelity is None else axis.fidelity.target
        return loop.space.RangeAxis(name, low, high, axis.log, axis.integer, axis.unit, fixed)
    if isinstance(axis, LatentAxis):
        return _latent(name, axis, metrics)
    try:
        if isinstance(axis, ChoiceAxis):
            return _choice(name, axis)
        if isinstance(axis, CompositionAxis):
            return _composition(name, axis)
        return _pool(name, axis)
    except (OSError, ValueError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise MatloopError(
            f"the axis {name!r} cannot be read", where="space", why=" ".join(told.split())
        ) from error


def _choice(name: str, axis: ChoiceAxis) -> loop.space.ChoiceAxis:
    from loop.space import ChoiceAxis as Choices

    values, retired = axis.choice, axis.retired
    if axis.fixed is not None:
        retired += tuple(c for c in values if c != axis.fixed)
        values = tuple(c for c in values if c == axis.fixed)
    return Choices(name, values, _described(axis.descriptors, values + retired, name), retired)


def _composition(name: str, axis: CompositionAxis) -> loop.space.CompositionAxis:
    from loop.space import CompositionAxis as Composition

    ingredients = axis.composition + axis.retired
    return Composition(
        name,
        ingredients,
        at_most=axis.at_most,
        bounds={**axis.bounds, **dict.fromkeys(axis.retired, (0.0, 0.0))},
        total=axis.total,
        step=axis.step,
        unit=axis.unit,
        descriptors=_described(axis.descriptors, ingredients, name),
    )


def _pool(name: str, axis: PoolAxis) -> loop.space.PoolAxis:
    from loop.axes.pool_table import open_pool
    from loop.space import PoolAxis as Pool

    table = open_pool(axis.pool, axis.columns)
    texts = {c: t for c, t in zip(table.columns, table.categories, strict=True) if t}
    described: dict[str, loop.space.Descriptors] = {}
    given = axis.descriptors
    if given is not None and not texts:
        raise ValueError(f"{name}: descriptors are for columns of text, and the table has none")
    if isinstance(given, dict) and set(given) <= set(table.columns):
        for column, one in given.items():
            found = _described(one, texts.get(column, ()), column)
            if found is not None:
                described[column] = found
    elif given is not None:
        # One table for all: of a column none of whose texts it has, it does not speak.
        for column, categories in texts.items():
            try:
                found = _described(given, categories, column)
            except ValueError:
                if given == ELEMENTS:
                    continue
                raise
            if found is not None and any(c in found for c in categories):
                described[column] = found
        if not described:
            raise ValueError(f"{name}: the descriptors describe none of {', '.join(texts)}")
    return Pool(name, table, described)


def _described(
    given: Any, categories: tuple[Any, ...], column: str
) -> loop.space.Descriptors | None:
    from loop.axes.descriptors import Descriptors, element_descriptors, read_descriptors

    if given is None:
        return None
    if given == ELEMENTS:
        return element_descriptors([str(c) for c in categories])
    if isinstance(given, str):
        return read_descriptors(given, column)
    return Descriptors.of(given)
