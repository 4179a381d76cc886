"""Many crystals placed at once: from tokens to cells, sites and closest contacts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Structure

from generators.crystals.symmetry import CENTRING_AXES, Array, space_group
from generators.crystals.tokens import (
    GROUPS,
    MAX_POSITIONS,
    MAX_Z,
    NO_POSITION,
    Tokens,
    magpie_radii,
)

CLOSEST = 0.5  # Angstrom; with the volume the validity rule of Xie et al. (2022)
LEAST_VOLUME = 0.1  # Angstrom^3
_REACH = 3.0  # Angstrom; contacts up to here are exact
_MOST = 5  # cells to each side, of a cell that is thin
_SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "hexagonal", "cubic")
_TRICLINIC, _MONOCLINIC, _ORTHORHOMBIC, _TETRAGONAL, _HEXAGONAL, _CUBIC = range(6)


@dataclass(frozen=True)
class Placed:
    """`n` crystals in their primitive cells.

    Attributes:
        cells: `n x 3 x 3`, lattice vectors as rows (Angstrom).
        sites: `m x 3`, fractional coordinates of all atoms, crystal after crystal.
        elements: `m` atomic numbers.
        starts: `n + 1`, where each crystal's atoms begin.
        heads: `m`, whether an atom is the first of its orbit.
        kinds: `m`, which site of which Wyckoff position an atom is, as a row of the tables.
        fine: `n`, whether there are atoms and the cell is a cell.
    """

    cells: Array
    sites: Array
    elements: NDArray[np.int64]
    starts: NDArray[np.int64]
    heads: NDArray[np.bool_]
    kinds: NDArray[np.int64]
    fine: NDArray[np.bool_]

    def __getitem__(self, index: NDArray[np.int64]) -> Placed:
        """Some of the crystals."""
        sizes = np.diff(self.starts)[index]
        atoms = np.repeat(self.starts[index], sizes) + _ranks(sizes)
        return Placed(
            self.cells[index], self.sites[atoms], self.elements[atoms],
            np.concatenate([[0], np.cumsum(sizes)]), self.heads[atoms], self.kinds[atoms],
            self.fine[index],
        )  # fmt: skip

    @property
    def crystal(self) -> NDArray[np.int64]:
        """`m`, which crystal an atom is of."""
        return np.repeat(np.arange(len(self.cells)), np.diff(self.starts))

    def mobile(self) -> NDArray[np.bool_]:
        """`n`, of which crystals symmetry lets an atom move."""
        found = np.zeros(len(self.cells), dtype=bool)
        found[self.crystal[_tables()[2][self.kinds].any((1, 2))]] = True
        return found

    def moved(self, move: Array) -> Placed:
        """The same with the first atoms of orbits moved, and the others as symmetry demands.

        Args:
            move: Of each such atom, in fractional coordinates; what its position does not allow
                is left out.
        """
        matrices = _tables()[2]
        free = np.linalg.pinv(matrices[self.kinds[self.heads]]) @ move[..., None]
        every = matrices[self.kinds] @ free[np.cumsum(self.heads) - 1]
        return replace(self, sites=(self.sites + every[..., 0]) % 1.0)

    def pairs(self, atom: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Some atoms, each with every atom of its crystal.

        Returns:
            Which of the `r` atoms, the other atom, and from one to the other by the nearest images
            along each axis, `p x 3` in fractional coordinates.
        """
        crystal = self.crystal[atom]
        others = np.diff(self.starts)[crystal]
        one = np.repeat(np.arange(len(atom)), others)
        two = np.repeat(self.starts[crystal], others) + _ranks(others)
        apart = self.sites[two] - self.sites[atom[one]]
        return one, two, apart - np.round(apart)

    def structure(self, i: int) -> Structure:
        """Crystal `i`."""
        atoms = slice(self.starts[i], self.starts[i + 1])
        species = [_elements()[z] for z in self.elements[atoms]]
        return Structure(Lattice(self.cells[i]), species, self.sites[atoms])


def _ranks(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... of each of some runs of these sizes, run after run."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


@lru_cache(maxsize=1)
def _elements() -> tuple[Element | None, ...]:
    return (None, *(Element.from_Z(z) for z in range(1, MAX_Z + 1)))


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.int64], NDArray[np.int64], Array, Array]:
    """Where each position's sites begin and how many there are (`231 x 28`), in primitive cells.

    With them, for each site, the matrix `3 x 3` that takes free coordinates to it, and its origin.
    """
    first = np.zeros((GROUPS, MAX_POSITIONS + 1), dtype=np.int64)
    count = np.zeros_like(first)
    matrices, origins, total = [], [], 0
    for number in range(1, GROUPS):
        group = space_group(number)
        inverse = np.linalg.inv(CENTRING_AXES[group.centring])
        for i, p in enumerate(group.positions):
            kept = list(p.primitive)
            basis = np.zeros((len(kept), 3, 3))
            basis[:, :, : p.dof] = p.rotations[kept] @ p.basis
            origin = p.rotations[kept] @ p.origin + p.translations[kept]
            matrices.append(inverse.T @ basis)
            origins.append(origin @ inverse)
            first[number, i], count[number, i] = total, len(kept)
            total += len(kept)
    return first, count, np.concatenate(matrices), np.concatenate(origins)


@lru_cache(maxsize=1)
def _groups() -> tuple[NDArray[np.int64], Array, NDArray[np.int64]]:
    """Crystal system of each group, primitive vectors `231 x 3 x 3`, multiplicities."""
    system = np.zeros(GROUPS, dtype=np.int64)
    axes = np.tile(np.eye(3), (GROUPS, 1, 1))
    conventional = np.zeros((GROUPS, MAX_POSITIONS + 1), dtype=np.int64)
    for number in range(1, GROUPS):
        group = space_group(number)
        system[number] = _SYSTEMS.index(group.system)
        axes[number] = CENTRING_AXES[group.centring]
        for i, p in enumerate(group.positions):
            conventional[number, i] = p.multiplicity
    return system, axes, conventional


def cells(tokens: Tokens, volumes: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Conventional cells, `n x 3 x 3`, brought to their crystal systems, and which are cells."""
    system_of, _, conventional = _groups()
    group = tokens.group.numpy()
    position, element = tokens.position.numpy(), tokens.element.numpy()
    numbers = tokens.lattice.double().numpy()
    system = system_of[group]
    edges = np.exp(np.clip(numbers[:, 1:4], -6, 6))
    angles = np.clip(90 + 10 * numbers[:, 4:], 20, 160)
    edges[system == _CUBIC] = 1.0
    same = np.isin(system, (_TETRAGONAL, _HEXAGONAL))
    edges[same, :2] = np.sqrt(edges[same, 0] * edges[same, 1])[:, None]
    angles[system >= _ORTHORHOMBIC] = 90.0
    angles[np.ix_(system == _MONOCLINIC, [0, 2])] = 90.0
    angles[system == _HEXAGONAL, 2] = 120.0
    cos, sin = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    square = 1 - (cos**2).sum(1) + 2 * cos.prod(1)
    unit = edges.prod(1) * np.sqrt(np.maximum(square, 1e-12))
    per_formula = (volumes[element] * conventional[group[:, None], position]).sum(1)
    volume = np.exp(np.clip(numbers[:, 0], -5, 5)) * per_formula
    fine = (unit >= 1e-3) & (volume > LEAST_VOLUME) & np.isfinite(numbers).all(1)
    edges *= np.cbrt(np.where(fine, volume / np.maximum(unit, 1e-12), 1.0))[:, None]
    # as pymatgen's Lattice.from_parameters has them
    value = np.clip((cos[:, 0] * cos[:, 1] - cos[:, 2]) / (sin[:, 0] * sin[:, 1]), -1, 1)
    star = np.arccos(value)
    zero = np.zeros(len(group))
    a, b, c = edges.T
    matrix = np.stack(
        [
            np.stack([a * sin[:, 1], zero, a * cos[:, 1]], 1),
            np.stack(
                [-b * sin[:, 0] * np.cos(star), b * sin[:, 0] * np.sin(star), b * cos[:, 0]], 1
            ),
            np.stack([zero, zero, c], 1),
        ],
        1,
    )
    return matrix, fine


def place(tokens: Tokens, volumes: Array) -> Placed:
    """Cells and sites of `n` crystals.

    Args:
        tokens: On the CPU.
        volumes: Volume of an atom of each element (Angstrom^3), by atomic number.
    """
    first, count, matrices, origins = _tables()
    group, position = tokens.group.numpy(), tokens.position.numpy()
    conventional, fine = cells(tokens, volumes)
    matrix = _groups()[1][group] @ conventional
    crystal, orbit = np.nonzero(position != NO_POSITION)
    kind = group[crystal], position[crystal, orbit]
    many = count[kind]
    which = np.repeat(np.arange(len(crystal)), many)  # the orbit of each atom
    rank = _ranks(many)
    row = first[kind][which] + rank
    free = tokens.free.double().numpy()[crystal, orbit] % 1.0
    sites = (matrices[row] @ free[which][:, :, None])[:, :, 0] + origins[row]
    per_crystal = np.bincount(crystal[which], minlength=len(group))
    return Placed(
        cells=matrix,
        sites=sites % 1.0,
        elements=tokens.element.numpy()[crystal, orbit][which],
        starts=np.concatenate([[0], np.cumsum(per_crystal)]),
        heads=rank == 0,
        kinds=row,
        fine=fine & (per_crystal > 0),
    )


def closeness(structure: Structure, contact: float) -> float:
    """The smallest distance of two atoms, images included, over the sum of their radii.

    Only distances that may be below `contact` are looked at; else infinite.
    """
    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius

    radii = np.array([CovalentRadius.radius.get(s.specie.symbol, 1.5) for s in structure])
    first, second, _, distance = structure.get_neighbor_list(2 * contact * float(radii.max()) + 0.1)
    if not len(distance):
        return float("inf")
    return float((distance / (radii[first] + radii[second])).min())


def contacts(placed: Placed) -> tuple[Array, Array]:
    """The closest distance between atoms of each crystal, and the closest contact.

    Returns:
        `n` distances (Angstrom); and `n` least ratios of a distance to the sum of the two atoms'
        covalent radii. Exact up to 3 Angstrom; infinite where atoms are farther than some images.
    """
    n = len(placed.cells)
    closest, tightest = np.full(n, np.inf), np.full(n, np.inf)
    radii = magpie_radii()
    normals = np.linalg.inv(np.where(placed.fine[:, None, None], placed.cells, np.eye(3)))
    # a shift by k cells moves a vector of at most half a cell by over k - 1/2 heights of the cell
    images = np.clip(np.floor(_REACH * np.linalg.norm(normals, axis=1).max(1) + 0.5), 1, _MOST)
    crystal = placed.crystal
    atom = np.flatnonzero(placed.heads & placed.fine[crystal])
    pair, two, apart = placed.pairs(atom)
    one = atom[pair]
    of = crystal[one]
    reach = radii[placed.elements[one]] + radii[placed.elements[two]]
    for limit in range(1, _MOST + 1):
        where = np.flatnonzero(images[of] == limit)
        if not len(where):
            continue
        span = np.arange(-limit, limit + 1)
        shifts = np.stack(np.meshgrid(span, span, span, indexing="ij"), -1).reshape(-1, 3)
        for part in np.array_split(where, 1 + len(where) * len(shifts) // 1_000_000):
            cell = placed.cells[of[part]]
            base = (apart[part][:, None] @ cell)[:, 0]
            square = np.zeros((len(part), len(shifts)))
            for axis in range(3):
                square += (base[:, axis, None] + cell[:, :, axis] @ shifts.T) ** 2
            own = one[part] == two[part]
            square[own, len(shifts) // 2] = np.inf
            least = np.sqrt(square.min(1))
            np.minimum.at(closest, of[part], least)
            np.minimum.at(tightest, of[part], least / reach[part])
    return closest, tightest
