"""An axis of numbers between two bounds."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from generators.base import EncodeError
from loop.axes.base import RESOLUTION, TOLERANCE, Axis, Block


@dataclass(frozen=True)
class RangeAxis(Axis):
    """A number between two bounds; its code and its feature run from 0 to 1.

    A value outside the bounds can be encoded (an observation from before they were narrowed), and
    is never proposed.

    Attributes:
        low: smallest value that is proposed.
        high: largest.
        log: whether the code is linear in the logarithm.
        integer: whole numbers only.
        unit: of the values.
        fixed: the only value that is proposed; None = all of them.

    Raises:
        ValueError: bounds that are not finite or not in order, a log scale from zero or below,
            whole numbers between bounds that are not whole, or a fixed value outside.
    """

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False
    unit: str = ""
    fixed: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self.name}: the range {self.low} to {self.high} is empty")
        if self.log and self.low <= 0:
            raise ValueError(f"{self.name}: a log scale needs a range above zero, not {self.low}")
        if self.integer and (self.low % 1 or self.high % 1):
            raise ValueError(f"{self.name}: whole numbers need whole bounds")
        if self.fixed is not None and not self.low <= self.fixed <= self.high:
            raise ValueError(f"{self.name}: {self.fixed} is not between {self.low} and {self.high}")
        if self.fixed is not None and self.integer and self.fixed % 1:
            raise ValueError(f"{self.name}: {self.fixed} is not a whole number")

    @property
    def width(self) -> int:
        """One."""
        return 1

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One."""
        return (self.name,)

    @property
    def smooth(self) -> tuple[tuple[int, int], ...]:
        """The one coordinate, unless it jumps or is fixed."""
        return () if self.integer or self.fixed is not None else ((0, 0),)

    @property
    def size(self) -> int | None:
        """How many whole numbers there are."""
        if self.fixed is not None:
            return 1
        return int(self.high - self.low) + 1 if self.integer else None

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The number."""
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

    def features_at(self, codes: np.ndarray) -> np.ndarray:
        """The code, where it is one of a value inside the bounds."""
        if self.integer:
            return self.codes_of(self._values(codes)[:, None])
        return np.clip(codes, 0.0, 1.0)

    def sample(self, n: int, seed: int) -> list[Any | None]:
        """Uniform in the range (in its logarithm, on a log scale)."""
        return self.decode(self.prior(n, np.random.default_rng(seed)), seed)

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform between 0 and 1."""
        return self.project(rng.random((n, 1)))

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Position in the range, 0 to 1 (outside for a value outside)."""
        x = np.asarray(values, dtype=np.float64)
        bad = ~np.isfinite(x) | ((x <= 0) & self.log)
        if bad.any():
            index = int(np.argmax(bad))
            raise EncodeError(index, f"{self.name} is {values[index]}")
        return self.codes_of(x[:, None])

    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """Numbers inside the bounds."""
        return [int(v) if self.integer else float(v) for v in self._values(codes)]

    def _values(self, codes: np.ndarray) -> np.ndarray:
        x = self.numbers(codes)[:, 0]
        return np.clip(np.rint(x) if self.integer else x, self.low, self.high)

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A normal step, reflected at the ends."""
        start = np.clip(codes, 0.0, 1.0)
        moved = start + 0.5 * scale[:, None] * rng.standard_normal(codes.shape)
        folded = np.abs(moved) % 2.0
        return self.project(np.where(folded > 1.0, 2.0 - folded, folded))

    def project(self, codes: np.ndarray) -> np.ndarray:
        """Codes between 0 and 1, or that of the fixed value."""
        if self.fixed is not None:
            return np.repeat(self.codes_of(np.array([[self.fixed]])), len(codes), axis=0)
        return np.clip(np.nan_to_num(codes, nan=0.5), 0.0, 1.0)

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        """Whether they are codes of values inside the bounds."""
        x = codes[:, 0]
        if self.fixed is None:
            return (x >= -TOLERANCE) & (x <= 1.0 + TOLERANCE)
        if self.integer:
            return np.isfinite(x) & (self._values(np.nan_to_num(codes)) == self.fixed)
        return np.abs(x - self.codes_of(np.array([[self.fixed]]))[0, 0]) <= TOLERANCE

    def codes_at(self, indices: np.ndarray) -> np.ndarray:
        """The whole numbers, ascending."""
        if self.size is None:
            return super().codes_at(indices)
        first = self.low if self.fixed is None else self.fixed
        return self.codes_of(first + np.asarray(indices, dtype=np.float64)[:, None])

    def block(self) -> Block:
        """The number and its bounds."""
        low, high = self._ends
        ends = (self.low, self.high) if self.fixed is None else (self.fixed, self.fixed)
        return Block(
            np.array([ends[0]], dtype=np.float64),
            np.array([ends[1]], dtype=np.float64),
            np.array([high - low]),
            log=self.log,
            levels=np.arange(ends[0], ends[1] + 0.5) if self.integer else None,
        )

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """The number before it is rounded."""
        low, high = self._ends
        x = low + codes * (high - low)
        return np.exp(x) if self.log else x

    def codes_of(self, numbers: np.ndarray) -> np.ndarray:
        """Position in the range, 0 to 1."""
        low, high = self._ends
        return ((np.log(numbers) if self.log else numbers) - low) / (high - low)

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
        """Whether two numbers are as good as equal: to about a millionth of the range."""
        return bool(self.key(a) == self.key(b))

    def describe(self, value: Any) -> str:
        """Number and unit."""
        unit = "" if self.unit == "dimensionless" else self.unit
        return f"{self.name} {value:.4g} {unit}".rstrip()

    def key(self, value: Any) -> Hashable:
        """The code, rounded to a millionth; a whole number itself."""
        if self.integer:
            return int(value)
        low, high = self._ends
        return round(((math.log(value) if self.log else value) - low) / (high - low) * RESOLUTION)
