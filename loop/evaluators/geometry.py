"""Crystals on their way in and out of an evaluator: sane, primitive, and written without a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loop.evaluators.base import EvaluationFailed

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Shorter than any bond (H-H is 0.74 angstrom).
_SHORTEST_PAIR = 0.5


def to_cif(structure: Structure) -> str:
    """Return a CIF (P1, 12 decimals) from which any program gets this very cell back."""
    from pymatgen.io.cif import CifWriter

    return str(CifWriter(structure, significant_figures=12, refine_struct=False))


def check_geometry(structure: Structure, which: str) -> None:
    """Raise EvaluationFailed where atoms overlap or the cell is no cell."""
    cell = structure.lattice.matrix
    if not (np.isfinite(cell).all() and np.isfinite(structure.frac_coords).all()):
        raise EvaluationFailed(f"{which} has coordinates that are no numbers")
    if structure.volume / len(structure) < 1.0:
        raise EvaluationFailed(
            f"{which} has {structure.volume / len(structure):.3g} angstrom^3/atom, less than any "
            "solid"
        )
    centers, neighbours, _, distances = structure.get_neighbor_list(_SHORTEST_PAIR)
    if len(distances):
        first = int(np.argmin(distances))
        a, b = structure[int(centers[first])], structure[int(neighbours[first])]
        raise EvaluationFailed(
            f"{which} has two atoms ({a.specie}, {b.specie}) {distances[first]:.2f} angstrom apart"
        )


def primitive_of(crystal: Structure, max_atoms: int) -> Structure:
    """Return the primitive cell, without oxidation states and site properties.

    Raises:
        EvaluationFailed: If atoms overlap, or there are more than `max_atoms` in it.
    """
    # Finding the primitive cell of thousands of atoms takes longer than relaxing a hundred; no
    # centring makes a cell more than four times its primitive one.
    if len(crystal) > 4 * max_atoms:
        raise EvaluationFailed(
            f"{len(crystal)} atoms in the cell; at most {max_atoms} in the "
            "primitive one are taken (max_atoms)"
        )
    check_geometry(crystal, "the given crystal")
    crystal = crystal.copy().remove_oxidation_states()
    for name in list(crystal.site_properties):
        crystal.remove_site_property(name)
    primitive: Structure = crystal.get_primitive_structure(tolerance=0.01)
    if len(primitive) > max_atoms:
        raise EvaluationFailed(
            f"{len(primitive)} atoms in the primitive cell; at most {max_atoms} "
            "are taken (max_atoms)"
        )
    return primitive


def symmetrised(crystal: Structure, symprec: float = 1e-3) -> Structure:
    """Return a crystal's standard primitive cell, its symmetry and origin exact.

    A relaxation leaves noise of 1e-6, by which a DFT code finds no symmetry and calculates every
    k-point, which takes ten times as long. Crystals without symmetry are left as they are.
    """
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    found = SpacegroupAnalyzer(crystal, symprec=symprec)
    if len(found.get_symmetry_operations()) < 2:
        return crystal
    standard: Structure = found.get_primitive_standard_structure()
    return standard


def only_volume_is_free(crystal: Structure, symprec: float = 1e-4) -> bool:
    """Tell whether symmetry leaves nothing of a crystal to relax but its volume.

    So it is of rock salt, zinc blende, diamond, perovskite: the cell is cubic, and every atom sits
    on a place that no vector is invariant at.
    """
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    found = SpacegroupAnalyzer(crystal, symprec=symprec)
    if found.get_crystal_system() != "cubic":
        return False
    operations = found.get_symmetry_operations(cartesian=False)
    for place in crystal.frac_coords:
        kept = []
        for operation in operations:
            moved = operation.operate(place) - place
            if np.allclose(moved, np.round(moved), atol=10 * symprec):
                kept.append(operation.rotation_matrix)
        # The mean of a group of rotations projects onto what none of them moves.
        if np.abs(np.mean(kept, axis=0)).max() > 1e-6:
            return False
    return True
