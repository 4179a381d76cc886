"""Training the crystal network from a recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generators.crystals.dataset import Row
from generators.crystals.network import CrystalNetwork, Size
from generators.crystals.settling import fit_settler
from generators.crystals.substitution import replacements
from generators.crystals.symmetry import Array
from generators.crystals.tokens import (
    MAX_POSITIONS,
    MAX_Z,
    NO_POSITION,
    Tokens,
    fit_atomic_volumes,
    position_table,
    tokenize,
)
from generators.crystals.wyckoff import element_rank


@dataclass(frozen=True)
class Trained:
    """What training makes: the network, and the numbers that go with it.

    Attributes:
        network: In evaluation mode.
        volumes: Volume of an atom of each element (Angstrom^3), by atomic number.
        property_mean: Of each head, with `property_scale`: from standardised to real units.
        property_scale: Of each head.
        elements: Atomic numbers that the training rows have.
        minutes: Of wall time.
    """

    network: CrystalNetwork
    volumes: Array
    property_mean: Array
    property_scale: Array
    elements: tuple[int, ...]
    minutes: float


def substitute(t: Tokens, share: float, source: torch.Generator) -> tuple[Tokens, Tensor]:
    """Replace the elements of some crystals by similar ones (`replacements`).

    A replacement keeps two elements distinct and in the order by which the canonical description
    is chosen, so that the crystal's tokens stay canonical; others are left as they are. The volume
    needs no change, since it is relative to the elements' own.

    Args:
        t: `n` crystals.
        share: Of the crystals to change.
        source: Of randomness.

    Returns:
        The crystals, and which of them (`n`, bool) were changed.
    """
    n = len(t)
    table = torch.tensor(replacements(), dtype=torch.float32)
    rank = torch.tensor([element_rank(z) if z else -1.0 for z in range(MAX_Z + 1)])
    drawn = torch.multinomial(table, n, replacement=True, generator=source).T  # n x elements
    stay = torch.rand(n, MAX_Z + 1, generator=source) < 0.3
    drawn = torch.where(stay, torch.arange(MAX_Z + 1), drawn)
    new = drawn.gather(1, t.element)
    old_order = torch.sign(rank[t.element][:, :, None] - rank[t.element][:, None])
    new_order = torch.sign(rank[new][:, :, None] - rank[new][:, None])
    kept = (old_order == new_order).flatten(1).all(1)
    change = kept & (torch.rand(n, generator=source) < share)
    element = torch.where(change[:, None], new, t.element)
    return Tokens(t.group, t.position, element, t.free, t.lattice), change


def mutate(t: Tokens, share: float, source: torch.Generator) -> tuple[Tokens, Tensor]:
    """Move one orbit of some crystals to another Wyckoff position of their group.

    No crystal of nature, perhaps, but what an autoencoder must write down all the same: it has seen
    few of the combinations of positions that there are. Such a description may not be canonical.

    Args:
        t: `n` crystals.
        share: Of the crystals to change, where that can be done.
        source: Of randomness.

    Returns:
        The crystals, and which of them (`n`, bool) were changed.
    """
    n, k = t.position.shape
    _, used, atoms = (torch.tensor(x, dtype=torch.float32) for x in position_table())
    real = t.position != NO_POSITION
    which = torch.multinomial(real.float(), 1, generator=source)[:, 0]
    every = torch.arange(n)
    counts = torch.nn.functional.one_hot(t.position, MAX_POSITIONS + 1).sum(1)[:, :MAX_POSITIONS]
    old = t.position[every, which]
    room = atoms[t.group, :MAX_POSITIONS] <= atoms[t.group, old][:, None].clamp(min=2.0)
    flexible = used[t.group, :MAX_POSITIONS].sum(-1) > 0
    fits = (atoms[t.group, :MAX_POSITIONS] > 0) & room & (flexible | (counts == 0))
    possible = fits.any(1)
    fits[~possible, 0] = True
    new = torch.multinomial(fits.float(), 1, generator=source)[:, 0]
    change = possible & (new != old) & (torch.rand(n, generator=source) < share)
    position = t.position.clone()
    position[every, which] = torch.where(change, new, old)
    free = t.free.clone()
    drawn = torch.rand(n, 3, generator=source)
    free[every, which] = torch.where(
        change[:, None], drawn * used[t.group, new], free[every, which]
    )
    rank = torch.tensor([element_rank(z) if z else 9.0 for z in range(MAX_Z + 1)])
    key = position * 100 + rank[t.element]
    order = torch.where(change[:, None], key.argsort(dim=1, stable=True), torch.arange(k))
    return Tokens(
        t.group,
        position.gather(1, order),
        t.element.gather(1, order),
        free.gather(1, order[..., None].expand(-1, -1, 3)),
        t.lattice,
    ), change


def train(
    recipe: Mapping[str, Any],
    rows: Sequence[Row],
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> Trained:
    """Train a network on rows, none of them held out.

    Args:
        recipe: A training recipe, as `generators/recipes/crystals.yaml`.
        rows: Training rows.
        device: Where to train.
        on_epoch: Called with the epoch and its mean losses.
        start: Weights to start from, of a network that may have fewer parts.
    """
    if any(row.held_out for row in rows):
        raise ValueError("a held-out row was given to training")
    started = time.monotonic()
    plan = recipe["training"]
    torch.manual_seed(recipe["seed"])
    source = torch.Generator().manual_seed(recipe["seed"])
    volumes = fit_atomic_volumes([row.crystal for row in rows])
    tokens = tokenize([row.crystal for row in rows], volumes)
    heads = tuple(h for s in recipe["sources"] for h in s["properties"])
    known = np.array([[row.properties.get(h, np.nan) for h in heads] for row in rows])
    mean, scale = np.nanmean(known, 0), np.nanstd(known, 0)
    targets = torch.tensor((known - mean) / scale, dtype=torch.float32).to(device)

    network = CrystalNetwork(Size(**recipe["network"]), heads).to(device)
    network.lattice_mean.copy_(tokens.lattice.mean(0))
    network.lattice_scale.copy_(tokens.lattice.std(0) + 1e-3)
    if start is not None:
        network.load_state_dict({k: v.float() for k, v in start.items()}, strict=False)
    optimizer = torch.optim.AdamW(
        network.parameters(), plan["learning_rate"], weight_decay=plan["weight_decay"]
    )
    # a coordinate that several heads lead is in the units of the first of these
    axes = list(network.axes.values())
    lead = [axes.index(a) for a in axes]
    ratio = torch.tensor(scale / scale[lead], dtype=torch.float32).to(device)
    shift = torch.tensor((mean - mean[lead]) / scale[lead], dtype=torch.float32).to(device)
    size, batch = len(rows), plan["batch"]
    orbits = (tokens.position != NO_POSITION).sum(1)
    steps = plan["epochs"] * math.ceil(size / batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan["learning_rate"], total_steps=steps + 1, pct_start=0.05
    )
    weights, step = plan["weights"], 0
    for epoch in range(plan["epochs"]):
        totals: dict[str, float] = {}
        for index in _batches(orbits, batch, source):
            part, changed = substitute(tokens[index].trimmed(), plan["substitution"], source)
            if plan.get("mutation"):
                part, moved = mutate(part, plan["mutation"], source)
                changed = changed | moved
            part = part.to(device)
            z_mean, log_variance = network.encode(part)
            z = z_mean + torch.randn_like(z_mean) * (0.5 * log_variance).exp()
            losses = network.losses(part, z)
            kl = -0.5 * (1 + log_variance - z_mean**2 - log_variance.exp()).sum(1)
            y = targets[index].clone()
            y[changed] = torch.nan
            miss = torch.isnan(y)
            error = torch.where(miss, 0.0, network.predict(z) - y.nan_to_num())
            losses["property"] = torch.nn.functional.huber_loss(
                error, torch.zeros_like(error), reduction="none"
            ).sum(1)
            led = torch.where(
                torch.isnan(y), 0.0, z_mean[:, axes] - (y.nan_to_num() * ratio + shift)
            )
            losses["axis"] = (led**2).sum(1)
            warm = 1.0 if start is not None else min(1.0, step / (0.2 * steps))
            loss = sum(weights.get(k, 0.0) * v.mean() for k, v in losses.items())
            loss = loss + plan["beta"] * warm * kl.mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            for k, v in (losses | {"kl": kl}).items():
                totals[k] = totals.get(k, 0.0) + float(v.detach().sum()) / size
        if on_epoch is not None:
            on_epoch(epoch + 1, totals)
    elements = tuple(sorted({z for row in rows for z in row.crystal.elements}))
    if "grounding" in plan:
        # what it asks trees by measures generators, and these hold trained networks
        from generators.crystals.grounding import ground

        # trees and small heads: no work for a GPU
        ground(
            network.eval().cpu(), tokens, targets.cpu(), volumes, recipe["max_atoms"], elements,
            plan["grounding"], source,
        )  # fmt: skip
        network.to(device)
    if network.settler is not None:
        fit_settler(network.settler, tokens, volumes, plan["settling"], source, on_epoch)
    minutes = (time.monotonic() - started) / 60
    return Trained(network.eval(), volumes, mean, scale, elements, minutes)


def _batches(orbits: Tensor, size: int, source: torch.Generator) -> list[Tensor]:
    """Random batches of crystals with about as many orbits, so that little is padding."""
    shuffled = torch.randperm(len(orbits), generator=source)
    jitter = torch.rand(len(orbits), generator=source) * 2.0
    order = shuffled[torch.argsort(orbits[shuffled] + jitter)]
    batches = list(order.split(size))
    return [batches[i] for i in torch.randperm(len(batches), generator=source).tolist()]
