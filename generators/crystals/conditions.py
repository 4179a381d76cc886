"""What is asked of crystals that a generator draws."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from pymatgen.core import Composition, Element

from generators.crystals.symmetry import space_group

SYSTEMS = (
    "triclinic",
    "monoclinic",
    "orthorhombic",
    "tetragonal",
    "trigonal",
    "hexagonal",
    "cubic",
)
_LAST = (2, 15, 74, 142, 167, 194, 230)  # the last space group of each system
_MOST_GUIDANCE = 20.0
_MOST_TEMPERATURE = 2.0


class ConditionError(ValueError):
    """A condition that means nothing, or that others contradict."""


def crystal_system(number: int) -> int:
    """Index in `SYSTEMS`, from 1, of a space group; 0 of no group."""
    return 0 if number == 0 else 1 + next(i for i, last in enumerate(_LAST) if number <= last)


@dataclass(frozen=True)
class Conditions:
    """Conditions on a crystal; None (or empty) where anything will do.

    All but the properties, the source, guidance, temperature and steadiness are hard: what does not
    meet them is not returned. Properties are wishes that the draws lean to.

    Attributes:
        composition: A formula, up to a factor: `Fe2O3` takes Fe4O6.
        chemical_system: These elements, all of them, and no others.
        elements: No others than these.
        contains: These among others.
        space_group: Number, 1 to 230.
        crystal_system: One of `SYSTEMS`.
        atoms: Atoms in the primitive cell.
        max_atoms: Atoms in the primitive cell at most.
        properties: Wanted values, in the unit of the generator's card.
        source: A data set of the generator's card, whose kind of crystals is wanted.
        guidance: How strongly the draws lean to what is asked: 1 is as learnt; more gives fewer
            kinds that meet it more often.
        temperature: How far draws stray from crystals that are known: 1 is as those do among each
            other, less gives fewer kinds nearer to rest; None: the generator's own.
        balanced: Whether charges must balance by smact's rule (`generators.crystals.balance`); a
            composition that is asked for is taken as it is.
        steady: Whether a crystal must come back from its latent vector as it is, see
            `Generator.steady`. It is a wish: where too few do, others are taken, the nearest first.
    """

    composition: str | None = None
    chemical_system: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    space_group: int | None = None
    crystal_system: str | None = None
    atoms: int | None = None
    max_atoms: int | None = None
    properties: Mapping[str, float] = field(default_factory=dict)
    source: str | None = None
    guidance: float = 1.5
    temperature: float | None = None
    balanced: bool = True
    steady: bool = True

    def __post_init__(self) -> None:
        """Refuse what means nothing or contradicts itself. Raises `ConditionError`."""
        must, may = set(self.required), self.allowed
        if may is not None and not must <= may:
            raise ConditionError(
                "one condition asks for elements that another leaves out: "
                f"{', '.join(sorted(must - may))}"
            )
        if self.space_group is not None and self.crystal_system is not None:
            system = SYSTEMS[crystal_system(self.space_group) - 1]
            if system != self.crystal_system:
                raise ConditionError(
                    f"space group {self.space_group} is {system}, not {self.crystal_system}"
                )
        if self.atoms is not None and self.max_atoms is not None and self.atoms > self.max_atoms:
            raise ConditionError(f"{self.atoms} atoms are more than at most {self.max_atoms}")
        limit = self.atoms if self.atoms is not None else self.max_atoms
        least = len(must) if self.composition is None else self.formula_atoms
        if limit is not None and least > limit:
            what = self.composition or "-".join(sorted(must))
            raise ConditionError(f"{limit} atoms cannot hold {what}")
        if self.atoms is not None and self.composition and self.atoms % least:
            raise ConditionError(
                f"{self.atoms} atoms are no multiple of the {least} of {self.composition}"
            )

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Conditions:
        """Conditions from JSON-able data, as a person writes them.

        Elements may be text (`Li-Fe-O`, `Li, Fe, O`) or a list, a space group its number or symbol.

        Raises:
            ConditionError: With what is wrong.
        """
        known = [f.name for f in fields(cls)]
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
                raise ConditionError(f"there are no conditions called {key!r}; {hint}")
        return cls(**{k: _READERS[k](v) for k, v in data.items() if v is not None})

    @classmethod
    def of_search(cls, data: Mapping[str, Any]) -> Conditions:
        """As `parse`, conditions on all that a search decodes.

        Charges need balance only where that is said, and which crystals are steady enough is not
        for the conditions to say: the screen of a search has rules of both.

        Raises:
            ConditionError: With what is wrong.
        """
        if "steady" in data:
            raise ConditionError("`steady` is a rule of the screen, and no condition of a search")
        return cls.parse({"balanced": False, "steady": False, **data})

    # what follows ------------------------------------------------------------------------------
    @property
    def required(self) -> tuple[str, ...]:
        """Elements that must occur."""
        of_formula = Composition(self.composition).elements if self.composition else ()
        found = {str(e) for e in of_formula} | set(self.chemical_system) | set(self.contains)
        return tuple(sorted(found))

    @property
    def allowed(self) -> set[str] | None:
        """Elements that may occur; None: any."""
        sets = [set(s) for s in (self.chemical_system, self.elements) if s]
        if self.composition:
            sets.append({str(e) for e in Composition(self.composition).elements})
        return set.intersection(*sets) if sets else None

    @property
    def formula_atoms(self) -> int:
        """Atoms of one formula unit of the composition; 0 without one."""
        if self.composition is None:
            return 0
        return round(Composition(self.composition).num_atoms)

    def as_dict(self) -> dict[str, Any]:
        """What is asked, as JSON-able data without what is not."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            k: list(v) if isinstance(v, tuple) else dict(v) if isinstance(v, Mapping) else v
            for k, v in told.items()
            if v not in (None, (), {}) and not (k in ("balanced", "steady") and v)
        }


def _elements(value: Any) -> tuple[str, ...]:
    names = re.split(r"[\s,;-]+", value.strip()) if isinstance(value, str) else value
    if not isinstance(names, Iterable) or not all(isinstance(n, str) for n in names):
        raise ConditionError(f"elements are symbols as in 'Li-Fe-O', not {value!r}")
    names = [n for n in names if n]
    for name in names:
        if not Element.is_valid_symbol(name) or Element(name).Z > 118:
            raise ConditionError(f"there is no element {name!r}")
    if not names:
        raise ConditionError("no element is named")
    return tuple(dict.fromkeys(str(Element(n)) for n in names))


def _composition(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConditionError(f"a composition is a formula as in 'Fe2O3', not {value!r}")
    for name in re.findall(r"[A-Z][a-z]?", value):
        if not Element.is_valid_symbol(name):
            raise ConditionError(f"there is no element {name!r} (in {value!r})")
    try:
        amounts = Composition(value)
    except (ValueError, KeyError) as error:
        raise ConditionError(f"{value!r} is no formula: {error}") from error
    if any(abs(a - round(a)) > 1e-6 for a in amounts.values()):
        raise ConditionError(f"the amounts of {value!r} are not whole numbers")
    whole = amounts.reduced_composition
    return "".join(f"{e}{round(n) if n > 1 else ''}" for e, n in whole.items())


@lru_cache(maxsize=1)
def _symbols() -> dict[str, int]:
    return {space_group(n).symbol: n for n in range(1, 231)}


def _space_group(value: Any) -> int:
    if isinstance(value, str):
        text = value.strip()
        if not text.isdigit():
            if text not in _symbols():
                near = difflib.get_close_matches(text, _symbols(), 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConditionError(f"there is no space group {value!r}{hint}")
            return _symbols()[text]
        value = int(text)
    return _whole("space_group", value, 230)


def _whole(key: str, value: Any, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ConditionError(f"`{key}` is a whole number, not {value!r}")
    if value < 1 or (most is not None and value > most):
        span = f"from 1 to {most}" if most is not None else "1 or more"
        raise ConditionError(f"`{key}` is {span}, not {value}")
    return int(value)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConditionError(f"`{key}` is a number, not {value!r}")
    return float(value)


def _properties(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ConditionError(f"properties are names with values, not {value!r}")
    return {str(k): _number(str(k), v) for k, v in value.items()}


def _system(value: Any) -> str:
    if value not in SYSTEMS:
        near = difflib.get_close_matches(str(value), SYSTEMS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SYSTEMS)}"
        raise ConditionError(f"there is no crystal system {value!r}; {hint}")
    return str(value)


def _guidance(value: Any) -> float:
    number = _number("guidance", value)
    if not 0 <= number <= _MOST_GUIDANCE:
        raise ConditionError(f"guidance is from 0 to {_MOST_GUIDANCE:g}, not {number:g}")
    return number


def _temperature(value: Any) -> float:
    number = _number("temperature", value)
    if not 0 <= number <= _MOST_TEMPERATURE:
        raise ConditionError(f"temperature is from 0 to {_MOST_TEMPERATURE:g}, not {number:g}")
    return number


def _yes_or_no(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConditionError(f"`{key}` is true or false, not {value!r}")
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "composition": _composition,
    "chemical_system": _elements,
    "elements": _elements,
    "contains": _elements,
    "space_group": _space_group,
    "crystal_system": _system,
    "atoms": lambda v: _whole("atoms", v),
    "max_atoms": lambda v: _whole("max_atoms", v),
    "properties": _properties,
    "source": str,
    "guidance": _guidance,
    "temperature": _temperature,
    "balanced": lambda v: _yes_or_no("balanced", v),
    "steady": lambda v: _yes_or_no("steady", v),
}
