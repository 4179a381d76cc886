"""What all generators have in common that do not learn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pymatgen.core import Element, Structure
from torch import Tensor

from generators.base import EncodeError, Generator
from generators.crystals.baselines.recipe import Recipe, baseline_card
from generators.crystals.generator import CrystalGenerator, is_valid
from generators.crystals.geometry import closeness
from generators.crystals.symmetry import Array

GROWTH = 1.15
"""Lengths of a cell grow by as much at most, to keep its atoms apart."""


class Baseline(Generator):
    """Draws crystals by rules; see `generators.crystals.baselines` for what its latent vector is.

    Args:
        recipe: What to draw.
        trained: The generator whose features a surrogate sees.
    """

    def __init__(self, recipe: Recipe, trained: CrystalGenerator) -> None:
        self.recipe, self.trained = recipe, trained
        self.card = baseline_card(recipe)
        self.name, self.version, self.parent = recipe.name, self.card["version"], None
        self.dim = recipe.settings.dim
        self.feature_names = trained.feature_names
        self.max_atoms = min(recipe.settings.max_atoms, trained.max_atoms)
        self.allowed = _allowed(recipe, trained)
        self.volumes = trained.volumes

    @abstractmethod
    def draw(self, z: Array) -> Structure | None:
        """The crystal of one latent vector (length `d`) before its atoms are kept apart."""

    @abstractmethod
    def read(self, structure: Structure) -> Array:
        """The latent vector (length `d`) of a crystal.

        Raises:
            ValueError: This generator cannot draw it; why.
        """

    def encode(self, designs: Sequence[Structure]) -> Tensor:
        """Latent vectors `n x d` (double): the choices that make each crystal."""
        rows = np.zeros((len(designs), self.dim))
        for i, structure in enumerate(designs):
            try:
                rows[i] = self.read(structure)
            except ValueError as error:
                raise EncodeError(i, str(error)) from error
        return torch.tensor(rows, dtype=torch.float64)

    def decode(self, z: Tensor, seed: int = 0) -> list[Structure | None]:
        """Crystals of latent vectors `n x d`; None where the choices lead to none.

        Decoding takes no chance, so the seed changes nothing.
        """
        drawn = (self.draw(row) for row in z.detach().cpu().double().numpy())
        return [None if s is None else apart(s, self.recipe.settings.contact) for s in drawn]

    def features(self, designs: Sequence[Structure]) -> Tensor:
        """Those of the trained generator that the recipe names: `n x f` double."""
        return self.trained.features(designs)

    def to_json(self, design: Structure) -> dict[str, Any]:
        """A structure as `{"cif": text}`."""
        return self.trained.to_json(design)

    def from_json(self, data: dict[str, Any]) -> Structure:
        """The structure of `{"cif": text}`. Raises `ValueError`."""
        return self.trained.from_json(data)

    def same(self, a: Structure, b: Structure) -> bool:
        """As the trained generator judges."""
        return self.trained.same(a, b)

    def describe(self, design: Structure) -> str:
        """Formula, space group and atoms in the primitive cell."""
        return self.trained.describe(design)

    def sample(
        self, n: int, seed: int = 0, conditions: dict[str, Any] | None = None
    ) -> list[Structure | None]:
        """`n` crystals, no two of them drawn by the same choices.

        None stands only where fifty draws for each asked crystal were not enough.
        """
        if conditions:
            return super().sample(n, seed, conditions)
        rng = np.random.default_rng(seed)
        found: dict[bytes, Structure] = {}
        for _ in range(50):
            for structure in self.decode(self.propose(max(n, 16), rng), seed):
                if structure is not None and len(found) < n:
                    found.setdefault(exactly(structure), structure)
            if len(found) == n:
                break
        return [*found.values(), *[None] * (n - len(found))]

    def propose(self, n: int, rng: np.random.Generator) -> Tensor:
        """`n x d` latent vectors that `sample` decodes."""
        return torch.tensor(rng.standard_normal((n, self.dim)))


def _allowed(recipe: Recipe, trained: CrystalGenerator) -> frozenset[int]:
    """Atomic numbers of the elements that a recipe allows, of those that the features know."""
    settings, known = recipe.settings, set(trained.card["elements"])
    for symbol in (*(settings.elements or ()), *settings.exclude):
        if not Element.is_valid_symbol(symbol):
            raise ValueError(f"the recipe {recipe.name} names {symbol!r}, which is no element")
    if settings.elements is not None:
        known &= {Element(symbol).Z for symbol in settings.elements}
    known -= {Element(symbol).Z for symbol in settings.exclude}
    if not known:
        raise ValueError(f"the recipe {recipe.name} leaves no element that its features know")
    return frozenset(known)


def apart(structure: Structure, contact: float) -> Structure | None:
    """The structure, its cell grown until no two atoms are too close; None if that is too far.

    Args:
        structure: With any volume.
        contact: Least distance, as a share of the sum of two covalent radii (Cordero 2008).
    """
    closest = closeness(structure, contact)
    if closest < contact:
        if closest * GROWTH < contact:
            return None
        structure = structure.copy()
        structure.scale_lattice(structure.volume * (contact / closest * (1 + 1e-9)) ** 3)
    return structure if is_valid(structure) else None


def exactly(structure: Structure) -> bytes:
    """What two structures share only if all their numbers do."""
    species = ",".join(site.species_string for site in structure)
    return structure.lattice.matrix.tobytes() + structure.frac_coords.tobytes() + species.encode()
