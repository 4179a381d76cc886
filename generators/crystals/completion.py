"""Reading the part of a crystal that is to stay, so that a generator completes the rest."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from pymatgen.core import Element, Structure

from generators.crystals.conditions import ConditionError
from generators.crystals.forcing import Partial
from generators.crystals.wyckoff import describe


def partial_of(
    structure: Structure,
    fix: Collection[str] = (),
    keep_sites: bool = False,
    max_atoms: int | None = None,
) -> Partial:
    """The part of a crystal that stays.

    Args:
        structure: A crystal, or a fragment of one; its space group stays.
        fix: Elements whose orbits stay as they are. None: all of them, and others are added.
        keep_sites: The other orbits stay where they are, and only their elements (and free
            coordinates) are chosen anew; else they are taken out, and any may be added.
        max_atoms: Of the primitive cell of the crystal as it is given.

    Raises:
        ConditionError: An element to fix is not there, or nothing would be left to do.
        UndescribableError: The structure is disordered, too large, or has no clear symmetry.
    """
    crystal = describe(structure, max_atoms=max_atoms)
    symbols = [str(Element.from_Z(z)) for z in crystal.elements]
    if absent := sorted(set(fix) - set(symbols)):
        raise ConditionError(
            f"{', '.join(absent)} cannot be fixed: {structure.composition.reduced_formula} has "
            f"{', '.join(sorted(set(symbols)))}"
        )
    stays = [not fix or s in fix for s in symbols]
    if keep_sites and all(stays):
        raise ConditionError("nothing is left to choose: every element is fixed")
    kept = [i for i, s in enumerate(stays) if s or keep_sites]
    free = np.full((len(kept), 3), np.nan)
    for row, i in enumerate(kept):
        if stays[i]:
            free[row] = crystal.free[i]
    return Partial(
        group=crystal.number,
        positions=tuple(crystal.positions[i] for i in kept),
        elements=tuple(crystal.elements[i] if stays[i] else 0 for i in kept),
        free=free,
        grows=not keep_sites,
    )
