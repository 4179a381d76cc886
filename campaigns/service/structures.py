"""Crystals as OPTIMADE's attributes have them, beside their CIF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from campaigns.handout import is_crystal


def with_structures(leases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Leases with ``structures``: by axis of a crystal its attributes and its ``cif``."""
    return [{**lease, "structures": of_design(lease["design"])} for lease in leases]


def any_crystal(leases: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any lease has a crystal, which takes milliseconds to read."""
    return any(is_crystal(value) for lease in leases for value in lease["design"].values())


def of_design(design: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By axis of a design that is a crystal: OPTIMADE's attributes, and ``cif``."""
    return {axis: attributes(v["cif"]) for axis, v in design.items() if is_crystal(v)}


@lru_cache(maxsize=256)
def attributes(cif: str) -> dict[str, Any]:
    """A crystal that the campaign has, as OPTIMADE's attributes, and its ``cif``.

    The names and meanings are those of Evans et al., Digital Discovery 3, 1509 (2024).
    """
    from pymatgen.core import Structure

    structure = Structure.from_str(cif, fmt="cif")
    composition = structure.composition
    fractions = composition.fractional_composition.get_el_amt_dict()
    elements = sorted(fractions)
    counts = composition.get_el_amt_dict()
    reduced, _ = composition.get_reduced_composition_and_factor()
    names: list[str] = []
    species: dict[str, dict[str, Any]] = {}
    for site in structure:
        parts = site.species.get_el_amt_dict()
        name = "".join(parts) if len(parts) > 1 or 1.0 not in parts.values() else next(iter(parts))
        if len(parts) > 1 or 1.0 not in parts.values():
            name = "-".join(f"{el}{amount:g}" for el, amount in sorted(parts.items()))
        names.append(name)
        species[name] = {
            "name": name,
            "chemical_symbols": list(parts),
            "concentration": [float(x) for x in parts.values()],
        }
    ordered = structure.is_ordered
    amounts = reduced.get_el_amt_dict()
    anonymous = sorted(amounts.values(), reverse=True)
    return {
        "elements": elements,
        "nelements": len(elements),
        "elements_ratios": [float(fractions[el]) for el in elements],
        "chemical_formula_descriptive": composition.reduced_formula,
        "chemical_formula_reduced": "".join(
            f"{el}{'' if amounts[el] == 1 else f'{amounts[el]:g}'}" for el in sorted(amounts)
        ),
        "chemical_formula_anonymous": "".join(
            f"{letter}{'' if n == 1 else f'{n:g}'}"
            for letter, n in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", anonymous, strict=False)
        ),
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "lattice_vectors": structure.lattice.matrix.tolist(),
        "cartesian_site_positions": structure.cart_coords.tolist(),
        "nsites": len(structure),
        "species": list(species.values()),
        "species_at_sites": names,
        "structure_features": [] if ordered else ["disorder"],
        "total_atoms": float(sum(counts.values())),
        "cif": cif,
    }
