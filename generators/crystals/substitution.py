"""Which elements replace each other in crystals: by alike chemistry, and as data mining found."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from pymatgen.core import Element, Species

from generators.crystals.symmetry import Array
from generators.crystals.tokens import MAX_Z, element_table

LAST = 94  # plutonium: beyond it there are no data


@lru_cache(maxsize=1)
def alike() -> Array:
    """How alike elements are in chemistry: `MAX_Z + 1 x MAX_Z + 1` probabilities, rows sum to 1."""
    weights = np.array([0.5, 1.0, 0.7, 1.0, 0.7, 0.7, 1.5, 1.0, 0.5, 0.5, 1.0, 0.5])
    scaled = element_table() * weights
    distance = ((scaled[:, None] - scaled[None]) ** 2).sum(-1)
    return _shares(np.exp(-distance / 2.0))


@lru_cache(maxsize=1)
def _mined_table() -> Any:
    from pymatgen.analysis.structure_prediction.substitution_probability import (
        SubstitutionProbability,
    )

    return SubstitutionProbability()


@cache
def mined(z: int, charge: int) -> tuple[tuple[int, int, float], ...] | None:
    """What stands for an ion in known crystals (Hautier et al., Inorg. Chem. 50, 656 (2011)).

    Returns:
        Atomic number, oxidation state and probability of each ion of pymatgen's table, the ion
        itself among them; None where the table has no such ion.
    """
    table, old = _mined_table(), Species(Element.from_Z(z).symbol, charge)
    if old not in table.species:
        return None
    ions = sorted(table.species, key=str)
    return tuple((new.Z, int(new.oxi_state or 0), float(table.cond_prob(new, old))) for new in ions)


@lru_cache(maxsize=1)
def replacements() -> Array:
    """What replaces an element in training: `MAX_Z + 1 x MAX_Z + 1` probabilities, rows sum to 1.

    Half by the mined table, of which ions of one charge count, so that balanced crystals stay
    balanced; half by alike chemistry, since the table is of ions alone and knows little of
    nitrides, carbides and alloys. An element that is in no ion of the table goes by chemistry.
    """
    table, found = _mined_table(), np.zeros((MAX_Z + 1, MAX_Z + 1))
    ions = sorted(table.species, key=str)
    for old in ions:
        for new in ions:
            if new.oxi_state == old.oxi_state:
                found[old.Z, new.Z] += table.prob(new, old)
    shares = _shares(found)
    known = (found[:, 1 : LAST + 1].sum(1) > 0)[:, None]
    return np.where(known, (shares + alike()) / 2, alike())


def _shares(weights: Array) -> Array:
    """Rows that sum to 1, of elements up to `LAST` and never of an element for itself."""
    weights = weights.copy()
    weights[0] = weights[:, 0] = weights[:, LAST + 1 :] = 0.0
    np.fill_diagonal(weights, 0.0)
    total = weights.sum(1, keepdims=True)
    kept = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return np.where(total > 0, kept, np.eye(len(weights)))
