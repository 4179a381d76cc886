"""An axis that is the latent space of a generator."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from generators.base import Generator
from loop.axes.base import Axis


class Embedding(Protocol):
    """What else than its generator's features a surrogate sees of a decoded design."""

    feature_names: tuple[str, ...]
    feature_units: Mapping[str, str]
    """Units of those features that have one that is known."""

    def features(self, designs: Sequence[Any]) -> np.ndarray:
        """Numbers of n designs: n x f. Raises `EncodeError`."""


class LatentVector:
    """The latent vector of the design as it will be made (encoded again), as an embedding."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.feature_units: Mapping[str, str] = {}
        self.feature_names = tuple(f"latent_{i + 1}" for i in range(generator.dim))

    def features(self, designs: Sequence[Any]) -> np.ndarray:
        """Latent vectors of n designs: n x d."""
        return np.asarray(self._generator.embed(designs).detach().cpu(), dtype=np.float64)


@dataclass(frozen=True)
class LatentAxis(Axis):
    """The latent space of a generator; a value is whatever the generator designs.

    Attributes:
        embeddings: what a surrogate sees of a design beside the generator's own features.
    """

    name: str
    generator: Generator
    embeddings: tuple[Embedding, ...] = ()

    @property
    def width(self) -> int:
        """Latent dimensions."""
        return self.generator.dim

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The generator's, then those of the embeddings."""
        names = list(self.generator.feature_names)
        for embedding in self.embeddings:
            names += embedding.feature_names
        return tuple(f"{self.name}.{f}" for f in names)

    @property
    def feature_units(self) -> dict[str, str]:
        """The generator's, and those of the embeddings."""
        units = dict(self.generator.feature_units)
        for embedding in self.embeddings:
            units |= embedding.feature_units
        return {f"{self.name}.{f}": unit for f, unit in units.items()}

    @property
    def direct(self) -> bool:
        """No: features are those of the decoded design, never of the code it came from."""
        return False

    def features(self, values: Sequence[Any]) -> np.ndarray:
        """The generator's features, then the embeddings'."""
        own = np.asarray(self.generator.features(values).detach().cpu(), dtype=np.float64)
        return np.hstack([own, *(embedding.features(values) for embedding in self.embeddings)])

    def sample(self, n: int, seed: int) -> list[Any | None]:
        """The generator's samples."""
        return self.generator.sample(n, seed=seed)

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """The generator's `candidates`: standard normal, or where it learnt that designs are."""
        z = self.generator.candidates(n, seed=int(rng.integers(2**31)))
        return np.asarray(z.detach().cpu(), dtype=np.float64)

    def embed(self, values: Sequence[Any]) -> np.ndarray:
        """Where designs lie in the latent space: n x width."""
        return np.asarray(self.generator.embed(values).detach().cpu(), dtype=np.float64)

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Latent vectors that decode to designs."""
        return np.asarray(self.generator.encode(values).detach().cpu(), dtype=np.float64)

    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """Designs of latent vectors."""
        import torch

        return self.generator.decode(torch.as_tensor(codes, dtype=torch.float64), seed=seed)

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As the generator moves; see `Generator.move`."""
        return self.generator.move(codes, scale, rng)

    def mix(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As the generator crosses; see `Generator.cross`."""
        return self.generator.cross(a, b, rng)

    def to_json(self, value: Any) -> Any:
        """As the generator writes it."""
        return self.generator.to_json(value)

    def from_json(self, data: Any) -> Any:
        """As the generator reads it."""
        return self.generator.from_json(data)

    def same(self, a: Any, b: Any) -> bool:
        """Whether the generator takes them for one material."""
        return self.generator.same(a, b)

    def describe(self, value: Any) -> str:
        """The generator's short name."""
        return self.generator.describe(value)

    def key(self, value: Any) -> Hashable:
        """The reduced formula of a crystal, nothing for other designs."""
        from pymatgen.core import Structure

        return value.composition.reduced_formula if isinstance(value, Structure) else None
