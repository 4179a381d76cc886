"""The network: a set encoder and an orbit-by-orbit decoder around one latent vector.

Encoder: a transformer over the orbits of a crystal, in no order, and a token for group and lattice.
Decoder: from z the space group, then one orbit after the other (Wyckoff position, element, free
coordinates), each in sight of those before it, then the lattice. Rules of symmetry are masks: only
positions that the group has, in their order, and a site without freedom is filled once.
The variational objective is that of Kingma and Welling (2014); heads on z that predict properties
shape the latent space as in Gomez-Bombarelli et al. (2018).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.crystals.decoding import Drafts, search
from generators.crystals.forcing import Rules
from generators.crystals.settling import Settler
from generators.crystals.tokens import (
    GROUPS,
    LATTICE,
    MAX_ORBITS,
    MAX_POSITIONS,
    MAX_Z,
    NO_POSITION,
    Tokens,
    element_table,
    magpie_elements,
    position_table,
)

Z_TOKENS = 3


@dataclass(frozen=True)
class Size:
    """How large the network is.

    Attributes:
        latent: Dimensions of z.
        width: Of every layer.
        heads: Of attention.
        encoder: Layers of the encoder.
        decoder: Layers of the decoder.
        statistics: Whether the encoder reads Magpie's statistics of the composition (Ward 2016).
        settler: Width of the network that moves decoded atoms to where they would rest; 0: none.
    """

    latent: int = 48
    width: int = 128
    heads: int = 4
    encoder: int = 3
    decoder: int = 3
    statistics: bool = False
    settler: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


def _mlp(inner: int, hidden: int, outer: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inner, hidden), nn.GELU(), nn.Linear(hidden, outer))


def _waves(x: Tensor) -> Tensor:
    """Periodic features of fractional coordinates, `... x 18`."""
    angles = torch.cat([2 * torch.pi * k * x for k in (1, 2, 4)], -1)
    return torch.cat([angles.sin(), angles.cos()], -1)


@dataclass(frozen=True)
class _Tables:
    """What depends on weights alone: `sites` `231 x 28 x d`, `elements` `101 x d`."""

    network: nn.Module
    sites: Tensor
    elements: Tensor


_TABLES = threading.local()


class CrystalNetwork(nn.Module):
    """Encoder, decoder and property heads.

    Args:
        size: See `Size`.
        properties: Names of the property heads.
    """

    chemistry: Tensor
    elements_known: Tensor
    sites: Tensor
    used: Tensor
    atoms: Tensor
    lattice_mean: Tensor
    lattice_scale: Tensor

    def __init__(self, size: Size, properties: tuple[str, ...]) -> None:
        super().__init__()
        self.size, self.properties = size, properties
        d = size.width
        features, used, atoms = position_table()
        for name, table in (
            ("chemistry", element_table()),
            ("sites", features),
            ("used", used),
            ("atoms", atoms),
        ):
            values = torch.tensor(np.asarray(table), dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)
        self.register_buffer("lattice_mean", torch.zeros(LATTICE))
        self.register_buffer("lattice_scale", torch.ones(LATTICE))
        self.group_embedding = nn.Embedding(GROUPS, d)
        self.site_embedding = nn.Embedding(GROUPS * (MAX_POSITIONS + 1), 24)
        self.site_features = nn.Linear(24 + features.shape[-1], d)
        self.element_embedding = nn.Embedding(MAX_Z + 1, d)
        self.element_features = nn.Linear(self.chemistry.shape[-1], d)
        self.coordinates = nn.Linear(18, d)
        self.lattice_in = nn.Linear(LATTICE, d)
        self.composition_in = nn.Linear(d, d)
        if size.statistics:
            elements = np.concatenate([element_table(), magpie_elements()], 1)
            values = torch.tensor(elements, dtype=torch.float32)
            self.register_buffer("elements_known", values, persistent=False)
            self.statistics_in = _mlp(4 * values.shape[1], d, d)
            nn.init.zeros_(self.statistics_in[-1].weight)  # type: ignore[arg-type]

        def stack(layers: int) -> nn.TransformerEncoder:
            layer = nn.TransformerEncoderLayer(
                d, size.heads, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True
            )
            return nn.TransformerEncoder(
                layer, layers, norm=nn.LayerNorm(d), enable_nested_tensor=False
            )

        self.encoder, self.decoder = stack(size.encoder), stack(size.decoder)
        self.to_latent = nn.Linear(d, 2 * size.latent)
        self.from_latent = _mlp(size.latent, 2 * d, Z_TOKENS * d)
        self.latent_everywhere = nn.Linear(size.latent, d)
        self.order = nn.Parameter(torch.randn(Z_TOKENS + 1 + MAX_ORBITS, d) * 0.05)
        self.group_out = _mlp(d, d, GROUPS)
        self.site_out = nn.Linear(d, d)
        self.stop_out = nn.Linear(d, 1)
        self.element_out = _mlp(2 * d, d, d)
        self.element_bias = nn.Parameter(torch.zeros(MAX_Z + 1))
        self.free_out = _mlp(3 * d, d, 6)
        self.lattice_out = _mlp(2 * d + size.latent, 2 * d, LATTICE)
        self.property_out = nn.ModuleList(_mlp(size.latent, 64, 1) for _ in properties)
        # trained by itself, when all else is
        self.settler = Settler(size.settler).requires_grad_(False) if size.settler else None

    # tokens ------------------------------------------------------------------------------------
    @contextmanager
    def tabulated(self) -> Iterator[None]:
        """In this thread, look up what depends on weights alone: sites and elements.

        For many crystals without gradients; nothing may change the weights within.
        """
        with torch.no_grad():
            device = self.sites.device
            groups = torch.arange(GROUPS, device=device)
            every = torch.arange(MAX_POSITIONS + 1, device=device).expand(GROUPS, -1)
            tables = _Tables(self, self._site(groups, every), self._elements())
        before, _TABLES.now = getattr(_TABLES, "now", None), tables
        try:
            yield
        finally:
            _TABLES.now = before

    def _tables(self) -> _Tables | None:
        now: _Tables | None = getattr(_TABLES, "now", None)
        return now if now is not None and now.network is self else None

    def _site(self, group: Tensor, position: Tensor) -> Tensor:
        group = group.reshape(-1, *[1] * (position.dim() - 1)).expand_as(position)
        if tables := self._tables():
            return tables.sites[group, position]
        learnt = self.site_embedding(group * (MAX_POSITIONS + 1) + position)
        out: Tensor = self.site_features(torch.cat([learnt, self.sites[group, position]], -1))
        return out

    def _elements(self) -> Tensor:
        if tables := self._tables():
            return tables.elements
        out: Tensor = self.element_embedding.weight + self.element_features(self.chemistry)
        return out

    def _orbits(self, t: Tokens) -> Tensor:
        real = (t.position != NO_POSITION)[..., None]
        return self._orbit(self._site(t.group, t.position), t.element, t.free) * real

    def _orbit(self, site: Tensor, element: Tensor, free: Tensor) -> Tensor:
        out: Tensor = site + self._elements()[element] + self.coordinates(_waves(free))
        return out

    def _composition(self, t: Tokens) -> Tensor:
        count = self.atoms[t.group[:, None], t.position]
        share = count / count.sum(1, keepdim=True).clamp(min=1)
        return (self._elements()[t.element] * share[..., None]).sum(1)

    def _statistics(self, t: Tokens) -> Tensor:
        """Mean, mean deviation, least and largest of the elements' properties, by atoms."""
        count = self.atoms[t.group[:, None], t.position]
        share = (count / count.sum(1, keepdim=True).clamp(min=1))[..., None]
        values, real = self.elements_known[t.element], (t.element > 0)[..., None]
        mean = (values * share).sum(1)
        deviation = ((values - mean[:, None]).abs() * share).sum(1)
        least = values.masked_fill(~real, 1e3).amin(1)
        most = values.masked_fill(~real, -1e3).amax(1)
        return torch.cat([mean, deviation, least, most], -1)

    # encoder -----------------------------------------------------------------------------------
    def encode(self, t: Tokens) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each `n x latent`, of the posterior of z."""
        cell = (t.lattice - self.lattice_mean) / self.lattice_scale
        whole = self.group_embedding(t.group) + self.lattice_in(cell)
        whole = whole + self.composition_in(self._composition(t))
        if self.size.statistics:
            whole = whole + self.statistics_in(self._statistics(t))
        tokens = torch.cat([whole[:, None], self._orbits(t)], 1)
        blank = torch.cat(
            [torch.zeros_like(t.group, dtype=torch.bool)[:, None], t.position == NO_POSITION], 1
        )
        pooled = self.encoder(tokens, src_key_padding_mask=blank)[:, 0]
        mean, log_variance = self.to_latent(pooled).chunk(2, -1)
        return mean, log_variance.clamp(-9, 3)

    # decoder -----------------------------------------------------------------------------------
    def _hidden(self, z: Tensor, t: Tokens | None, group: Tensor | None) -> Tensor:
        """Decoder states: `Z_TOKENS` for z, then one for the group, then one for each orbit."""
        parts = [self.from_latent(z).reshape(len(z), Z_TOKENS, -1)]
        if group is not None:
            parts.append(self.group_embedding(group)[:, None])
        if t is not None:
            parts.append(self._orbits(t))
        x = torch.cat(parts, 1)
        x = x + self.order[: x.shape[1]] + self.latent_everywhere(z)[:, None]
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        out: Tensor = self.decoder(x, mask=mask)
        return out

    def _site_logits(self, h: Tensor, group: Tensor, filled: Tensor) -> Tensor:
        """Logits `n x k x 28` over positions and the end, `filled` (`n x k x 27`) so far."""
        every = torch.arange(MAX_POSITIONS, device=h.device).expand(len(group), -1)
        keys = self._site(group, every)  # n x 27 x d
        logits = torch.einsum("nkd,npd->nkp", self.site_out(h), keys) / self.size.width**0.5
        atoms = self.atoms[group][:, None, :MAX_POSITIONS]  # n x 1 x 27
        rigid = self.used[group][:, None, :MAX_POSITIONS].sum(-1) == 0
        # positions come in ascending order, and a site without freedom holds one orbit
        later = filled.flip(-1).cumsum(-1).flip(-1) > 0  # some orbit sits here or beyond
        beyond = torch.cat([later[..., 1:], torch.zeros_like(later[..., :1])], -1)
        banned = (atoms == 0) | beyond | (rigid & (filled > 0))
        logits = logits.masked_fill(banned, -1e4)
        return torch.cat([logits, self.stop_out(h)], -1)

    def _element_logits(self, h: Tensor, site: Tensor) -> Tensor:
        query = self.element_out(torch.cat([h, site], -1))
        logits = query @ self._elements().T / self.size.width**0.5 + self.element_bias
        dead = torch.zeros(MAX_Z + 1, dtype=torch.bool, device=h.device)
        dead[0] = True
        return logits.masked_fill(dead, -1e4)

    def _free(self, h: Tensor, site: Tensor, element: Tensor) -> Tensor:
        """Free coordinates as unit vectors, `... x 3 x 2` (cosine, sine)."""
        out = self.free_out(torch.cat([h, site, self._elements()[element]], -1))
        return F.normalize(out.unflatten(-1, (3, 2)), dim=-1, eps=1e-4)

    def _lattice(self, last: Tensor, t: Tokens, z: Tensor) -> Tensor:
        out: Tensor = self.lattice_out(torch.cat([last, self._composition(t), z], -1))
        return out

    @property
    def axes(self) -> dict[str, int]:
        """Which coordinate of z each property is led to: one for each kind of property.

        A kind is what the first two words of a name say, since formation energies of two data sets
        are heads of their own and yet alike.
        """
        kinds = list(dict.fromkeys("_".join(p.split("_")[:2]) for p in self.properties))
        return {p: kinds.index("_".join(p.split("_")[:2])) for p in self.properties}

    def predict(self, z: Tensor) -> Tensor:
        """Predicted properties (standardised), `n x p`, of latent vectors `n x latent`."""
        return torch.cat([head(z) for head in self.property_out], -1)

    def predictions(self, t: Tokens, z: Tensor) -> dict[str, Tensor]:
        """What the decoder says of each part of crystals, given z and the parts before it.

        Returns:
            Logits of group (`n x 231`), site (`n x k+1 x 28`) and element (`n x k x 101`), free
            coordinates (`n x k x 3 x 2`, cosine and sine) and the standardised lattice (`n x 7`).
        """
        count = (t.position != NO_POSITION).sum(1)
        h = self._hidden(z, t, t.group)
        steps = h[:, Z_TOKENS:]  # the state before orbit i predicts orbit i; one more for the end
        hot = F.one_hot(t.position, MAX_POSITIONS + 1)[..., :MAX_POSITIONS].cumsum(1)
        filled = torch.cat([torch.zeros_like(hot[:, :1]), hot], 1)
        before, keys = steps[:, :-1], self._site(t.group, t.position)
        last = steps.gather(1, count[:, None, None].expand(-1, 1, steps.shape[-1]))[:, 0]
        return {
            "group": self.group_out(h[:, Z_TOKENS - 1]),
            "site": self._site_logits(steps, t.group, filled),
            "element": self._element_logits(before, keys),
            "free": self._free(before, keys, t.element),
            "lattice": self._lattice(last, t, z),
        }

    def losses(
        self, t: Tokens, z: Tensor, said: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Reconstruction losses, each `n`, of crystals from their latent vectors `n x latent`.

        Args:
            t: The crystals.
            z: Their latent vectors.
            said: `predictions` of these, where they are known already.
        """
        said = self.predictions(t, z) if said is None else said
        real = t.position != NO_POSITION
        group = F.cross_entropy(said["group"], t.group, reduction="none")
        target = torch.cat([t.position, torch.full_like(t.position[:, :1], NO_POSITION)], 1)
        asked = torch.arange(target.shape[1], device=z.device) <= real.sum(1)[:, None]
        site = F.cross_entropy(said["site"].flatten(0, 1), target.flatten(), reduction="none")
        site = (site.view_as(target) * asked).sum(1)
        element = F.cross_entropy(
            said["element"].flatten(0, 1), t.element.flatten(), reduction="none"
        )
        element = (element.view_as(t.element) * real).sum(1)
        angle = 2 * torch.pi * t.free
        used = self.used[t.group[:, None], t.position]
        cosine = said["free"][..., 0] * angle.cos() + said["free"][..., 1] * angle.sin()
        free = ((1 - cosine) * used).sum((1, 2))
        cell = (t.lattice - self.lattice_mean) / self.lattice_scale
        lattice = ((said["lattice"] - cell) ** 2).sum(1)
        return {"group": group, "site": site, "element": element, "free": free, "lattice": lattice}

    @torch.no_grad()
    def drafts(
        self,
        z: Tensor,
        max_atoms: int,
        elements: Sequence[int],
        beams: int = 1,
        rules: Rules | None = None,
    ) -> Drafts:
        """The likeliest crystals of latent vectors; see `generators.crystals.decoding.search`."""
        return search(self, z, max_atoms, elements, beams, rules)
