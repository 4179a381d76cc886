"""What one step of fine-tuning the network minimises: the autoencoder's loss, weighted and held."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from generators.crystals.network import CrystalNetwork
from generators.crystals.prior import CHOICE, FittedPrior
from generators.crystals.tokens import NO_POSITION, Tokens
from generators.fine_tuning.adapter import PriorAdapter


@dataclass(frozen=True)
class Lesson:
    """Designs to learn from, with how often each is drawn.

    Attributes:
        tokens: `n` crystals.
        properties: What the property heads should say of them, `n x p`, NaN where nothing.
        chance: `n`, of being drawn; they sum to 1.
        reward: `n`, in [0, 1].
    """

    tokens: Tokens
    properties: Tensor
    chance: Tensor
    reward: Tensor


class Elbo(nn.Module):
    """The mean over designs of `reward * loss + pull * (1.1 - reward) * distance`.

    The loss is the autoencoder's own negative evidence bound, with the weights of its training.
    The distance is the squared one between what this network and its frozen parent predict of a
    design: the parts of a crystal, and the mean of its latent vector. It is the loss of MatInvent
    (Chen et al. 2025); with no pull and all rewards 1 it is that of pretraining.

    Args:
        network: What is trained.
        parent: As it was; None where nothing is pulled.
        plan: The part `training` of the network's recipe.
        pull: sigma.
    """

    def __init__(
        self,
        network: CrystalNetwork,
        parent: CrystalNetwork | None,
        plan: Mapping[str, Any],
        pull: float,
    ) -> None:
        super().__init__()
        self.network, self.pull = network, pull
        self.weights, self.beta = dict(plan["weights"]), float(plan["beta"])
        # not a part of the module: it is neither trained nor kept
        self.parents = (parent,) if parent is not None and pull > 0 else ()
        for frozen in self.parents:
            frozen.requires_grad_(False)

    def forward(
        self, tokens: tuple[Tensor, ...], properties: Tensor, reward: Tensor, noise: Tensor
    ) -> Tensor:
        """The mean loss of `n` designs; `noise` is `n x d`, standard normal."""
        network, t = self.network, Tokens(*tokens)
        mean, log_variance = network.encode(t)
        z = mean + noise * (0.5 * log_variance).exp()
        said = network.predictions(t, z)
        losses = network.losses(t, z, said)
        miss = torch.isnan(properties)
        error = torch.where(miss, 0.0, network.predict(z) - properties.nan_to_num())
        losses["property"] = nn.functional.huber_loss(
            error, torch.zeros_like(error), reduction="none"
        ).sum(1)
        loss = self.beta * -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
        for name, value in losses.items():
            loss = loss + float(self.weights[name]) * value
        loss = reward * loss
        for parent in self.parents:
            parent.to(z.device)
            with torch.no_grad():
                before, _ = parent.encode(t)
                held = parent.predictions(t, z)
            away = ((mean - before) ** 2).sum(1)
            for name, value in said.items():
                away = away + _squares(value - held[name], t.position, name)
            loss = loss + self.pull * (1.1 - reward) * away
        return loss.mean()


def _squares(difference: Tensor, position: Tensor, name: str) -> Tensor:
    """Squared length `n` of differences, without those at orbits that are not there."""
    square = difference.float() ** 2
    real = position != NO_POSITION
    if name == "site":  # one more, which ends the crystal
        real = torch.cat([torch.ones_like(real[:, :1]), real], 1)
    if name in ("site", "element", "free"):
        square = square * real.reshape(*real.shape, *[1] * (square.dim() - 2))
    return square.flatten(1).sum(1)


def batches(
    lessons: Sequence[tuple[Lesson, int]], latent: int, source: torch.Generator
) -> dict[str, Tensor | tuple[Tensor, ...]]:
    """A batch for `Elbo`: of each lesson so many designs, drawn with replacement by its chances."""
    parts = []
    for lesson, count in lessons:
        if count:
            at = torch.multinomial(lesson.chance, count, replacement=True, generator=source)
            parts.append((lesson.tokens[at], lesson.properties[at], lesson.reward[at]))
    tokens = Tokens(
        *(torch.cat(columns) for columns in zip(*(astuple(p[0]) for p in parts), strict=True))
    ).trimmed()
    n = len(tokens)
    return {
        "tokens": astuple(tokens),
        "properties": torch.cat([p[1] for p in parts]),
        "reward": torch.cat([p[2] for p in parts]),
        "noise": torch.randn(n, latent, generator=source),
    }


class Bent(nn.Module):
    """What training an adapter minimises: the loss of the learnt prior, its flow left as it is.

    The squared error of the velocity at points on straight ways from a component to latent vectors
    that have a property (flow matching: Lipman et al., ICLR 2023), and the surprise at the choice
    of the component.

    Args:
        prior: The learnt prior.
        adapter: What is trained.
    """

    def __init__(self, prior: FittedPrior, adapter: PriorAdapter) -> None:
        super().__init__()
        self.adapter = adapter
        # neither trained nor kept
        self._frozen = (replace(prior, module=copy.deepcopy(prior.module).requires_grad_(False)),)

    def forward(self, z: Tensor, y: Tensor, which: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The mean loss of latent vectors `n x d` that have standardised properties `n x p`.

        Args:
            z: The latent vectors.
            y: The properties; NaN: any.
            which: Components that they belong to, `n`.
            noise: `n x d`, standard normal.
            t: Times in [0, 1], `n`.
        """
        (prior,) = self._frozen
        flow, adapter = prior.module.to(z.device), self.adapter
        anything = prior.anything()
        read = adapter.condition(y)
        begin = flow.source(which, noise)
        at = t[:, None] * z + (1 - t[:, None]) * begin
        said = flow(at, t, which, anything, lambda layer, h: adapter.bend(layer, h, read))
        odds = flow.odds(anything) + adapter.choose(read)
        loss: Tensor = ((said - (z - begin)) ** 2).mean()
        return loss + CHOICE * nn.functional.cross_entropy(odds, which)
