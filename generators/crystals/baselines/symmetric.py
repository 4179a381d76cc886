"""Random symmetric crystals, and a genetic algorithm over crystals.

Both write a crystal as the choices of a `Genome`. Random crystals are its prior. (pyxtal draws such
crystals too, but what it drew cannot be turned into the numbers that would draw it again, which a
search needs; who prefers pyxtal's runs it as the command of an `external` generator.)

A genetic algorithm needs a fitness, and that is the campaign's: with `acquisition: evolution` the
parents are the best trials so far, and `cross` and `move` below are crossover and mutation. The
first trials are children of the population that the recipe names.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from pymatgen.core import Structure
from torch import Tensor

from generators.crystals.baselines import operators
from generators.crystals.baselines.base import Baseline
from generators.crystals.baselines.genome import Genome
from generators.crystals.baselines.parents import Parent, load_parents, told, usable
from generators.crystals.baselines.recipe import Genetic, Recipe, Settings
from generators.crystals.baselines.recipe import Genome as GenomeSettings
from generators.crystals.crystal_files import Read
from generators.crystals.generator import CrystalGenerator
from generators.crystals.symmetry import Array
from generators.crystals.wyckoff import UndescribableError, WyckoffCrystal, describe


class SymmetricGenerator(Baseline):
    """Crystals by the choices of a genome."""

    neutral = False

    def __init__(self, recipe: Recipe, trained: CrystalGenerator) -> None:
        super().__init__(recipe, trained)
        settings = recipe.settings
        assert isinstance(settings, GenomeSettings)
        self.genome = Genome(
            groups=settings.groups or tuple(range(1, 231)),
            orbits=settings.orbits,
            distinct=settings.distinct,
            max_atoms=self.max_atoms,
            allowed=self.allowed,
            neutral=self.neutral,
            volumes=self.volumes,
        )

    def draw(self, z: Array) -> Structure | None:
        """The crystal of a vector."""
        crystal = self.genome.crystal(z)
        return None if crystal is None else crystal.structure()

    def read(self, structure: Structure) -> Array:
        """The choices that make a crystal."""
        return self.genome.vector(self._described(structure))

    def _described(self, structure: Structure) -> WyckoffCrystal:
        if not structure.is_ordered:
            raise UndescribableError("it is disordered; give one ordered structure")
        # cheap, and a description of a large cell is not
        found = usable(Read("it", structure), self.max_atoms, len(self.allowed))
        if not isinstance(found, Parent):
            raise UndescribableError(found.reason)
        return describe(structure)


class RandomGenerator(SymmetricGenerator):
    """Random symmetric crystals whose charges balance."""

    neutral = True

    def propose(self, n: int, rng: np.random.Generator) -> Tensor:
        """Vectors from the prior, the coordinates drawn anew where atoms are too close.

        Else the groups whose orbits cannot come close to each other would be most of a sample.
        """
        z = rng.standard_normal((n, self.dim))
        settings = self.recipe.settings
        assert isinstance(settings, GenomeSettings)
        orbits, lattice = np.arange(settings.orbits) * 5, self.dim - 6
        places = np.concatenate([*(orbits + k for k in (4, 5, 6)), np.arange(lattice, self.dim)])
        bad = np.arange(n)
        for _ in range(10):
            bad = bad[[s is None for s in self.decode(torch.tensor(z[bad]))]]
            if not len(bad):
                break
            z[np.ix_(bad, places)] = rng.standard_normal((len(bad), len(places)))
        return torch.tensor(z)


class GeneticGenerator(SymmetricGenerator):
    """Children of a population; in a campaign, of its best trials."""

    def __init__(self, recipe: Recipe, trained: CrystalGenerator) -> None:
        super().__init__(recipe, trained)
        settings: Settings = recipe.settings
        assert isinstance(settings, Genetic)
        self.step = settings.step
        parents, self.refused = load_parents(
            recipe, settings.parents, self.max_atoms, settings.distinct
        )
        self._parents = [parent.structure for parent in parents]
        self._rows: dict[int, Array | None] = {}
        self.card["data"] |= {"parents": len(parents), "refused": told(self.refused)}

    def _row(self, parent: int) -> Array | None:
        """The vector of a parent; None where it has an element too many or one not allowed."""
        if parent not in self._rows:
            try:
                self._rows[parent] = self.read(self._parents[parent])
            except ValueError:  # counted: a population of such parents alone is an error
                self._rows[parent] = None
        return self._rows[parent]

    def propose(self, n: int, rng: np.random.Generator) -> Tensor:
        """Mutants of crosses of the population, no parent better than another."""
        order = rng.integers(len(self._parents), size=100 * n + 1000)
        drawn = (row for row in map(self._row, map(int, order)) if row is not None)
        parents = np.array(list(islice(drawn, 2 * n)))
        if len(parents) < 2 * n:
            raise ValueError(
                f"the population of {self.name} has hardly a crystal of allowed elements and at"
                " most as many orbits as its recipe says"
            )
        crossed = self.cross(parents[:n], parents[n:], rng)
        return torch.tensor(self.move(crossed, np.full(n, self.step), rng))

    def move(self, z: Array, step: Array, rng: np.random.Generator) -> Array:
        """Mutants of `n` crystals; see `operators.mutate`."""
        moved = z.copy()
        for i, (row, size) in enumerate(zip(z, step, strict=True)):
            crystal = self.genome.crystal(row)
            if crystal is not None:
                child = operators.mutate(crystal, float(size), self.allowed, self.volumes, rng)
                moved[i] = self._vector(child, row)
        return moved

    def cross(self, a: Array, b: Array, rng: np.random.Generator) -> Array:
        """Children of `n` pairs of crystals; see `operators.cross`."""
        children = a.copy()
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            mother, father = self.genome.crystal(x), self.genome.crystal(y)
            if mother is not None and father is not None:
                child = operators.cross(mother, father, self.max_atoms, self.volumes, rng)
                children[i] = self._vector(child, x)
        return children

    def _vector(self, child: WyckoffCrystal, parent: Array) -> Array:
        """The vector of a child; of its parent where a child lies outside (too many elements)."""
        try:
            return self.genome.vector(child)
        except ValueError:
            return parent
