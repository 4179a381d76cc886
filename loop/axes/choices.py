"""An axis of a few values without an order, which may have descriptors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from generators.base import EncodeError
from loop.axes.base import TOLERANCE, Axis, Block
from loop.axes.descriptors import Descriptors


@dataclass(frozen=True)
class ChoiceAxis(Axis):
    """One of several values without an order.

    Its features are one column a value, a group of their own, and before them one a descriptor,
    scaled to 0 to 1 over the values: so two values that are alike inform each other, and two with
    the same descriptors still differ.

    Attributes:
        values: those that are proposed.
        descriptors: numbers that describe every value, retired ones too; None = none.
        retired: values that were removed: what was observed of them informs, and they are proposed
            no more.

    Raises:
        ValueError: fewer than two values, one twice, or one without descriptors.
    """

    name: str
    values: tuple[Any, ...]
    descriptors: Descriptors | None = None
    retired: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        known = self.values + self.retired
        if not self.values or len(known) < 2 or len(set(known)) < len(known):
            raise ValueError(f"{self.name}: wanted two values or more, each once: {known}")
        if self.descriptors is not None:
            self.descriptors.check(self.name, known)

    @property
    def width(self) -> int:
        """One: the index."""
        return 1

    @cached_property
    def _index(self) -> dict[Any, int]:
        return {value: index for index, value in enumerate(self.values + self.retired)}

    @cached_property
    def _table(self) -> np.ndarray:
        """Features of every value: values x f."""
        known = self.values + self.retired
        one_hot = np.eye(len(known))
        if self.descriptors is None:
            return one_hot
        return np.hstack([self.descriptors.scaled(known)[1], one_hot])

    @cached_property
    def _described(self) -> tuple[str, ...]:
        if self.descriptors is None:
            return ()
        return self.descriptors.scaled(self.values + self.retired)[0]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One a descriptor, then one a value."""
        one_hot = tuple(f"{self.name}={v}" for v in self.values + self.retired)
        return tuple(f"{self.name}.{d}" for d in self._described) + one_hot

    @property
    def groups(self) -> tuple[int, ...]:
        """Each descriptor alone, the columns of the values together."""
        n = len(self._described)
        return (*range(n), *([n] * len(self._index)))

    @property
    def size(self) -> int:
        """How many values."""
        return len(self.values)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The value, where all are numbers."""
        return (self.name,) if self._numeric else ()

    @property
    def _numeric(self) -> bool:
        return not any(isinstance(v, str) for v in self.values + self.retired)

    def features(self, values: Sequence[Any]) -> np.ndarray:
        """Descriptors and one-hot columns."""
        return self._table[self.encode(values)[:, 0].astype(int)]

    def features_at(self, codes: np.ndarray) -> np.ndarray:
        """Descriptors and one-hot columns."""
        return self._table[codes[:, 0].astype(int)]

    def sample(self, n: int, seed: int) -> list[Any | None]:
        """Uniform."""
        return self.decode(self.prior(n, np.random.default_rng(seed)), seed)

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform over the indices."""
        return rng.integers(len(self.values), size=(n, 1)).astype(np.float64)

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Indices; those of retired values come last."""
        found = [self._index.get(value, -1) for value in values]
        if -1 in found:
            at = found.index(-1)
            raise EncodeError(at, f"{self.name} is {values[at]!r}, not one of {self.values}")
        return np.array(found, dtype=np.float64).reshape(-1, 1)

    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """The values at the indices."""
        known = self.values + self.retired
        return [known[int(c)] for c in codes[:, 0]]

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A fresh draw, with the step size as its probability."""
        fresh = rng.random(codes.shape) < scale[:, None]
        return self.project(np.where(fresh, self.prior(len(codes), rng), codes))

    def mix(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One parent's value or the other's."""
        return self.project(np.where(rng.random(a.shape) < 0.5, a, b))

    def project(self, codes: np.ndarray) -> np.ndarray:
        """Whole indices; in place of a retired value the one most like it."""
        known = len(self.values) + len(self.retired)
        index = np.clip(np.rint(np.nan_to_num(codes)), 0, known - 1).astype(int)
        return self._successor[index].astype(np.float64)

    @cached_property
    def _successor(self) -> np.ndarray:
        n = len(self.values)
        likeness = self._table[:, : len(self._described)]
        after = np.arange(len(self._index))
        for retired in range(n, len(after)):
            distance = ((likeness[:n] - likeness[retired]) ** 2).sum(axis=1)
            # Without descriptors all are equally unlike it: retired values then share them out.
            after[retired] = np.argmin(distance) if self._described else retired % n
        return after

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        """Whether they are indices of values that may be proposed."""
        x = codes[:, 0]
        whole = np.abs(x - np.rint(x)) <= TOLERANCE
        return whole & (x >= -TOLERANCE) & (x <= len(self.values) - 1 + TOLERANCE)

    def codes_at(self, indices: np.ndarray) -> np.ndarray:
        """The indices."""
        return np.asarray(indices, dtype=np.float64)[:, None]

    def block(self) -> Block | None:
        """The value, where all are numbers."""
        if not self._numeric:
            return None
        levels = np.sort(np.array(self.values, dtype=np.float64))
        span = np.array([np.ptp(levels) or 1.0])
        return Block(levels[:1], levels[-1:], span, levels=levels)

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """The value as a number."""
        known = np.array(self.values + self.retired, dtype=np.float64)
        return known[codes[:, 0].astype(int)][:, None]

    def codes_of(self, numbers: np.ndarray) -> np.ndarray:
        """Index of the nearest value."""
        known = np.array(self.values, dtype=np.float64)
        return np.abs(numbers - known).argmin(axis=1).astype(np.float64)[:, None]

    def to_json(self, value: Any) -> Any:
        """The value."""
        return value

    def from_json(self, data: Any) -> Any:
        """The value, checked."""
        if isinstance(data, list | dict) or data not in self._index:
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
        return value
