"""What any predictor must get about right: a few crystals whose properties everybody knows.

That weights load says nothing: those of matgl 2 load under matgl 4 and are 1 eV/atom off for every
compound, because messages went to the other end of an edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Lattice, Structure

from generators.crystals.predictors.base import PredictorError

if TYPE_CHECKING:
    from generators.crystals.predictors.base import Predictor

# Edge of the cubic cell (angstrom), elements, and where the second one is in the primitive cell.
_CELLS: dict[str, tuple[float, tuple[str, ...], float]] = {
    "MgO": (4.25, ("Mg", "O"), 0.5),
    "NaCl": (5.66, ("Na", "Cl"), 0.5),
    "TiN": (4.24, ("Ti", "N"), 0.5),
    "AlN": (4.39, ("Al", "N"), 0.25),
    "GaAs": (5.70, ("Ga", "As"), 0.25),
    "Cu": (3.61, ("Cu",), 0.0),
}

WINDOWS: dict[str, dict[str, tuple[float, float]]] = {
    "formation_energy": {
        "MgO": (-3.6, -2.2),
        "NaCl": (-2.5, -1.4),
        "TiN": (-2.4, -1.3),
        "AlN": (-2.0, -0.9),
    },
    "energy": {"MgO": (-6.6, -5.4), "NaCl": (-3.9, -2.9), "Cu": (-4.5, -3.3)},
    "band_gap": {"MgO": (3.0, 7.0), "NaCl": (3.5, 8.0)},
    "bulk_modulus": {"MgO": (120, 200), "NaCl": (15, 40), "TiN": (200, 350), "Cu": (100, 190)},
    "shear_modulus": {"MgO": (80, 170), "NaCl": (8, 28), "TiN": (100, 260)},
    "poisson_ratio": {"MgO": (0.1, 0.32), "Cu": (0.27, 0.45)},
    "metal": {"MgO": (0.0, 0.4), "Cu": (0.6, 1.0), "TiN": (0.6, 1.0)},
    "magnetic_moment": {"MgO": (0.0, 0.2), "Cu": (0.0, 0.2)},
    # One of seven crystals that were made scores below 0.5: GaAs, 0.41, is one of them.
    "synthesizability": {"MgO": (0.5, 1.0), "NaCl": (0.5, 1.0)},
}
"""Where a property of a crystal must lie: around PBE, r2SCAN and experiment, in the units here."""


def known_crystal(formula: str) -> Structure:
    """The primitive cell of one of the known crystals."""
    edge, symbols, place = _CELLS[formula]
    half = edge / 2
    lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    return Structure(lattice, symbols, [[0.0] * 3, [place] * 3][: len(symbols)])


def self_test(predictor: Predictor) -> dict[str, dict[str, float]]:
    """Refuse a predictor that is wrong about a known crystal.

    Returns:
        The figures, by property and crystal.

    Raises:
        PredictorError: Names the crystal, the figure and the window.
    """
    formulas = list(_CELLS)
    values = predictor.predict([known_crystal(f) for f in formulas])
    figures: dict[str, dict[str, float]] = {}
    for column, (name, unit) in enumerate(predictor.properties.items()):
        for formula, (low, high) in WINDOWS.get(name, {}).items():
            value = float(values[formulas.index(formula), column])
            if not low <= value <= high or not np.isfinite(value):
                raise PredictorError(
                    f"the predictor {predictor.name} loads but fails its self-test: {name} of"
                    f" {formula} {value:.3g} {unit}, which must lie between {low:g} and {high:g}",
                    "its weights do not fit the installed packages; use another predictor",
                )
            figures.setdefault(name, {})[formula] = round(value, 4)
    return figures
