"""Which compositions balance their charges, by smact's rule, thousands a second.

The rule is `smact.screening.smact_validity` with its defaults (Davies et al., JOSS 4, 2019):
elements and alloys of metals pass; else some combination of oxidation states is neutral and has its
anions more electronegative than its cations. smact tries the combinations one after the other; here
those that a set of elements allows are kept as a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

TABLES = ("smact14", "icsd24")
"""smact's table of oxidation states that published figures rest on, and its newest."""
_MOST = 500_000  # combinations of one set of elements


@lru_cache(maxsize=1)
def _elements() -> dict[int, tuple[bool, float | None, dict[str, tuple[int, ...]]]]:
    """By atomic number: whether it is a metal, its electronegativity, its oxidation states."""
    from pymatgen.core import Element
    from smact import Element as SmactElement
    from smact import metals

    found = {}
    for z in range(1, 101):
        one = SmactElement(Element.from_Z(z).symbol)
        states = {
            "smact14": tuple(one.oxidation_states_smact14 or ()),
            "icsd24": tuple(one.oxidation_states_icsd24 or ()),
        }
        found[z] = one.symbol in metals, one.pauling_eneg, states
    return found


@lru_cache(maxsize=100_000)
def _combinations(elements: tuple[int, ...], table: str) -> NDArray[np.int16] | None:
    """Oxidation states `c x k` that a set of elements may have; None where any amount passes."""
    known = [_elements()[z] for z in elements]
    if len(elements) == 1 or all(metal for metal, _, _ in known):
        return None
    states = [s[table] for _, _, s in known]
    strength = [x for _, x, _ in known]
    if not all(states) or any(x is None for x in strength) or np.prod([*map(len, states)]) > _MOST:
        return np.zeros((0, len(elements)), dtype=np.int16)
    grid = np.meshgrid(*(np.array(one, dtype=np.int16) for one in states), indexing="ij")
    charge = np.stack([axis.ravel() for axis in grid], 1)
    fine = np.ones(len(charge), dtype=bool)
    for i, a in enumerate(strength):
        for j, b in enumerate(strength):
            if i != j and a is not None and b is not None and a >= b:
                fine &= ~((charge[:, i] > 0) & (charge[:, j] < 0))
    return charge[fine]


@lru_cache(maxsize=100_000)
def _balanced(amounts: tuple[tuple[int, int], ...], table: str) -> bool:
    charge = _combinations(tuple(z for z, _ in amounts), table)
    if charge is None:
        return True
    return bool((charge @ np.array([n for _, n in amounts], dtype=np.int16) == 0).any())


def balanced(amounts: Mapping[int, int], table: str = TABLES[0]) -> bool:
    """Whether a composition is balanced.

    Args:
        amounts: Atoms of each element, by atomic number.
        table: Which of `TABLES`.
    """
    common = gcd(*amounts.values())
    return _balanced(tuple(sorted((z, n // common) for z, n in amounts.items())), table)
