"""The likeliest crystals of latent vectors: a beam search over orbits, each token computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.crystals.tokens import (
    LATTICE,
    MAX_ORBITS,
    MAX_POSITIONS,
    MAX_Z,
    NO_POSITION,
    Tokens,
)

if TYPE_CHECKING:
    from generators.crystals.forcing import Rules
    from generators.crystals.network import CrystalNetwork

_MARGIN = 9.0  # a beam so much less likely (nats) than the best of its vector is let go
_LOST = 12.0  # the same before its elements are chosen
_NEVER = -1e4


@dataclass(frozen=True)
class Drafts:
    """Crystals that latent vectors may stand for.

    Attributes:
        tokens: `m` crystals.
        owner: `m`, which of the `n` latent vectors each is of.
        score: `m`, the log likelihood of its group, positions and elements.
    """

    tokens: Tokens
    owner: Tensor
    score: Tensor

    def __getitem__(self, index: Tensor) -> Drafts:
        return Drafts(self.tokens[index], self.owner[index], self.score[index])


@dataclass(frozen=True)
class _Beams:
    """Crystals in the making, `r`, and what the decoder remembers of them."""

    owner: Tensor  # r
    score: Tensor  # r
    group: Tensor  # r
    position: Tensor  # r x k
    element: Tensor  # r x k
    free: Tensor  # r x k x 3
    filled: Tensor  # r x 27
    memory: list[tuple[Tensor, Tensor]]  # keys and values of each layer, r x heads x tokens x d

    def __getitem__(self, index: Tensor) -> _Beams:
        told = {k: getattr(self, k)[index] for k in self.__dataclass_fields__ if k != "memory"}
        return _Beams(**told, memory=[(k[index], v[index]) for k, v in self.memory])


def _advance(
    stack: nn.TransformerEncoder, x: Tensor, memory: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """New tokens `r x l x d` through a causal stack that remembers those before."""
    kept: list[tuple[Tensor, Tensor]] = []
    for i, layer in enumerate(stack.layers):
        attention: nn.MultiheadAttention = layer.self_attn
        heads = attention.num_heads
        qkv = F.linear(layer.norm1(x), attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = (p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in qkv.chunk(3, -1))
        if memory:
            k, v = torch.cat([memory[i][0], k], 2), torch.cat([memory[i][1], v], 2)
        kept.append((k, v))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=not memory)
        x = x + attention.out_proj(seen.transpose(1, 2).flatten(2))
        x = x + layer.linear2(F.gelu(layer.linear1(layer.norm2(x))))
    assert stack.norm is not None
    return stack.norm(x), kept


def _best(owner: Tensor, score: Tensor, keep: int, n: int) -> Tensor:
    """Indices of the `keep` best of each owner, those far from its best left out."""
    top = torch.full((n,), -torch.inf, device=score.device)
    top = top.scatter_reduce(0, owner, score, "amax")
    near = torch.nonzero(score >= top[owner] - _MARGIN)[:, 0]
    order = near[torch.argsort(score[near], descending=True, stable=True)]
    order = order[torch.argsort(owner[order], stable=True)]
    sorted_owner = owner[order]
    first = torch.searchsorted(sorted_owner, torch.arange(n, device=owner.device))
    rank = torch.arange(len(order), device=owner.device) - first[sorted_owner]
    return order[rank < keep]


def search(
    network: CrystalNetwork,
    z: Tensor,
    max_atoms: int,
    elements: Sequence[int],
    beams: int = 1,
    rules: Rules | None = None,
) -> Drafts:
    """The likeliest crystals of latent vectors `n x latent`; of one beam, the greedy choice.

    Args:
        network: In evaluation mode.
        z: Latent vectors.
        max_atoms: Atoms in the primitive cell at most.
        elements: Atomic numbers to choose from.
        beams: Crystals of each latent vector at most.
        rules: What the crystal of each latent vector must be.

    Returns:
        By owner, the likeliest first.
    """
    n, device, d = len(z), z.device, network.size.width
    allowed = torch.zeros(MAX_Z + 1, dtype=torch.bool, device=device)
    allowed[list(elements)] = True
    everywhere = network.latent_everywhere(z)
    start = network.from_latent(z).reshape(n, -1, d)
    first = start.shape[1]
    h, memory = _advance(network.decoder, start + network.order[:first] + everywhere[:, None], [])
    group_score = network.group_out(h[:, -1])
    group_score[:, 0] = _NEVER
    if rules is not None:
        group_score = rules.groups(group_score)
    likely, groups = group_score.log_softmax(-1).topk(beams, -1)
    owner = torch.arange(n, device=device)[:, None].expand(-1, beams).flatten()
    kept = _best(owner, likely.flatten(), beams, n)
    owner = owner[kept]
    rows = _Beams(
        owner=owner,
        score=likely.flatten()[kept],
        group=groups.flatten()[kept],
        position=torch.zeros(len(kept), 0, dtype=torch.long, device=device),
        element=torch.zeros(len(kept), 0, dtype=torch.long, device=device),
        free=torch.zeros(len(kept), 0, 3, device=device),
        filled=torch.zeros(len(kept), MAX_POSITIONS, device=device),
        memory=[(k[owner], v[owner]) for k, v in memory],
    )
    new = network.group_embedding(rows.group)
    done: list[Drafts] = []
    for k in range(MAX_ORBITS + 1):
        x = new + network.order[first + k] + everywhere[rows.owner]
        h, memory = _advance(network.decoder, x[:, None], rows.memory)
        rows, h = replace(rows, memory=memory), h[:, 0]
        ended, rows, new = _step(network, rows, h, z, allowed, max_atoms, beams, rules)
        done.append(ended)
        if not len(rows.owner):
            break
    found = Drafts(
        Tokens(*(torch.cat(p) for p in zip(*(vars(d.tokens).values() for d in done), strict=True))),
        torch.cat([d.owner for d in done]),
        torch.cat([d.score for d in done]),
    )
    return found[_best(found.owner, found.score, beams, n)]


def _step(
    network: CrystalNetwork,
    rows: _Beams,
    h: Tensor,
    z: Tensor,
    allowed: Tensor,
    max_atoms: int,
    beams: int,
    rules: Rules | None,
) -> tuple[Drafts, _Beams, Tensor]:
    """One more orbit: what ends here, what goes on, and the token `r x d` that it adds."""
    n, k = len(z), rows.position.shape[1]
    site_score = network._site_logits(h[:, None], rows.group, rows.filled[:, None])[:, 0]
    count = network.atoms[rows.group, :MAX_POSITIONS]
    atoms = (count * rows.filled).sum(1, keepdim=True)
    full = (atoms + count > max_atoms) | (k == MAX_ORBITS)
    site_score[:, :MAX_POSITIONS] = site_score[:, :MAX_POSITIONS].masked_fill(full, _NEVER)
    so_far = (rows.owner, rows.group, rows.position, rows.element)
    if rules is not None:
        site_score = rules.sites(*so_far, site_score)
    site_score = site_score.log_softmax(-1)
    # to one beam the end is a choice like another; of several it is weighed with the others
    likely, site = site_score.topk(min(beams, 4), -1)
    ends = (site == NO_POSITION).any(1) & (k > 0)
    tokens = _ended(network, rows, h, z, ends)
    ended = Drafts(tokens, rows.owner[ends], rows.score[ends] + site_score[ends, NO_POSITION])

    # an element only makes it less likely: what is far behind by its site cannot come back
    reach = (rows.score[:, None] + likely).amax(1)
    top = torch.full((n,), -torch.inf, device=z.device).scatter_reduce(0, rows.owner, reach, "amax")
    near = rows.score[:, None] + likely >= (top[rows.owner] - _LOST)[:, None]
    far = (site == NO_POSITION) | (likely <= _NEVER / 2) | ~near
    row, column = torch.nonzero(~far, as_tuple=True)
    chosen = site[row, column]
    place = network._site(rows.group[row], chosen[:, None])[:, 0]
    element_score = network._element_logits(h[row], place).masked_fill(~allowed, _NEVER)
    if rules is not None:
        whose, group, written, elements = (x[row] for x in so_far)
        element_score = rules.elements(whose, group, written, elements, chosen, element_score)
    element_likely, element = element_score.log_softmax(-1).topk(min(beams, 6), -1)
    score = (rows.score[row] + likely[row, column])[:, None] + element_likely
    every = torch.cat([score.flatten(), ended.score])
    whose = rows.owner[row][:, None].expand_as(element).flatten()
    kept = _best(torch.cat([whose, ended.owner]), every, 2 * beams, n)
    kept = kept[kept < score.numel()]
    kept = kept[_best(whose[kept], every[kept], beams, n)]
    pair, z_chosen, score = kept // element.shape[1], element.flatten()[kept], every[kept]
    parent, chosen, place = row[pair], chosen[pair], place[pair]
    unit = network._free(h[parent], place, z_chosen)
    u = torch.atan2(unit[..., 1], unit[..., 0]) / (2 * torch.pi) % 1.0
    grown = rows[parent]
    if rules is not None:
        u = rules.free(grown.position, chosen, u)
    u = u * network.used[grown.group, chosen]
    filled = grown.filled.clone()
    filled[torch.arange(len(parent), device=z.device), chosen] += 1
    grown = replace(
        grown,
        score=score,
        position=torch.cat([grown.position, chosen[:, None]], 1),
        element=torch.cat([grown.element, z_chosen[:, None]], 1),
        free=torch.cat([grown.free, u[:, None]], 1),
        filled=filled,
    )
    return ended, grown, network._orbit(place, z_chosen, u)


def _ended(network: CrystalNetwork, rows: _Beams, h: Tensor, z: Tensor, ends: Tensor) -> Tokens:
    """The crystals of beams that end, with their lattices."""
    count, k = int(ends.sum()), rows.position.shape[1]
    position = torch.full((count, MAX_ORBITS), NO_POSITION, dtype=torch.long, device=z.device)
    element = torch.zeros(count, MAX_ORBITS, dtype=torch.long, device=z.device)
    free = torch.zeros(count, MAX_ORBITS, 3, device=z.device)
    position[:, :k], element[:, :k] = rows.position[ends], rows.element[ends]
    free[:, :k] = rows.free[ends]
    blank = torch.zeros(count, LATTICE, device=z.device)
    t = Tokens(rows.group[ends], position, element, free, blank)
    if not count:
        return t
    cell = network._lattice(h[ends], t.trimmed(), z[rows.owner[ends]])
    return replace(t, lattice=cell * network.lattice_scale + network.lattice_mean)
