"""Whether a new version still does what the generator that it all began with could do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Structure

from generators.crystals.wyckoff import UndescribableError, WyckoffCrystal
from generators.fine_tuning.recipe import Collapsed, Floor
from generators.fine_tuning.replay import remembered

if TYPE_CHECKING:
    from generators.crystals.generator import CrystalGenerator

HELD_OUT = 120
DRAWS = 300
_SEED = 20_240


def begin(
    generator: CrystalGenerator, examined: Sequence[Structure]
) -> tuple[dict[str, Any], dict[str, float]]:
    """What the card of every version descended from a generator carries to be measured by.

    Held out are draws from the prior of the first generator, fixed by a seed: no fine-tuning learns
    from these. A version that has such a set passes it on.

    Returns:
        `crystals`, as numbers, and `first`: the figures of the first generator, before anything was
        examined. Beside these, the generator's own figures now.
    """
    if "guard" in generator.card:
        held = dict(generator.card["guard"])
        return held, figures(generator, held, examined)
    crystals = remembered(generator, HELD_OUT, _SEED)
    now = measure(generator, crystals, examined)
    return {"crystals": [_numbers(c) for c in crystals], "first": {**now, "new": 1.0}}, now


def figures(
    generator: CrystalGenerator, guard: Mapping[str, Any], examined: Sequence[Structure]
) -> dict[str, float]:
    """`measure` on the set of a card."""
    return measure(generator, [_crystal(numbers) for numbers in guard["crystals"]], examined)


def measure(
    generator: CrystalGenerator,
    held: Sequence[WyckoffCrystal],
    examined: Sequence[Structure],
) -> dict[str, float]:
    """Figures of a generator.

    Returns:
        `reconstruction`: share of held-out designs that decode to a match; `valid`: share of prior
        draws that decode to a valid design; `unique`: share of these that differ in formula, group
        or number of atoms; `new`: share of these that differ in that from all that was examined.
    """
    structures = [crystal.structure() for crystal in held]
    decoded = generator.decode(generator.encode(structures))
    same = [
        d is not None and generator.same(s, d) for s, d in zip(structures, decoded, strict=True)
    ]
    drawn = [d for d in generator.decode(generator.prior(DRAWS, _SEED + 1), _SEED) if d is not None]
    kinds = [kind(generator, structure) for structure in drawn]
    old = {kind(generator, structure) for structure in examined}
    return {
        "reconstruction": float(np.mean(same)),
        "valid": len(drawn) / DRAWS,
        "unique": len(set(kinds)) / max(1, len(drawn)),
        "new": sum(one not in old for one in kinds) / max(1, len(drawn)),
    }


def kind(generator: CrystalGenerator, structure: Structure) -> tuple[str, int, int]:
    """Formula, space group (0: none is found) and atoms of the primitive cell."""
    formula = structure.composition.reduced_formula
    try:
        crystal = generator.crystal(structure)
    except UndescribableError:
        return formula, 0, len(structure)
    return formula, crystal.number, crystal.atoms


def check(
    first: Mapping[str, float],
    before: Mapping[str, float],
    after: Mapping[str, float],
    floor: Floor,
) -> None:
    """Refuse a version below the floor.

    Raises:
        Collapsed: With each figure that is too low.
    """
    words = {
        "reconstruction": "held-out designs that come back",
        "valid": "draws that are valid",
        "unique": "draws that differ",
        "new": "draws that were not examined yet",
    }
    # before anything was examined all was new; older cards do not say so
    least = {name: share * first.get(name, 1.0) for name, share in asdict(floor).items()}
    low = [
        f"{words[name]}: {100 * after[name]:.0f} %, the floor is {100 * bound:.0f} %"
        for name, bound in least.items()
        if not after[name] >= bound
    ]
    if low:
        raise Collapsed(f"the new version fell below its floor ({'; '.join(low)})", before, after)


def _numbers(crystal: WyckoffCrystal) -> list[Any]:
    return [
        crystal.number,
        list(crystal.positions),
        list(crystal.elements),
        [[round(float(x), 5) for x in row] for row in crystal.free],
        [round(float(x), 4) for x in crystal.lattice],
    ]


def _crystal(numbers: Sequence[Any]) -> WyckoffCrystal:
    number, positions, elements, free, lattice = numbers
    return WyckoffCrystal(
        number=number,
        positions=tuple(positions),
        elements=tuple(elements),
        free=np.array(free, dtype=float).reshape(len(positions), 3),
        lattice=tuple(lattice),
    )
