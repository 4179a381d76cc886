"""What every axis of a design space can do, and what it tells the rest of the loop about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TOLERANCE = 1e-6
"""A code this close to what is allowed, in code units, is allowed."""

EXACT = 1e-9
"""A code this close is left as it is by `project`."""

RESOLUTION = 1e6
"""Two codes are the same where they are equal after rounding to a part in so many."""


@dataclass(frozen=True)
class Block:
    """The numbers of an axis that linear constraints may speak of, c of them, and their limits.

    Attributes:
        low: c smallest values.
        high: c largest values.
        span: c changes of the value over one unit of code (for a log scale: of its logarithm).
        log: whether the code is linear in the values' logarithm.
        levels: the only values there are, ascending; None = every value between low and high.
        total: what the c values add up to; None = whatever they like.
        at_most: how many of the c values may differ from zero.
        step: grid of the values, where they have a total.
    """

    low: np.ndarray
    high: np.ndarray
    span: np.ndarray
    log: bool = False
    levels: np.ndarray | None = field(default=None)
    total: float | None = None
    at_most: int | None = None
    step: float | None = None


class Axis(ABC):
    """One factor of a design space.

    Attributes:
        name: its key in a design.
        width: numbers in a code.
        feature_names: the f columns of `features`.
    """

    name: str

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers in a code."""

    @property
    @abstractmethod
    def feature_names(self) -> tuple[str, ...]:
        """Names of the f features."""

    @property
    def groups(self) -> tuple[int, ...]:
        """For each feature the number of its group: those of a group only mean something together.

        The columns of one category are a group; every number is a group of its own.
        """
        return tuple(range(len(self.feature_names)))

    @property
    def smooth(self) -> tuple[tuple[int, int], ...]:
        """Pairs (column of the code, column of the features) of coordinates that are one number.

        Such a feature equals its code, and no other feature hangs on that code, so that a gradient
        in the features is a gradient in the codes.
        """
        return ()

    @property
    def direct(self) -> bool:
        """Whether `features_at` needs no decoding."""
        return True

    @property
    def size(self) -> int | None:
        """How many values there are; None where they cannot be counted."""
        return None

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the c numbers that linear constraints may speak of."""
        return ()

    @property
    def feature_units(self) -> Mapping[str, str]:
        """Units of those features that have one that is known."""
        return {}

    @abstractmethod
    def features(self, values: Sequence[Any]) -> np.ndarray:
        """What a surrogate sees of n values: n x f. Raises `EncodeError`."""

    def features_at(self, codes: np.ndarray) -> np.ndarray:
        """Features of what n codes decode to, without decoding them: n x f.

        Raises:
            TypeError: only decoding tells.
        """
        raise TypeError(f"{self.name}: its features are known only of decoded values")

    @abstractmethod
    def sample(self, n: int, seed: int) -> list[Any | None]:
        """Draw n values from the prior; None where a draw failed."""

    @abstractmethod
    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n allowed codes from the prior: n x width."""

    @abstractmethod
    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Codes of n values: n x width. Raises `EncodeError`."""

    @abstractmethod
    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """Values of n x width codes; None where a code stands for nothing."""

    @abstractmethod
    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move n codes by n step sizes, 0 (stay) to 1 (as good as a draw from the prior)."""

    def project(self, codes: np.ndarray) -> np.ndarray:
        """Move n codes to the nearest allowed ones; allowed ones stay as they are."""
        return codes

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        """Whether each of n codes may be proposed: n booleans."""
        return np.isfinite(codes).all(axis=1)

    def codes_at(self, indices: np.ndarray) -> np.ndarray:
        """Codes of the values number 0 to `size` - 1: n x width.

        Raises:
            TypeError: they cannot be counted.
        """
        raise TypeError(f"{self.name}: its values cannot be counted")

    def block(self) -> Block | None:
        """The limits of `coordinates`; None where constraints cannot speak of them."""
        return None

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """Values of `coordinates` before they are rounded: n x c."""
        raise TypeError(f"{self.name} has no numbers that a constraint could speak of")

    def codes_of(self, numbers: np.ndarray) -> np.ndarray:
        """Codes of n x c values of `coordinates`: n x width."""
        raise TypeError(f"{self.name} has no numbers that a constraint could speak of")

    @abstractmethod
    def to_json(self, value: Any) -> Any:
        """The value as JSON-able data."""

    @abstractmethod
    def from_json(self, data: Any) -> Any:
        """The value that `to_json` wrote. Raises `ValueError`."""

    @abstractmethod
    def same(self, a: Any, b: Any) -> bool:
        """Whether two values are one."""

    @abstractmethod
    def describe(self, value: Any) -> str:
        """A short name for a person."""

    def key(self, value: Any) -> Hashable:
        """Something cheap that two values share if they are the same (and perhaps if not)."""
        return None

    def mix(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Codes between n pairs of codes: by turns on the line between them, or part from each."""
        blend = rng.random((len(a), 1))
        swap = rng.random(a.shape) < 0.5
        line = rng.random((len(a), 1)) < 0.5
        return self.project(np.where(line, blend * a + (1.0 - blend) * b, np.where(swap, a, b)))
