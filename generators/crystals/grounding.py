"""Property heads that foretell what a latent vector is decoded to, wherever the vector is.

Heads that are trained on encoded crystals say anything elsewhere, and whoever goes down their
gradient finds where they are wrong. So they are taught the rest: vectors are drawn, moved down the
heads' own gradients as an optimiser would, decoded, and encoded again; what the heads say of the
decoded crystal's own vector is what they should have said of the first. Notin et al. (NeurIPS 2021)
tell of the failure; encoding again is what Maus et al. (NeurIPS 2022) optimise by. Trees on the
decoded crystal itself, fitted to the training rows, are asked too: the two err in other ways.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from generators.crystals.metrics.judge import describe, trees
from generators.crystals.network import CrystalNetwork
from generators.crystals.symmetry import Array
from generators.crystals.tokens import Tokens, untokenize

_BATCH = 512
_PART = 1000


@torch.no_grad()
def _encoded(network: CrystalNetwork, tokens: Tokens) -> tuple[Tensor, Tensor]:
    parts = [network.encode(tokens[i : i + _PART].trimmed()) for i in range(0, len(tokens), _PART)]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


@torch.no_grad()
def _decoded(
    network: CrystalNetwork, z: Tensor, max_atoms: int, elements: Sequence[int]
) -> list[tuple[Tokens, Tensor]]:
    """Crystals of vectors that decode to one, in parts, and which of the vectors these are."""
    parts = range(0, len(z), _PART)
    drafts = [(i, network.drafts(z[i : i + _PART], max_atoms, elements)) for i in parts]
    return [(d.tokens, d.owner + i) for i, d in drafts]


class _Teacher:
    """What is said of decoded crystals: the mean of the heads before grounding and of trees.

    Args:
        network: With the heads; a copy of them is kept.
        tokens: The training crystals.
        targets: `n x p`, standardised, NaN where unknown.
        volumes: By which the crystals were made tokens.
    """

    def __init__(
        self, network: CrystalNetwork, tokens: Tokens, targets: Tensor, volumes: Array
    ) -> None:
        self._network, self._volumes = network, volumes
        self._heads = _Heads(copy.deepcopy(network.property_out)).requires_grad_(False)
        x, known = self._described(tokens), ~torch.isnan(targets)
        self._trees = [
            trees().fit(x[known[:, k].numpy()], targets[known[:, k], k].numpy())
            for k in range(targets.shape[1])
        ]

    def _described(self, tokens: Tokens) -> Array:
        # a training crystal and a draft have at least one atom, so none is left out
        crystals = [untokenize(tokens, i, self._volumes) for i in range(len(tokens))]
        return np.array([describe(c.structure()) for c in crystals if c is not None])

    def __call__(self, tokens: Tokens) -> Tensor:
        """Of `n` crystals, `n x p`."""
        says = self._heads(_encoded(self._network, tokens)[0])
        x = self._described(tokens)
        other = np.stack([model.predict(x) for model in self._trees], -1)
        return (says + torch.tensor(other, dtype=says.dtype)) / 2


def _descend(
    heads: Callable[[Tensor], Tensor], z: Tensor, column: int, steps: int, rate: float
) -> Tensor:
    """Vectors on their way down (or up, of every second one) a head."""
    point = z.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([point], rate)
    sign = torch.ones(len(z))
    sign[::4] = -1.0
    for _ in range(steps):
        (point.grad,) = torch.autograd.grad((heads(point)[:, column] * sign).sum(), point)
        optimizer.step()
    return point.detach()


def on_the_way(
    heads: Callable[[Tensor], Tensor], z: Tensor, columns: int, source: torch.Generator
) -> Tensor:
    """`n x d` vectors moved somewhere on the way down (or up) one of the heads each."""
    moved = []
    for column, rows in enumerate(torch.arange(len(z)).tensor_split(columns)):
        end = _descend(heads, z[rows], column, 100, 0.05)
        moved.append(torch.lerp(z[rows], end, torch.rand(len(rows), 1, generator=source)))
    return torch.cat(moved)


class _Heads(nn.Module):
    def __init__(self, heads: nn.ModuleList) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([head(z) for head in self.heads], -1)


def ground(
    network: CrystalNetwork,
    tokens: Tokens,
    targets: Tensor,
    volumes: Array,
    max_atoms: int,
    elements: Sequence[int],
    plan: Mapping[str, Any],
    source: torch.Generator,
) -> None:
    """Train the property heads of a network, which else stays as it is.

    Args:
        network: Trained.
        tokens: The training crystals.
        targets: Their properties, standardised, `n x p`; NaN where unknown.
        volumes: Of the elements, by which the crystals were made tokens.
        max_atoms: Of the generator.
        elements: Of the generator.
        plan: `rounds`, `draws` and `steps` of each.
        source: Of randomness.
    """
    mean, log_variance = _encoded(network, tokens)
    spread = (0.5 * log_variance).exp()
    teacher = _Teacher(network, tokens, targets, volumes)
    heads = _Heads(network.property_out)
    known = ~torch.isnan(targets)
    seen_z, seen_y = [torch.zeros(0, mean.shape[1])], [torch.zeros(0, targets.shape[1])]
    for _ in range(plan["rounds"]):
        n = plan["draws"]
        of = torch.randint(len(mean), (n,), generator=source)
        start = mean[of] + spread[of] * torch.randn(n, mean.shape[1], generator=source)
        start[::3] = torch.randn(len(start[::3]), mean.shape[1], generator=source)
        away = torch.rand(n, 1, generator=source) * 5.0
        moved = on_the_way(heads, start, targets.shape[1], source)
        z = torch.cat([moved, start + away * 0.2 * torch.randn(start.shape, generator=source)])
        for crystals, at in _decoded(network, z, max_atoms, elements):
            seen_z.append(z[at])
            seen_y.append(teacher(crystals))
        every_z, every_y = torch.cat(seen_z), torch.cat(seen_y)
        heads.train()
        optimizer = torch.optim.AdamW(heads.parameters(), 3e-3, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 3e-3, total_steps=plan["steps"] + 1
        )
        for _ in range(plan["steps"]):
            i = torch.randint(len(every_z), (_BATCH,), generator=source)
            j = torch.randint(len(mean), (_BATCH,), generator=source)
            noise = torch.randn(_BATCH, mean.shape[1], generator=source)
            own = heads(mean[j] + 0.5 * spread[j] * noise) - targets[j].nan_to_num()
            loss = nn.functional.smooth_l1_loss(heads(every_z[i]), every_y[i], beta=0.3)
            loss = loss + nn.functional.smooth_l1_loss(
                own * known[j], torch.zeros_like(own), beta=0.3
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
