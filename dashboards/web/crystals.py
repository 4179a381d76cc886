"""The crystals of trials on pages: which elements they have, and a small still picture."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from campaigns.elements import SYMBOLS


def elements_of(trial: Mapping[str, Any]) -> frozenset[str]:
    """The elements of a trial's crystals and compositions."""
    found: set[str] = set()
    for value in (trial.get("design") or {}).values():
        if isinstance(value, Mapping):
            if isinstance(value.get("cif"), str):
                found |= _elements(value["cif"])
            else:
                found |= {k for k, v in value.items() if v and k in SYMBOLS}
    return frozenset(found)


@lru_cache(maxsize=4096)
def _elements(cif: str) -> frozenset[str]:
    """The elements of a CIF, out of its formula: no need to build the crystal."""
    line = re.search(r"^_chemical_formula_(?:structural|sum)\s+(.+)$", cif, re.MULTILINE)
    return frozenset(re.findall(r"[A-Z][a-z]?", line[1]) if line else ()) & frozenset(SYMBOLS)


@lru_cache(maxsize=512)
def thumbnail(cif: str) -> Markup | None:
    """A crystal as a small picture that needs no script; None where it cannot be drawn."""
    from campaigns.cif_file import parse_cif
    from campaigns.errors import InputErrors
    from dashboards.crystal_picture import gradients, picture, scene
    from dashboards.crystals import symmetry

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structure = parse_cif(cif, "design")
            symbol, _, cell = symmetry(structure)
    except InputErrors:
        return None
    drawn = scene(cell) or scene(structure)
    if drawn is None:
        return None
    title = f"Crystal structure of {structure.composition.reduced_formula} {symbol}".strip()
    return gradients(drawn.symbols) + picture(drawn, title)


def cif_of(trial: Mapping[str, Any]) -> str | None:
    """The text of a trial's first crystal, as designed."""
    for value in (trial.get("design") or {}).values():
        if isinstance(value, Mapping) and isinstance(value.get("cif"), str):
            return str(value["cif"])
    return None
