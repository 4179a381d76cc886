"""Success rates of optimising a property by the gradient of a head over the latent space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure
from torch import Tensor

from generators.base import Generator
from generators.crystals.metrics.figures import Figure, share
from generators.crystals.metrics.judge import Judge
from generators.crystals.metrics.properties import encodable
from generators.crystals.metrics.validity import both_valid

STARTS, STEPS, SAVED, RATE = 100, 5000, 10, 1e-3
PERCENTILES = (5, 10, 15)
REACHES = (0.5, 1.0, 2.0, 4.0)  # lengths of the steps that `climb` tries


def head_of(generator: Generator, name: str) -> int | None:
    """Which of a generator's differentiable heads has this name; None where there is none."""
    heads = getattr(getattr(generator, "network", None), "properties", ())
    return list(heads).index(name) if name in heads else None


def descend(
    generator: Any, start: Tensor, head: int, steps: int = STEPS
) -> Iterator[list[Structure | None]]:
    """Lower a head's prediction from each of `n` latent vectors, as Xie et al. (2022).

    Adam with rate 0.001, 5,000 steps; what is decoded at ten times on the way, each `n` long.
    """
    z = start.detach().to(generator.device, torch.float32).clone().requires_grad_(True)
    optimiser = torch.optim.Adam([z], lr=RATE)
    every = steps // (SAVED - 1)
    for step in range(steps):
        loss = generator.network.predict(z)[:, head].sum()
        (z.grad,) = torch.autograd.grad(loss, z)
        optimiser.step()
        if step % every == 0 or step == steps - 1:
            yield generator.decode(z.detach().double().cpu())


def climb(
    generator: Any, start: Tensor, head: int, seed: int, judge: Judge, rounds: int = SAVED
) -> Iterator[list[Structure | None]]:
    """The same by what a closed loop can do more: it sees what a latent vector decodes to.

    Ten rounds. In each, steps of four lengths against the gradient, alone and shaken, are decoded,
    and the valid design, of a stoichiometry of the data, whose *own* latent vector the head likes
    best is where the next begins.
    """
    z = start.detach().double().clone()
    source = torch.Generator().manual_seed(seed)
    best = _score(generator, z, head)
    for _ in range(rounds):
        origin = z.clone()
        point = origin.to(generator.device, torch.float32).requires_grad_(True)
        (slope,) = torch.autograd.grad(generator.network.predict(point)[:, head].sum(), point)
        down = -torch.nn.functional.normalize(slope.double().cpu(), dim=1)
        here: list[Structure | None] = [None] * len(z)
        for reach in REACHES:
            for shake in (0.0, reach / z.shape[1] ** 0.5):
                noise = torch.randn(z.shape, generator=source, dtype=torch.float64)
                designs = generator.decode(origin + reach * down + shake * noise)
                kin = [d if d is not None and judge.knows(d) else None for d in designs]
                at, again = _encoded(generator, kin)
                score = _score(generator, again, head)
                for k, i in enumerate(at):
                    if score[k] < best[i]:
                        best[i], z[i], here[i] = score[k], again[k], designs[i]
        yield here


def _score(generator: Any, z: Tensor, head: int) -> Tensor:
    with torch.no_grad():
        found: Tensor = generator.network.predict(z.to(generator.device, torch.float32))
    return found[:, head].cpu()


def _encoded(generator: Any, designs: Sequence[Structure | None]) -> tuple[list[int], Tensor]:
    """Which designs are valid and can be encoded, and their latent vectors."""
    real = [(i, d) for i, d in enumerate(designs) if d is not None]
    good = both_valid([d for _, d in real])
    kept = [p for p, g in zip(real, good, strict=True) if g and encodable(generator, p[1])]
    return [i for i, _ in kept], generator.embed([d for _, d in kept])


def success_figures(
    generator: Generator,
    starts: Sequence[Structure],
    head: int,
    judge: Judge,
    thresholds: NDArray[np.float64],
    seed: int,
) -> dict[str, Figure]:
    """SR5, SR10 and SR15: starts of which some valid design reaches the percentile.

    By the protocol of Xie et al. (2022), and (`_ours`) by `climb`. The judge is not the head that
    was climbed, and a design counts only where it has a stoichiometry that the judge has seen.

    Args:
        generator: With differentiable heads.
        starts: Crystals to start from.
        head: Which head to lower.
        judge: Says what property a design has.
        thresholds: The 5th, 10th and 15th percentile of the property.
        seed: Of what is shaken.
    """
    z = generator.encode(starts)
    ways = {"": descend(generator, z, head), "_ours": climb(generator, z, head, seed, judge)}
    figures = {}
    for label, way in ways.items():
        best = np.full(len(starts), np.inf)
        for designs in way:
            real = [(i, d) for i, d in enumerate(designs) if d is not None and judge.knows(d)]
            valid = both_valid([d for _, d in real])
            real = [pair for pair, good in zip(real, valid, strict=True) if good]
            if real:
                at = np.array([i for i, _ in real])
                best[at] = np.minimum(best[at], judge.predict([d for _, d in real]))
        for percent, threshold in zip(PERCENTILES, thresholds, strict=True):
            note = f"judged by {judge.about}; at most {threshold:.4g}"
            figures[f"success_rate_{percent}{label}"] = share((best <= threshold).tolist(), note)
    return figures
