"""Atoms moved to where they would rest, by a network that has seen crystals at rest moved away.

A decoder writes free coordinates by what a latent vector says, and of a composition that nobody has
seen that is not much. What it wrote is nearly right, so a second network is asked once how far each
atom is from rest. It learns that from the training crystals: their atoms are moved at random, and
where they came from is the answer. So it learns a field of force without any forces (Zaidi et al.,
ICLR 2023), as models of diffusion do (Xie et al., ICLR 2022). Messages pass between atoms closer
than 5 Angstrom; how these lie around an atom counts by squares of moments of their directions
(Shapeev 2016). What it says turns with the crystal, so that no symmetry is lost, and atoms of one
orbit are asked about once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from generators.crystals.geometry import Placed, place
from generators.crystals.symmetry import Array
from generators.crystals.tokens import MAX_Z, Tokens, element_table

REACH = 5.0  # Angstrom
_SHELLS = 16  # Gaussians that a distance is told by
_MOMENTS = 8
_LAYERS = 3
_TYPICAL = 30  # neighbours of an atom
_PART = 400_000  # vectors looked at at once
_MOST = 6  # cells to each side


@dataclass(frozen=True)
class Surroundings:
    """Atoms of some crystals that are asked about, and the atoms around them.

    Attributes:
        element: `r` atomic numbers.
        of: `e`, which of the `r` each neighbour is seen from.
        alike: `e`, which of the `r` each neighbour is an image of.
        apart: `e x 3`, from one to the other (Angstrom).
        atom: `r`, which atom of the crystals each is.
    """

    element: Tensor
    of: Tensor
    alike: Tensor
    apart: Tensor
    atom: NDArray[np.int64]

    def to(self, device: torch.device | str) -> Surroundings:
        """The same on another device."""
        return Surroundings(
            self.element.to(device), self.of.to(device), self.alike.to(device),
            self.apart.to(device), self.atom,
        )  # fmt: skip


def surroundings(placed: Placed) -> Surroundings:
    """Of the first atom of each orbit, what is closer than `REACH`."""
    crystal, atom = placed.crystal, np.flatnonzero(placed.heads)
    heights = 1 / np.linalg.norm(np.linalg.inv(placed.cells), axis=1)
    images = np.clip(np.ceil(REACH / heights + 0.5), 1, _MOST).astype(np.int64)
    one, two, apart = placed.pairs(atom)
    of = crystal[atom[one]]
    pairs, vectors = [np.zeros(0, dtype=np.int64)], [np.zeros((0, 3))]
    kinds, kind = np.unique(images[of], axis=0, return_inverse=True)
    for k, limits in enumerate(kinds):
        where = np.flatnonzero(kind.ravel() == k)
        span = [np.arange(-limit, limit + 1) for limit in limits]
        shifts = np.stack(np.meshgrid(*span, indexing="ij"), -1).reshape(-1, 3)
        for part in np.array_split(where, 1 + len(where) * len(shifts) // _PART):
            vector = (apart[part][:, None] + shifts) @ placed.cells[of[part]]
            square = (vector**2).sum(-1)
            pair, image = np.nonzero((square < REACH**2) & (square > 1e-6))
            pairs.append(part[pair])
            vectors.append(vector[pair, image])
    pair = np.concatenate(pairs)
    orbit = np.cumsum(placed.heads) - 1
    return Surroundings(
        torch.as_tensor(placed.elements[atom]),
        torch.as_tensor(one[pair]),
        torch.as_tensor(orbit[two[pair]]),
        torch.as_tensor(np.concatenate(vectors), dtype=torch.float32),
        atom,
    )


class _Layer(nn.Module):
    """Messages of neighbours, and what their directions make of them."""

    def __init__(self, width: int, told: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.here = nn.Linear(width, width)
        self.there = nn.Linear(width, width, bias=False)
        self.seen = nn.Linear(told, width, bias=False)
        self.message = nn.Linear(width, width)
        self.moments = nn.Linear(width, 2 * _MOMENTS)
        self.update = nn.Sequential(
            nn.Linear(2 * width + 2 * _MOMENTS, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(
        self, h: Tensor, s: Surroundings, told: Tensor, near: Tensor, way: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What atoms and messages become.

        Args:
            h: Atoms, `r x w`.
            s: Who is around whom.
            told: What is known of neighbours, `e x t`.
            near: Weights of neighbours, `e x 1`.
            way: Their directions' first and second moments, `e x 9`.

        Returns:
            Atoms `r x w`, messages `e x w`, how each neighbour lies among the others `e x 2 k`, and
            first moments `r x 3 x k`.
        """
        x = self.norm(h)
        m = self.here(x)[s.of] + self.there(x)[s.alike] + self.seen(told)
        m = F.silu(self.message(F.silu(m)))
        sums = torch.zeros_like(h).index_add(0, s.of, m * near) / _TYPICAL**0.5
        part = (self.moments(m) * near)[:, None]
        around = torch.zeros(len(h), 9, _MOMENTS, dtype=h.dtype, device=h.device)
        first = around[:, :3].index_add(0, s.of, way[:, :3, None] * part[..., :_MOMENTS])
        second = around[:, 3:].index_add(0, s.of, way[:, 3:, None] * part[..., _MOMENTS:])
        first, second = first / _TYPICAL**0.5, second / _TYPICAL**0.5
        squares = torch.cat([first.square().sum(1), second.square().sum(1)], -1)
        along = torch.cat(
            [
                (first[s.of] * way[:, :3, None]).sum(1),
                (second[s.of] * way[:, 3:, None]).sum(1),
            ],
            -1,
        )
        return h + self.update(torch.cat([x, sums, squares], -1)), m, along, first


class Settler(nn.Module):
    """How far atoms are from rest.

    Args:
        width: Of every layer.
    """

    chemistry: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        chemistry = torch.tensor(np.asarray(element_table()), dtype=torch.float32)
        self.register_buffer("chemistry", chemistry, persistent=False)
        self.element = nn.Embedding(MAX_Z + 1, width)
        self.element_features = nn.Linear(chemistry.shape[1], width)
        self.layers = nn.ModuleList(
            _Layer(width, _SHELLS + (2 * _MOMENTS if k else 0)) for k in range(_LAYERS)
        )
        self.push = nn.Linear(width + 2 * _MOMENTS, width)
        self.pushed = nn.Linear(width, width)
        self.strength = nn.Linear(width, 1)
        self.drift = nn.Linear(_MOMENTS, 1, bias=False)

    def forward(self, s: Surroundings) -> Tensor:
        """By how much each atom should be moved (Angstrom): `r x 3`."""
        distance = s.apart.norm(dim=1, keepdim=True)
        near = 0.5 * (torch.cos(torch.pi * distance / REACH) + 1)
        centres = torch.linspace(0.8, REACH, _SHELLS, device=distance.device)
        shells = torch.exp(-(((distance - centres) / 0.3) ** 2))
        toward = s.apart / distance
        x, y, z = toward.unbind(1)
        root = math.sqrt(2.0)
        way = torch.stack(
            [
                x, y, z, x * x - 1 / 3, y * y - 1 / 3, z * z - 1 / 3,
                root * x * y, root * x * z, root * y * z,
            ], 1,
        )  # fmt: skip
        h = self.element(s.element) + self.element_features(self.chemistry[s.element])
        told = shells
        for layer in self.layers:
            h, message, along, first = layer(h, s, told, near, way)
            told = torch.cat([shells, along], -1)
        push = self.push(torch.cat([message, along], -1)) + self.pushed(h)[s.of]
        force = self.strength(F.silu(push)) * near * toward
        out = torch.zeros(len(h), 3, dtype=force.dtype, device=force.device)
        return out.index_add(0, s.of, force) / _TYPICAL**0.5 + self.drift(first)[..., 0]


@torch.no_grad()
def settle(settler: Settler, placed: Placed) -> Placed:
    """Crystals with their atoms where they would rest, if the settler is right.

    Cells stay, and so does the symmetry.

    Args:
        settler: In evaluation mode, on any device.
        placed: Crystals, each of them fine.
    """
    around = surroundings(placed)
    move = settler(around.to(settler.chemistry.device)).double().cpu().numpy()
    return placed.moved(_fractional(move, placed.cells[placed.crystal[around.atom]]))


def _fractional(move: Array, cells: Array) -> Array:
    """Vectors `m x 3` (Angstrom) in the axes of their cells `m x 3 x 3`."""
    return np.asarray(np.linalg.solve(cells.transpose(0, 2, 1), move[..., None])[..., 0])


def fit_settler(
    settler: Settler,
    tokens: Tokens,
    volumes: Array,
    plan: Mapping[str, float],
    source: torch.Generator,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train a settler on crystals at rest; it changes, and ends in evaluation mode.

    By turns it sees crystals whose free coordinates were moved, as a decoder errs, and crystals all
    of whose atoms were, which lose their symmetry and tell more of what atoms do to each other.

    Args:
        settler: On any device.
        tokens: The training crystals.
        volumes: By which they were made tokens.
        plan: `steps`, `batch`, `learning_rate`, and `noise` (Angstrom): the largest standard
            deviation of a coordinate.
        source: Of randomness.
        on_step: Called with every 500 steps and their mean loss.
    """
    device = settler.chemistry.device
    steps, batch = int(plan["steps"]), int(plan["batch"])
    mobile = torch.as_tensor(np.flatnonzero(place(tokens, volumes).mobile()))
    every = torch.arange(len(tokens))
    optimizer = torch.optim.AdamW(settler.parameters(), plan["learning_rate"], weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan["learning_rate"], total_steps=steps + 1, pct_start=0.05
    )
    settler.train().requires_grad_(True)
    total = 0.0
    for step in range(1, steps + 1):
        symmetric = step % 2 == 0 and len(mobile) > 0
        of, n = (mobile, batch) if symmetric else (every, max(1, batch // 3))
        index = of[torch.randint(len(of), (n,), generator=source)]
        around, answer = _away(tokens[index].trimmed(), volumes, plan["noise"], symmetric, source)
        loss = F.smooth_l1_loss(settler(around.to(device)), answer.to(device), beta=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(settler.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
        if step % 500 == 0:
            if on_step is not None:
                on_step(step, {"settling": total / 500})
            total = 0.0
    settler.eval().requires_grad_(False)


def _away(
    tokens: Tokens, volumes: Array, noise: float, symmetric: bool, source: torch.Generator
) -> tuple[Surroundings, Tensor]:
    """Crystals whose atoms were moved, and what would bring these back (Angstrom)."""
    n, rest = len(tokens), place(tokens, volumes)
    spread = noise * torch.rand(n, 1, 1, generator=source)
    # the cell of a decoded crystal is not quite right either
    cell = torch.tensor([0.06, 0.02, 0.02, 0.02, 0.1, 0.1, 0.1])
    lattice = tokens.lattice + cell * torch.randn(tokens.lattice.shape, generator=source)
    free = tokens.free
    if symmetric:
        edge = torch.as_tensor(np.cbrt(np.abs(np.linalg.det(rest.cells))), dtype=free.dtype)
        free = free + spread / edge[:, None, None] * torch.randn(free.shape, generator=source)
    away = place(replace(tokens, free=free, lattice=lattice), volumes)
    crystal = away.crystal
    if not symmetric:
        sd = spread.numpy()[crystal, 0]
        move = sd * torch.randn(len(away.sites), 3, generator=source).numpy()
        sites = away.sites + _fractional(move, away.cells[crystal])
        away = replace(away, sites=sites, heads=np.ones(len(crystal), dtype=bool))
    back = rest.sites - away.sites
    back = ((back - np.round(back))[:, None] @ away.cells[crystal])[:, 0]
    sizes = np.bincount(crystal, minlength=n)
    mean = np.stack([np.bincount(crystal, back[:, k], n) for k in range(3)], 1) / sizes[:, None]
    around = surroundings(away)
    answer = (back - mean[crystal])[around.atom]  # where a crystal is as a whole does not matter
    return around, torch.as_tensor(answer, dtype=torch.float32)
