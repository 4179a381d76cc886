"""Which of the crystals that a latent vector may stand for it is taken to be.

Most vectors have one that is much the likeliest and that, encoded, comes back to the vector. Of
the others several are written out, and the one is taken that is likely, is encoded near the vector
(the posterior of the encoder weighs it, as in importance sampling), balances its charges and has no
atoms too close. A vector that *is* a crystal's own is decoded to it, whatever the rules say.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.crystals.balance import TABLES, balanced
from generators.crystals.decoding import Drafts
from generators.crystals.forcing import Rules
from generators.crystals.geometry import CLOSEST, Placed, contacts, place
from generators.crystals.network import CrystalNetwork
from generators.crystals.settling import Settler, settle
from generators.crystals.symmetry import Array
from generators.crystals.tokens import NO_POSITION, Tokens

BEAMS = 4
NEAR = 120.0  # squared distance, in standard deviations, within which a vector is a crystal's own
TIGHT = 0.72  # of 1,000 training crystals 995 have no contact shorter than this times the radii
_CLEAR = -0.7  # log likelihood above which nothing else can be likelier
_SWELL = 1.2  # a cell grows to at most so many times its edges for want of room
_BY_LIKENESS = 0.1  # weight of the squared distance against the log likelihood
_FARTHEST = 2000.0
_UNBALANCED = 8.0  # nats that a composition which does not balance costs by each table
_CROWDED = 25.0
_BATCH = 128
_MANY = 32  # vectors from which on tables of the network pay


def distances(network: CrystalNetwork, tokens: Tokens, z: Tensor) -> Tensor:
    """Squared distance of vectors `m x latent` from where crystals are encoded, in deviations."""
    out = torch.zeros(len(tokens), device=z.device)
    order = (tokens.position != NO_POSITION).sum(1).argsort()  # alike in length: little padding
    for part in order.split(_BATCH):
        mean, log_variance = network.encode(tokens[part].trimmed())
        out[part] = ((mean - z[part]) ** 2 / log_variance.exp()).sum(1)
    return out


def _charges(tokens: Tokens, atoms: Tensor) -> NDArray[np.int64]:
    """By how many of `TABLES` each of `m` compositions balances."""
    counts = atoms[tokens.group[:, None], tokens.position].round().long().tolist()
    found = np.zeros(len(tokens), dtype=np.int64)
    for i, (elements, many) in enumerate(zip(tokens.element.tolist(), counts, strict=True)):
        amounts: dict[int, int] = {}
        for z, n in zip(elements, many, strict=True):
            if z:
                amounts[z] = amounts.get(z, 0) + int(n)
        found[i] = sum(balanced(amounts, table) for table in TABLES) if amounts else 0
    return found


class _Judged:
    """Drafts with what speaks for and against each."""

    def __init__(
        self,
        network: CrystalNetwork,
        drafts: Drafts,
        z: Tensor,
        volumes: Array,
        rules: Rules | None,
    ) -> None:
        tokens = drafts.tokens
        self.owner = drafts.owner.cpu().numpy()
        self.likely = drafts.score.double().cpu().numpy()
        away = distances(network, tokens.trimmed(), z[drafts.owner])
        self.away = away.double().cpu().numpy()
        met = np.ones(len(self.owner), dtype=bool)
        if rules is not None:
            met = rules[drafts.owner].met(tokens).cpu().numpy()
        tokens = tokens.to("cpu")
        self.balance = _charges(tokens.trimmed(), network.atoms.cpu())
        placed = place(tokens, volumes)
        closest, tight = contacts(placed)
        own = self.away < NEAR
        scale = np.where(own, 1.0, np.clip(TIGHT / np.maximum(tight, 1e-6), 1.0, _SWELL))
        placed = replace(placed, cells=placed.cells * scale[:, None, None])
        self.placed, self.tight = placed, tight * scale
        self.valid = met & placed.fine & (closest * scale >= CLOSEST)
        self.own = own
        fit = (self.tight >= TIGHT - 1e-6) & (self.balance == len(TABLES))
        self.sound = own | (fit & (self.likely > _CLEAR))
        against = _UNBALANCED * (len(TABLES) - self.balance) + _CROWDED * np.clip(
            TIGHT - self.tight, 0, 1
        )
        self.score = (
            self.likely
            - _BY_LIKENESS * np.minimum(self.away, _FARTHEST)
            - np.where(own, 0.0, against)
        )
        self.score[~self.valid] = -np.inf


@torch.no_grad()
def choose(
    network: CrystalNetwork,
    z: Tensor,
    max_atoms: int,
    elements: Sequence[int],
    volumes: Array,
    rules: Rules | None = None,
    beams: int = BEAMS,
) -> list[tuple[Placed, int] | None]:
    """The crystal of each latent vector `n x latent`, as a row of placed ones; None for none.

    Args:
        network: In evaluation mode.
        z: Latent vectors.
        max_atoms: Atoms in the primitive cell at most.
        elements: Atomic numbers to choose from.
        volumes: Volume of an atom of each element (Angstrom^3), by atomic number.
        rules: What they must be.
        beams: Crystals to choose from where the likeliest will not do.
    """
    with network.tabulated() if len(z) >= _MANY else nullcontext():
        chosen = _chosen(network, z, max_atoms, elements, volumes, rules, beams)
    if network.settler is None or (rules is not None and rules.partial is not None):
        return chosen  # an orbit that is given stays where it is
    return _settled(network.settler, chosen)


def _settled(
    settler: Settler, chosen: list[tuple[Placed, int] | None]
) -> list[tuple[Placed, int] | None]:
    """The same crystals with their atoms where they would rest, where that leaves them apart."""
    out = list(chosen)
    parts: dict[int, list[int]] = {}  # crystals that were placed together
    for k, one in enumerate(chosen):
        if one is not None:
            parts.setdefault(id(one[0]), []).append(k)
    for which in parts.values():
        here = [one for k in which if (one := chosen[k]) is not None]
        placed, rows = here[0][0], np.array([i for _, i in here])
        mobile = np.flatnonzero(placed.mobile()[rows])
        settled = settle(settler, placed[rows[mobile]])
        for i, closest in enumerate(contacts(settled)[0]):
            if closest >= CLOSEST:
                out[which[mobile[i]]] = settled, i
    return out


def _chosen(
    network: CrystalNetwork,
    z: Tensor,
    max_atoms: int,
    elements: Sequence[int],
    volumes: Array,
    rules: Rules | None,
    beams: int,
) -> list[tuple[Placed, int] | None]:
    first = _Judged(network, network.drafts(z, max_atoms, elements, 1, rules), z, volumes, rules)
    chosen: list[tuple[Placed, int] | None] = [None] * len(z)
    settled = np.zeros(len(z), dtype=bool)
    for i, owner in enumerate(first.owner.tolist()):
        if first.valid[i]:
            chosen[owner] = (first.placed, i)
            settled[owner] = first.sound[i]
    open_ = torch.as_tensor(np.flatnonzero(~settled), device=z.device)
    if beams == 1 or not len(open_):
        return chosen
    some = None if rules is None else rules[open_]
    drafts = network.drafts(z[open_], max_atoms, elements, beams, some)
    more = _Judged(network, drafts, z[open_], volumes, some)
    best: dict[int, int] = {}
    for i in np.argsort(-more.score, kind="stable").tolist():
        if np.isfinite(more.score[i]):
            best.setdefault(int(more.owner[i]), i)
    for owner, i in best.items():
        chosen[int(open_[owner])] = (more.placed, i)
    return chosen
