"""An adapter on the latent space, which makes a frozen generator follow a property.

MatterGen (Zeni et al., Nature 2025) freezes its base and adds to each layer an adapter that reads a
property, through a mixing layer without bias that begins at zero: so training begins at the base
exactly, and a design without a property is still the base's. The decoder of an autoencoder needs no
such thing, since z says all; what has to follow the property is the prior. So the adapters here are
the coupling layers of a flow (Dinh et al. 2017) from the prior to the latent vectors of designs
that have the property: with mixing layers at zero it is the identity, and it can be inverted, so
that encoding stays exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LAYERS = 6
WAVES = 4
_STRETCH = 1.0  # largest logarithm by which one layer stretches a dimension


class Conditioner(nn.Module):
    """One coupling layer: half of z moves as the other half and the property say."""

    mask: Tensor

    def __init__(self, dim: int, condition: int, width: int, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.adapter = nn.Sequential(
            nn.Linear(dim + condition, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.mixin = nn.Linear(width, 2 * dim, bias=False)
        nn.init.zeros_(self.mixin.weight)

    def moves(self, z: Tensor, condition: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and logarithm of the stretch, each `n x d`, none where no property is given."""
        h = self.adapter(torch.cat([z * self.mask, condition], -1))
        shift, stretch = (self.mixin(h) * given * ~self.mask.repeat(2).bool()).chunk(2, -1)
        return shift, _STRETCH * torch.tanh(stretch / _STRETCH)


class LatentAdapter(nn.Module):
    """From the prior and wanted properties to latent vectors, and back.

    Args:
        dim: Latent dimensions `d`.
        properties: How many properties, `p`.
        heads: How many properties the base predicts, `b`; the new head sees these too.
        width: Of its layers.
    """

    def __init__(self, dim: int, properties: int, heads: int, width: int = 96) -> None:
        super().__init__()
        self.dim, self.properties, self.width = dim, properties, width
        condition = properties * (1 + 2 * WAVES)
        masks = torch.Generator().manual_seed(0)
        layers = []
        for i in range(LAYERS):
            if i % 2 == 0:
                mask = torch.zeros(dim)
                mask[torch.randperm(dim, generator=masks)[: dim // 2]] = 1.0
            else:
                mask = 1 - mask
            layers.append(Conditioner(dim, condition, width, mask))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Sequential(
            nn.Linear(dim + heads, width), nn.GELU(), nn.Linear(width, properties)
        )

    def _condition(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Features of standardised properties `n x p`, and whether there are any, `n x 1`."""
        given = torch.isfinite(y)
        value = torch.where(given, y, 0.0)
        angles = torch.cat([value * 2.0 ** (k - 2) * torch.pi for k in range(WAVES)], -1)
        waves = torch.cat([angles.sin(), angles.cos()], -1)
        known = given.repeat(1, 2 * WAVES)
        return torch.cat([value, waves * known], -1), given.any(1, keepdim=True)

    def forward(self, prior: Tensor, y: Tensor) -> Tensor:
        """Latent vectors `n x d` of draws from the prior, for properties `n x p` (NaN: any)."""
        condition, given = self._condition(y)
        z = prior
        for layer in self.layers:
            assert isinstance(layer, Conditioner)
            shift, stretch = layer.moves(z, condition, given)
            z = z * stretch.exp() + shift
        return z

    def inverse(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where in the prior latent vectors `n x d` are, and the logarithm `n` of the volume."""
        condition, given = self._condition(y)
        volume = torch.zeros(len(z), device=z.device, dtype=z.dtype)
        for layer in reversed(self.layers):
            assert isinstance(layer, Conditioner)
            shift, stretch = layer.moves(z, condition, given)
            z = (z - shift) * (-stretch).exp()
            volume = volume - stretch.sum(1)
        return z, volume

    def surprise(self, z: Tensor, y: Tensor) -> Tensor:
        """Negative logarithm of the density, `n`, up to a constant."""
        prior, volume = self.inverse(z, y)
        return 0.5 * (prior**2).sum(1) - volume

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
        aim: What the prior aims at where nothing is asked for, in the metric's unit.
    """

    module: LatentAdapter
    metrics: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    aim: Mapping[str, float]

    def wanted(self, n: int, conditions: Mapping[str, float] | None = None) -> Tensor:
        """Standardised properties `n x p`: those asked for, else the aim; NaN is any.

        Raises:
            ValueError: What is asked for is no number.
        """
        asked = conditions or self.aim
        values = np.array([float(asked.get(m, math.nan)) for m in self.metrics])
        if conditions and not np.isfinite([float(v) for v in conditions.values()]).all():
            raise ValueError(f"a condition is a number, not {dict(conditions)}")
        row = torch.tensor((values - self.mean) / self.scale, dtype=torch.float32)
        return row.expand(n, -1)

    @torch.no_grad()
    def from_prior(self, z: Tensor, conditions: Mapping[str, float] | None = None) -> Tensor:
        """Latent vectors of the network, `n x d` double, of draws `n x d` from the prior."""
        y = self.wanted(len(z), conditions)
        return self._on_device(z, y, self.module).double().cpu()

    @torch.no_grad()
    def to_prior(self, z: Tensor) -> Tensor:
        """Where in the prior, as it is aimed, latent vectors `n x d` of the network are."""
        y = self.wanted(len(z))
        return self._on_device(z, y, lambda a, b: self.module.inverse(a, b)[0]).double().cpu()

    @torch.no_grad()
    def predict(self, z: Tensor, heads: Tensor) -> dict[str, NDArray[np.float64]]:
        """What the new head says of latent vectors `n x d` and the network's own heads `n x b`."""
        said = self._on_device(z, heads, self.module.predict).double().cpu().numpy()
        return dict(zip(self.metrics, (said * self.scale + self.mean).T, strict=True))

    def _on_device(self, a: Tensor, b: Tensor, call: Any) -> Tensor:
        device = next(self.module.parameters()).device
        out: Tensor = call(a.to(device, torch.float32), b.to(device, torch.float32))
        return out

    # files -------------------------------------------------------------------------------------
    @property
    def card(self) -> dict[str, Any]:
        """What the model card says of it, from which `split` makes it again."""
        return {
            "metrics": list(self.metrics),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "aim": dict(self.aim),
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
        """The adapter of a file, None where it has none, and the network's weights."""
        mine = {k.removeprefix("adapter."): v for k, v in state.items() if k.startswith("adapter.")}
        rest = {k: v for k, v in state.items() if not k.startswith("adapter.")}
        if "adapter" not in card:
            return None, rest
        told = card["adapter"]
        metrics: Sequence[str] = told["metrics"]
        module = LatentAdapter(
            card["recipe"]["network"]["latent"],
            len(metrics),
            len(card["properties"]),
            told["width"],
        )
        module.load_state_dict(mine)
        return cls.of(module.to(device), told), rest

    @classmethod
    def of(cls, module: LatentAdapter, told: Mapping[str, Any]) -> FittedAdapter:
        """From a module and what its `card` says."""
        mean, scale = np.asarray(told["mean"], float), np.asarray(told["scale"], float)
        return cls(module.eval(), tuple(told["metrics"]), mean, scale, dict(told["aim"]))
