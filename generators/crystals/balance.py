"""Which compositions balance their charges, by smact's rule, thousands a second.

The rule is `smact.screening.smact_validity` with its defaults (Davies et al., JOSS 4, 2019):
elements and alloys of metals pass; else some combination of oxidation states is neutral and has its
anions more electronegative than its cations. smact tries the combinations one after the other; here
the charges that cations can have are compared with those of anions, whatever makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import gcd

TABLES = ("smact14", "icsd24")
"""smact's table of oxidation states that published figures rest on, and its newest."""


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
def _balanced(amounts: tuple[tuple[int, int], ...], table: str) -> bool:
    # smact has no data of elements past fermium: none of their charges is known
    known = [_elements().get(z, (False, None, {table: ()})) for z, _ in amounts]
    if len(known) == 1 or all(metal for metal, _, _ in known):
        return True
    atoms = [n for _, n in amounts]
    strength = [x for _, x, _ in known if x is not None]
    states = [s[table] for _, _, s in known]
    if len(strength) < len(known) or not all(states):
        return False
    # Some electronegativity parts cations, below it, from anions.
    for least in set(strength):
        plus, minus = 1, 1  # bit i: whether i charges are to be had
        for x, n, allowed in zip(strength, atoms, states, strict=True):
            if x < least:
                plus = _sums(plus, [n * s for s in allowed if s >= 0])
            else:
                minus = _sums(minus, [-n * s for s in allowed if s <= 0])
        if plus & minus:
            return True
    return False


def _sums(bits: int, more: Sequence[int]) -> int:
    """Sums of one of some numbers and one of more, sets of numbers being the bits of an integer."""
    found = 0
    for number in more:
        found |= bits << number
    return found


def balanced(amounts: Mapping[int, int], table: str = TABLES[0]) -> bool:
    """Whether a composition is balanced.

    Args:
        amounts: Atoms of each element, by atomic number.
        table: Which of `TABLES`.
    """
    common = gcd(*amounts.values())
    return _balanced(tuple(sorted((z, n // common) for z, n in amounts.items())), table)
