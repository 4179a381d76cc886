"""The parts of a spec, each as a pydantic model: what may be written where.

Here is what each part must be by itself. What the parts must be to each other is in `spec_checks`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from campaigns import units
from campaigns.bounds import NAME, BoundError, parse_bounds, parse_constraint
from campaigns.elements import SYMBOLS
from campaigns.errors import did_you_mean, quoted


def fault(
    what: str, hint: str | None = None, at: tuple[str | int, ...] = ()
) -> PydanticCustomError:
    """An error for a validator to raise: what is wrong, what would be right, and where below."""
    return PydanticCustomError("matloop", "{what}", {"what": what, "hint": hint, "at": at})


def _checked(check: Callable[[str], object]) -> AfterValidator:
    """A validator of text that raises a `fault` for what `check` raises."""

    def validate(text: str) -> str:
        try:
            check(text)
        except units.UnitError as error:
            raise fault(error.what, error.hint) from error
        except BoundError as error:
            raise fault(error.what, error.hint) from error
        except ValueError as error:
            raise fault(str(error)) from error
        return text

    return AfterValidator(validate)


# Scalars. Numbers are strict: no text, no booleans, no nan.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]
Unit = Annotated[
    Text,
    _checked(units.check_unit),
    Field(examples=["GPa", "g/cm^3", "eV/atom", "dimensionless"]),
]
Name = Annotated[Text, StringConstraints(pattern=f"^{NAME}$", max_length=64)]

_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def seconds(text: str) -> float:
    """A time limit such as `10 min` in seconds. Raises `ValueError` unless it is above zero."""
    value, unit = units.parse_quantity(text)
    if unit is None or not units.compatible(unit, "s"):
        raise ValueError(f"{quoted(text)} is not a time: write it as in '90 s', '10 min', '2 h'")
    if value <= 0:
        raise ValueError(f"{quoted(text)} is not above zero")
    return units.convert(value, unit, "s")


def memory_bytes(text: str) -> int:
    """A memory limit such as `4 GiB` in bytes. Raises `ValueError` unless it is 64 MiB or more."""
    # Not by pint, to which a byte is a pure number, so that "4 percent" would be memory too.
    match = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]+)\s*", text)
    if match is None or match[2] not in _BYTES:
        raise ValueError(f"{quoted(text)} is not an amount of memory: write it as in '4 GiB'")
    size = int(units.parse_number(match[1]) * _BYTES[match[2]])
    if size < 64 * 2**20:
        raise ValueError(f"{quoted(text)} is less than the 64 MiB that anything needs")
    return size


def cost_parts(cost: float | str) -> tuple[float, str | None]:
    """A cost and its unit, None where it is a plain number."""
    return (float(cost), None) if isinstance(cost, int | float) else units.parse_quantity(cost)


def _read_cost(value: Any) -> Any:
    hint = "a number, or one with a unit, as in 50 or 2 h"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise fault("a cost was wanted", hint)
    try:
        number, _ = cost_parts(value)
    except units.UnitError as error:
        raise fault(error.what, error.hint) from error
    except ValueError as error:
        raise fault(str(error), hint) from error
    if not (math.isfinite(number) and number > 0):
        raise fault(f"a cost is above zero, not {value}", hint)
    return value


Cost = Annotated[float | str, BeforeValidator(_read_cost), Field(examples=[50, "2 h"])]
Time = Annotated[Text, _checked(seconds), Field(examples=["90 s", "10 min", "2 h"])]
Memory = Annotated[Text, _checked(memory_bytes), Field(examples=["4 GiB", "800 MB"])]


def _check_element(symbol: str) -> None:
    if symbol not in SYMBOLS:
        raise BoundError(f"{quoted(symbol)} is not an element", did_you_mean(symbol, SYMBOLS))


Element = TypeAliasType(
    "Element",
    Annotated[Text, _checked(_check_element), Field(json_schema_extra={"enum": list(SYMBOLS)})],
)
Constraint = Annotated[
    Text,
    _checked(parse_constraint),
    Field(
        examples=[
            "formation_energy <= -0.3 eV/atom",
            "0 <= band_gap <= 2 eV",
            "a + b + c == 1",
            "2*a - b <= 3 K",
        ]
    ),
]


class Part(BaseModel):
    """A mapping in a spec: immutable, and without keys that mean nothing."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
    )


# Objectives


class Target(Part):
    """The value that a metric should have."""

    target: Number
    """The value wanted, in the metric's unit."""
    within: Annotated[Number, Field(gt=0)] | None = None
    """Distance from the target that is as good as none, in the metric's unit."""


class Level(Part):
    """The value whose contour is sought: which designs are above it, and which below."""

    level: Number
    """The value, in the metric's unit."""


_LEVEL = re.compile(r"\s*level\s*:?\s*(?P<level>\S+)\s*")
_TARGET = re.compile(r"\s*target\s*:?\s*(?P<target>\S+)(?:\s+within\s+(?P<within>\S+))?\s*")
_GOALS = ("maximize", "minimize", "target: 1.4 within 0.1", "level: 1.4")
_BRITISH = {"maximise": "maximize", "minimise": "minimize"}


def _read_goal(value: Any) -> Any:
    """Read what a person writes for a goal: a word, a text as in `_GOALS`, or a mapping."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, number),) = value.items()
        if kind in ("target", "level") and isinstance(number, str):
            value = f"{kind}: {number}"
    if not isinstance(value, str):
        return value
    if match := _TARGET.fullmatch(value) or _LEVEL.fullmatch(value):
        kind = next(iter(match.groupdict()))
        try:
            numbers = {k: units.parse_number(v) for k, v in match.groupdict().items() if v}
        except ValueError as error:
            shown = next(goal for goal in _GOALS if goal.startswith(kind))
            raise fault(str(error), f"as in {shown!r}, in the metric's unit") from error
        return numbers
    goal = _BRITISH.get(value, value)
    if goal not in ("maximize", "minimize"):
        raise fault(f"{quoted(value)} is not a goal", did_you_mean(value, _GOALS))
    return goal


def _goal_kind(value: Any) -> str:
    if isinstance(value, str):
        return "word"
    level = isinstance(value, Level) or (isinstance(value, dict) and "level" in value)
    return "Level" if level else "Target"


def _read_threshold(value: Any) -> Any:
    if isinstance(value, str):
        try:
            units.parse_quantity(value)
        except units.UnitError as error:
            raise fault(error.what, error.hint) from error
        except ValueError as error:
            raise fault(str(error), "as in 20 or 20 GPa") from error
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise fault("a threshold is a number, or a number with a unit", "as in 20 or 20 GPa")
    return value


Goal = Annotated[
    Annotated[Literal["maximize", "minimize"], Tag("word")]
    | Annotated[Target, Tag("Target")]
    | Annotated[Level, Tag("Level")],
    Discriminator(_goal_kind),
    BeforeValidator(
        _read_goal, json_schema_input_type=Literal["maximize", "minimize"] | Target | Level | str
    ),
]


class Objective(Part):
    """What is wanted of a metric."""

    goal: Goal
    """maximize, minimize, a target: {target: 1.4, within: 0.1}, or a level whose contour is
    sought: {level: 1.4}."""
    unit: Unit | None = None
    """The metric's unit in the whole campaign; what comes in another is converted."""
    threshold: Annotated[float | str, BeforeValidator(_read_threshold)] | None = None
    """The worst value still worth having (of a target: the largest distance from it), as a number
    in the metric's unit or with a unit of its own. Hypervolume counts from here."""


# Acquisition, screen, evaluator, budget, stop


Acquisition = Literal[
    "portfolio",
    "hedge",
    "improvement",
    "joint",
    "bound",
    "mean",
    "uncertainty",
    "thompson",
    "level-set",
    "evolution",
    "substitution",
]
"""How designs are chosen: the strategies of `loop.acquisition`, which this need not import."""


class Elements(Part):
    """Which elements may be used."""

    include: tuple[Element, ...] | None = None
    """These and no others."""
    exclude: tuple[Element, ...] = ()
    """All but these."""

    def model_post_init(self, context: Any, /) -> None:
        """Refuse rules that leave no element. Raises a pydantic error."""
        if self.include is not None:
            both = [e for e in self.exclude if e in self.include]
            if both:
                at = ("exclude", self.exclude.index(both[0]))
                raise fault(
                    f"{', '.join(both)} both included and excluded", "remove one of them", at
                )
            if not self.include:
                raise fault("no element is left", "leave `include` out to take all", ("include",))
        if not set(SYMBOLS) - set(self.exclude):
            raise fault("no element is left", "exclude fewer", ("exclude",))


def _check_prediction(text: str) -> None:
    if not parse_bounds(text):
        raise BoundError("it bounds no property", "as in formation_energy <= 0 eV/atom")


Prediction = Annotated[
    Text,
    _checked(_check_prediction),
    Field(examples=["formation_energy <= 0 eV/atom", "synthesizability >= 0.5"]),
]


class Screen(Part):
    """What a proposed crystal must be before it costs an evaluation."""

    elements: Elements = Elements()
    """Elements that may be used."""
    charge_neutral: bool = False
    """Only compositions whose oxidation states balance (and alloys of metals)."""
    max_atoms: Annotated[Whole, Field(ge=1)] | None = None
    """Largest number of atoms in the primitive cell."""
    predicted: tuple[Prediction, ...] = ()
    """Bounds on what predictors say of a crystal: docs/predictors.md."""
    steady: bool = True
    """Only designs that come back from their latent vectors as they are: they are nearer to rest,
    and far fewer of them fail to relax. A proposal takes somewhat longer."""


MOST_TRIALS = 10_000
"""Trials of a budget that counts costs."""


class Budget(Part):
    """How much may be spent."""

    trials: Annotated[Whole, Field(ge=1)] = 40
    """Trials in all."""
    batch: Annotated[Whole, Field(ge=1)] = 4
    """Trials proposed at once, at most as many as `trials`."""
    time: Time | None = None
    """Wall time of one run, after which nothing new is begun."""
    cost: Cost | None = None
    """What all evaluations together may cost, in the unit of the fidelities' costs. Without
    `trials`, only this counts."""
    then: Literal["end", "ask"] = "end"
    """What to do when it is spent: end, or pause and ask whether to spend as much again."""

    @model_validator(mode="before")
    @classmethod
    def _no_batch_above_few_trials(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("cost") is not None and "trials" not in data:
            data = data | {"trials": MOST_TRIALS}
        if isinstance(data, dict) and "batch" not in data and data.get("trials") in (1, 2, 3):
            return data | {"batch": data["trials"]}
        return data

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a batch that the budget cannot pay for. Raises a pydantic error."""
        if self.batch > self.trials:
            what = f"a batch of {self.batch} is more than the {self.trials} trials of the budget"
            raise fault(what, f"at most {self.trials}", ("batch",))


class Lease(Part):
    """How long a worker may be silent before its trial goes to another."""

    ttl: Time = "5 min"
    """Without a sign of life for so long, the trial is given to whoever asks next. A worker may ask
    for another time."""
    attempts: Annotated[Whole, Field(ge=1)] = 10
    """After so many workers in a row that were never heard of again, the trial is held until a
    person looks at it."""

    def seconds(self) -> float:
        """`ttl` in seconds."""
        return seconds(self.ttl)


class NoGain(Part):
    """What is too little to go on for. An empty mapping takes the defaults."""

    below: Annotated[Number, Field(gt=0)] = 0.01
    """Share of the spread of what was observed (its standard deviation)."""
    patience: Annotated[Whole, Field(ge=1)] = 2
    """Batches in a row that must have been expected to gain less."""
    cost: Annotated[Number, Field(gt=0)] | None = None
    """What one evaluation costs, in a currency of your own; with `worth`."""
    worth: Annotated[Number, Field(gt=0)] | None = None
    """What one unit of the objective is worth, in the same currency; with `cost`."""

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a cost without a worth, and the other way about. Raises a pydantic error."""
        if (self.cost is None) != (self.worth is None):
            given, other = ("cost", "worth") if self.worth is None else ("worth", "cost")
            raise fault(f"{given} says nothing without {other}", f"add {other}", (given,))


def _read_target_met(value: Any) -> Any:
    """Read whether, or which, targets end a campaign: true, false, or values by metric."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, dict):
        hint = "true, or values as in {bulk_modulus: 300 GPa}"
        raise fault("whether to stop when the target is met", hint)
    if not value:
        raise fault("no target is named", "as in {bulk_modulus: 300 GPa}, or true")
    for metric, target in value.items():
        try:
            _read_threshold(target)
        except PydanticCustomError as error:
            told = error.context or {}
            raise fault(str(told["what"]), told["hint"], (str(metric),)) from error
    return value


class Stop(Part):
    """When to stop before the budget is spent."""

    stalled_after: Annotated[Whole, Field(ge=1)] | None = None
    """Stop after so many batches in a row that brought nothing better; without it, never."""
    target_met: Annotated[
        bool | dict[str, float | str],
        BeforeValidator(_read_target_met),
        Field(examples=[True, {"bulk_modulus": "300 GPa"}]),
    ] = False
    """Stop at the first feasible design that meets every target: the objectives' tolerances and
    thresholds, or the values that are given here by metric."""
    no_gain: NoGain | None = None
    """Stop when no proposal is expected to bring an improvement that is worth it."""
    then: Literal["end", "ask"] = "end"
    """What to do when a rule says to stop: end, or pause and ask whether to go on."""
