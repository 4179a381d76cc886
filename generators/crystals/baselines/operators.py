"""Mutations and crosses of crystals in their symmetric description.

Genetic algorithms for crystals ([Oganov2006]_, [Lonie2011]_) permute elements, strain the lattice,
shift atoms, and put parts of two parents together. Here they act on Wyckoff orbits, so a child is
as symmetric as its parents. Cutting cells in two by a plane and splicing them, as those do, would
leave no symmetry, which is why ASE's operators are not used.

.. [Oganov2006] A. R. Oganov and C. W. Glass, Crystal structure prediction using ab initio
   evolutionary techniques. Journal of Chemical Physics 124, 2006.
.. [Lonie2011] D. C. Lonie and E. Zurek, XtalOpt: an open-source evolutionary algorithm for crystal
   structure prediction. Computer Physics Communications 182, 2011.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from generators.crystals.baselines.genome import sort_orbits
from generators.crystals.substitution import alike
from generators.crystals.symmetry import Array
from generators.crystals.wyckoff import WyckoffCrystal, element_rank

_STRAIN = 0.25  # spread of the logarithm of a length, for a step of one
_TILT = 15.0  # spread of a free angle in degrees, for a step of one
_SHIFT = 0.25  # spread of a free fractional coordinate, for a step of one


def mutate(
    crystal: WyckoffCrystal,
    step: float,
    allowed: Collection[int],
    volumes: Array,
    rng: np.random.Generator,
) -> WyckoffCrystal:
    """A crystal with one change of its elements or positions (or none), and a strain and shifts.

    Args:
        crystal: The parent.
        step: How far, 0 to 1: the chance of a change of elements or positions, and the size of
            strain and shifts.
        allowed: Atomic numbers that may be put in.
        volumes: Volume of an atom of each element (cubic angstrom), by atomic number.
        rng: The draws.
    """
    if rng.random() < np.sqrt(step):
        change = (_substituted, _permuted, _repositioned)[int(rng.choice(3, p=(0.5, 0.25, 0.25)))]
        crystal = change(crystal, allowed, volumes, rng)
    return _strained(crystal, step, rng)


def _substituted(
    crystal: WyckoffCrystal, allowed: Collection[int], volumes: Array, rng: np.random.Generator
) -> WyckoffCrystal:
    """One element replaced everywhere by one of alike chemistry."""
    kinds = sorted(set(crystal.elements))
    old = int(rng.choice(kinds))
    weights = alike()[old].copy()
    weights[[z for z in range(len(weights)) if z not in allowed or z in kinds]] = 0.0
    if not weights.sum() > 0:
        return crystal
    new = int(rng.choice(len(weights), p=weights / weights.sum()))
    return _with(crystal, [new if z == old else z for z in crystal.elements], volumes)


def _permuted(
    crystal: WyckoffCrystal, allowed: Collection[int], volumes: Array, rng: np.random.Generator
) -> WyckoffCrystal:
    """Two elements in each other's places."""
    kinds = sorted(set(crystal.elements))
    if len(kinds) < 2:
        return crystal
    a, b = (int(z) for z in rng.choice(kinds, size=2, replace=False))
    return _with(crystal, [{a: b, b: a}.get(z, z) for z in crystal.elements], volumes)


def _repositioned(
    crystal: WyckoffCrystal, allowed: Collection[int], volumes: Array, rng: np.random.Generator
) -> WyckoffCrystal:
    """One orbit on another Wyckoff position with as many atoms."""
    group, i = crystal.group, int(rng.integers(len(crystal.positions)))
    atoms = len(group.positions[crystal.positions[i]].primitive)
    others = [
        k
        for k, p in enumerate(group.positions)
        if len(p.primitive) == atoms and k != crystal.positions[i]
        if p.dof or k not in crystal.positions
    ]
    if not others:
        return crystal
    positions, free = list(crystal.positions), crystal.free.copy()
    positions[i] = int(rng.choice(others))
    dof = group.positions[positions[i]].dof
    free[i] = [*rng.random(dof), *[0.0] * (3 - dof)]
    return sort_orbits(crystal.number, positions, crystal.elements, free, crystal.lattice)


def _strained(crystal: WyckoffCrystal, step: float, rng: np.random.Generator) -> WyckoffCrystal:
    """Lengths, angles and coordinates a little off, as far as symmetry leaves them free."""
    lattice, system = list(crystal.lattice), crystal.group.system
    a, b, c = np.exp(rng.normal(0.0, _STRAIN * step, 3))
    if system == "cubic":
        b = c = a
    elif system in ("hexagonal", "tetragonal"):
        b = a
    for k, factor in enumerate((a, b, c)):
        lattice[k] *= float(factor)
    for k in {"triclinic": (3, 4, 5), "monoclinic": (4,)}.get(system, ()):
        lattice[k] = float(np.clip(lattice[k] + rng.normal(0.0, _TILT * step), 40.0, 140.0))
    dof = np.array([crystal.group.positions[p].dof for p in crystal.positions])
    free = crystal.free + rng.normal(0.0, _SHIFT * step, crystal.free.shape)
    free *= np.arange(3) < dof[:, None]
    moved = (lattice[0], lattice[1], lattice[2], lattice[3], lattice[4], lattice[5])
    return sort_orbits(crystal.number, crystal.positions, crystal.elements, free, moved)


def cross(
    a: WyckoffCrystal,
    b: WyckoffCrystal,
    max_atoms: int,
    volumes: Array,
    rng: np.random.Generator,
) -> WyckoffCrystal:
    """A child of two crystals.

    Of two in one space group it has orbits of both, and a lattice between theirs. Of others it has
    the structure of the first and elements of the second, those of one rank by electronegativity
    in each other's place.
    """
    return _spliced(a, b, max_atoms, rng) if a.number == b.number else _recast(a, b, volumes, rng)


def _spliced(
    a: WyckoffCrystal, b: WyckoffCrystal, max_atoms: int, rng: np.random.Generator
) -> WyckoffCrystal:
    group = a.group
    pool = [(p, z, u) for one in (a, b) for p, z, u in
            zip(one.positions, one.elements, one.free, strict=True)]  # fmt: skip
    wanted = len((a, b)[int(rng.integers(2))].positions)
    taken: list[tuple[int, int, Array]] = []
    for i in rng.permutation(len(pool)):
        p, z, u = pool[int(i)]
        atoms = sum(len(group.positions[q].primitive) for q, _, _ in taken)
        fits = atoms + len(group.positions[p].primitive) <= max_atoms
        double = any(q == p and np.allclose(u, v) for q, _, v in taken)
        if fits and not double and len(taken) < wanted:
            taken.append((p, z, u))
    share = float(rng.random())
    mean = [share * x + (1 - share) * y for x, y in zip(a.lattice, b.lattice, strict=True)]
    positions, elements, free = zip(*taken, strict=True)
    lattice = (mean[0], mean[1], mean[2], mean[3], mean[4], mean[5])
    return sort_orbits(a.number, positions, elements, np.stack(free), lattice)


def _recast(
    a: WyckoffCrystal, b: WyckoffCrystal, volumes: Array, rng: np.random.Generator
) -> WyckoffCrystal:
    mine, theirs = (sorted(set(x.elements), key=element_rank) for x in (a, b))
    if len(theirs) > len(mine):
        kept = np.sort(rng.choice(len(theirs), size=len(mine), replace=False))
        theirs = [theirs[int(i)] for i in kept]
    places = np.sort(rng.choice(len(mine), size=len(theirs), replace=False))
    new = dict(zip((mine[int(i)] for i in places), theirs, strict=True))
    return _with(a, [new.get(z, z) for z in a.elements], volumes)


def _with(crystal: WyckoffCrystal, elements: list[int], volumes: Array) -> WyckoffCrystal:
    """The crystal of other elements, its volume scaled by those of their atoms."""
    before, after = (
        sum(float(volumes[z]) * n for z, n in zip(kinds, crystal.conventional, strict=True))
        for kinds in (crystal.elements, elements)
    )
    factor = (after / before) ** (1 / 3)
    a, b, c, alpha, beta, gamma = crystal.lattice
    lattice = (a * factor, b * factor, c * factor, alpha, beta, gamma)
    return sort_orbits(crystal.number, crystal.positions, elements, crystal.free, lattice)
