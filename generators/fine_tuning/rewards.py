"""From measured values to what a design is worth learning from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from generators.fine_tuning.recipe import Aim, Array, Examined

TOLERATED = 3  # designs of one composition that keep their whole reward
BUFFER = 6  # from this number on one composition earns nothing
REPLAYED = 100  # designs that the replay buffer holds
LEAST_REWARD = 0.1  # of what it holds


def rewards(examined: Examined, aims: Sequence[Aim]) -> Array:
    """What each design is worth, in [0, 1]; 0 where it failed, NaN where too little was measured.

    A metric to maximise or minimise is scaled by what was observed, from its worst tenth to its
    best; of a target and of a bound that is broken, the distance counts in standard deviations. Of
    several aims the least counts (MatInvent, Chen et al. 2025).

    Returns:
        An array of `n`.
    """
    found = np.full(len(examined), np.inf)
    for aim in aims:
        values = np.asarray(examined.values.get(aim.metric, np.full(len(examined), np.nan)))
        found = np.minimum(found, _reward(np.where(examined.failed, np.nan, values), aim))
    found[np.asarray(examined.failed)] = 0.0
    return found


def _reward(values: Array, aim: Aim) -> Array:
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(len(values), np.nan)
    spread = float(known.std()) or 1.0
    if aim.value is not None:
        away = values - aim.value
        if aim.goal == "at_most":
            away = np.maximum(away, 0.0)
        elif aim.goal == "at_least":
            away = np.minimum(away, 0.0)
        return np.asarray(np.exp(-np.abs(away) / spread))
    gain = values if aim.goal == "maximize" else -values
    low, high = np.quantile(gain[np.isfinite(gain)], 0.1), np.nanmax(gain)
    if high <= low:
        return np.where(np.isfinite(gain), 1.0, np.nan)
    return np.clip((gain - low) / (high - low), 0.0, 1.0)


def rank_weights(reward: Array, k: float, size: int) -> Array:
    """Weights `1 / (k N + rank)` of Tripp et al. (2020), which sum to 1.

    The rank of a design is the number of those that are better.

    Args:
        reward: Of `n` designs.
        k: As in the paper.
        size: `N`: all designs that the generator learns or learnt from, at least `n`.
    """
    ordered = np.sort(-reward)
    rank = np.searchsorted(ordered, -reward, side="left")
    weights = 1.0 / (k * size + rank)
    return np.asarray(weights / weights.sum())


def diversified(reward: Array, composition: Sequence[Hashable]) -> Array:
    """Rewards after the diversity filter of MatInvent (2025), designs oldest first.

    A composition that was examined more than `TOLERATED` times earns less each time, and nothing
    from `BUFFER` times on.
    """
    seen: Counter[Hashable] = Counter()
    out = reward.copy()
    for i, name in enumerate(composition):
        seen[name] += 1
        if seen[name] > TOLERATED:
            out[i] *= max(0.0, (BUFFER - seen[name]) / (BUFFER - TOLERATED))
    return out


def replay_buffer(reward: Array, composition: Sequence[Hashable]) -> NDArray[np.int64]:
    """The best designs to see again and again: `REPLAYED` at most, each of its own composition.

    A composition that was examined `BUFFER` times is purged (MatInvent, 2025).
    """
    count = Counter(composition)
    kept: dict[Hashable, int] = {}
    for i in np.argsort(-reward, kind="stable"):
        name = composition[i]
        if reward[i] > LEAST_REWARD and name not in kept and count[name] < BUFFER:
            kept[name] = int(i)
    return np.array(list(kept.values())[:REPLAYED], dtype=np.int64)
