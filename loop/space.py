"""Design spaces: products of axes, each of which knows how to be searched.

A design is a dict from axis name to value. Beside its values every axis has a *code*, a short
vector of numbers in which the search moves: the latent vector of a generator, a position between 0
and 1 in a range, the index of a choice. Codes are where moves are made; what a surrogate sees are
the *features* of the decoded value, never the code it was decoded from.

Another kind of axis is another subclass of `Axis`: nothing else here, or in the search, asks which.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from generators.base import EncodeError, Generator

Design = dict[str, Any]
"""One point of a design space: a value for each axis."""


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

    @abstractmethod
    def features(self, values: Sequence[Any]) -> np.ndarray:
        """What a surrogate sees of n values: n x f. Raises `EncodeError`."""

    @abstractmethod
    def sample(self, n: int, seed: int) -> list[Any | None]:
        """Draw n values from the prior; None where a draw failed."""

    @abstractmethod
    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n codes from the prior: n x width."""

    @abstractmethod
    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Codes of n values: n x width. Raises `EncodeError`."""

    @abstractmethod
    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """Values of n x width codes; None where a code stands for nothing."""

    @abstractmethod
    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move n codes by n step sizes, 0 (stay) to 1 (as good as a draw from the prior)."""

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
        return np.where(line, blend * a + (1.0 - blend) * b, np.where(swap, a, b))


@dataclass(frozen=True)
class LatentAxis(Axis):
    """The latent space of a generator; a value is whatever the generator designs."""

    name: str
    generator: Generator

    @property
    def width(self) -> int:
        """Latent dimensions."""
        return self.generator.dim

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The generator's."""
        return tuple(f"{self.name}.{f}" for f in self.generator.feature_names)

    def features(self, values: Sequence[Any]) -> np.ndarray:
        """The generator's features."""
        return np.asarray(self.generator.features(values).detach().cpu(), dtype=np.float64)

    def sample(self, n: int, seed: int) -> list[Any | None]:
        """The generator's samples."""
        return self.generator.sample(n, seed=seed)

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Standard normal."""
        return rng.standard_normal((n, self.width))

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Latent vectors."""
        return np.asarray(self.generator.encode(values).detach().cpu(), dtype=np.float64)

    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """Designs of latent vectors."""
        import torch

        return self.generator.decode(torch.as_tensor(codes, dtype=torch.float64), seed=seed)

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A step that leaves the normal prior as it is.

        Plain noise would push codes out to where the decoder has never been; this is the
        preconditioned Crank-Nicolson step (Cotter et al., Statistical Science 28, 2013).
        """
        step = scale[:, None]
        return np.sqrt(1.0 - step**2) * codes + step * rng.standard_normal(codes.shape)

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


@dataclass(frozen=True)
class RangeAxis(Axis):
    """A number between two bounds; its code and its feature run from 0 to 1.

    Raises:
        ValueError: bounds that are not finite or not in order, a log scale from zero or below, or
            whole numbers between bounds that are not whole.
    """

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False
    unit: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self.name}: the range {self.low} to {self.high} is empty")
        if self.log and self.low <= 0:
            raise ValueError(f"{self.name}: a log scale needs a range above zero, not {self.low}")
        if self.integer and (self.low % 1 or self.high % 1):
            raise ValueError(f"{self.name}: whole numbers need whole bounds")

    @property
    def width(self) -> int:
        """One."""
        return 1

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One."""
        return (self.name,)

    @property
    def _ends(self) -> tuple[float, float]:
        # Half a step more at both ends gives every whole number the same share.
        pad = 0.5 if self.integer else 0.0
        low, high = self.low - pad, self.high + pad
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def features(self, values: Sequence[Any]) -> np.ndarray:
        """The code."""
        return self.encode(values)

    def sample(self, n: int, seed: int) -> list[Any | None]:
        """Uniform in the range (in its logarithm, on a log scale)."""
        return self.decode(self.prior(n, np.random.default_rng(seed)), seed)

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform between 0 and 1."""
        return rng.random((n, 1))

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Position in the range, 0 to 1 (outside for a value outside)."""
        low, high = self._ends
        x = np.asarray(values, dtype=np.float64)
        bad = ~np.isfinite(x) | ((x <= 0) & self.log)
        if bad.any():
            index = int(np.argmax(bad))
            raise EncodeError(index, f"{self.name} is {values[index]}")
        return ((np.log(x) if self.log else x) - low)[:, None] / (high - low)

    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """Numbers inside the bounds."""
        low, high = self._ends
        x = low + codes[:, 0] * (high - low)
        x = np.exp(x) if self.log else x
        x = np.clip(np.rint(x) if self.integer else x, self.low, self.high)
        return [int(v) if self.integer else float(v) for v in x]

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A normal step, reflected at the ends."""
        moved = codes + 0.5 * scale[:, None] * rng.standard_normal(codes.shape)
        folded = np.abs(moved) % 2.0
        return np.where(folded > 1.0, 2.0 - folded, folded)

    def to_json(self, value: Any) -> Any:
        """The number."""
        return value

    def from_json(self, data: Any) -> Any:
        """The number, checked."""
        if isinstance(data, bool) or not isinstance(data, int | float) or not math.isfinite(data):
            raise ValueError(f"{self.name}: {data!r} is not a number")
        if self.integer and data % 1:
            raise ValueError(f"{self.name}: {data!r} is not a whole number")
        return int(data) if self.integer else float(data)

    def same(self, a: Any, b: Any) -> bool:
        """Whether two numbers are closer than a millionth of the range."""
        codes = self.encode([a, b])
        return bool(abs(codes[0, 0] - codes[1, 0]) < 1e-6)

    def describe(self, value: Any) -> str:
        """Number and unit."""
        unit = "" if self.unit == "dimensionless" else self.unit
        return f"{self.name} {value:.4g} {unit}".rstrip()


@dataclass(frozen=True)
class ChoiceAxis(Axis):
    """One of several values without an order; its features are one column a value.

    Raises:
        ValueError: fewer than two values, or one twice.
    """

    name: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise ValueError(f"{self.name}: wanted two values or more, each once: {self.values}")

    @property
    def width(self) -> int:
        """One: the index."""
        return 1

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One a value."""
        return tuple(f"{self.name}={v}" for v in self.values)

    def features(self, values: Sequence[Any]) -> np.ndarray:
        """One-hot."""
        return np.eye(len(self.values))[self.encode(values)[:, 0].astype(int)]

    def sample(self, n: int, seed: int) -> list[Any | None]:
        """Uniform."""
        return self.decode(self.prior(n, np.random.default_rng(seed)), seed)

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform over the indices."""
        return rng.integers(len(self.values), size=(n, 1)).astype(np.float64)

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Indices."""
        for index, value in enumerate(values):
            if value not in self.values:
                raise EncodeError(index, f"{self.name} is {value!r}, not one of {self.values}")
        return np.array([[float(self.values.index(v))] for v in values]).reshape(-1, 1)

    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """The values at the indices."""
        return [self.values[int(c)] for c in codes[:, 0]]

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A fresh draw, with the step size as its probability."""
        fresh = rng.random(codes.shape) < scale[:, None]
        return np.where(fresh, self.prior(len(codes), rng), codes)

    def mix(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One parent's value or the other's."""
        return np.where(rng.random(a.shape) < 0.5, a, b)

    def to_json(self, value: Any) -> Any:
        """The value."""
        return value

    def from_json(self, data: Any) -> Any:
        """The value, checked."""
        if data not in self.values:
            raise ValueError(f"{self.name}: {data!r} is not one of {self.values}")
        return data

    def same(self, a: Any, b: Any) -> bool:
        """Whether they are equal."""
        return bool(a == b)

    def describe(self, value: Any) -> str:
        """Name and value."""
        return f"{self.name} {value}"

    def key(self, value: Any) -> Hashable:
        """The value."""
        return str(value)


@dataclass(frozen=True)
class DesignSpace:
    """A product of axes.

    Raises:
        ValueError: no axis, or two of one name.
    """

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        names = [a.name for a in self.axes]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"wanted one axis or more, each of its own name: got {names}")

    @property
    def width(self) -> int:
        """Numbers in a code."""
        return sum(a.width for a in self.axes)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The f columns of `features`."""
        return tuple(f for a in self.axes for f in a.feature_names)

    def features(self, designs: Sequence[Design]) -> np.ndarray:
        """What a surrogate sees of n designs: n x f.

        Raises:
            EncodeError: a design lies outside what an axis can represent.
        """
        if not designs:
            return np.empty((0, len(self.feature_names)))
        return np.hstack([a.features([d[a.name] for d in designs]) for a in self.axes])

    def encode(self, designs: Sequence[Design]) -> np.ndarray:
        """Codes of n designs: n x width. Raises `EncodeError` as `features`."""
        if not designs:
            return np.empty((0, self.width))
        return np.hstack([a.encode([d[a.name] for d in designs]) for a in self.axes])

    def decode(self, codes: np.ndarray, seed: int = 0) -> list[Design | None]:
        """Designs of n x width codes; None where an axis decodes to nothing."""
        parts = [a.decode(c, seed) for a, c in zip(self.axes, self._split(codes), strict=True)]
        return self._join(parts)

    def sample(self, n: int, seed: int = 0) -> list[Design | None]:
        """Draw n designs from the prior of every axis; None where a draw failed."""
        seeds = np.random.SeedSequence(seed).generate_state(len(self.axes))
        return self._join([a.sample(n, int(s)) for a, s in zip(self.axes, seeds, strict=True)])

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n codes from the prior: n x width."""
        return np.hstack([a.prior(n, rng) for a in self.axes])

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move n codes by n step sizes between 0 and 1."""
        parts = zip(self.axes, self._split(codes), strict=True)
        return np.hstack([a.jitter(c, scale, rng) for a, c in parts])

    def mix(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Codes between n pairs of codes, axis by axis."""
        parts = zip(self.axes, self._split(a), self._split(b), strict=True)
        return np.hstack([axis.mix(x, y, rng) for axis, x, y in parts])

    def to_json(self, design: Design) -> dict[str, Any]:
        """A design as JSON-able data: axis name to number, string or the generator's dict."""
        return {a.name: a.to_json(design[a.name]) for a in self.axes}

    def from_json(self, data: dict[str, Any]) -> Design:
        """The design that `to_json` wrote.

        Raises:
            ValueError: an axis is missing, unknown or has a value that it cannot have.
        """
        names = [a.name for a in self.axes]
        if set(data) != set(names):
            raise ValueError(f"a design here has the axes {names}, this one {sorted(data)}")
        return {a.name: a.from_json(data[a.name]) for a in self.axes}

    def same(self, a: Design, b: Design) -> bool:
        """Whether two designs are the same on every axis (the cheap axes are asked first)."""
        axes = sorted(self.axes, key=lambda axis: isinstance(axis, LatentAxis))
        return all(axis.same(a[axis.name], b[axis.name]) for axis in axes)

    def key(self, design: Design) -> tuple[Hashable, ...]:
        """Something cheap that two designs share if they are the same (and perhaps if not)."""
        return tuple(a.key(design[a.name]) for a in self.axes)

    def describe(self, design: Design) -> str:
        """A short name for a person: `MgO (Fm-3m, 2 atoms), sintering 1200 K`."""
        return ", ".join(a.describe(design[a.name]) for a in self.axes)

    def latent(self, designs: Sequence[Design]) -> np.ndarray:
        """Latent vectors of n designs, axis beside axis: n x d (d = 0 without a latent axis).

        Raises:
            EncodeError: as `features`.
        """
        axes = [a for a in self.axes if isinstance(a, LatentAxis)]
        if not designs or not axes:
            return np.empty((len(designs), sum(a.width for a in axes)))
        return np.hstack([a.encode([d[a.name] for d in designs]) for a in axes])

    def _split(self, codes: np.ndarray) -> list[np.ndarray]:
        return np.split(codes, np.cumsum([a.width for a in self.axes])[:-1], axis=1)

    def _join(self, parts: list[list[Any | None]]) -> list[Design | None]:
        names = [a.name for a in self.axes]
        return [
            None if any(v is None for v in values) else dict(zip(names, values, strict=True))
            for values in zip(*parts, strict=True)
        ]
