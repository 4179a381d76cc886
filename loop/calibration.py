"""Whether intervals hold as many results as they should, and how wide that makes them.

Designs are chosen for what is expected of them, so their errors are larger than those of designs
drawn at random would be, and no likelihood knows it. So intervals are fitted to the errors of what
was foretold before its result, as in adaptive conformal inference ([Gibbs2021]_).

.. [Gibbs2021] I. Gibbs and E. Candes, Adaptive Conformal Inference Under Distribution Shift.
   NeurIPS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

FEW = 8
"""With fewer results nothing is said about the intervals."""

WORDS = {
    "few": "too few to judge by",
    "fit": "about right",
    "narrow": "too narrow, the model is too sure of itself",
    "wide": "too wide, the model is more careful than it needs to be",
}


_RECENT, _PRIOR = 40, 8  # errors that count, and how many the expectation is worth
_LEVEL = 0.8
_NORMAL = NormalDist()


def raw_error(result: float, mean: float, predictive_sd: float, widened: float) -> float:
    """A result's error in the standard deviations that the model had before they were widened."""
    return (result - mean) / predictive_sd * widened if predictive_sd > 0 else math.nan


def widening(errors: np.ndarray, expected: float) -> float:
    """The factor of standard deviations with which 80 % intervals would have held 80 % of results.

    Args:
        errors: n raw errors, in the order of the results; nan = nothing was foretold.
        expected: the factor before there are any.
    """
    known = np.abs(errors[np.isfinite(errors)])[-_RECENT:]
    if not len(known):
        return expected
    ranks = (np.arange(_PRIOR) + 0.5) / _PRIOR
    prior = [expected * _NORMAL.inv_cdf(0.5 + 0.5 * rank) for rank in ranks]
    held = float(np.quantile(np.concatenate([known, prior]), _LEVEL))
    return float(np.clip(held / _NORMAL.inv_cdf(0.5 + 0.5 * _LEVEL), 0.5, 4.0))


def calibration_verdict(held: Mapping[float, int], n: int) -> str:
    """Whether so many results may well fall inside the intervals: a binomial test.

    Args:
        held: by an interval's percentage, how many results it held.
        n: results in all.

    Returns:
        few, fit, narrow (too sure of itself) or wide (too careful).
    """
    return _judged(held, n)[0]


def calibration_in_words(coverage: Mapping[str, float], n: int) -> str:
    """How far intervals can be believed: `80 % intervals held 31 of 40 results: about right`.

    All intervals are judged. The one that is named is the 80 % one, or else the one that is most
    amiss.

    Args:
        coverage: by percentage ("50", "80", "95"), the share of results inside the interval, as
            `Surrogate.report` gives it.
        n: results in all.
    """
    held = {float(percent): round(share * n) for percent, share in coverage.items()}
    verdict, level = _judged(held, n)
    if not held:
        return f"intervals of {n} results: {WORDS[verdict]}"
    return f"{level:g} % intervals held {held[level]} of {n} results: {WORDS[verdict]}"


def _judged(held: Mapping[float, int], n: int) -> tuple[str, float]:
    """The verdict, and the interval that it rests on most."""
    usual = 80.0 if 80.0 in held else next(iter(held), 0.0)
    if n < FEW or not held:
        return "few", usual
    too_few = {p: _at_most(k, n, p / 100) for p, k in held.items()}
    too_many = {p: _at_most(n - k, n, 1 - p / 100) for p, k in held.items()}
    # The levels are asked at 5 % together (Bonferroni), each side by itself.
    limit = 0.05 / (2 * len(held))
    for verdict, chances in (("narrow", too_few), ("wide", too_many)):
        if min(chances.values()) < limit:
            level = usual if chances[usual] < limit else min(chances, key=chances.__getitem__)
            return verdict, level
    return "fit", usual


def _at_most(k: int, n: int, p: float) -> float:
    """Chance of at most k of n, each with chance p."""
    if n > 1000:  # beyond what a float can count: the normal approximation
        return 0.5 * math.erfc((n * p - k - 0.5) / math.sqrt(2 * n * p * (1 - p)))
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
