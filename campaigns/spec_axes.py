"""The axes of a design space, each as a pydantic model."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)

from campaigns.errors import did_you_mean, quoted
from campaigns.spec_fidelity import AxisFidelity
from campaigns.spec_models import Number, Part, Text, Unit, Whole, fault

ELEMENTS = "elements"
"""What `descriptors` says where categories are elements or formulas."""


class LatentAxis(Part):
    """An axis that is the latent space of a generator."""

    latent: Annotated[Text, Field(min_length=1, examples=["crystals"])]
    """A generator's name (`matloop generators list` shows them), or the path of one."""
    conditions: dict[str, Any] | None = None
    """What is asked of each design, as `matloop generators sample --conditions` takes it."""
    embed: tuple[Literal["predicted", "latent", "matgl", "chgnet"], ...] | None = None
    """What the surrogate sees of a decoded design beside the generator's summary of it: properties
    as the predictor matgl has them, its latent vector, the embedding of it by a graph network (that
    predictor, or CHGNet). By default `[predicted]`, of a generator that has those properties, and
    `matgl` too where a metric is none of what a trained generator foretells."""


def _check_range(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if low >= high:
        hint = f"[{high:g}, {low:g}]?" if low > high else "leave the axis out, or widen it"
        raise fault(f"the range from {low:g} to {high:g} holds nothing to choose", hint)
    return bounds


class RangeAxis(Part):
    """An axis of numbers between two bounds."""

    range: Annotated[
        tuple[Number, Number], AfterValidator(_check_range), Field(examples=[[900, 1500]])
    ]
    """Lowest and highest value."""
    unit: Unit = "dimensionless"
    """Unit of the bounds."""
    log: bool = False
    """Search on a logarithmic scale; both bounds are above zero."""
    integer: bool = False
    """Whole numbers only."""
    fixed: Number | None = None
    """The only value that is proposed from now on; what was tried before still informs."""
    default: Number | None = None
    """Of an axis that is added in mid-campaign: the value that the trials before it had."""
    fidelity: AxisFidelity | None = None
    """Where its values are fidelities: the one that is sought, and what an evaluation costs."""

    def model_post_init(self, context: Any, /) -> None:
        """Refuse bounds that do not go with the scale. Raises a pydantic error."""
        low, high = self.range
        if self.log and low <= 0:
            raise fault(
                f"a logarithmic scale cannot begin at {low:g}", "begin above zero", ("range", 0)
            )
        if self.integer and (low % 1 or high % 1):
            raise fault("whole numbers need whole bounds", None, ("range",))
        if self.fixed is not None and not low <= self.fixed <= high:
            raise fault(f"{self.fixed:g} is not from {low:g} to {high:g}", None, ("fixed",))
        if self.fidelity is not None:
            sought = self.fidelity.target
            if not low <= sought <= high:
                what = f"{sought:g} is not from {low:g} to {high:g}"
                raise fault(what, None, ("fidelity", "target"))
            if self.integer and sought % 1:
                raise fault(f"{sought:g} is not a whole number", None, ("fidelity", "target"))
            if self.fixed is not None:
                what = "the target of a fidelity is the value that is sought: it needs no other"
                raise fault(what, "remove `fixed`", ("fixed",))
        for key, value in (("fixed", self.fixed), ("default", self.default)):
            if value is not None and self.integer and value % 1:
                raise fault(f"{value:g} is not a whole number", None, (key,))
        if self.default is not None and self.log and self.default <= 0:
            raise fault(f"a logarithmic scale has no {self.default:g}", None, ("default",))


def _check_choice(value: Any) -> Any:
    if isinstance(value, bool):
        raise fault("true and false are no choices", "put quotes around them to make them text")
    if not isinstance(value, str | int | float) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise fault("a choice is text or a number")
    return value


Choice: TypeAlias = Annotated[str | int | float, BeforeValidator(_check_choice)]


def _check_descriptors(value: Any) -> Any:
    """Say what descriptors are, before pydantic says which of two types they are not."""
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, dict) or not value:
        raise fault(
            "descriptors are the path of a CSV file, the word elements, or a mapping",
            "as in {water: {polarity: 1.0}, ethanol: {polarity: 0.65}}",
        )
    first: dict[Any, Any] | None = None
    for category, numbers in value.items():
        if not isinstance(numbers, dict) or not numbers:
            what = f"the descriptors of {quoted(category)} are no mapping"
            raise fault(what, "as in {polarity: 1.0}", (category,))
        first = first or numbers
        if set(numbers) != set(first):
            different = sorted(map(str, set(numbers) ^ set(first)))[0]
            raise fault(f"not every category has the descriptor {different!r}", None, (category,))
        for name, number in numbers.items():
            bad = isinstance(number, bool) or not isinstance(number, int | float)
            if bad or not math.isfinite(number):
                what = f"{quoted(number)} is not a finite number"
                raise fault(what, None, (category, name))
    return value


Described: TypeAlias = Annotated[
    str | dict[str, dict[str, float]],
    BeforeValidator(_check_descriptors),
    Field(examples=["elements", "solvents.csv", {"water": {"polarity": 1.0}}]),
]


def undescribed(descriptors: Any, categories: tuple[Any, ...]) -> list[str]:
    """Categories that a mapping of descriptors leaves out; of a file nothing is known here."""
    if not isinstance(descriptors, dict):
        return []
    known = {str(category).strip() for category in descriptors}
    return [str(c) for c in categories if str(c).strip() not in known]


class ChoiceAxis(Part):
    """An axis of a few values without an order."""

    choice: Annotated[tuple[Choice, ...], Field(examples=[["air", "argon", "hydrogen"]])]
    """Two or more different values: text, or numbers."""
    descriptors: Described | None = None
    """Numbers that describe the values, so that like ones inform each other: a CSV file (the value
    first, a column for each descriptor), elements (the values are elements or formulas), or a
    mapping."""
    fixed: Choice | None = None
    """The only value that is proposed from now on; what was tried before still informs."""
    default: Choice | None = None
    """Of an axis that is added in mid-campaign: the value that the trials before it had."""
    retired: tuple[Choice, ...] = ()
    """Values that were removed in mid-campaign; matloop fills this in."""

    def model_post_init(self, context: Any, /) -> None:
        """Refuse too few values, and one twice. Raises a pydantic error."""
        if len(self.choice) < 2 and not (self.choice and self.retired):
            count = "a single value" if self.choice else "no value"
            raise fault(f"a choice with {count}", "give two values or more", ("choice",))
        if len({isinstance(value, str) for value in self.choice + self.retired}) > 1:
            raise fault(
                "text and numbers in one choice", "put quotes around the numbers", ("choice",)
            )
        for index, value in enumerate(self.choice):
            if value in self.choice[:index]:
                raise fault(f"{quoted(value)} is there twice", None, ("choice", index))
        for index, value in enumerate(self.retired):
            if value in self.choice + self.retired[:index]:
                raise fault(f"{quoted(value)} is there twice", None, ("retired", index))
        if self.fixed is not None and self.fixed not in self.choice:
            hint = did_you_mean(str(self.fixed), map(str, self.choice))
            raise fault(f"{quoted(self.fixed)} is not one of the choice", hint, ("fixed",))
        if self.default is not None and self.default not in self.choice + self.retired:
            hint = did_you_mean(str(self.default), map(str, self.choice))
            raise fault(f"{quoted(self.default)} is not one of the choice", hint, ("default",))
        if missing := undescribed(self.descriptors, self.choice):
            raise fault(f"no descriptors of {', '.join(missing)}", None, ("descriptors",))


Ingredient = Annotated[
    Text,
    # What a column's name and a constraint can carry.
    StringConstraints(pattern=r"^[^()\[\],;\"'\s:=<>]{1,40}$"),
]
Amount = Annotated[Number, Field(ge=0)]


class CompositionAxis(Part):
    """An axis of amounts of some ingredients that add up to a total."""

    composition: Annotated[tuple[Ingredient, ...], Field(examples=[["Fe", "Co", "Ni", "Cr"]])]
    """The ingredients: elements, or anything else that is mixed."""
    at_most: Annotated[Whole, Field(ge=1)] | None = None
    """How many ingredients may be used at once; without it, all."""
    bounds: Annotated[dict[str, tuple[Amount, Amount]], Field(default_factory=dict)]
    """Smallest and largest amount of an ingredient; of those not named, none to all."""
    total: Annotated[Number, Field(gt=0)] = 1.0
    """What the amounts add up to: 1, or 100 for percent."""
    step: Annotated[Number, Field(gt=0)] | None = None
    """Amounts are multiples of it; without it, any amount."""
    unit: Unit = "dimensionless"
    """Unit of the amounts."""
    descriptors: Described | None = None
    """Numbers that describe the ingredients; a composition has their mean. As of a choice."""
    default: dict[str, Amount] | None = None
    """Of an axis that is added in mid-campaign: the composition that the trials before it had."""
    retired: tuple[Ingredient, ...] = ()
    """Ingredients that were removed in mid-campaign; matloop fills this in."""

    def model_post_init(self, context: Any, /) -> None:
        """Refuse what leaves no composition. Raises a pydantic error."""
        if len(self.composition) < 2:
            raise fault("a composition of one", "give two ingredients or more", ("composition",))
        for index, name in enumerate(self.composition):
            if name in self.composition[:index]:
                raise fault(f"{quoted(name)} is there twice", None, ("composition", index))
        if self.at_most is not None and self.at_most > len(self.composition):
            what = f"{self.at_most} of {len(self.composition)} ingredients"
            raise fault(what, f"at most {len(self.composition)}", ("at_most",))
        for name, (low, high) in self.bounds.items():
            if name not in self.composition:
                hint = did_you_mean(name, self.composition)
                raise fault(f"{quoted(name)} is no ingredient", hint, ("bounds", name))
            if not low <= high <= self.total * (1 + 1e-9):
                what = f"{low:g} to {high:g} is not within 0 to the total, {self.total:g}"
                raise fault(what, None, ("bounds", name))
        if self.step is not None:
            parts = self.total / self.step
            if round(parts) < 1 or abs(parts - round(parts)) > 1e-6 * parts:
                raise fault(f"{self.step:g} does not divide {self.total:g}", None, ("step",))
        self.check_bounds()
        if self.default is not None:
            if unknown := set(self.default) - set(self.composition + self.retired):
                raise fault(f"{sorted(unknown)[0]!r} is no ingredient", None, ("default",))
            amount = math.fsum(self.default.values())
            if abs(amount / self.total - 1) > 0.005:
                what = f"it adds up to {amount:g}, not to {self.total:g}"
                raise fault(what, None, ("default",))
        if missing := undescribed(self.descriptors, self.composition):
            raise fault(f"no descriptors of {', '.join(missing)}", None, ("descriptors",))

    def check_bounds(self) -> None:
        """Refuse bounds that leave no composition. Raises a pydantic error."""
        whole = (0.0, self.total)
        pairs = [self.bounds.get(name, whole) for name in self.composition]
        slip = 1e-9 * self.total
        if sum(low for low, _ in pairs) > self.total + slip:
            what = f"the smallest amounts add up to more than the total, {self.total:g}"
            raise fault(what, None, ("bounds",))
        used = [high for low, high in pairs if low > 0]
        others = sorted((high for low, high in pairs if low <= 0), reverse=True)
        most = len(pairs) if self.at_most is None else self.at_most
        if len(used) > most:
            what = f"{len(used)} ingredients may not be none, and only {most} may be used"
            raise fault(what, None, ("at_most",))
        if sum(used) + sum(others[: most - len(used)]) < self.total - slip:
            of = f" of {most} ingredients" if most < len(pairs) else ""
            what = f"the largest amounts{of} add up to less than the total, {self.total:g}"
            raise fault(what, None, ("bounds",))


def _check_columns(columns: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if columns is not None and not columns:
        raise fault("no column", "name one, or leave `columns` out to take all")
    for index, name in enumerate(columns or ()):
        if name in (columns or ())[:index]:
            raise fault(f"{quoted(name)} is there twice", None, (index,))
        if name == "row":
            raise fault("a column cannot be called 'row'", "rename it in the table", (index,))
    return columns


def _check_pool_descriptors(value: Any) -> Any:
    """One table for all columns of text, or a mapping from a column to its own."""
    if not isinstance(value, dict) or not value:
        return _check_descriptors(value)
    inner = list(value.values())
    by_column = [
        isinstance(v, str) or (isinstance(v, dict) and any(isinstance(n, dict) for n in v.values()))
        for v in inner
    ]
    if not any(by_column):
        return _check_descriptors(value)
    for described in inner:
        _check_descriptors(described)
    return value


class PoolAxis(Part):
    """An axis whose values are the rows of a table: designs that exist."""

    pool: Annotated[Text, Field(min_length=1, examples=["table.csv"])]
    """The table: CSV (`.csv`, `.csv.gz`), Parquet, or numbers as `.npy` or `.npz`."""
    columns: Annotated[
        tuple[Text, ...] | None, AfterValidator(_check_columns), Field(examples=[["a", "b", "c"]])
    ] = None
    """The columns that describe a design; without it, all."""
    descriptors: (
        Annotated[str | dict[str, str | dict[str, Any]], BeforeValidator(_check_pool_descriptors)]
        | None
    ) = None
    """Numbers that describe the texts in columns of text: one table for all of them, or a mapping
    from a column to its descriptors."""
    default: Annotated[Whole, Field(ge=0)] | None = None
    """Of an axis that is added in mid-campaign: the row, from 0, that the trials before it had."""


_KINDS: dict[str, type[Part]] = {
    "latent": LatentAxis,
    "range": RangeAxis,
    "choice": ChoiceAxis,
    "composition": CompositionAxis,
    "pool": PoolAxis,
}


def _axis_kind(value: Any) -> str | None:
    if isinstance(value, Part):
        return type(value).__name__
    kinds = [kind for kind in _KINDS if isinstance(value, dict) and kind in value]
    return _KINDS[kinds[0]].__name__ if len(kinds) == 1 else None


def _check_axis(value: Any) -> Any:
    """Say what a kind of axis is, before pydantic says which of the models it is not."""
    if isinstance(value, Part):
        return value
    if not isinstance(value, dict):
        raise fault("an axis is a mapping", "as in {latent: crystals} or {range: [0, 1], unit: K}")
    kinds = [kind for kind in _KINDS if kind in value]
    if len(kinds) > 1:
        raise fault(f"an axis cannot be {' and '.join(kinds)}", "make two axes of it", (kinds[1],))
    if not kinds:
        hints = [
            hint for key in value if (hint := did_you_mean(str(key), _KINDS)) and "mean" in hint
        ]
        known = ", ".join(list(_KINDS)[:-1])
        raise fault("of which kind is this axis?", (hints or [f"{known} or pool"])[0])
    return value


Axis = Annotated[
    Annotated[LatentAxis, Tag("LatentAxis")]
    | Annotated[RangeAxis, Tag("RangeAxis")]
    | Annotated[ChoiceAxis, Tag("ChoiceAxis")]
    | Annotated[CompositionAxis, Tag("CompositionAxis")]
    | Annotated[PoolAxis, Tag("PoolAxis")],
    Discriminator(_axis_kind),
    BeforeValidator(_check_axis),
]

AnyAxis: TypeAlias = LatentAxis | RangeAxis | ChoiceAxis | CompositionAxis | PoolAxis
