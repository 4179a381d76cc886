"""Confidence intervals over seeds, by the bootstrap (Efron 1979), and paired comparisons.

A figure of several replays is the figure of their mean curve; its interval comes from drawing the
seeds anew, with replacement. Two methods are compared seed by seed: both began with the same
points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
_TAILS = (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)

Figure = Callable[[np.ndarray], float]
"""A number of a curve of n; nan where the curve does not reach what is asked for."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: from all seeds; nan where it is not reached.
        low: nan with fewer than two seeds, and where it is without end.
        high: likewise.
    """

    value: float
    low: float
    high: float


def resamples(seeds: int, count: int = RESAMPLES) -> np.ndarray:
    """Which seeds each resample draws, with replacement: count x seeds, always the same."""
    return np.random.default_rng(0).integers(seeds, size=(count, seeds))


def band(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds, and the interval of it, of s x n curves: three arrays of n."""
    low, high = np.quantile(_means(curves), _TAILS, axis=0)
    return curves.mean(axis=0), low, high


def estimate(curves: np.ndarray, figure: Figure) -> Estimate:
    """A figure of the mean curve, with its interval.

    A resample that does not reach what is asked for counts as worse than any that does.

    Args:
        curves: s x n, a row for each seed.
        figure: of which large is good wherever it can be nan.
    """
    drawn = [-math.inf if math.isnan(x := figure(c)) else x for c in _means(curves)]
    return _interval(figure(curves.mean(axis=0)), drawn, len(curves))


def difference(ours: np.ndarray, theirs: np.ndarray, figure: Figure) -> Estimate:
    """A figure of our mean curve minus theirs.

    Args:
        ours: s x n.
        theirs: s x n, its rows of the same seeds.
        figure: never nan.
    """
    pairs = zip(_means(ours), _means(theirs), strict=True)
    value = figure(ours.mean(axis=0)) - figure(theirs.mean(axis=0))
    return _interval(value, [figure(a) - figure(b) for a, b in pairs], len(ours))


def ratio(ours: np.ndarray, theirs: np.ndarray, figure: Figure) -> Estimate:
    """A figure of our mean curve over theirs, with its interval.

    Where we alone do not reach what is asked for it is 0, where they alone do not it is infinite,
    and where nobody does the resample says nothing.

    Args:
        ours: s x n.
        theirs: s x n, its rows of the same seeds.
        figure: above zero, or nan.
    """
    pairs = zip(_means(ours), _means(theirs), strict=True)
    drawn = [_over(figure(a), figure(b)) for a, b in pairs]
    value = _over(figure(ours.mean(axis=0)), figure(theirs.mean(axis=0)))
    return _interval(value, [x for x in drawn if not math.isnan(x)], len(ours))


def _over(a: float, b: float) -> float:
    if math.isnan(a):
        return math.nan if math.isnan(b) else 0.0
    return math.inf if math.isnan(b) else a / b


def _means(curves: np.ndarray) -> np.ndarray:
    """Mean curve of each resample: count x n."""
    return np.asarray(curves[resamples(len(curves))].mean(axis=1))


def _interval(value: float, drawn: list[float], seeds: int) -> Estimate:
    if seeds < 2 or not drawn:
        return Estimate(value, math.nan, math.nan)
    # An end that is really among the resamples: nothing is interpolated between infinities.
    low, high = np.quantile(drawn, _TAILS, method="inverted_cdf")
    return Estimate(value, *(float(x) if math.isfinite(x) else math.nan for x in (low, high)))
