"""A crystal as its space group, Wyckoff positions, elements, free coordinates and lattice.

The description is canonical: of all the equal descriptions that a choice of cell, origin,
orientation, handedness and order of atoms allows, `describe` always finds the same one. Two
enantiomers in one space group share a description, since every scalar property of theirs is equal.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache

import moyopy
import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Structure

from generators.crystals.identity import flaw
from generators.crystals.symmetry import (
    CENTRING_AXES,
    Array,
    SpaceGroup,
    free_parameters,
    space_group,
)

# It remarks on supercells, whose primitive cell is what is wanted here.
logging.getLogger("moyo").setLevel(logging.ERROR)

SYMPREC = 0.01  # Angstrom
_SAME = 2e-3  # fractional coordinates closer than this are one


class UndescribableError(ValueError):
    """A structure for which no symmetric description was found."""


@dataclass(frozen=True)
class WyckoffCrystal:
    """A crystal in the standard setting of its space group.

    Attributes:
        number: Space group number.
        positions: Index of the Wyckoff position of each of the `k` orbits, ascending.
        elements: Atomic number of each orbit.
        free: A `k x 3` array of free coordinates in [0, 1), zero where there is none.
        lattice: a, b, c (Angstrom), alpha, beta, gamma (degrees) of the conventional cell.
    """

    number: int
    positions: tuple[int, ...]
    elements: tuple[int, ...]
    free: Array
    lattice: tuple[float, float, float, float, float, float]

    @property
    def group(self) -> SpaceGroup:
        """The space group."""
        return space_group(self.number)

    @property
    def multiplicities(self) -> tuple[int, ...]:
        """Number of atoms of each orbit in the primitive cell."""
        positions = self.group.positions
        return tuple(len(positions[p].primitive) for p in self.positions)

    @property
    def conventional(self) -> tuple[int, ...]:
        """Number of atoms of each orbit in the conventional cell."""
        return tuple(self.group.positions[p].multiplicity for p in self.positions)

    @property
    def atoms(self) -> int:
        """Number of atoms in the primitive cell."""
        return sum(self.multiplicities)

    def structure(self) -> Structure:
        """The crystal in its primitive cell."""
        axes = CENTRING_AXES[self.group.centring]
        matrix = axes @ Lattice.from_parameters(*self.lattice).matrix
        positions = [self.group.positions[p] for p in self.positions]
        sites = [p.sites(u)[list(p.primitive)] for p, u in zip(positions, self.free, strict=True)]
        species = [Element.from_Z(z) for z, s in zip(self.elements, sites, strict=True) for _ in s]
        return Structure(
            Lattice(matrix), species, np.concatenate(sites) @ np.linalg.inv(axes), to_unit_cell=True
        )


def describe(
    structure: Structure, symprec: float = SYMPREC, max_atoms: int | None = None
) -> WyckoffCrystal:
    """The canonical symmetric description of a structure.

    Args:
        structure: An ordered crystal in any cell.
        symprec: Tolerance of the symmetry search, in Angstrom.
        max_atoms: Of its primitive cell; a description of hundreds takes minutes.

    Raises:
        UndescribableError: The structure is disordered, holds what is no element or no finite
            number, has too many atoms, or no symmetry could be settled.
    """
    if why := flaw(structure):
        raise UndescribableError(why)
    cell = moyopy.Cell(
        structure.lattice.matrix.tolist(),
        structure.frac_coords.tolist(),
        [site.specie.Z for site in structure],
    )
    tolerances = [symprec / 4**k for k in range(4)]
    for tolerance in tolerances:
        # A crystal that is distorted by about the tolerance reads as one group or another by
        # rounding errors alone: take a tolerance at which half and twice of it agree.
        fine, coarse = _search(cell, tolerance / 2), _search(cell, tolerance * 2)
        if fine is None:
            continue
        agree = coarse is not None and _read(coarse) == _read(fine)
        if not agree and tolerance != tolerances[-1]:
            continue
        atoms = len(fine.prim_std_cell.numbers)
        if max_atoms is not None and atoms > max_atoms:
            raise UndescribableError(
                f"its primitive cell has {atoms} atoms; up to {max_atoms} are taken"
            )
        group = space_group(fine.number)
        standard = fine.std_cell
        orbits = _orbits(group, np.array(standard.positions), np.array(standard.numbers))
        if orbits is not None:
            return _canonical(group, Lattice(standard.basis).parameters, orbits)
    raise UndescribableError("no consistent symmetry was found")


def _search(cell: moyopy.Cell, tolerance: float) -> moyopy.MoyoDataset | None:
    try:
        return moyopy.MoyoDataset(cell, symprec=tolerance, setting=moyopy.Setting.spglib())
    except ValueError:  # no symmetry to be found at this tolerance
        return None


def _read(data: moyopy.MoyoDataset) -> tuple[int, int]:
    return data.number, len(data.std_cell.numbers)


_Orbit = tuple[int, int, Array]  # position, atomic number, one site


def _orbits(group: SpaceGroup, points: Array, kinds: NDArray[np.int64]) -> list[_Orbit] | None:
    """Orbits of a standardised conventional cell, or None where the group does not map it."""
    left = np.ones(len(points), dtype=bool)
    found: list[_Orbit] = []
    while left.any():
        i = int(np.argmax(left))
        images = group.rotations @ points[i] + group.translations
        members = np.where(left & (kinds == kinds[i]))[0]
        off = points[members][:, None] - images[None]
        off -= np.round(off)
        hit = np.abs(off).max(-1) < 1e-3
        orbit = members[hit.any(1)]
        if not hit.any(0).all():
            return None
        left[orbit] = False
        placed = _place(group, points[i], len(orbit))
        if placed is None:
            return None
        found.append((placed[0], int(kinds[i]), placed[1]))
    return found


def _place(group: SpaceGroup, site: Array, multiplicity: int) -> tuple[int, Array] | None:
    """Wyckoff position of a site, and the exact site on it nearest to the given one."""
    images = group.rotations @ site + group.translations
    for index, position in enumerate(group.positions):
        if position.multiplicity == multiplicity:
            free = free_parameters(position, images, _SAME)
            if len(free):
                return index, position.basis @ free[0] + position.origin
    return None


def _nearly_least(rows: Array, tolerance: Array | float) -> NDArray[np.int64]:
    """Indices of the rows that come first in lexicographic order, up to a tolerance."""
    keep = np.arange(len(rows))
    limits = np.broadcast_to(tolerance, rows.shape[1:])
    for column, limit in enumerate(limits):
        values = rows[keep, column]
        keep = keep[values <= values.min() + limit]
    return keep


def _lattice_parameters(metrics: Array) -> Array:
    """a, b, c, alpha, beta, gamma of metric tensors `n x 3 x 3`."""
    lengths = np.sqrt(metrics[:, [0, 1, 2], [0, 1, 2]])
    cosines = np.stack(
        [metrics[:, i, j] / lengths[:, i] / lengths[:, j] for i, j in ((1, 2), (0, 2), (0, 1))],
        1,
    )
    return np.concatenate([lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))], 1)


@lru_cache(maxsize=230)
def _inverse_axes(number: int) -> Array:
    return np.stack([np.linalg.inv(w) for w, _ in space_group(number).normalizer])


def _best_axes(group: SpaceGroup, metric: Array) -> NDArray[np.int64]:
    """Which changes of axes of the normalizer give the shortest, most even cell."""
    inverse = _inverse_axes(group.number)
    metrics = np.swapaxes(inverse, 1, 2) @ metric @ inverse
    cells = _lattice_parameters(metrics)
    keys = np.concatenate(
        [
            cells[:, :3].sum(1, keepdims=True),
            cells[:, :3],
            np.abs(cells[:, 3:] - 90).sum(1, keepdims=True),
            cells[:, 3:],
        ],
        1,
    )
    scale = 1e-3 * cells[0, :3].mean()
    return _nearly_least(keys, np.array([scale] * 4 + [0.1] * 4))


def _wrap(u: Array) -> Array:
    """Into [0, 1), with what lies just below 1 brought just below 0, so that order is stable."""
    u = u % 1.0
    return np.where(u > 1 - _SAME, u - 1, u)


def _canonical(
    group: SpaceGroup, lattice: tuple[float, ...], orbits: list[_Orbit]
) -> WyckoffCrystal:
    """The first of all equal descriptions of a crystal."""
    matrix = Lattice.from_parameters(*lattice).matrix
    if group.number <= 15:  # infinitely many cells: walk to the shortest
        for _ in range(20):
            best = group.normalizer[_best_axes(group, matrix @ matrix.T)[0]][0]
            shorter = np.linalg.inv(best).T @ matrix
            gain = np.linalg.norm(matrix, axis=1).sum() - np.linalg.norm(shorter, axis=1).sum()
            if gain < 1e-3:
                break
            origin = _origin_of(group, best)
            orbits = [
                (_moved(group, p, x, best, origin), z, best @ x + origin) for p, z, x in orbits
            ]
            matrix = shorter

    ranked: list[tuple[tuple[tuple[int, float], ...], int, Array]] = []
    chosen = _best_axes(group, matrix @ matrix.T)
    for w in chosen:
        axes, origins = group.normalizer[w]
        for origin in origins:
            key = tuple(
                sorted((_moved(group, p, x, axes, origin), element_rank(z)) for p, z, x in orbits)
            )
            ranked.append((key, int(w), origin))
    first = min(key for key, _, _ in ranked)

    # what ties is told apart by its coordinates
    free: list[Array] = []
    cells: list[int] = []
    for key, w, origin in ranked:
        if key != first:
            continue
        axes = group.normalizer[w][0]
        moved = [(_moved(group, p, x, axes, origin), z, axes @ x + origin) for p, z, x in orbits]
        moved.sort(key=lambda o: (o[0], element_rank(o[1])))
        for shift in _anchors(group, moved):
            free.append(_coordinates(group, moved, shift))
            cells.append(w)
    best_free = _nearly_least(np.stack([f.ravel() for f in free]), _SAME)[0]
    axes = np.linalg.inv(group.normalizer[cells[best_free]][0])
    metric = axes.T @ matrix @ matrix.T @ axes
    order = sorted((p, element_rank(z), z) for p, z, _ in moved)
    a, b, c, alpha, beta, gamma = _lattice_parameters(metric[None])[0]
    return WyckoffCrystal(
        number=group.number,
        positions=tuple(p for p, _, _ in order),
        elements=tuple(z for _, _, z in order),
        free=free[best_free] % 1.0,
        lattice=(a, b, c, alpha, beta, gamma),
    )


@cache
def element_rank(z: int) -> float:
    """Order of elements: the more electropositive first, then by atomic number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns where no electronegativity is known
        chi = Element.from_Z(z).X
    return (0.0 if np.isnan(chi) else chi) + z * 1e-5


def _origin_of(group: SpaceGroup, axes: Array) -> Array:
    return next(o[0] for w, o in group.normalizer if w is axes)


_MOVES: dict[tuple[int, int, bytes, bytes], int] = {}


def _moved(group: SpaceGroup, position: int, site: Array, axes: Array, origin: Array) -> int:
    """Which Wyckoff position a change of axes and origin sends a position to."""
    key = (group.number, position, axes.tobytes(), origin.tobytes())
    if key not in _MOVES:
        p = group.positions[position]
        generic = p.basis @ (np.array([0.1234567, 0.2718281, 0.3819660])[: p.dof]) + p.origin
        placed = _place(group, axes @ generic + origin, p.multiplicity)
        if placed is None:
            raise AssertionError(f"normalizer of {group.symbol} does not map position {position}")
        _MOVES[key] = placed[0]
    return _MOVES[key]


def _anchors(group: SpaceGroup, orbits: list[_Orbit]) -> list[Array]:
    """Origins to try along the polar axes: the sites of the rarest kind of orbit."""
    if not group.polar:
        return [np.zeros(3)]
    kinds = [(p, z) for p, z, _ in orbits]
    rarest = min(kinds, key=lambda k: (kinds.count(k), kinds.index(k)))
    shifts: list[Array] = []
    for p, z, x in orbits:
        if (p, z) == rarest:
            sites = group.rotations @ x + group.translations
            for site in sites:
                shift = np.zeros(3)
                shift[list(group.polar)] = -site[list(group.polar)] % 1.0
                if not any(np.abs((s - shift) - np.round(s - shift)).max() < 1e-6 for s in shifts):
                    shifts.append(shift)
    return shifts


def _coordinates(group: SpaceGroup, orbits: list[_Orbit], shift: Array) -> Array:
    """Canonical free coordinates `k x 3` of orbits that are sorted by position and element."""
    rows = []
    for p, z, x in orbits:
        position = group.positions[p]
        row = np.zeros(3)
        if position.dof:
            images = group.rotations @ (x + shift) + group.translations
            free = _wrap(free_parameters(position, images, _SAME))
            row[: position.dof] = free[_nearly_least(free, _SAME)[0]]
        rows.append((p, element_rank(z), row))
    # orbits of one position and element have no order of their own: sort by coordinates, coarsely
    rows.sort(key=lambda r: (r[0], r[1], *np.round(r[2] / _SAME / 5)))
    return np.stack([r[2] for r in rows])
