"""A trained generator of crystals of which only those are searched that meet conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pymatgen.core import Structure
from torch import Tensor

from generators.base import Narrowed
from generators.crystals.conditions import ConditionError, Conditions
from generators.crystals.drawing import check, latents, miss, rules_of
from generators.crystals.generator import CrystalGenerator


class Conditioned(Narrowed):
    """What is drawn leans to the conditions, and what is decoded is held to the hard ones.

    Moves and crosses are those of the whole latent space: any vector is decoded within the
    conditions, so a search is free to go anywhere.

    Args:
        whole: What draws.
        conditions: What is asked, or what `Conditions.of_search` reads.

    Raises:
        ConditionError: What is asked means nothing, or this generator knows nothing of it.
    """

    def __init__(self, whole: CrystalGenerator, conditions: Mapping[str, Any] | Conditions) -> None:
        super().__init__(whole)
        if not isinstance(conditions, Conditions):
            conditions = Conditions.of_search(conditions)
        check(whole, conditions)
        self.crystals, self.conditions = whole, conditions

    def prior(self, n: int, seed: int = 0) -> Tensor:
        """Draw `n x d` latent vectors, guided to what is asked."""
        source = torch.Generator().manual_seed(seed)
        rules = rules_of(self.crystals, n, self.conditions, None, source)
        return latents(self.crystals, source, self.conditions, rules)

    def candidates(self, n: int, seed: int = 0) -> Tensor:
        """As the whole one's, every other one without an adapter where there is one."""
        z = self.prior(n, seed)
        if self.crystals.adapter is not None:
            plain = Conditioned(self.crystals.without_adapter(), self.conditions)
            z[1::2] = plain.prior(n, seed)[1::2]
        return z

    def decode(self, z: Tensor, seed: int = 0) -> list[Structure | None]:
        """Structures of latent vectors `n x d`, decoded within the conditions.

        Of a composition, with as many formula units as is nearest to the atoms that a vector has
        without it: so the same vector is always the same crystal. What is decoded may still miss a
        condition (its symmetry is that which is found in it); `refusals` tells.
        """
        asked, source = self.conditions, torch.Generator().manual_seed(0)
        atoms = None
        if asked.composition is not None:
            free = replace(asked, composition=None, elements=tuple(sorted(asked.required)))
            loose = rules_of(self.crystals, len(z), free, None, source)
            found = self.crystals.decode(z, rules=loose)
            atoms = torch.tensor([0.0 if s is None else len(s) for s in found], dtype=torch.float64)
        rules = rules_of(self.crystals, len(z), asked, None, source, atoms)
        return self.crystals.decode(z, rules=rules)

    def refusals(self, designs: Sequence[Structure]) -> list[str | None]:
        """Which hard condition each of `n` structures misses, as `in another space group`."""
        return [miss(self.crystals, design, self.conditions) for design in designs]

    def sample(
        self, n: int, seed: int = 0, conditions: dict[str, Any] | None = None
    ) -> list[Structure | None]:
        """`n` structures that meet the conditions; None where too few were found.

        Raises:
            ConditionError: More conditions are given.
        """
        if conditions:
            raise ConditionError(f"{self.name} takes no conditions beside its own here")
        return self.crystals.sample(n, seed, self.conditions)
