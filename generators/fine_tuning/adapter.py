"""An adapter on the learnt prior, which makes it follow a property.

MatterGen (Zeni et al., Nature 2025) freezes its base and adds to each layer an adapter that reads a
property, through a mixing layer without bias that begins at zero: so training begins at the base
exactly, and a draw without a property is still the base's. What draws here is the flow of the
learnt prior: the adapters are in its layers, and in its choice of a component. The decoder has
nothing to gain from one, since the latent vector says all. The base is what guidance without a
classifier (Ho and Salimans 2022) leads away from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

WAVES = 4


class PriorAdapter(nn.Module):
    """What a flow of `layers` layers adds to its own, for wanted properties.

    Args:
        dim: Latent dimensions `d`.
        flow: Width of the flow's layers, `w`.
        layers: How many it has.
        components: Of its mixture, `m`.
        properties: How many properties, `p`.
        heads: How many properties the base predicts, `b`; the new head sees these too.
        width: Of its own layers.
    """

    def __init__(
        self,
        dim: int,
        flow: int,
        layers: int,
        components: int,
        properties: int,
        heads: int,
        width: int = 96,
    ) -> None:
        super().__init__()
        self.width = width
        self.read = nn.Sequential(nn.Linear(properties * (1 + 2 * WAVES), width), nn.SiLU())
        self.adapters = nn.ModuleList(nn.Linear(flow + width, width) for _ in range(layers))
        self.mixins = nn.ModuleList(nn.Linear(width, flow, bias=False) for _ in range(layers))
        self.choose = nn.Linear(width, components, bias=False)
        for mixin in (*self.mixins, self.choose):
            nn.init.zeros_(mixin.weight)
        self.head = nn.Sequential(
            nn.Linear(dim + heads, width), nn.GELU(), nn.Linear(width, properties)
        )

    def condition(self, y: Tensor) -> Tensor:
        """Of standardised properties `n x p` (NaN: any): what the layers read, `n x width`."""
        given = torch.isfinite(y)
        value = torch.where(given, y, 0.0).clamp(-5, 5)
        angles = torch.cat([value * 2.0 ** (k - 2) * torch.pi for k in range(WAVES)], -1)
        waves = torch.cat([angles.sin(), angles.cos()], -1) * given.repeat(1, 2 * WAVES)
        out: Tensor = self.read(torch.cat([value, waves], -1))
        return out * given.any(1, keepdim=True)

    def bend(self, layer: int, h: Tensor, condition: Tensor) -> Tensor:
        """What is added before a layer of the flow to `h`, `n x w`."""
        inner = self.adapters[layer](torch.cat([h, condition.expand(len(h), -1)], -1))
        out: Tensor = self.mixins[layer](F.silu(inner) * condition.any(-1, keepdim=True))
        return out

    def predict(self, z: Tensor, heads: Tensor) -> Tensor:
        """Standardised properties `n x p` by the new head, of `n x d` and the base's `n x b`."""
        out: Tensor = self.head(torch.cat([z, heads], -1))
        return out


@dataclass(frozen=True)
class FittedAdapter:
    """A trained adapter with the numbers that go with it.

    Attributes:
        module: In evaluation mode.
        metrics: The `p` properties that it follows.
        mean: Of each, with `scale`: from standardised values to the metric's unit.
        scale: See `mean`.
        aim: What draws aim at where nothing is asked for, in the metric's unit.
        guidance: How far draws are led away from the base: 1 is as was learnt.
    """

    module: PriorAdapter
    metrics: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    aim: Mapping[str, float]
    guidance: float = 1.0

    def aimed(self, aim: Mapping[str, float], guidance: float) -> FittedAdapter:
        """The same with another aim."""
        return replace(self, aim=dict(aim), guidance=guidance)

    def wanted(self, n: int, asked: Mapping[str, float] | None = None) -> Tensor:
        """Standardised properties `n x p`: those asked for, else the aim; NaN is any.

        Raises:
            ValueError: What is asked for is no number.
        """
        told = asked or self.aim
        values = np.array([float(told.get(m, math.nan)) for m in self.metrics])
        if asked and not np.isfinite([float(v) for v in asked.values()]).all():
            raise ValueError(f"a condition is a number, not {dict(asked)}")
        row = torch.tensor((values - self.mean) / self.scale, dtype=torch.float32)
        return row.expand(n, -1)

    def in_units(self, y: Tensor) -> NDArray[np.float64]:
        """Standardised properties `n x p` in the metrics' units."""
        return np.asarray(y.double().cpu().numpy() * self.scale + self.mean)

    @torch.no_grad()
    def predict(self, z: Tensor, heads: Tensor) -> dict[str, NDArray[np.float64]]:
        """What the new head says of latent vectors `n x d` and the network's own heads `n x b`."""
        device = next(self.module.parameters()).device
        said = self.module.predict(z.to(device, torch.float32), heads.to(device, torch.float32))
        return dict(zip(self.metrics, self.in_units(said).T, strict=True))

    # files -------------------------------------------------------------------------------------
    @property
    def card(self) -> dict[str, Any]:
        """What the model card says of it, from which `split` makes it again."""
        return {
            "metrics": list(self.metrics),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "aim": dict(self.aim),
            "guidance": self.guidance,
            "width": self.module.width,
        }

    def state(self) -> dict[str, Tensor]:
        """Its weights in half precision, by the names they have in a file."""
        told = self.module.state_dict()
        return {f"adapter.{k}": v.detach().cpu().half() for k, v in told.items()}

    @classmethod
    def split(
        cls, card: Mapping[str, Any], state: Mapping[str, Tensor], device: torch.device | str
    ) -> tuple[FittedAdapter | None, dict[str, Tensor]]:
        """The adapter of a file, None where it has none, and the other weights."""
        mine = {k.removeprefix("adapter."): v for k, v in state.items() if k.startswith("adapter.")}
        rest = {k: v for k, v in state.items() if not k.startswith("adapter.")}
        if "adapter" not in card:
            return None, rest
        told = card["adapter"]
        module = make(card, told["metrics"], told["width"])
        module.load_state_dict(mine)
        return cls.of(module.to(device), told), rest

    @classmethod
    def of(cls, module: PriorAdapter, told: Mapping[str, Any]) -> FittedAdapter:
        """From a module and what its `card` says."""
        mean, scale = np.asarray(told["mean"], float), np.asarray(told["scale"], float)
        metrics, aim = tuple(told["metrics"]), dict(told["aim"])
        return cls(module.eval(), metrics, mean, scale, aim, float(told["guidance"]))


def make(card: Mapping[str, Any], metrics: Sequence[str], width: int = 96) -> PriorAdapter:
    """An adapter that changes nothing yet, for the prior of a generator's card."""
    prior = card["prior"]
    return PriorAdapter(
        card["recipe"]["network"]["latent"],
        prior["width"],
        prior["layers"],
        prior["components"],
        len(metrics),
        len(card["properties"]),
        width,
    )
