"""One element of a crystal in the place of another, as likely as it is in known compounds.

How likely a pair of ions is to replace each other was mined from the structures that are known
([Hautier2011]_); pymatgen ships the table. Where a composition has no oxidation states (an alloy),
a neighbour in the periodic table's column takes the element's place.

.. [Hautier2011] G. Hautier et al., Data Mined Ionic Substitutions for the Discovery of New
   Compounds. Inorganic Chemistry 50, 2011.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from pymatgen.core import Element, Structure

from generators.crystals.substitution import mined

MOST_SITES = 60
"""Larger cells are reduced before their oxidation states are guessed."""

_SPARE = frozenset(("He", "Ne", "Ar", "Kr", "Xe", "Rn"))


@cache
def _partners(element: str, charge: float | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Elements that may take the place of one, and how likely each is."""
    names: list[str] = []
    likely: list[float] = []
    if charge is not None:
        for z, state, chance in mined(Element(element).Z, int(charge)) or ():
            other = Element.from_Z(z).symbol
            if state == charge and other != element:
                names.append(other)
                likely.append(chance)
    if not names:
        column = Element(element).group
        same = [e.symbol for e in Element if e.group == column and e.Z <= 94]
        names = [s for s in same if s != element and s not in _SPARE]
        likely = [1.0] * len(names)
    weights = np.array(likely)
    return tuple(names), weights / weights.sum() if len(names) else weights


def charges(crystal: Structure) -> dict[str, float]:
    """Oxidation states by element, the likeliest that balance; empty where none do."""
    guesses = crystal.composition.oxi_state_guesses(max_sites=-1 if len(crystal) > 8 else None)
    if not guesses:
        return {}
    # A mean over sites of several states is no ion of the table.
    return {el: float(q) for el, q in guesses[0].items() if float(q).is_integer()}


def substituted(crystal: Structure, rng: np.random.Generator) -> tuple[Structure, str]:
    """The crystal with one element replaced everywhere, scaled by the sizes of the two.

    Args:
        crystal: ordered.
        rng: the draws.

    Returns:
        A new crystal, and what was replaced: `Cl in place of F`. The crystal itself where nothing
        can take the place of any of its elements.
    """
    known = charges(crystal)
    symbols = sorted({e.symbol for e in crystal.composition.elements})
    for element in rng.permutation(symbols).tolist():
        names, likely = _partners(element, known.get(element))
        others = [i for i, name in enumerate(names) if name not in symbols]
        if not others or not likely[others].sum() > 0:
            continue
        share = likely[others] / likely[others].sum()
        new = names[others[int(rng.choice(len(others), p=share))]]
        made = crystal.copy()
        made.remove_oxidation_states()
        made.replace_species({element: new})
        made.scale_lattice(made.volume * _growth(crystal, element, new, known))
        return made, f"{new} in place of {element}"
    return crystal.copy(), "nothing replaced"


def _growth(crystal: Structure, old: str, new: str, known: dict[str, float]) -> float:
    """By which factor the volume grows: distances grow as the mean radius does."""
    part = crystal.composition.fractional_composition.as_dict()
    charge = {**known, new: known.get(old, 0.0)}
    ions = {el: Element(el).ionic_radii.get(int(charge.get(el, 0.0))) for el in (*part, new)}
    # Radii of ions where all are known, else those of atoms: never one of each.
    radii = {el: float(r) for el, r in ions.items() if r}
    if len(radii) < len(ions):
        radii = {el: _atomic(el) for el in ions}
    before, after = 0.0, 0.0
    for el, share in part.items():
        before += float(share) * radii[el]
        after += float(share) * radii[new if el == old else el]
    return (after / before) ** 3


def _atomic(element: str) -> float:
    of = Element(element)
    return float(of.atomic_radius or of.atomic_radius_calculated or 1.5)
