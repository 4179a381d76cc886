"""Drawing crystals that meet conditions: guided draws, masks while decoding, and a check after."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pymatgen.core import Composition, Element, Structure
from torch import Tensor

from generators.crystals.balance import balanced
from generators.crystals.choosing import TIGHT
from generators.crystals.conditions import (
    SYSTEMS,
    ConditionError,
    Conditions,
    crystal_system,
)
from generators.crystals.forcing import Partial, Rules
from generators.crystals.geometry import closeness
from generators.crystals.prior import Wanted
from generators.crystals.symmetry import space_group
from generators.crystals.tokens import MAX_Z
from generators.crystals.wyckoff import UndescribableError

if TYPE_CHECKING:
    from generators.crystals.generator import CrystalGenerator

DRAWS = 20  # latent vectors for each design that is asked for, at most
SPARE = 4  # unsteady designs for each that is asked for, before such are taken
_LEAST = 64  # latent vectors of a round: as fast as one


@dataclass
class Drawn:
    """What came of drawing.

    Attributes:
        designs: At most as many as were asked for; each meets every hard condition.
        asked: How many were asked for.
        draws: Latent vectors that were decoded.
        misses: Why those that were not returned were not.
        unsteady: The last so many of the designs are not steady, for want of others.
    """

    designs: list[Structure]
    asked: int
    draws: int = 0
    misses: Counter[str] = field(default_factory=Counter)
    unsteady: int = 0

    @property
    def told(self) -> str:
        """One line for a person."""
        why = ", ".join(f"{n} {reason}" for reason, n in self.misses.most_common())
        # those returned that are not steady met all that is a condition
        hit = self.draws - sum(self.misses.values()) + self.unsteady
        return (
            f"{len(self.designs)} of {self.asked} designs meet the conditions, from {self.draws} "
            f"draws, of which {hit} met them"
            + (f" (not met: {why})" if why else "")
            + (f"; {self.unsteady} of those returned are not steady" if self.unsteady else "")
        )


def draw(
    generator: CrystalGenerator,
    n: int,
    seed: int,
    conditions: Conditions,
    partial: Partial | None = None,
) -> Drawn:
    """Crystals that meet conditions; fewer than asked where `DRAWS` draws for each do not do.

    Args:
        generator: What draws.
        n: How many.
        seed: Of the draws.
        conditions: What is asked.
        partial: Orbits that each of them has; no two results are then the same in elements and
            positions.

    Raises:
        ConditionError: This generator knows nothing of a condition.
    """
    check(generator, conditions)
    if partial is not None:
        _check_partial(generator, conditions, partial)
        # the part may be what does not come back
        conditions = replace(conditions, steady=False)
    out = Drawn([], n)
    source = torch.Generator().manual_seed(seed)
    seen: set[Any] = set()
    spare: list[tuple[float, Structure]] = []
    while len(out.designs) < n and out.draws < DRAWS * n and len(spare) < SPARE * n:
        share = max(len(out.designs), 1) / max(out.draws, 1)  # of draws that will do, so far
        need = (n - len(out.designs)) / (share if out.draws else 0.8)
        size = int(min(max(need * 1.1, _LEAST), 1024, max(DRAWS * n - out.draws, _LEAST)))
        good: list[Structure] = []
        for structure in _round(generator, size, source, conditions, partial):
            out.draws += 1
            why = miss(generator, structure, conditions)
            if why is None and partial is not None:
                assert structure is not None
                try:
                    key = _kind(generator, structure)
                    if key in seen:
                        why = "drawn already"
                    elif closeness(structure, TIGHT) < TIGHT - 1e-3:
                        why = "with atoms too close"
                    else:  # another of a kind whose first was too tight may do
                        seen.add(key)
                except UndescribableError:
                    why = "without clear symmetry"
            if why is not None:
                out.misses[why] += 1
            else:
                assert structure is not None
                good.append(structure)
        away = generator.returns(good) if conditions.steady else np.zeros(len(good))
        for structure, far in zip(good, away, strict=True):
            if far > generator.steadiness:
                out.misses["not steady"] += 1
                spare.append((float(far), structure))
            elif len(out.designs) < n:
                out.designs.append(structure)
    lack = n - len(out.designs)
    chosen = sorted(spare, key=lambda pair: pair[0])[:lack]
    out.designs += [structure for _, structure in chosen]
    out.unsteady = len(chosen)
    return out


def _round(
    generator: CrystalGenerator,
    n: int,
    source: torch.Generator,
    conditions: Conditions,
    partial: Partial | None,
) -> list[Structure | None]:
    prior = generator.learnt_prior
    if replace(conditions, balanced=True, steady=True) == Conditions() and partial is None:
        return generator.decode(
            prior.draw(n, source)
            if prior is not None
            else torch.randn(n, generator.dim, generator=source, dtype=torch.float64)
        )
    rules = rules_of(generator, n, conditions, partial, source)
    z = latents(generator, source, conditions, rules, partial)
    if partial is None:
        return generator.decode(z, rules=rules)
    # The rest should go with the part, and z may know nothing of it: what was decoded is encoded,
    # part and all, and decoded again.
    first = generator.decode(z, rules=rules)
    again, at = [], []
    for i, structure in enumerate(first):
        if structure is not None and _described(generator, structure):
            again.append(structure)
            at.append(i)
    if at:
        z[at] = generator.latent(generator._tokens(again))
    second = generator.decode(z, rules=rules)
    return [b if b is not None else a for a, b in zip(first, second, strict=True)]


def latents(
    generator: CrystalGenerator,
    source: torch.Generator,
    conditions: Conditions,
    rules: Rules,
    partial: Partial | None = None,
) -> Tensor:
    """Draw latent vectors `n x d` that lean to conditions, one for each of `n` rules."""
    n, prior = len(rules), generator.learnt_prior
    if prior is None:
        return torch.randn(n, generator.dim, generator=source, dtype=torch.float64)
    wanted = wanted_of(generator, n, conditions, rules, partial)
    aim = _aim(generator, conditions) or None
    return prior.draw(n, source, wanted, conditions.guidance, conditions.temperature, aim)


def check(generator: CrystalGenerator, asked: Conditions) -> None:
    """Refuse conditions of which a generator knows nothing.

    Raises:
        ConditionError: With what it knows.
    """
    known = {str(Element.from_Z(z)) for z in generator.card["elements"]}
    named = set(asked.required) | (asked.allowed or set())
    if unknown := sorted(named - known):
        raise ConditionError(f"{generator.name} knows no crystal with {', '.join(unknown)}")
    least = max(asked.formula_atoms, len(asked.required), asked.atoms or 0)
    if least > generator.max_atoms:
        raise ConditionError(
            f"{generator.name} makes primitive cells of up to {generator.max_atoms} atoms; "
            f"this asks for {least}"
        )
    soft = [*asked.properties, *([asked.source] if asked.source else [])]
    if soft and generator.learnt_prior is None:
        raise ConditionError(
            f"this version of {generator.name} has no learnt prior, and so takes no conditions on "
            "properties or sources (matloop generators fit-prior makes one)"
        )
    for name, value in _of_heads(generator, asked).items():
        _standard(generator, name, value)
    if asked.source is not None:
        _source(generator, asked.source)


def _aim(generator: CrystalGenerator, asked: Conditions) -> dict[str, float]:
    """Wanted values of what an adapter follows; it learnt these from results."""
    follows = () if generator.adapter is None else generator.adapter.metrics
    return {name: value for name, value in asked.properties.items() if name in follows}


def _of_heads(generator: CrystalGenerator, asked: Conditions) -> dict[str, float]:
    """The other wanted values, which are left to what the network predicts."""
    aim = _aim(generator, asked)
    return {name: value for name, value in asked.properties.items() if name not in aim}


def _check_partial(generator: CrystalGenerator, asked: Conditions, partial: Partial) -> None:
    """Refuse orbits that a generator, or conditions, leave no room for."""
    if asked.space_group not in (None, partial.group):
        raise ConditionError(
            f"the part is of space group {partial.group}, and {asked.space_group} is asked for"
        )
    fixed = {str(Element.from_Z(z)) for z in partial.elements if z}
    known = {str(Element.from_Z(z)) for z in generator.card["elements"]}
    if unknown := sorted(fixed - known):
        raise ConditionError(f"{generator.name} knows no crystal with {', '.join(unknown)}")
    if asked.allowed is not None and (other := sorted(fixed - asked.allowed)):
        raise ConditionError(f"the part has {', '.join(other)}, which the conditions leave out")
    positions = space_group(partial.group).positions
    atoms = sum(len(positions[p].primitive) for p in partial.positions)
    limit = min(asked.atoms or asked.max_atoms or generator.max_atoms, generator.max_atoms)
    if atoms + partial.grows > limit:
        raise ConditionError(
            f"the part has {atoms} atoms in the primitive cell, which leaves no room: at most "
            f"{limit} are asked for, or made by {generator.name}"
        )


def _standard(generator: CrystalGenerator, name: str, value: float) -> tuple[int, float]:
    """Which head predicts a property, and the value in its standardised unit."""
    heads = generator.network.properties
    public = [h.removeprefix("log_") for h in heads]
    if name not in public:
        near = difflib.get_close_matches(name, public, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(public)}"
        raise ConditionError(f"{generator.name} knows no property {name!r}; {hint}")
    at = public.index(name)
    if heads[at].startswith("log_"):
        if value <= 0:
            raise ConditionError(f"{name} is above 0, not {value:g}")
        value = float(np.log(value))
    mean, scale = generator.card["property_mean"][at], generator.card["property_scale"][at]
    return at, (value - mean) / scale


def _source(generator: CrystalGenerator, name: str) -> int:
    """Which data set, from 1, a name means: the file's, or the folder's."""
    assert generator.learnt_prior is not None
    known = generator.learnt_prior.sources
    for i, file in enumerate(known):
        if name in (file, file.split("/")[0]):
            return i + 1
    folders = [file.split("/")[0] for file in known]
    raise ConditionError(f"{generator.name} has no source {name!r}; there are {', '.join(folders)}")


def _numbers(symbols: Any) -> list[int]:
    return [Element(s).Z for s in symbols]


def rules_of(
    generator: CrystalGenerator,
    n: int,
    asked: Conditions,
    partial: Partial | None,
    source: torch.Generator,
    atoms: Tensor | None = None,
) -> Rules:
    """Masks of `n` draws. Of a composition, each draws how many formula units it has.

    Or it has as many of them as are nearest to given numbers of atoms, `n`.
    """
    group = torch.full((n,), asked.space_group or (partial.group if partial else 0))
    allowed = torch.zeros(n, MAX_Z + 1, dtype=torch.bool)
    allowed[:, _numbers(asked.allowed) if asked.allowed else generator.card["elements"]] = True
    limit = min(asked.max_atoms or generator.max_atoms, asked.atoms or generator.max_atoms)
    max_atoms = torch.full((n,), limit)
    budget = None
    if asked.composition is not None:
        units = (
            [asked.atoms // asked.formula_atoms]
            if asked.atoms is not None
            else list(range(1, limit // asked.formula_atoms + 1))
        )
        prior = generator.learnt_prior
        seen = prior.told["sizes"] if prior is not None else [1] * (limit + 1)
        how_often = torch.tensor([float(seen[u * asked.formula_atoms]) + 1 for u in units])
        if atoms is None:
            drawn = torch.multinomial(how_often, n, replacement=True, generator=source)
        else:
            sizes = torch.tensor(units, dtype=torch.float64) * asked.formula_atoms
            drawn = (atoms[:, None] - sizes).abs().argmin(dim=1)
        times = torch.tensor(units)[drawn]
        budget = torch.zeros(n, MAX_Z + 1)
        for element, amount in Composition(asked.composition).items():
            budget[:, Element(str(element)).Z] = times * amount
        max_atoms = budget.sum(1).round().long()
    return Rules(group, allowed, max_atoms, budget, partial)


def wanted_of(
    generator: CrystalGenerator,
    n: int,
    asked: Conditions,
    rules: Rules,
    partial: Partial | None,
) -> Wanted:
    """Conditions of `n` draws as the learnt prior reads them."""
    wanted = Wanted.nothing(n, len(generator.network.properties))
    if rules.budget is not None:
        wanted.share[:] = rules.budget / rules.budget.sum(1, keepdim=True)
        wanted.atoms[:] = rules.max_atoms
    else:
        wanted.contains[:, _numbers(asked.required)] = 1.0
        if asked.allowed is not None:
            wanted.banned[:, 1:] = 1.0
            wanted.banned[:, _numbers(asked.allowed)] = 0.0
        if asked.atoms is not None:
            wanted.atoms[:] = asked.atoms
        if partial is not None:
            wanted.contains[:, [z for z in partial.elements if z]] = 1.0
            if not partial.grows:
                positions = space_group(partial.group).positions
                wanted.atoms[:] = sum(len(positions[p].primitive) for p in partial.positions)
    wanted.group[:] = rules.group
    if asked.crystal_system is not None:
        wanted.system[:] = SYSTEMS.index(asked.crystal_system) + 1
    if asked.source is not None:
        wanted.source[:] = _source(generator, asked.source)
    for name, value in _of_heads(generator, asked).items():
        at, standard = _standard(generator, name, value)
        wanted.properties[:, at] = standard
    return wanted


def _described(generator: CrystalGenerator, structure: Structure) -> bool:
    try:
        generator.crystal(structure)
    except UndescribableError:
        return False
    return True


def _kind(generator: CrystalGenerator, structure: Structure) -> tuple[Any, ...]:
    crystal = generator.crystal(structure)
    return crystal.number, crystal.positions, crystal.elements


def miss(generator: CrystalGenerator, structure: Structure | None, asked: Conditions) -> str | None:
    """Why a structure is not what was asked for; None where it is.

    The symmetry is that which is found in the structure, not that by which it was decoded.
    """
    if structure is None:
        return "not valid"
    present = {str(e) for e in structure.composition.elements}
    if asked.composition is not None:
        wanted = Composition(asked.composition).reduced_composition
        if structure.composition.reduced_composition != wanted:
            return "of another composition"
    if not set(asked.required) <= present:
        return "without an element"
    if asked.allowed is not None and not present <= asked.allowed:
        return "with another element"
    if asked.balanced and asked.composition is None:
        amounts = {e.Z: round(n) for e, n in structure.composition.items()}
        if not balanced(amounts):
            return "without balanced charges"
    if (asked.space_group, asked.crystal_system, asked.atoms, asked.max_atoms) == (None,) * 4:
        return None
    try:
        crystal = generator.crystal(structure)
    except UndescribableError:
        return "without clear symmetry"
    if asked.space_group is not None and crystal.number != asked.space_group:
        return "in another space group"
    system = SYSTEMS[crystal_system(crystal.number) - 1]
    if asked.crystal_system not in (None, system):
        return "in another crystal system"
    if asked.atoms is not None and crystal.atoms != asked.atoms:
        return "with another number of atoms"
    if asked.max_atoms is not None and crystal.atoms > asked.max_atoms:
        return "with too many atoms"
    return None


def of_mapping(conditions: Conditions | Mapping[str, Any] | None) -> Conditions:
    """Conditions as given to a generator. Raises `ConditionError`."""
    if conditions is None:
        return Conditions()
    return conditions if isinstance(conditions, Conditions) else Conditions.parse(conditions)
