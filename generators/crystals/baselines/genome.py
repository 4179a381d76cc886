"""A crystal as a chain of choices: group, Wyckoff positions, elements, coordinates, lattice.

Every crystal with few enough orbits is the outcome of one chain, so it can be written as a vector
and read again without loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Element

from generators.crystals.baselines.chemistry import Balance, Options, any_element, any_ion
from generators.crystals.baselines.choices import Choices
from generators.crystals.symmetry import Array, SpaceGroup, space_group
from generators.crystals.tokens import cell_volume
from generators.crystals.wyckoff import WyckoffCrystal, element_rank

_ORBITS = np.array([1, 4, 6, 5, 3, 2, 1.5, 1, *[0.5] * 12])
"""How likely 1, 2, ... orbits are: about as in the Materials Project."""

_PACKING = (0.0, 0.1)  # mean and spread of log(volume / volume of the atoms)
_SHAPE = 0.35  # spread of the logarithm of a ratio of two axes
_ANGLE = (90.0, 12.0)  # mean and spread of an angle that symmetry leaves free, degrees
_PER_ORBIT = 5
_GROUP, _COUNT, _FIRST = 0, 1, 2


@dataclass(frozen=True)
class Genome:
    """Turns crystals into vectors and vectors into crystals.

    Attributes:
        groups: Space group numbers to draw from.
        orbits: Most orbits.
        distinct: Most different elements.
        max_atoms: In the primitive cell.
        allowed: Atomic numbers.
        neutral: Whether charges balance (or there is but one element).
        volumes: Volume of an atom of each element (cubic angstrom), by atomic number.
    """

    groups: tuple[int, ...]
    orbits: int
    distinct: int
    max_atoms: int
    allowed: frozenset[int]
    neutral: bool
    volumes: Array

    @property
    def dim(self) -> int:
        """Length `d` of a vector."""
        return _FIRST + _PER_ORBIT * self.orbits + self.distinct + 6

    def crystal(self, z: Array) -> WyckoffCrystal | None:
        """The crystal of a vector; None where no elements balance or no orbit fits."""
        choices = Choices(z)
        number = self.groups[choices.pick(_GROUP, np.ones(len(self.groups)))]
        group = space_group(number)
        wanted = 1 + choices.pick(_COUNT, _ORBITS[: self.orbits])
        positions: list[int] = []
        labels: list[int] = []
        free = np.zeros((wanted, 3))
        for i in range(wanted):
            weights = self._positions(group, positions)
            if not weights.any():
                return None
            at = _FIRST + _PER_ORBIT * i
            positions.append(choices.pick(at, weights))
            labels.append(choices.pick(at + 1, self._labels(labels)))
            for k in range(group.positions[positions[-1]].dof):
                free[i, k] = choices.uniform(at + 2 + k)
        try:
            kinds = self._balance(group, positions, labels).read(choices, self._elements)
        except ValueError:  # nothing that is allowed balances in these places
            return None
        elements = tuple(kinds[label] for label in labels)
        lattice = self._lattice(choices, group, positions, elements)
        return sort_orbits(number, positions, elements, free, lattice)

    def vector(self, crystal: WyckoffCrystal) -> Array:
        """The vector of a crystal.

        Raises:
            ValueError: It lies outside; why.
        """
        if crystal.number not in self.groups:
            raise ValueError(f"its space group {crystal.group.symbol} is not among those drawn")
        if len(crystal.positions) > self.orbits:
            raise ValueError(f"it has {len(crystal.positions)} orbits, over {self.orbits}")
        if strange := sorted(set(crystal.elements) - self.allowed):
            names = ", ".join(Element.from_Z(z).symbol for z in strange)
            raise ValueError(f"{names}: not among the elements that are drawn")
        choices = Choices(size=self.dim)
        group = crystal.group
        choices.pick(_GROUP, np.ones(len(self.groups)), self.groups.index(crystal.number))
        choices.pick(_COUNT, _ORBITS[: self.orbits], len(crystal.positions) - 1)
        kinds = list(dict.fromkeys(crystal.elements))
        if len(kinds) > self.distinct:
            raise ValueError(f"it has {len(kinds)} elements, over {self.distinct}")
        labels = [kinds.index(z) for z in crystal.elements]
        for i, position in enumerate(crystal.positions):
            at = _FIRST + _PER_ORBIT * i
            try:
                choices.pick(at, self._positions(group, crystal.positions[:i]), position)
            except ValueError:
                raise ValueError(
                    f"its primitive cell has more than {self.max_atoms} atoms"
                ) from None
            choices.pick(at + 1, self._labels(labels[:i]), labels[i])
            for k in range(group.positions[position].dof):
                choices.uniform(at + 2 + k, round(float(crystal.free[i, k]), 6) % 1.0)
        balance = self._balance(group, crystal.positions, labels)
        balance.write(choices, self._elements, kinds)
        self._lattice(choices, group, crystal.positions, crystal.elements, crystal.lattice)
        return choices.z

    @property
    def _elements(self) -> int:
        return _FIRST + _PER_ORBIT * self.orbits

    def _positions(self, group: SpaceGroup, taken: Sequence[int]) -> Array:
        """Weights of the Wyckoff positions that still fit; one without freedom is taken once."""
        room = self.max_atoms - sum(len(group.positions[p].primitive) for p in taken)
        return np.array(
            [
                float(len(p.primitive) <= room and (p.dof > 0 or i not in taken))
                for i, p in enumerate(group.positions)
            ]
        )

    def _labels(self, before: Sequence[int]) -> Array:
        """Weights of the elements that an orbit may have: those of former orbits, or a new one."""
        known = len(set(before))
        weights = np.zeros(self.distinct)
        weights[:known] = 1.0
        weights[known : known + 1] = 2.0
        return weights

    def _balance(
        self, group: SpaceGroup, positions: Sequence[int], labels: Sequence[int]
    ) -> Balance:
        counts = [0] * len(set(labels))
        for position, label in zip(positions, labels, strict=True):
            counts[label] += len(group.positions[position].primitive)
        return Balance([self._options(len(counts))] * len(counts), counts)

    def _options(self, kinds: int) -> Options:
        neutral = self.neutral and kinds > 1
        return any_ion(self.allowed) if neutral else any_element(self.allowed)

    def _lattice(
        self,
        choices: Choices,
        group: SpaceGroup,
        positions: Sequence[int],
        elements: Sequence[int],
        made: tuple[float, ...] | None = None,
    ) -> tuple[float, float, float, float, float, float]:
        """Read a lattice, or write one that was `made`: packing, two ratios, three angles."""
        at = self._elements + self.distinct
        atoms = sum(
            float(self.volumes[z]) * group.positions[p].multiplicity
            for p, z in zip(positions, elements, strict=True)
        )
        packing, b, c = (
            (None, None, None)
            if made is None
            else (
                float(np.log(cell_volume(made) / atoms)),
                float(np.log(made[1] / made[0])),
                float(np.log(made[2] / made[0])),
            )
        )
        volume = atoms * float(np.exp(choices.normal(at, *_PACKING, packing)))
        system = group.system
        b_free = system in ("triclinic", "monoclinic", "orthorhombic")
        shape = [1.0, 1.0, 1.0, 90.0, 90.0, 120.0 if system == "hexagonal" else 90.0]
        if b_free:
            shape[1] = float(np.exp(choices.normal(at + 1, 0.0, _SHAPE, b)))
        if system != "cubic":
            shape[2] = float(np.exp(choices.normal(at + 2, 0.0, _SHAPE, c)))
        for k in {"triclinic": (3, 4, 5), "monoclinic": (4,)}.get(system, ()):
            angle = choices.normal(at + k, *_ANGLE, None if made is None else made[k])
            shape[k] = float(np.clip(angle, 40.0, 140.0))
        unit = cell_volume(shape)
        scale = (volume / max(unit, 1e-3)) ** (1 / 3)
        a, b_, c_, alpha, beta, gamma = shape
        return (a * scale, b_ * scale, c_ * scale, alpha, beta, gamma)


def sort_orbits(
    number: int,
    positions: Sequence[int],
    elements: Sequence[int],
    free: Array,
    lattice: tuple[float, float, float, float, float, float],
) -> WyckoffCrystal:
    """A crystal whose orbits stand in the order of their positions, then elements."""
    order = sorted(
        range(len(positions)), key=lambda i: (positions[i], element_rank(elements[i]), *free[i])
    )
    return WyckoffCrystal(
        number=number,
        positions=tuple(positions[i] for i in order),
        elements=tuple(elements[i] for i in order),
        free=np.asarray(free, dtype=float)[order] % 1.0,
        lattice=lattice,
    )
