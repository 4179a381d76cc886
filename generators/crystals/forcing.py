"""What a crystal that is being decoded must be: masks on what the decoder says, orbit by orbit.

The rules look only at the orbits written so far, so any search over orbits can ask them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generators.crystals.symmetry import Array
from generators.crystals.tokens import (
    MAX_POSITIONS,
    MAX_Z,
    NO_POSITION,
    Tokens,
    position_table,
)

_NEVER = -1e4


@dataclass(frozen=True)
class Partial:
    """Part of a crystal, in the standard setting of its space group.

    Attributes:
        group: Space group number.
        positions: Index of the Wyckoff position of each of the `k` orbits, ascending.
        elements: Atomic number of each; 0 where it is open.
        free: `k x 3` free coordinates; NaN where open.
        grows: Whether other orbits are to be added.
    """

    group: int
    positions: tuple[int, ...]
    elements: tuple[int, ...]
    free: Array
    grows: bool


@dataclass(frozen=True)
class Rules:
    """What the crystals of `n` latent vectors must be.

    Attributes:
        group: `n` space group numbers, 0 where any will do.
        allowed: `n x 101`, the elements that may occur (bool).
        budget: `n x 101`, atoms of each element in the primitive cell, all of which are to be
            placed; None: any number.
        max_atoms: `n`, atoms in the primitive cell at most.
        partial: Orbits that all of them have; its group is in `group`.
    """

    group: Tensor
    allowed: Tensor
    max_atoms: Tensor
    budget: Tensor | None = None
    partial: Partial | None = None

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, index: Tensor | slice) -> Rules:
        budget = None if self.budget is None else self.budget[index]
        return Rules(
            self.group[index], self.allowed[index], self.max_atoms[index], budget, self.partial
        )

    def to(self, device: torch.device | str) -> Rules:
        """The same on another device."""
        budget = None if self.budget is None else self.budget.to(device)
        group, allowed = self.group.to(device), self.allowed.to(device)
        return Rules(group, allowed, self.max_atoms.to(device), budget, self.partial)

    def groups(self, scores: Tensor) -> Tensor:
        """Scores of space groups, `n x 231`."""
        other = torch.arange(scores.shape[1], device=scores.device) != self.group[:, None]
        return scores.masked_fill(other & (self.group > 0)[:, None], _NEVER)

    def sites(
        self, owner: Tensor, group: Tensor, position: Tensor, element: Tensor, scores: Tensor
    ) -> Tensor:
        """Scores of Wyckoff positions and the end, `r x 28`.

        Args:
            owner: `r`, which of the `n` each row is.
            group: `r` space groups.
            position: `r x k`, positions written so far.
            element: `r x k`, elements written so far.
            scores: `r x 28`, the end last.
        """
        atoms = _table(scores.device)[group]  # r x 28
        size, used = atoms[:, :MAX_POSITIONS], atoms.gather(1, position).sum(1, keepdim=True)
        fine = used + size <= self.max_atoms[owner][:, None]
        may_end = torch.ones(len(owner), dtype=torch.bool, device=scores.device)
        if self.partial is not None:
            left = self._left(position)
            before = left.cumsum(1) - left
            waiting = (left * size).sum(1, keepdim=True)
            after = waiting - size * (left > 0)
            fine &= (before == 0) & (used + size + after <= self.max_atoms[owner][:, None])
            if not self.partial.grows:
                fine &= left > 0
            may_end = left.sum(1) == 0
            if self.partial.grows:
                may_end &= position.shape[1] > len(self.partial.positions)
        if self.budget is not None:
            rest = self._rest(owner, group, position, element)
            fine &= size <= rest.amax(1, keepdim=True) + 1e-3
            may_end &= rest.sum(1) < 0.5
        # where nothing is right the crystal ends as it is, and whoever asked finds out
        may_end |= ~(fine & (scores[:, :MAX_POSITIONS] > _NEVER / 2)).any(1)
        return scores.masked_fill(~torch.cat([fine, may_end[:, None]], 1), _NEVER)

    def elements(
        self, owner: Tensor, group: Tensor, position: Tensor, element: Tensor, site: Tensor,
        scores: Tensor,
    ) -> Tensor:  # fmt: skip
        """Scores of elements, `r x 101`, for the chosen positions `r`; the rest as `sites`."""
        fine = self.allowed[owner]
        if self.budget is not None:
            rest = self._rest(owner, group, position, element)
            fine = fine & (rest + 1e-3 >= _table(scores.device)[group].gather(1, site[:, None]))
        if self.partial is not None:
            which = self._which(position, site)
            fixed = torch.tensor([*self.partial.elements, 0], device=scores.device)[which]
            fine = torch.where((fixed > 0)[:, None], F.one_hot(fixed, MAX_Z + 1).bool(), fine)
        return scores.masked_fill(~fine, _NEVER)

    def free(self, position: Tensor, site: Tensor, u: Tensor) -> Tensor:
        """Free coordinates, `r x 3`; the rest as `elements`."""
        if self.partial is None:
            return u
        open_ = np.concatenate([self.partial.free.reshape(-1, 3), np.full((1, 3), np.nan)])
        fixed = torch.tensor(open_, dtype=u.dtype, device=u.device)[self._which(position, site)]
        return torch.where(torch.isnan(fixed), u, fixed)

    def met(self, t: Tokens) -> Tensor:
        """Which of `n` decoded crystals are as they must be, `n` bool: a mask may leave nothing."""
        count = _table(t.group.device)[t.group].gather(1, t.position)
        fine = (self.group == 0) | (t.group == self.group)
        fine &= count.sum(1) <= self.max_atoms
        if self.budget is not None:
            every = torch.arange(len(t), device=t.group.device)
            fine &= (self._rest(every, t.group, t.position, t.element).abs() < 0.5).all(1)
        if self.partial is None:
            return fine & self.allowed.gather(1, t.element).where(t.element > 0, True).all(1)
        fine &= self._left(t.position).sum(1) == 0
        orbits = (t.position != NO_POSITION).sum(1)
        more = orbits > len(self.partial.positions)
        return fine & (more if self.partial.grows else ~more)

    # ---------------------------------------------------------------------------------------------
    def _counts(self, position: Tensor) -> Tensor:
        hot = F.one_hot(position, MAX_POSITIONS + 1)[..., :MAX_POSITIONS]
        return hot.sum(1) if position.shape[1] else hot.new_zeros(len(position), MAX_POSITIONS)

    def _left(self, position: Tensor) -> Tensor:
        """How many of the partial's orbits at each position, `r x 27`, are not yet written."""
        assert self.partial is not None
        placed = torch.tensor(self.partial.positions, dtype=torch.long, device=position.device)
        needed = torch.bincount(placed, minlength=MAX_POSITIONS)
        return (needed - self._counts(position)).clamp(min=0)

    def _which(self, position: Tensor, site: Tensor) -> Tensor:
        """Which orbit of the partial a new one at `site` (`r`) is; their number where none."""
        assert self.partial is not None
        placed = self.partial.positions
        earlier = (position == site[:, None]).sum(1)
        table = torch.full((MAX_POSITIONS + 1, len(placed) + 1), len(placed), device=site.device)
        for at in set(placed):
            for rank, index in enumerate(i for i, p in enumerate(placed) if p == at):
                table[at, rank] = index
        return table[site, earlier.clamp(max=len(placed))]

    def _rest(self, owner: Tensor, group: Tensor, position: Tensor, element: Tensor) -> Tensor:
        """Atoms of each element, `r x 101`, that are still to be placed."""
        assert self.budget is not None
        count = _table(position.device)[group].gather(1, position)
        return self.budget[owner].scatter_add(1, element, -count)


_TABLES: dict[torch.device, Tensor] = {}


def _table(device: torch.device) -> Tensor:
    """Atoms in the primitive cell of each position of each group, `231 x 28`."""
    if device not in _TABLES:
        atoms = torch.tensor(position_table()[2], dtype=torch.float32, device=device)
        atoms[:, NO_POSITION] = 0.0
        _TABLES[device] = atoms
    return _TABLES[device]
