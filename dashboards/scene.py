"""A crystal as plain points for a viewer that knows no symmetry: sites, bonds and polyhedra.

The viewer draws what it is given, in P1. So an atom on a face of the box stands on the opposite
face too, and a coordination polyhedron on the border has its outer corners.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dashboards.crystal_picture import colour
from dashboards.crystals import SYMPREC, symmetry

if TYPE_CHECKING:
    from pymatgen.core import Structure

MOST_SITES: Final = 1000
MOST_TIMES: Final = 5

_EDGE = 1e-2  # fraction of the cell: an atom so close to a face is drawn on the opposite face too
_FAR, _NEAR = 1.3, 1.2  # a bond, as `dashboards.crystal_picture` draws them
_PULL = 0.4  # Pauling's electronegativity: corners draw the electrons from the centre
_CORNERS = range(4, 13)


def scene(
    structure: Structure, cell: str = "conventional", times: Sequence[int] = (1, 1, 1)
) -> dict[str, Any]:
    """What to draw of a crystal, in Angstrom.

    Bonds join atoms that are about as close as either has a neighbour, through the borders of the
    cell too; polyhedra stand around atoms whose neighbours are all more electronegative.

    Args:
        structure: With any symmetry.
        cell: `conventional`, or `given` for the cell as it is.
        times: Of the cell along a, b and c.

    Returns:
        formula, group (symbol, number), lattice (a, b, c, alpha, beta, gamma, volume),
        cell and box (`3 x 3`, rows are vectors), times, cell_kind; kinds (element, colour, radius),
        atoms (kind, x, y, z), of which the first `sites` are the box's and the others repeat them
        on its border; bonds (pairs of atoms); polyhedra (kind, corners, faces, edges).

    Raises:
        ValueError: The box has more than `MOST_SITES` sites.
    """
    symbol, number, conventional = symmetry(structure)
    unit = conventional if cell == "conventional" else structure
    if len(unit) * int(np.prod(times)) > MOST_SITES:
        raise ValueError(f"{len(unit) * int(np.prod(times))} sites; {MOST_SITES} at most are drawn")
    around = _neighbours(unit)
    box = np.asarray(unit.lattice.matrix) * np.asarray(times)[:, None]
    kinds = sorted({_symbol(site) for site in unit})
    atoms = _Atoms(unit, np.asarray(times), kinds)
    bonds: set[tuple[int, int]] = set()
    polyhedra = []
    for index, (site, shift) in enumerate(list(atoms.where)):
        corners = [(other, shift + image) for other, image in around[site]]
        if _centre(unit, site, [other for other, _ in corners]):
            # its corners are shown even where they lie beyond the border
            found = _polyhedron(atoms, corners)
            if found is not None:
                polyhedra.append({"kind": atoms.rows[index][0], **found})
    for index, (site, shift) in enumerate(list(atoms.where)):
        for other, image in around[site]:
            there = atoms.at(other, shift + image)
            if there is not None:
                bonds.add((min(index, there), max(index, there)))
    lattice = unit.lattice
    return {
        "formula": structure.composition.reduced_formula,
        "group": {"symbol": symbol, "number": number} if number else None,
        "symprec": SYMPREC,
        "cell_kind": cell,
        "times": [int(n) for n in times],
        "lattice": {
            **{k: round(float(v), 5) for k, v in zip("abc", lattice.abc, strict=True)},
            **{
                k: round(float(v), 4)
                for k, v in zip(("alpha", "beta", "gamma"), lattice.angles, strict=True)
            },
            "volume": round(float(lattice.volume), 4),
        },
        "cell": _rounded(unit.lattice.matrix),
        "box": _rounded(box),
        "kinds": [{"element": k, "colour": colour(k), "radius": _radius(k)} for k in kinds],
        "sites": atoms.sites,
        "atoms": [[k, *_rounded(xyz)] for k, xyz in atoms.rows],
        "bonds": sorted(bonds),
        "polyhedra": polyhedra,
    }


class _Atoms:
    """The atoms that are drawn: those of the box, then what repeats them on its border."""

    def __init__(self, unit: Structure, times: np.ndarray, kinds: list[str]) -> None:
        self._unit, self._kinds = unit, kinds
        self._found: dict[tuple[int, tuple[int, ...]], int] = {}
        self.where: list[tuple[int, np.ndarray]] = []
        self.rows: list[tuple[int, np.ndarray]] = []
        self._frac = np.array([site.frac_coords for site in unit])
        inside = [
            (site, np.array(shift) - np.floor(self._frac[site] + _EDGE).astype(int))
            for shift in itertools.product(*(range(n) for n in times))
            for site in range(len(unit))
        ]
        for site, shift in inside:
            self.add(site, shift)
        self.sites = len(self.rows)
        for site, shift in inside:
            at = self._frac[site] + shift
            on = [(0, int(n)) if abs(x) < _EDGE else (0,) for x, n in zip(at, times, strict=True)]
            for more in itertools.product(*on):
                self.add(site, shift + np.array(more))

    def add(self, site: int, shift: np.ndarray) -> int:
        """The row of an atom, which is new if it was not there."""
        key = (site, tuple(int(s) for s in shift))
        if key not in self._found:
            self._found[key] = len(self.rows)
            self.where.append((site, np.asarray(key[1])))
            xyz = (self._frac[site] + shift) @ self._unit.lattice.matrix
            self.rows.append((self._kinds.index(_symbol(self._unit[site])), xyz))
        return self._found[key]

    def at(self, site: int, shift: np.ndarray) -> int | None:
        """The row of an atom, if it is drawn."""
        return self._found.get((site, tuple(int(s) for s in shift)))


def _neighbours(unit: Structure) -> list[list[tuple[int, np.ndarray]]]:
    """By site, what it is bonded to: site and the cell that is in."""
    covalent = np.array([_covalent(_symbol(site)) for site in unit])
    reach = 2 * _FAR * float(covalent.max())
    here, there, image, distance = unit.get_neighbor_list(reach)
    nearest = np.full(len(unit), np.inf)
    np.minimum.at(nearest, here, distance)
    near = distance <= _NEAR * np.minimum(nearest[here], nearest[there])
    short = distance <= _FAR * (covalent[here] + covalent[there])
    found: list[list[tuple[int, np.ndarray]]] = [[] for _ in unit]
    for k in np.flatnonzero(near & short):
        found[int(here[k])].append((int(there[k]), image[k].astype(int)))
    return found


def _centre(unit: Structure, site: int, corners: list[int]) -> bool:
    from pymatgen.core import Element

    pull = Element(_symbol(unit[site])).X
    return len(corners) in _CORNERS and all(
        Element(_symbol(unit[other])).X - pull > _PULL for other in corners
    )


def _polyhedron(atoms: _Atoms, corners: list[tuple[int, np.ndarray]]) -> dict[str, Any] | None:
    """The convex hull of the corners: triangles, and the edges where two faces meet at an angle."""
    from scipy.spatial import ConvexHull, QhullError

    rows = [atoms.add(other, shift) for other, shift in corners]
    points = np.array([atoms.rows[row][1] for row in rows])
    try:
        hull = ConvexHull(points)
    except QhullError:
        return None  # flat: a square or a triangle
    middle = points.mean(axis=0)
    faces, sides = [], dict[tuple[int, int], list[np.ndarray]]()
    for triangle, plane in zip(hull.simplices, hull.equations, strict=True):
        a, b, c = (int(k) for k in triangle)
        outward = np.dot(np.cross(points[b] - points[a], points[c] - points[a]), points[a] - middle)
        faces.append([rows[a], rows[b], rows[c]] if outward > 0 else [rows[a], rows[c], rows[b]])
        for i, j in ((a, b), (b, c), (a, c)):
            sides.setdefault((min(i, j), max(i, j)), []).append(plane[:3])
    edges = [
        [rows[i], rows[j]]
        for (i, j), normals in sides.items()
        if len(normals) < 2 or float(np.dot(normals[0], normals[1])) < 0.99
    ]
    return {"corners": rows, "faces": faces, "edges": edges}


def _symbol(site: Any) -> str:
    """The element of a site; of a disordered one, that of which there is most."""
    most = max(site.species.items(), key=lambda item: item[1])[0]
    return str(getattr(most, "symbol", most))


def _covalent(symbol: str) -> float:
    from ase.data import atomic_numbers, covalent_radii

    return float(covalent_radii[atomic_numbers[symbol]]) if symbol in atomic_numbers else 1.2


def _radius(symbol: str) -> float:
    return round(0.22 + 0.26 * _covalent(symbol), 3)


def _rounded(values: Any) -> Any:
    return np.round(np.asarray(values, dtype=float), 4).tolist()
