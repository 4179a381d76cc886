"""Space groups, their Wyckoff positions and their normalizers, worked out from the operations.

Everything is in the standard setting of the International Tables A as spglib orders it (the first
Hall number of each group). Wyckoff positions are the classes of affine subspaces that a site
symmetry fixes; normalizers (International Tables A, chapter 3.5) are the changes of axes and origin
that leave a group as it is, so that one crystal has several equal descriptions.

Wyckoff positions are read from `wyckoff_positions.json`, which `python -m
generators.crystals.symmetry` works out in seconds; a test holds the file against this code.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray

Array = NDArray[np.float64]

GRID = 24  # every constant of a Wyckoff position or normalizer is a multiple of 1/24
_PROBE = np.array([2**0.5, 3**0.5, 5**0.5]) / 10.07  # a point on no symmetry element

CENTRING_AXES: dict[str, Array] = {
    # rows: primitive vectors in terms of the conventional ones
    "P": np.eye(3),
    "A": np.array([[1, 0, 0], [0, 0.5, -0.5], [0, 0.5, 0.5]]),
    "C": np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]]),
    "I": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
    "F": np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}


@dataclass(frozen=True)
class WyckoffPosition:
    """One Wyckoff position: the points `basis @ u + origin`, free parameters `u` of length `dof`.

    Attributes:
        multiplicity: Sites in the conventional cell.
        dof: Number of free coordinates, 0 to 3.
        pivots: The coordinates that the free parameters are.
        basis: A `3 x dof` array.
        origin: A point of 3 fractional coordinates, zero at the pivots.
        rotations: `multiplicity x 3 x 3`; with `translations`, the operations that make every site
            from the first.
        translations: `multiplicity x 3`.
        primitive: Indices of one site for each lattice point of the primitive cell.
    """

    multiplicity: int
    dof: int
    pivots: tuple[int, ...]
    basis: Array
    origin: Array
    rotations: Array
    translations: Array
    primitive: tuple[int, ...]

    def point(self, free: Array) -> Array:
        """Fractional coordinates of the first site for free parameters of length 3 (padded)."""
        return self.basis @ np.asarray(free, dtype=float)[: self.dof] + self.origin

    def sites(self, free: Array) -> Array:
        """Fractional coordinates, `multiplicity x 3`, of all sites in the conventional cell."""
        return self.rotations @ self.point(free) + self.translations


_LATTICE_DOF = {
    "triclinic": 6,
    "monoclinic": 4,
    "orthorhombic": 3,
    "tetragonal": 2,
    "hexagonal": 2,
    "cubic": 1,
}


@dataclass(frozen=True, eq=False)
class SpaceGroup:
    """A space group in its standard setting.

    Attributes:
        number: 1 to 230.
        symbol: Short international symbol.
        rotations: `o x 3 x 3` operations with their `translations`, `o x 3`, centring included.
        centring: P, A, C, I, F or R.
        positions: Wyckoff positions, lowest multiplicity first; they are named by their index.
        polar: Coordinates along which the origin is free.
    """

    number: int
    symbol: str
    rotations: Array
    translations: Array
    centring: str
    positions: tuple[WyckoffPosition, ...]
    polar: tuple[int, ...]

    @cached_property
    def normalizer(self) -> tuple[tuple[Array, Array], ...]:
        """Changes of description that leave the group as it is.

        Pairs of a change of axes `W` (3 x 3) and origins `w` (`k x 3`), one for each class that is
        not an operation of the group; the origin along `polar` is free besides.
        """
        return _normalizer(self.number, self.rotations, self.translations, self.polar)

    @cached_property
    def order(self) -> int:
        """Number of operations of its point group, 1 to 48."""
        return len(np.unique(self.rotations.reshape(-1, 9), axis=0))

    @cached_property
    def centrosymmetric(self) -> bool:
        """Whether inversion is among its operations."""
        return bool((self.rotations == -np.eye(3)).all((1, 2)).any())

    @property
    def lattice_dof(self) -> int:
        """Number of lengths and angles of its lattice that are free: 1 (cubic) to 6 (triclinic)."""
        return _LATTICE_DOF[self.system]

    @property
    def system(self) -> str:
        """Crystal system, with trigonal groups counted as hexagonal (their axes are)."""
        bounds = ((2, "triclinic"), (15, "monoclinic"), (74, "orthorhombic"), (142, "tetragonal"))
        return next((s for last, s in bounds if self.number <= last), None) or (
            "hexagonal" if self.number <= 194 else "cubic"
        )


def _space_group_type(hall: int) -> spglib.SpaceGroupType:
    found = spglib.get_spacegroup_type(hall)
    assert found is not None, f"spglib knows no Hall number {hall}"
    return found


@lru_cache(maxsize=1)
def _first_hall() -> dict[int, int]:
    first: dict[int, int] = {}
    for hall in range(1, 531):
        first.setdefault(_space_group_type(hall).number, hall)
    return first


def operations(number: int) -> tuple[Array, Array]:
    """Rotations `o x 3 x 3` and translations `o x 3` of a space group's standard setting.

    Raises:
        ValueError: The number is not in 1 to 230.
    """
    if number not in _first_hall():
        raise ValueError(f"there is no space group number {number}; numbers run from 1 to 230")
    found = spglib.get_symmetry_from_database(_first_hall()[number])
    assert found is not None, f"spglib knows no operations of space group {number}"
    translations: Array = np.round(found["translations"] * GRID) / GRID
    return found["rotations"].astype(float), translations


def _wrapped(x: Array) -> Array:
    """Differences brought to the nearest lattice point."""
    return x - np.round(x)


def _stabiliser(rot: Array, trans: Array, x: Array) -> tuple[Array, Array]:
    """Operations, with the lattice shift that makes it exact, that leave the point `x` fixed."""
    moved = rot @ x + trans - x
    shift = np.round(moved)
    fixed = np.abs(moved - shift).max(1) < 1e-6
    return rot[fixed], (trans - shift)[fixed]


def _subspace(rot: Array, trans: Array) -> tuple[tuple[int, ...], Array, Array] | None:
    """Pivots, basis and origin of the subspace fixed by a stabiliser, or None if not integral."""
    projector, offset = rot.mean(0), trans.mean(0)
    rank = int(np.linalg.matrix_rank(projector, tol=1e-6))
    for pivots in itertools.combinations(range(3), rank):
        rows = projector[list(pivots)]
        if np.linalg.matrix_rank(rows, tol=1e-6) < rank:
            continue
        # columns of the projector span the subspace; scale them so that pivots read as identity
        basis = projector @ np.linalg.pinv(rows) if rank else np.zeros((3, 0))
        if np.abs(basis - np.round(basis)).max(initial=0) > 1e-6:
            continue
        basis = np.round(basis)
        origin = offset - basis @ offset[list(pivots)]
        return pivots, basis, np.round(origin * GRID) / GRID
    return None


def _positions(rot: Array, trans: Array) -> list[WyckoffPosition]:
    """Wyckoff positions of a group, lowest multiplicity first."""
    steps = 12 if np.abs(trans * 3 - np.round(trans * 3)).max() < 1e-6 or _is_hexagonal(rot) else 8
    axis = np.arange(steps) / steps
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    moved = np.einsum("oij,gj->goi", rot, grid) + trans - grid[:, None]
    fixed = np.abs(_wrapped(moved)).max(-1) < 1e-6  # grid point x operation
    # Every fixed line or plane is fixed by one operation alone (a rotation or a mirror), and
    # passes through grid points: a generic point of it has exactly its site symmetry.
    seeds: dict[bytes, Array] = {}
    for which in range(len(rot)):
        here = grid[fixed[:, which]]
        if not len(here):
            continue
        order = next(
            k for k in range(1, 7) if np.allclose(np.linalg.matrix_power(rot[which], k), np.eye(3))
        )
        mean = sum(np.linalg.matrix_power(rot[which], k) for k in range(order)) / order
        across = (here @ (np.eye(3) - mean).T) % 1  # the same for all points of one line or plane
        for x in across[np.unique(np.round(across * 1e5) % 1e5, axis=0, return_index=True)[1]]:
            x = (x + mean @ _PROBE) % 1
            seeds.setdefault(np.round(x * 1e5).astype(int).tobytes(), x)
    # points fixed by more than one operation can be isolated
    several = grid[fixed.sum(1) > 1]
    isolated = [x for x in several if np.abs(_stabiliser(rot, trans, x)[0].mean(0)).max() < 1e-6]
    for x in isolated:
        seeds.setdefault(np.round(x * 1e5).astype(int).tobytes(), x)
    seeds[b"general"] = _PROBE

    pure = trans[(rot == np.eye(3)).all((1, 2))]
    found: list[WyckoffPosition] = []
    for x in sorted(seeds.values(), key=lambda v: np.round(v, 5).tolist()):
        orbit = rot @ x + trans
        if any(_on_position(p, orbit) for p in found if p.multiplicity == _count(orbit)):
            continue
        best = None
        for y in _distinct(orbit)[0]:
            sub = _subspace(*_stabiliser(rot, trans, y))
            if sub is None:
                continue
            pivots, basis, origin = sub
            rank_key = (pivots, np.abs(basis).sum(), (basis < 0).sum(), tuple(origin % 1))
            if best is None or rank_key < best[0]:
                best = (rank_key, pivots, basis, origin % 1)
        if best is None:
            raise AssertionError(f"no integral description of the site {x}")
        _, pivots, basis, origin = best
        origin = origin.copy()
        origin[list(pivots)] = 0.0
        generic = basis @ (_PROBE[: len(pivots)]) + origin
        sites, first = _distinct(rot @ generic + trans)
        primitive: list[int] = []
        for i, site in enumerate(sites):
            off = _wrapped(sites[primitive][:, None] + pure[None] - site)
            if not (np.abs(off).max(-1, initial=0) < 1e-6).any():
                primitive.append(i)
        found.append(
            WyckoffPosition(
                multiplicity=len(first),
                dof=len(pivots),
                pivots=pivots,
                basis=basis,
                origin=origin,
                rotations=rot[first],
                translations=trans[first],
                primitive=tuple(primitive),
            )
        )
    return sorted(found, key=lambda p: (p.multiplicity, p.dof, tuple(p.origin), p.pivots))


def _is_hexagonal(rot: Array) -> bool:
    return bool(
        any(
            np.allclose(np.linalg.matrix_power(r, 3), np.eye(3))
            and abs(r[2, 2] - 1) < 1e-6
            and r.trace() == 0
            for r in rot
        )
    )


def _distinct(orbit: Array) -> tuple[Array, list[int]]:
    """Different points of an orbit modulo the lattice, and which operations first made them."""
    keys: dict[bytes, int] = {}
    wrapped = np.round((orbit % 1) * 1e5).astype(int) % 100000
    for i, row in enumerate(wrapped):
        keys.setdefault(row.tobytes(), i)
    first = list(keys.values())
    return orbit[first] % 1, first


def _count(orbit: Array) -> int:
    return len(_distinct(orbit)[1])


def _on_position(position: WyckoffPosition, orbit: Array) -> bool:
    """Whether any point of an orbit lies on a position's own subspace, modulo the lattice."""
    return len(free_parameters(position, orbit, 1e-6)) > 0


def free_parameters(position: WyckoffPosition, points: Array, tolerance: float) -> Array:
    """Free parameters in [0, 1) of those points that lie on a position's first subspace.

    Args:
        position: A Wyckoff position.
        points: A `n x 3` array of fractional coordinates.
        tolerance: Largest difference of a fractional coordinate.

    Returns:
        A `k x dof` array, `k <= n`.
    """
    free = points[:, list(position.pivots)]
    off = _wrapped(free @ position.basis.T + position.origin - points)
    return free[np.abs(off).max(1) < tolerance] % 1.0


def _centring(rot: Array, trans: Array) -> str:
    pure = {
        tuple(np.round(t % 1, 3)) for r, t in zip(rot, trans, strict=True) if (r == np.eye(3)).all()
    }
    if len(pure) == 4:
        return "F"
    if len(pure) == 3:
        return "R"
    if len(pure) == 1:
        return "P"
    shift = next(t for t in pure if any(t))
    return {(0.5, 0.5, 0.5): "I", (0.5, 0.5, 0.0): "C", (0.0, 0.5, 0.5): "A"}[shift]


@lru_cache(maxsize=1)
def _small_axes() -> Array:
    """All changes of axes with entries -1, 0, 1 and determinant 1 or -1."""
    every = np.array(list(itertools.product((-1, 0, 1), repeat=9)), dtype=float).reshape(-1, 3, 3)
    return every[np.abs(np.abs(np.linalg.det(every)) - 1) < 1e-6]


def _axes(number: int) -> Array:
    """Changes of axes that can leave a group of this crystal system as it is."""
    every = _small_axes()
    if number <= 2:
        return every
    if number <= 15:  # the unique axis b stays
        keep = (every[:, 1, [0, 2]] == 0).all(1) & (every[:, [0, 2], 1] == 0).all(1)
        return every[keep]
    if 143 <= number <= 194:
        rot = operations(191)[0]  # 6/mmm
        return np.unique(rot, axis=0)
    return every[np.abs(every).sum((1, 2)) == 3]  # signed permutations


def _normalizer(
    number: int, rot: Array, trans: Array, polar: tuple[int, ...]
) -> tuple[tuple[Array, Array], ...]:
    """Changes of axes and origin that map the group onto itself; see `SpaceGroup.normalizer`."""
    if number <= 2:  # any axes will do, and halves of them as origin where there is an inversion
        halves = np.array(list(itertools.product((0, 0.5), repeat=3)))
        origins = halves if number == 2 else np.zeros((1, 3))
        proper = [w for w in _small_axes() if number == 1 or np.linalg.det(w) > 0]
        proper.sort(key=lambda m: float(np.abs(m - np.eye(3)).sum()))
        return tuple((w, origins) for w in proper)
    steps = 12 if _is_hexagonal(rot) else 8
    axis = np.arange(steps) / steps
    grids = [np.zeros(1) if k in polar else axis for k in range(3)]
    origins = np.stack(np.meshgrid(*grids, indexing="ij"), -1).reshape(-1, 3)
    table: dict[bytes, list[Array]] = {}
    for r, t in zip(rot, trans, strict=True):
        table.setdefault(r.astype(int).tobytes(), []).append(t)
    pure = np.array(table[np.eye(3).astype(int).tobytes()])
    point_group = [np.frombuffer(k, dtype=int).reshape(3, 3) for k in table]
    generators = [(r, table[r.astype(int).tobytes()][0]) for r in point_group]
    seen: set[bytes] = set()
    found = []
    for w in sorted(_axes(number), key=lambda m: np.abs(m - np.eye(3)).sum()):
        if np.round(w).astype(int).tobytes() in seen:
            continue
        inverse = np.round(np.linalg.inv(w))
        images = [(w @ r @ inverse, w @ t) for r, t in generators]
        if any(np.round(r).astype(int).tobytes() not in table for r, _ in images):
            continue
        if (
            np.abs(
                _wrapped(pure @ w.T)[:, None]
                - _wrapped(pure)[None]
                - np.round(_wrapped(pure @ w.T)[:, None] - _wrapped(pure)[None])
            )
            .max(-1)
            .min(1)
            .max()
            > 1e-6
        ):
            continue
        fits = np.ones(len(origins), dtype=bool)
        for r, t in images:
            wanted = np.array(table[np.round(r).astype(int).tobytes()])
            have = t + origins @ (np.eye(3) - r).T
            off = _wrapped(have[:, None] - wanted[None])
            fits &= (np.abs(off).max(-1) < 1e-6).any(1)
        if not fits.any():
            continue
        # origins that differ by a centring translation are the same
        unique: list[Array] = []
        for o in origins[fits]:
            free = [k for k in range(3) if k not in polar]
            same = any(
                (np.abs(_wrapped(o - u - p)[free]) < 1e-6).all() for u in unique for p in pure
            )
            if not same:
                unique.append(o)
        found.append((w, np.array(unique)))
        for r in point_group:  # w and w r give the same set of descriptions
            seen.add(np.round(w @ r).astype(int).tobytes())
    return tuple(found)


@lru_cache(maxsize=230)
def space_group(number: int) -> SpaceGroup:
    """A space group by its number in the International Tables.

    Raises:
        ValueError: The number is not in 1 to 230.
    """
    rot, trans = operations(number)
    polar = tuple(k for k in range(3) if np.abs(rot @ np.eye(3)[k] - np.eye(3)[k]).max() < 1e-6)
    symbol = _space_group_type(_first_hall()[number]).international_short
    return SpaceGroup(
        number=number,
        symbol=symbol,
        rotations=rot,
        translations=trans,
        centring=_centring(rot, trans),
        positions=tuple(_unpacked(row, rot, trans) for row in _table()[str(number)]),
        polar=polar,
    )


# The shipped table: for each position its pivots, basis, origin in 24ths, the operations that make
# its sites and which of them lie in the primitive cell.
TABLE = Path(__file__).parent / "wyckoff_positions.json"


@lru_cache(maxsize=1)
def _table() -> dict[str, list[list[Any]]]:
    table: dict[str, list[list[Any]]] = json.loads(TABLE.read_text())
    return table


def _packed(p: WyckoffPosition, rot: Array, trans: Array) -> list[Any]:
    made_by = [
        next(
            i for i in range(len(rot)) if (rot[i] == r).all() and np.abs(trans[i] - t).max() < 1e-6
        )
        for r, t in zip(p.rotations, p.translations, strict=True)
    ]
    return [
        list(p.pivots),
        p.basis.astype(int).ravel().tolist(),
        np.round(p.origin * GRID).astype(int).tolist(),
        made_by,
        list(p.primitive),
    ]


def _unpacked(row: list[Any], rot: Array, trans: Array) -> WyckoffPosition:
    pivots, basis, origin, made_by, primitive = row
    return WyckoffPosition(
        multiplicity=len(made_by),
        dof=len(pivots),
        pivots=tuple(pivots),
        basis=np.array(basis, dtype=float).reshape(3, len(pivots)),
        origin=np.array(origin) / GRID,
        rotations=rot[made_by],
        translations=trans[made_by],
        primitive=tuple(primitive),
    )


def work_out(number: int) -> list[list[Any]]:
    """The rows of `wyckoff_positions.json` of a space group, from its operations."""
    rot, trans = operations(number)
    return [_packed(p, rot, trans) for p in _positions(rot, trans)]


if __name__ == "__main__":
    rows = [f'"{n}":{json.dumps(work_out(n), separators=(",", ":"))}' for n in range(1, 231)]
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
