"""Real crystals of every kind of symmetry, and other views of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from pymatgen.core import Lattice, Structure


@lru_cache(maxsize=1)
def crystals() -> dict[str, Structure]:
    build = Structure.from_spacegroup
    return {
        "rocksalt": build("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "zincblende": build("F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25] * 3]),
        "perovskite": build(
            "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]
        ),
        "rutile": build(
            "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
        ),
        "wurtzite": build(
            "P6_3mc",
            Lattice.hexagonal(3.11, 4.98),
            ["Al", "N"],
            [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]],
        ),
        "corundum": build(
            "R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]
        ),
        "quartz": build(
            "P3_121",
            Lattice.hexagonal(4.91, 5.40),
            ["Si", "O"],
            [[0.47, 0, 1 / 3], [0.413, 0.267, 0.214]],
        ),
        "monoclinic": build(
            "P2_1/c",
            Lattice.monoclinic(5.15, 5.21, 5.32, 99.2),
            ["Zr", "O", "O"],
            [[0.275, 0.04, 0.208], [0.07, 0.332, 0.345], [0.45, 0.757, 0.479]],
        ),
        "orthorhombic": build(
            "Pnma",
            Lattice.orthorhombic(5.4, 7.6, 5.3),
            ["Ca", "Ti", "O", "O"],
            [[0.03, 0.25, 0.99], [0, 0, 0.5], [0.48, 0.25, 0.07], [0.29, 0.04, 0.71]],
        ),
        "polar monoclinic": build(
            "Cm",
            Lattice.monoclinic(9.1, 5.2, 6.3, 104.0),
            ["K", "Cl", "O"],
            [[0.0, 0, 0.0], [0.31, 0, 0.42], [0.17, 0.23, 0.71]],
        ),
        "triclinic": Structure(
            Lattice.from_parameters(4.1, 5.3, 6.2, 81, 97, 103),
            ["Na", "Cl", "O", "S"],
            [[0.01, 0.02, 0.03], [0.41, 0.33, 0.52], [0.77, 0.61, 0.18], [0.22, 0.85, 0.70]],
        ),
    }


def other_view(structure: Structure, seed: int) -> Structure:
    """The same crystal in another cell, origin, orientation and order of atoms."""
    rng = np.random.default_rng(seed)
    while True:
        axes = rng.integers(-1, 2, (3, 3))
        volume = abs(round(np.linalg.det(axes)))
        if volume in (1, 2):
            break
    moved = structure.copy()
    moved.make_supercell(axes)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if np.linalg.det(rotation) < 0:
        rotation = -rotation
    order = rng.permutation(len(moved))
    return Structure(
        Lattice(moved.lattice.matrix @ rotation),
        [moved[int(i)].specie for i in order],
        (moved.frac_coords + rng.random(3))[order],
        to_unit_cell=True,
    )
