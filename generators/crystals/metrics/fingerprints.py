"""The two fingerprints by which coverage compares crystals, as matminer defines them.

matminer (0.10) needs pandas 2, and so cannot be installed beside matloop. Both fingerprints are
therefore put together here from what stands below them: CrystalNN and the order parameters of
pymatgen, and Magpie's table of elements (`magpie.csv`, as ElementEmbeddings packages it, MIT).
`docs/generators.md` tells how closely they agree with matminer's.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Structure
from pymatgen.core.local_env import CN_OPT_PARAMS, CrystalNN, LocalStructOrderParams

from generators.crystals.parallel import cached

OPS = 61
MAGPIE = 132
_LARGEST = 24  # coordination number
# The motifs of each coordination number (Zimmermann & Jain 2020), in the order of matminer's "ops".
_MOTIFS: dict[int, tuple[str, ...]] = {
    1: ("sgl_bd",),
    2: ("L-shaped", "water-like", "bent 120 degrees", "bent 150 degrees", "linear"),
    3: ("trigonal planar", "trigonal non-coplanar", "T-shaped"),
    4: (
        "square co-planar",
        "tetrahedral",
        "rectangular see-saw-like",
        "see-saw-like",
        "trigonal pyramidal",
    ),
    5: ("pentagonal planar", "square pyramidal", "trigonal bipyramidal"),
    6: ("hexagonal planar", "octahedral", "pentagonal pyramidal"),
    7: ("hexagonal pyramidal", "pentagonal bipyramidal"),
    8: ("body-centered cubic", "hexagonal bipyramidal"),
    9: ("q2", "q4", "q6"),
    10: ("q2", "q4", "q6"),
    11: ("q2", "q4", "q6"),
    12: ("cuboctahedral", "q2", "q4", "q6"),
}


@cache
def _orders(number: int) -> list[LocalStructOrderParams]:
    """One object for each motif: pymatgen's values change with what else is asked of an object."""
    made = []
    for motif in _MOTIFS.get(number, ()):
        kind: list[Any] = list(CN_OPT_PARAMS.get(number, {}).get(motif, [motif]))
        parameters = {k: float(v) for k, v in kind[1].items()} if len(kind) > 1 else None
        made.append(LocalStructOrderParams([str(kind[0])], parameters=[parameters]))
    return made


@cache
def _neighbours() -> CrystalNN:
    return CrystalNN()


def site_fingerprint(structure: Structure, site: int) -> NDArray[np.float64]:
    """Weights of coordination numbers and motifs of a site (61 numbers, Zimmermann & Jain 2020)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CrystalNN misses oxidation states at every site
        found = _neighbours().get_nn_data(structure, site)
    row: list[float] = []
    for number in range(1, _LARGEST + 1):
        weight = float(found.cn_weights.get(number, 0))
        row.append(weight)
        if not weight:
            row += [0.0] * len(_orders(number))
            continue
        around = [neighbour["site"] for neighbour in found.cn_nninfo[number]]
        sites: Any = [structure[site], *around]  # it takes any list of sites
        where = list(range(1, len(sites)))
        for order in _orders(number):
            (value,) = order.get_order_parameters(sites, 0, indices_neighs=where)
            row.append(weight * float(value or 0))
    return np.array(row)


def structure_fingerprint(structure: Structure) -> NDArray[np.float64]:
    """Mean of the site fingerprints (61 numbers); nan where one cannot be had.

    Sites that symmetry makes equal are computed once.
    """
    try:
        sites, counts = np.unique(_orbits(structure), return_counts=True)
        rows = np.array([site_fingerprint(structure, int(i)) for i in sites])
    # Voronoi cells that do not close, sites without neighbours: each fails in its own way, and
    # Xie et al. (2022) count the crystal as invalid.
    except Exception:
        return np.full(OPS, np.nan)
    return np.asarray(np.average(rows, axis=0, weights=counts), dtype=float)


def _orbits(structure: Structure) -> NDArray[np.int64]:
    """The site that stands for each site, by symmetry that holds to 0.001 A."""
    import moyopy

    _, numbers = np.unique([s.specie.Z for s in structure], return_inverse=True)
    cell = moyopy.Cell(
        basis=structure.lattice.matrix.tolist(),
        positions=structure.frac_coords.tolist(),
        numbers=numbers.tolist(),
    )
    try:
        found: Any = moyopy.MoyoDataset(cell, symprec=1e-3)
    except Exception:  # no symmetry was found: each site stands for itself
        return np.arange(len(structure))
    return np.asarray(found.orbits)


def structure_fingerprints(structures: Sequence[Structure], workers: int) -> NDArray[np.float64]:
    """`structure_fingerprint` of `n` structures, `n x 61`, kept in the cache on disk."""
    name = f"ops-1-pymatgen-{version('pymatgen-core')}"
    return cached(name, structure_fingerprint, structures, OPS, workers)


@cache
def magpie_table() -> dict[str, NDArray[np.float64]]:
    """The 22 numbers that Magpie has of an element (Ward 2016); nan where it has none."""
    with (Path(__file__).parent / "magpie.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    return {row[0]: np.array([float(v) if v else np.nan for v in row[1:]]) for row in rows}


def magpie(composition: Composition) -> NDArray[np.float64]:
    """Minimum, maximum, range, mean, mean deviation and mode of each of Magpie's 22 properties.

    132 numbers, as matminer's preset `magpie`; nan where the table has none.
    """
    amounts = {e.symbol: n for e, n in composition.fractional_composition.items()}
    missing = np.full(22, np.nan)
    values = np.array([magpie_table().get(symbol, missing) for symbol in amounts])  # e x 22
    weights = np.array(list(amounts.values()))
    mean = weights @ values
    low, high = values.min(0), values.max(0)
    spread = weights @ np.abs(values - mean)
    # of elements that are equally many, the smallest value
    most = weights >= weights.max() - 1e-8
    mode = values[most].min(0)
    return np.stack([low, high, high - low, mean, spread, mode], 1).ravel()


@cache
def _scaling() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    data = json.loads((Path(__file__).parent / "coverage.json").read_text())
    return np.array(data["magpie_mean"]), np.array(data["magpie_deviation"])


def composition_fingerprints(compositions: Sequence[Composition]) -> NDArray[np.float64]:
    """Magpie's numbers as Xie et al. (2022) standardise them (`n x 132`); what is unknown is 0."""
    mean, deviation = _scaling()
    rows = np.array([magpie(c) for c in compositions]).reshape(-1, MAGPIE)
    return np.asarray(np.nan_to_num((rows - mean) / deviation, nan=0.0))
