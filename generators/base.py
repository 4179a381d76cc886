"""What every generator can do, whatever it designs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class EncodeError(ValueError):
    """A design that a generator cannot represent.

    Attributes:
        index: Position of the design in the sequence that was given.
        reason: One line for a person.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"design {index} cannot be encoded: {reason}")
        self.index = index
        self.reason = reason


class Generator(ABC):
    """A latent space of designs whose prior is the standard normal distribution.

    A generator is immutable: training or fine-tuning makes another one, with another `version`
    and this one as its `parent`.

    Attributes:
        name: The name it is loaded by.
        version: Hash of its weights and recipe.
        parent: Version it was fine-tuned from, or None.
        dim: Number `d` of latent dimensions.
        feature_names: The `f` columns of `features`. One named `predicted_METRIC` foretells that
            metric.
        feature_units: Units of those that have one that is known.
        card: The model card: data, licence, minutes, metrics on held-out rows.
    """

    name: str
    version: str
    parent: str | None
    dim: int
    feature_names: tuple[str, ...]
    feature_units: Mapping[str, str] = MappingProxyType({})
    card: dict[str, Any]

    @abstractmethod
    def encode(self, designs: Sequence[Any]) -> Tensor:
        """Latent vectors of designs.

        Args:
            designs: `n` designs.

        Returns:
            A `n x d` tensor, of vectors that are decoded to the designs as nearly as can be.

        Raises:
            EncodeError: A design lies outside what this generator can represent.
        """

    def embed(self, designs: Sequence[Any]) -> Tensor:
        """Where designs lie in the latent space, to compare them by: cheap, for many.

        A generator whose `encode` searches for a vector gives here what it would begin at.

        Args:
            designs: `n` designs.

        Returns:
            A `n x d` tensor.

        Raises:
            EncodeError: As `encode`.
        """
        return self.encode(designs)

    @abstractmethod
    def decode(self, z: Tensor, seed: int = 0) -> list[Any | None]:
        """Designs of latent vectors; None where a vector stands for no valid design.

        Args:
            z: A `n x d` tensor.
            seed: Which realisation, where decoding is stochastic.
        """

    @abstractmethod
    def features(self, designs: Sequence[Any]) -> Tensor:
        """What a surrogate should see of decoded designs.

        Args:
            designs: `n` designs.

        Returns:
            A `n x f` double tensor, its columns named by `feature_names`.

        Raises:
            EncodeError: As `encode`.
        """

    @abstractmethod
    def to_json(self, design: Any) -> dict[str, Any]:
        """A design as JSON-able data, from which `from_json` makes the same design."""

    @abstractmethod
    def from_json(self, data: dict[str, Any]) -> Any:
        """The design that `to_json` wrote.

        Raises:
            ValueError: The data is not a design.
        """

    @abstractmethod
    def same(self, a: Any, b: Any) -> bool:
        """Whether two designs are the same material."""

    @abstractmethod
    def describe(self, design: Any) -> str:
        """A short name of a design for a person."""

    def prior(self, n: int, seed: int = 0) -> Tensor:
        """Draw `n x d` latent vectors from the prior."""
        # Late: a campaign's state is shown without torch, which takes seconds to import.
        import torch

        source = torch.Generator().manual_seed(seed)
        return torch.randn(n, self.dim, generator=source, dtype=torch.float64)

    def steady(self, designs: Sequence[Any]) -> np.ndarray:
        """Which of `n` designs the generator would write again as they are: `n`, bool.

        A design that its own latent vector is not decoded to was written by chance: what it is made
        of does not go with how it is put together. Where a generator cannot tell, all are steady.
        """
        return np.ones(len(designs), dtype=bool)

    def refusals(self, designs: Sequence[Any]) -> list[str | None]:
        """Why each of `n` designs is none that is asked of this generator; None where it is one."""
        return [None] * len(designs)

    def candidates(self, n: int, seed: int = 0) -> Tensor:
        """Draw `n x d` latent vectors for a search that chooses among what they decode to.

        The prior's, unless the prior aims at something: then from elsewhere too, since a search has
        newer results than those which the aim was learnt from.
        """
        return self.prior(n, seed)

    def move(self, z: np.ndarray, step: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Latent vectors near others.

        Plain noise would push vectors out to where a decoder has never been; this is the
        preconditioned Crank-Nicolson step, which leaves the normal prior as it is (Cotter et al.,
        Statistical Science 28, 2013).

        Args:
            z: A `n x d` array.
            step: `n` numbers from 0 (stay) to 1 (as good as a draw from the prior).
            rng: The draws.
        """
        scale = step[:, None]
        moved: np.ndarray = np.sqrt(1.0 - scale**2) * z + scale * rng.standard_normal(z.shape)
        return moved

    def cross(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Latent vectors of children: on the line between two parents, or with parts of each.

        Args:
            a: A `n x d` array.
            b: The same, of the other parents.
            rng: The draws.
        """
        blend = rng.random((len(a), 1))
        swap = rng.random(a.shape) < 0.5
        line = rng.random((len(a), 1)) < 0.5
        return np.where(line, blend * a + (1.0 - blend) * b, np.where(swap, a, b))

    def sample(
        self, n: int, seed: int = 0, conditions: dict[str, Any] | None = None
    ) -> list[Any | None]:
        """Decode `n` draws from the prior.

        Args:
            n: Number of draws.
            seed: Seed of the draws and of the decoding.
            conditions: Properties that the designs should have.

        Raises:
            ValueError: This generator takes no such condition.
        """
        if conditions:
            raise ValueError(f"{self.name} takes no conditions, got {sorted(conditions)}")
        return self.decode(self.prior(n, seed), seed)


class Narrowed(Generator):
    """A generator of which a part is looked at; who inherits narrows what is drawn or decoded.

    It is the whole one in all else, its name and version too.

    Args:
        whole: The generator.
    """

    def __init__(self, whole: Generator) -> None:
        self.whole = whole
        self.name, self.version, self.parent = whole.name, whole.version, whole.parent
        self.dim, self.card = whole.dim, whole.card
        self.feature_names, self.feature_units = whole.feature_names, whole.feature_units

    def __getattr__(self, name: str) -> Any:
        if name == "whole":  # while it is copied, there is none yet
            raise AttributeError(name)
        return getattr(self.whole, name)

    def encode(self, designs: Sequence[Any]) -> Tensor:
        """The whole one's."""
        return self.whole.encode(designs)

    def embed(self, designs: Sequence[Any]) -> Tensor:
        """The whole one's."""
        return self.whole.embed(designs)

    def decode(self, z: Tensor, seed: int = 0) -> list[Any | None]:
        """The whole one's."""
        return self.whole.decode(z, seed)

    def features(self, designs: Sequence[Any]) -> Tensor:
        """The whole one's."""
        return self.whole.features(designs)

    def to_json(self, design: Any) -> dict[str, Any]:
        """The whole one's."""
        return self.whole.to_json(design)

    def from_json(self, data: dict[str, Any]) -> Any:
        """The whole one's."""
        return self.whole.from_json(data)

    def same(self, a: Any, b: Any) -> bool:
        """The whole one's."""
        return self.whole.same(a, b)

    def describe(self, design: Any) -> str:
        """The whole one's."""
        return self.whole.describe(design)

    def prior(self, n: int, seed: int = 0) -> Tensor:
        """The whole one's."""
        return self.whole.prior(n, seed)

    def steady(self, designs: Sequence[Any]) -> np.ndarray:
        """The whole one's."""
        return self.whole.steady(designs)

    def refusals(self, designs: Sequence[Any]) -> list[str | None]:
        """The whole one's."""
        return self.whole.refusals(designs)

    def move(self, z: np.ndarray, step: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The whole one's."""
        return self.whole.move(z, step, rng)

    def cross(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The whole one's."""
        return self.whole.cross(a, b, rng)
