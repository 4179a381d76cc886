"""A measured number, and how sure one can be of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RESAMPLINGS = 500


@dataclass(frozen=True)
class Figure:
    """A measured number.

    Attributes:
        value: The number; None where nothing could be measured.
        low: Lower end of its 95 % interval, None where none is known.
        high: Upper end.
        n: What it was measured on.
        unit: Its unit; `share` for a fraction of one.
        note: What else a reader must know, on one line.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The figure as JSON-able data."""
        return asdict(self)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    z, p = 1.959964, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def share(hits: Sequence[bool], note: str = "") -> Figure:
    """The share of what is true, with its Wilson interval."""
    if not hits:
        return Figure(None, None, None, 0, "share", note)
    return Figure(sum(hits) / len(hits), *wilson(sum(hits), len(hits)), len(hits), "share", note)


def average(values: ArrayLike, unit: str, note: str = "", *, median: bool = False) -> Figure:
    """Mean or median of `n` values, with a percentile-bootstrap interval (Efron 1979)."""
    known = np.asarray(values, dtype=float)
    statistic = np.median if median else np.mean
    if not len(known):
        return Figure(None, None, None, 0, unit, note)
    low, high = np.percentile(_drawn(lambda a: float(statistic(a)), [known]), [2.5, 97.5])
    return Figure(float(statistic(known)), float(low), float(high), len(known), unit, note)


def wasserstein(ours: ArrayLike, theirs: ArrayLike, unit: str, note: str = "") -> Figure:
    """Wasserstein distance of two samples of numbers, with the interval of `distance`."""
    from scipy.stats import wasserstein_distance

    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    return distance(lambda x, y: float(wasserstein_distance(x, y)), a, b, unit, note)


def distance(
    measure: Callable[[NDArray[Any], NDArray[Any]], float],
    ours: NDArray[Any],
    theirs: NDArray[Any],
    unit: str,
    note: str = "",
) -> Figure:
    """A distance of two samples, with a bootstrap interval.

    Resampling adds a noise that a distance counts as distance: the interval is moved back by as
    much as the resampled distances lie above the measured one on average.
    """
    if not (len(ours) and len(theirs)):
        return Figure(None, None, None, 0, unit, note)
    value = measure(ours, theirs)
    drawn = _drawn(measure, [ours, theirs])
    low, high = np.percentile(drawn, [2.5, 97.5]) + min(value - drawn.mean(), 0.0)
    return Figure(value, max(float(low), 0.0), max(float(high), value), len(ours), unit, note)


def _drawn(statistic: Callable[..., float], samples: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    source = np.random.default_rng(0)
    return np.array(
        [
            statistic(*(s[source.integers(0, len(s), len(s))] for s in samples))
            for _ in range(_RESAMPLINGS)
        ]
    )
