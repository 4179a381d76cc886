"""A learnt prior: where in the latent space crystals are, and where those of a kind are.

The aggregate posterior of an autoencoder is not the normal distribution that its objective pulls it
to, and draws from the normal fall into the holes. So the posterior itself is learnt, whatever
network encoded it (a second stage, as of Rombach et al., CVPR 2022): a mixture of normals first,
then a flow from the mixture to the latent vectors of crystals, on straight paths within a component
(flow matching: Lipman et al., ICLR 2023; from another source than the normal: Albergo et al., ICML
2024). It begins as the mixture exactly. Which component, and where in it, follow conditions, which
are left out at random in training, so that draws can be guided without a classifier (Ho and
Salimans 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.crystals.conditions import SYSTEMS
from generators.crystals.tokens import GROUPS, MAX_Z
from generators.fine_tuning.adapter import FittedAdapter

STEPS = 8
WAVES = 4
_BATCH = 1024
CHOICE = 0.05
"""Weight of the choice of a component beside the flow's squared error, in training."""

_TIME = 32
_NUMBERS = ("group", "system", "atoms", "source", "made")


@dataclass(frozen=True)
class Wanted:
    """Conditions of `n` draws as tensors; all zero (and NaN) where there is none.

    Attributes:
        contains: `n x 101`, elements that must occur.
        banned: `n x 101`, elements that must not.
        share: `n x 101`, the composition as shares of atoms.
        group: `n`, the space group.
        system: `n`, the crystal system, from 1 as `SYSTEMS`.
        atoms: `n`, atoms in the primitive cell.
        source: `n`, the data set, from 1 as the recipe has them.
        made: `n`, whether a crystal whose elements were replaced will do.
        properties: `n x p`, standardised as the network's heads are; NaN: any.
    """

    contains: Tensor
    banned: Tensor
    share: Tensor
    group: Tensor
    system: Tensor
    atoms: Tensor
    source: Tensor
    made: Tensor
    properties: Tensor

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, index: Tensor | slice) -> Wanted:
        return Wanted(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> Wanted:
        """The same on another device."""
        return Wanted(*(getattr(self, f.name).to(device) for f in fields(self)))

    @staticmethod
    def nothing(n: int, properties: int) -> Wanted:
        """No conditions on `n` draws, of a network with `properties` heads."""
        found = {
            f.name: torch.zeros(n, dtype=torch.long)
            if f.name in _NUMBERS
            else torch.zeros(n, MAX_Z + 1)
            for f in fields(Wanted)
        }
        return Wanted(**found | {"properties": torch.full((n, properties), torch.nan)})

    def features(self, max_atoms: int, sources: int) -> Tensor:
        """As one vector each, `n x c`; zero where there is no condition."""
        hot = [
            F.one_hot(number.clamp(max=size), size + 1)[:, 1:].float()
            for number, size in (
                (self.group, GROUPS - 1),
                (self.system, len(SYSTEMS)),
                (self.atoms, max_atoms),
                (self.source, sources),
                (self.made, 1),
            )
        ]
        known = torch.isfinite(self.properties).float()
        value = self.properties.nan_to_num().clamp(-5, 5)
        angles = torch.cat([value * 2.0 ** (k - 2) * torch.pi for k in range(WAVES)], -1)
        waves = torch.cat([angles.sin(), angles.cos()], -1) * known.repeat(1, 2 * WAVES)
        return torch.cat(
            [self.contains, self.banned, 4 * self.share, *hot, value, known, waves], -1
        )

    @staticmethod
    def width(max_atoms: int, sources: int, properties: int) -> int:
        """Length `c` of `features`."""
        numbers = GROUPS - 1 + len(SYSTEMS) + max_atoms + sources + 1
        return 3 * (MAX_Z + 1) + numbers + properties * (2 + 2 * WAVES)


class MixtureFlow(nn.Module):
    """A mixture of normals, and where a point on the way from it to latent vectors is heading.

    Args:
        dim: Latent dimensions `d`.
        condition: Length `c` of the features of conditions.
        components: Of the mixture, `m`.
        width: Of its layers.
        layers: How many.
    """

    means: Tensor
    roots: Tensor

    def __init__(self, dim: int, condition: int, components: int, width: int, layers: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("means", torch.zeros(components, dim))
        self.register_buffer("roots", torch.eye(dim).repeat(components, 1, 1))
        self.enter = nn.Linear(dim, width)
        self.time = nn.Sequential(nn.Linear(_TIME, width), nn.SiLU(), nn.Linear(width, width))
        self.component = nn.Embedding(components, width)
        self.condition = nn.Sequential(
            nn.Linear(condition, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.choose = nn.Linear(width, components)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.inner = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(layers))
        self.outer = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(layers))
        self.leave = nn.Linear(width, dim)
        nn.init.normal_(self.component.weight, std=0.1)
        for layer in (*self.outer, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def source(self, which: Tensor, noise: Tensor) -> Tensor:
        """Points `n x d` of components `n`, from normal draws `n x d`."""
        return self.means[which] + torch.einsum("nij,nj->ni", self.roots[which], noise)

    def odds(self, condition: Tensor) -> Tensor:
        """Logits of the components, `n x m`, from `condition` of the features, `n x width`."""
        out: Tensor = self.choose(F.silu(condition))
        return out

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        which: Tensor,
        condition: Tensor,
        bend: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Velocity `n x d` at points `n x d`.

        Args:
            z: The points.
            t: Times in [0, 1], `n` or 1.
            which: Components, `n`.
            condition: `condition` of the features, `n x width` or `1 x width`.
            bend: What an adapter adds before a layer, by the layer's number, `n x width`.
        """
        frequency = torch.exp(torch.linspace(0, math.log(200), _TIME // 2, device=t.device))
        angles = t[:, None] * frequency
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        h = self.enter(z) + time + self.component(which) + condition
        layers = zip(self.norms, self.inner, self.outer, strict=True)
        for i, (norm, inner, outer) in enumerate(layers):
            h = h if bend is None else h + bend(i, h)
            h = h + outer(F.silu(inner(norm(h))))
        # what the velocity would be, were each component a normal distribution indeed
        pull = ((2 * t - 1) / (t**2 + (1 - t) ** 2))[:, None]
        out: Tensor = pull * (z - self.means[which]) + self.leave(h)
        return out


@dataclass(frozen=True)
class _Way:
    """What a draw may follow.

    Attributes:
        condition: As the flow reads it, `n x width` or `1 x width`.
        odds: Of the components, `n x m` or `1 x m`.
        bend: See `MixtureFlow.forward`.
    """

    condition: Tensor
    odds: Tensor
    bend: Callable[[int, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class FittedPrior:
    """A trained flow with what it needs to be used.

    Attributes:
        module: In evaluation mode.
        told: What the card says of it.
        max_atoms: Of the generator.
        temperature: How far draws stray from the middles of the components, where nothing else is
            asked: 1 is as crystals do; less gives crystals more like those that were learnt.
        adapter: What has draws follow a property, where that was learnt.
    """

    module: MixtureFlow
    told: Mapping[str, Any]
    max_atoms: int
    temperature: float = 1.0
    adapter: FittedAdapter | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the data sets that a condition may ask for."""
        return tuple(self.told["sources"])

    @torch.no_grad()
    def draw(
        self,
        n: int,
        source: torch.Generator,
        wanted: Wanted | None = None,
        guidance: float = 1.0,
        temperature: float | None = None,
        aim: Mapping[str, float] | None = None,
    ) -> Tensor:
        """Latent vectors `n x d` (double), by Heun's method.

        Args:
            n: How many.
            source: Of the draws.
            wanted: Conditions on each of the `n`; none: any crystal.
            guidance: Weight of the conditions; 1 is what was learnt, above it fewer kinds that
                meet the conditions better.
            temperature: In place of its own.
            aim: Of the adapter, in place of its own; in the metrics' units.
        """
        chance = torch.rand(n, generator=source)
        noise = torch.randn(n, self.module.dim, generator=source)
        noise *= self.temperature if temperature is None else temperature
        device = self.module.means.device
        y = None if self.adapter is None else self.adapter.wanted(1, aim).to(device)
        parts = []
        for i in range(0, n, _BATCH):
            cut = slice(i, i + _BATCH)
            part = None if wanted is None else wanted[cut].to(device)
            z = self._path(chance[cut].to(device), noise[cut].to(device), part, guidance, y)
            parts.append(z.double().cpu())
        return torch.cat(parts) if parts else noise.double()

    def anything(self) -> Tensor:
        """No condition as the flow reads it, `1 x width`."""
        nothing = Wanted.nothing(1, self.told["properties"])
        return self._condition(nothing.to(self.module.means.device))

    def _condition(self, wanted: Wanted) -> Tensor:
        out: Tensor = self.module.condition(wanted.features(self.max_atoms, len(self.sources)))
        return out

    def _path(
        self,
        chance: Tensor,
        noise: Tensor,
        wanted: Wanted | None,
        guidance: float,
        y: Tensor | None,
    ) -> Tensor:
        flow, ways = self.module, self._ways(wanted, guidance, y)
        odds = reduce(torch.add, [w * way.odds for w, way in ways])
        ladder = odds.softmax(-1).cumsum(-1).expand(len(noise), -1).contiguous()
        which = torch.searchsorted(ladder, chance[:, None] * ladder[:, -1:])[:, 0]
        which = which.clamp(max=len(flow.means) - 1)
        z = flow.source(which, noise)

        def velocity(z: Tensor, k: int) -> Tensor:
            t = torch.tensor([k / STEPS], device=z.device)
            said = [w * flow(z, t, which, way.condition, way.bend) for w, way in ways]
            return reduce(torch.add, said)

        for k in range(STEPS):
            first = velocity(z, k)
            second = velocity(z + first / STEPS, k + 1)
            z = z + (first + second) / (2 * STEPS)
        return z

    def _ways(
        self, wanted: Wanted | None, guidance: float, y: Tensor | None
    ) -> list[tuple[float, _Way]]:
        """What a draw follows, each with its weight; these sum to 1.

        From anything to the conditions, and from there to the adapter's aim, each as far as it is
        guided.
        """
        flow, anything = self.module, self.anything()
        asked = anything if wanted is None else self._condition(wanted)
        weights = {"anything": 0.0, "asked": 1.0, "aimed": 0.0}
        if wanted is not None:
            weights |= {"anything": 1.0 - guidance, "asked": guidance}
        ways = {"anything": _Way(anything, flow.odds(anything)),
                "asked": _Way(asked, flow.odds(asked))}  # fmt: skip
        if self.adapter is not None and y is not None:
            module, led = self.adapter.module, self.adapter.guidance
            read = module.condition(y)
            weights |= {"asked": weights["asked"] - led, "aimed": led}
            ways["aimed"] = _Way(
                asked, flow.odds(asked) + module.choose(read),
                lambda layer, h: module.bend(layer, h, read),
            )  # fmt: skip
        return [(w, ways[name]) for name, w in weights.items() if w]

    def _densities(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What each component makes of points `n x d`.

        Returns:
            Logarithms of their shares of the density, and squared distances in units of their
            widths (Mahalanobis), each `n x m`.
        """
        flow = self.module
        weight = flow.odds(self.anything()).log_softmax(-1)
        volume = flow.roots.diagonal(dim1=1, dim2=2).log().sum(1)
        off = (z.to(flow.means)[None] - flow.means[:, None]).transpose(1, 2)
        inside = torch.linalg.solve_triangular(flow.roots, off, upper=False)
        square = (inside**2).sum(1).T
        return weight - volume - square / 2, square

    @torch.no_grad()
    def belongs(self, z: Tensor) -> Tensor:
        """How latent vectors `n x d` belong to the components: probabilities, `n x m`."""
        parts = [self._densities(part)[0].softmax(1).cpu() for part in z.split(_BATCH)]
        return torch.cat(parts)

    @torch.no_grad()
    def surprise(self, z: Tensor) -> Tensor:
        """How unlikely latent vectors `n x d` are by the mixture, `n x 2`.

        Columns: the negative logarithm of the density, and the distance from the nearest component
        in units of its width.
        """
        if not len(z):
            return torch.zeros(0, 2, dtype=torch.float64)
        parts = []
        for part in z.split(_BATCH):
            density, square = self._densities(part)
            told = [-torch.logsumexp(density, 1), square.amin(1).sqrt()]
            parts.append(torch.stack(told, 1).double().cpu())
        return torch.cat(parts)

    # files -------------------------------------------------------------------------------------
    def state(self) -> dict[str, Tensor]:
        """Its weights in half precision, by the names they have in a file."""
        told = self.module.state_dict()
        own = {f"prior.{k}": v.detach().cpu().half() for k, v in told.items()}
        return own if self.adapter is None else own | self.adapter.state()

    @property
    def card(self) -> dict[str, Any]:
        """What a model card says of it, from which `split` makes it again."""
        own: dict[str, Any] = {"prior": dict(self.told)}
        return own if self.adapter is None else own | {"adapter": self.adapter.card}

    @classmethod
    def split(
        cls, card: Mapping[str, Any], state: Mapping[str, Tensor], device: torch.device | str
    ) -> tuple[FittedPrior | None, dict[str, Tensor]]:
        """The prior of a file, None where it has none, and the other weights.

        Raises:
            ValueError: Only one of card and weights has one.
        """
        adapter, state = FittedAdapter.split(card, state, device)
        mine = {k.removeprefix("prior."): v for k, v in state.items() if k.startswith("prior.")}
        rest = {k: v for k, v in state.items() if not k.startswith("prior.")}
        if "prior" not in card:
            if mine:
                raise ValueError("weights of a learnt prior, of which the card does not tell")
            return None, rest
        told, max_atoms = card["prior"], int(card["recipe"]["max_atoms"])
        module = make(
            card["recipe"]["network"]["latent"],
            max_atoms,
            told["sources"],
            told["properties"],
            told["components"],
            told["width"],
            told["layers"],
        )
        module.load_state_dict(mine)
        temperature = float(card["recipe"].get("prior", {}).get("temperature", 1.0))
        return cls(module.to(device).eval(), told, max_atoms, temperature, adapter), rest


def make(
    dim: int,
    max_atoms: int,
    sources: Sequence[str],
    properties: int,
    components: int,
    width: int,
    layers: int,
) -> MixtureFlow:
    """An untrained flow."""
    condition = Wanted.width(max_atoms, len(sources), properties)
    return MixtureFlow(dim, condition, components, width, layers)
