"""Wyckoff crystals as tensors, and the tables of chemistry and symmetry that the network reads."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import Element
from torch import Tensor

from generators.crystals.symmetry import Array, space_group
from generators.crystals.wyckoff import WyckoffCrystal

MAX_ORBITS = 20
MAX_POSITIONS = 27  # of one space group (Pmmm)
MAX_Z = 100
GROUPS = 231  # space group numbers, 0 unused
LATTICE = 7  # log volume per atom, log a, b, c over the cube root of the volume, three angles
NO_POSITION = MAX_POSITIONS  # also the token that ends a crystal


@dataclass(frozen=True)
class Tokens:
    """A batch of `n` crystals, `k` orbits at most.

    Attributes:
        group: `n` space group numbers.
        position: `n x k` Wyckoff position indices, `NO_POSITION` where there is no orbit.
        element: `n x k` atomic numbers, 0 where there is no orbit.
        free: `n x k x 3` free coordinates in [0, 1).
        lattice: `n x 7`, see `LATTICE`; the volume is relative to `atomic_volumes`.
    """

    group: Tensor
    position: Tensor
    element: Tensor
    free: Tensor
    lattice: Tensor

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, index: Tensor | slice) -> Tokens:
        return Tokens(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> Tokens:
        """The same on another device."""
        return Tokens(*(getattr(self, f.name).to(device) for f in fields(self)))

    def trimmed(self) -> Tokens:
        """Without the orbit slots that no crystal of the batch uses."""
        counts = (self.position != NO_POSITION).sum(1)
        k = max([1, *counts.tolist()])
        return Tokens(
            self.group, self.position[:, :k], self.element[:, :k], self.free[:, :k], self.lattice
        )


def tokenize(crystals: Sequence[WyckoffCrystal], volumes: Array) -> Tokens:
    """Tensors of crystals.

    Args:
        crystals: `n` crystals with at most `MAX_ORBITS` orbits.
        volumes: Volume of an atom of each element (Angstrom^3), by atomic number.
    """
    n = len(crystals)
    group = torch.tensor([c.number for c in crystals], dtype=torch.long)
    position = torch.full((n, MAX_ORBITS), NO_POSITION, dtype=torch.long)
    element = torch.zeros(n, MAX_ORBITS, dtype=torch.long)
    free = torch.zeros(n, MAX_ORBITS, 3)
    lattice = torch.zeros(n, LATTICE)
    for i, c in enumerate(crystals):
        k = len(c.positions)
        position[i, :k] = torch.tensor(c.positions)
        element[i, :k] = torch.tensor(c.elements)
        free[i, :k] = torch.as_tensor(c.free, dtype=torch.float32)
        lattice[i] = torch.tensor(_lattice_numbers(c, volumes))
    return Tokens(group, position, element, free, lattice)


def _lattice_numbers(c: WyckoffCrystal, volumes: Array) -> list[float]:
    a, b, cc, alpha, beta, gamma = c.lattice
    volume = cell_volume(c.lattice)
    per_formula = sum(volumes[z] * m for z, m in zip(c.elements, c.conventional, strict=True))
    edge = volume ** (1 / 3)
    ratios = [float(np.log(x / edge)) for x in (a, b, cc)]
    angles = [(x - 90) / 10 for x in (alpha, beta, gamma)]
    return [float(np.log(volume / per_formula)), *ratios, *angles]


def cell_volume(lattice: Sequence[float]) -> float:
    """Volume (Angstrom^3) of a cell given by a, b, c (Angstrom), alpha, beta, gamma (degrees)."""
    cos = np.cos(np.radians(lattice[3:]))
    square = 1 - (cos**2).sum() + 2 * cos.prod()
    return float(np.prod(lattice[:3]) * np.sqrt(max(square, 1e-12)))


def untokenize(tokens: Tokens, index: int, volumes: Array) -> WyckoffCrystal | None:
    """One crystal of a batch, its lattice brought to its crystal system; None without atoms."""
    kept = tokens.position[index] != NO_POSITION
    k = int(kept.sum())
    if k == 0:
        return None
    number = int(tokens.group[index])
    group = space_group(number)
    positions = tokens.position[index, :k].tolist()
    elements = tokens.element[index, :k].tolist()
    numbers = tokens.lattice[index].double().numpy()
    a, b, c = np.exp(numbers[1:4])
    alpha, beta, gamma = np.clip(90 + 10 * numbers[4:], 20, 160)
    system = group.system
    if system == "cubic":
        a = b = c = 1.0
    elif system in ("hexagonal", "tetragonal"):
        a = b = np.sqrt(a * b)
    if system not in ("triclinic", "monoclinic"):
        alpha = beta = gamma = 90.0
    elif system == "monoclinic":
        alpha = gamma = 90.0
    if system == "hexagonal":
        gamma = 120.0
    shape = (a, b, c, alpha, beta, gamma)
    volume = np.exp(numbers[0]) * sum(
        volumes[z] * group.positions[p].multiplicity
        for p, z in zip(positions, elements, strict=True)
    )
    unit = cell_volume(shape)
    if not np.isfinite(volume) or unit < 1e-3:
        return None
    scale = (volume / unit) ** (1 / 3)
    return WyckoffCrystal(
        number=number,
        positions=tuple(positions),
        elements=tuple(elements),
        free=tokens.free[index, :k].double().numpy() % 1.0,
        lattice=(a * scale, b * scale, c * scale, alpha, beta, gamma),
    )


def fit_atomic_volumes(crystals: Sequence[WyckoffCrystal]) -> Array:
    """Volume of an atom of each element (Angstrom^3), by non-negative least squares over crystals.

    Returns:
        An array of `MAX_Z + 1`; elements that no crystal has get about 20 Angstrom^3.
    """
    from scipy.optimize import nnls

    counts = np.zeros((len(crystals), MAX_Z + 1))
    target = np.zeros(len(crystals))
    for i, c in enumerate(crystals):
        for z, m in zip(c.elements, c.conventional, strict=True):
            counts[i, z] += m
        target[i] = cell_volume(c.lattice)
    atoms = counts.sum(1)
    # a weak pull to a common volume keeps elements that few crystals have sensible
    rows = np.concatenate([counts / atoms[:, None], 0.05 * np.eye(MAX_Z + 1)])
    fitted, _ = nnls(rows, np.concatenate([target / atoms, np.full(MAX_Z + 1, 0.05 * 20.0)]))
    return np.clip(fitted, 2.0, 120.0)


@lru_cache(maxsize=1)
def element_table() -> Array:
    """Chemistry of the elements: a `MAX_Z + 1 x 12` array, standardised, by atomic number.

    Columns: period, group, valence electrons by s, p, d and f, electronegativity (Pauling),
    covalent-like radius, Mendeleev number, ionisation energy, whether metal, lanthanoid.
    """
    rows = np.zeros((MAX_Z + 1, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns for each datum that an element lacks
        for z in range(1, MAX_Z + 1):
            e = Element.from_Z(z)
            shells = {"s": 0, "p": 0, "d": 0, "f": 0}
            full = e.full_electronic_structure
            top = max(n for n, _, _ in full)
            for n, kind, count in full:
                outer = {"s": n == top, "p": n == top, "d": n == top - 1, "f": n == top - 2}
                if outer.get(kind):
                    shells[kind] = count
            chi = e.X if not np.isnan(e.X) else 1.8
            radius = e.atomic_radius or e.atomic_radius_calculated or 1.6
            rows[z] = [
                e.row,
                e.group,
                *shells.values(),
                chi,
                float(radius),
                e.mendeleev_no or z,
                float(e.ionization_energy or 8.0),
                e.is_metal,
                e.is_lanthanoid,
            ]
    known = rows[1:]
    rows[1:] = (known - known.mean(0)) / known.std(0)
    return rows


@lru_cache(maxsize=1)
def _magpie() -> tuple[list[str], Array]:
    """Names and values, `MAX_Z + 1 x 22`, of Magpie's properties of the elements; NaN: unknown."""
    rows = np.full((MAX_Z + 1, 22), np.nan)
    with (Path(__file__).parent / "metrics" / "magpie.csv").open(newline="") as handle:
        head, *table = csv.reader(handle)
    for row in table:
        z = Element(row[0]).Z
        if z <= MAX_Z:
            rows[z] = [float(x) if x else np.nan for x in row[1:]]
    return head[1:], rows


def magpie_elements() -> Array:
    """Magpie's properties of the elements (Ward 2016): `MAX_Z + 1 x 22`, standardised."""
    rows = _magpie()[1]
    known: Array = np.nan_to_num((rows - np.nanmean(rows, 0)) / (np.nanstd(rows, 0) + 1e-9))
    return known


@lru_cache(maxsize=1)
def magpie_radii() -> Array:
    """Covalent radii of the elements (Angstrom), `MAX_Z + 1`, as Magpie has them."""
    names, rows = _magpie()
    radii: Array = np.nan_to_num(rows[:, names.index("CovalentRadius")] / 100, nan=1.6)
    return radii


@lru_cache(maxsize=1)
def position_table() -> tuple[Array, Array, Array]:
    """Every Wyckoff position of every group.

    Returns:
        Features `231 x 28 x 16`; free coordinates in use, `231 x 28 x 3`; and atoms in the
        primitive cell, `231 x 28`, 0 where the group has no such position.
    """
    features = np.zeros((GROUPS, MAX_POSITIONS + 1, 16))
    used = np.zeros((GROUPS, MAX_POSITIONS + 1, 3))
    atoms = np.zeros((GROUPS, MAX_POSITIONS + 1))
    for number in range(1, GROUPS):
        group = space_group(number)
        for i, p in enumerate(group.positions):
            used[number, i, : p.dof] = 1.0
            atoms[number, i] = len(p.primitive)
            basis = np.zeros((3, 3))
            basis[:, : p.dof] = p.basis
            angle = 2 * np.pi * p.origin
            features[number, i] = [
                np.log(len(p.primitive)),
                p.dof / 3,
                np.log(len(group.rotations) / p.multiplicity),
                np.sin(angle[0]),
                np.sin(angle[1]),
                np.sin(angle[2]),
                np.cos(angle[0]),
                np.cos(angle[1]),
                np.cos(angle[2]),
                *basis.sum(1),
                *np.abs(basis).sum(0),
                1.0,
            ]
    return features, used, atoms
