"""Crystals made from the values of a design: a prototype, and the elements that sit in it.

`{prototype: lattice, elements: [cation, anion]}`: each is the name of an axis, or a prototype or an
element itself. The cell is begun from covalent radii and is for an evaluator to relax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loop.evaluators.base import EvaluationFailed, EvaluatorError, crystal_of

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Number of elements, and the lattice constant in bond lengths. Covalent radii are those of few
# neighbours; six of them stand farther off, and eight still more.
_SIX, _EIGHT = 1.08, 1.12
PROTOTYPES: dict[str, tuple[int, float]] = {
    "rocksalt": (2, 2.0 * _SIX),
    "zincblende": (2, 4.0 / math.sqrt(3.0)),
    "cesiumchloride": (2, 2.0 / math.sqrt(3.0) * _EIGHT),
    "wurtzite": (2, math.sqrt(8.0 / 3.0)),
    "fluorite": (2, 4.0 / math.sqrt(3.0)),
    "diamond": (1, 4.0 / math.sqrt(3.0)),
    "bcc": (1, 2.0 / math.sqrt(3.0)),
    "fcc": (1, math.sqrt(2.0)),
    "hcp": (1, 1.0),
}


def check_recipe(recipe: Any) -> None:
    """Refuse what describes no crystal.

    Raises:
        EvaluatorError: With what is missing.
    """
    hint = "as in crystal: {prototype: rocksalt, elements: [cation, anion]}"
    if not isinstance(recipe, Mapping) or set(recipe) != {"prototype", "elements"}:
        raise EvaluatorError("`crystal` names a prototype and its elements", hint)
    elements = recipe["elements"]
    texts = isinstance(elements, (list, tuple)) and all(isinstance(e, str) for e in elements)
    if not isinstance(recipe["prototype"], str) or not texts or not elements:
        raise EvaluatorError("`crystal` names a prototype and its elements", hint)


def crystal_for(design: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> Structure:
    """Return the crystal of a design: the one that it holds, or the one that a recipe makes of it.

    Raises:
        EvaluatorError: The design has none, or the recipe fits it not.
        EvaluationFailed: The crystal cannot be read.
    """
    if recipe is None:
        return crystal_of(design)
    prototype = str(design.get(recipe["prototype"], recipe["prototype"]))
    symbols = [str(design.get(name, name)) for name in recipe["elements"]]
    return make_crystal(prototype, symbols)


def make_crystal(prototype: str, symbols: list[str]) -> Structure:
    """Return the primitive cell of a prototype, its bonds about two covalent radii long.

    Raises:
        EvaluatorError: There is no such prototype or element, or it takes another number of them.
    """
    from ase.build import bulk
    from ase.data import atomic_numbers, covalent_radii
    from pymatgen.io.ase import AseAtomsAdaptor

    if prototype not in PROTOTYPES:
        raise EvaluatorError(f"there is no prototype {prototype!r}", f"{', '.join(PROTOTYPES)}")
    number, bonds = PROTOTYPES[prototype]
    if len(symbols) != number:
        told = ", ".join(symbols)
        raise EvaluatorError(f"{prototype} takes {number} elements, not {len(symbols)} ({told})")
    odd = [symbol for symbol in symbols if symbol not in atomic_numbers or symbol == "X"]
    if odd:
        raise EvaluatorError(f"there is no element {odd[0]!r}")
    if len(set(symbols)) < number:
        raise EvaluationFailed(f"{prototype} of {symbols[0]} alone is another crystal")
    radii = [float(covalent_radii[atomic_numbers[symbol]]) for symbol in symbols]
    bond = sum(radii) if number == 2 else 2 * radii[0]
    name = (
        symbols[0] + symbols[1] + ("2" if prototype == "fluorite" else "")
        if number == 2
        else symbols[0]
    )
    atoms = bulk(name, prototype, a=bonds * bond)
    structure: Structure = AseAtomsAdaptor.get_structure(atoms)
    return structure
