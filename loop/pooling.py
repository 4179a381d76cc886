"""Spaces that can be counted, up to millions of designs: looked at whole, a chunk at a time.

Only the best stay in memory. Each score keeps its own, so that the exact comparison that follows
has the best by every score of the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loop.search import Pool
from loop.space import DesignSpace

CHUNK = 1024
"""Designs at once: their covariances with a few hundred outcomes fit a processor's cache."""

Scores = Callable[[np.ndarray], list[np.ndarray]]


def best_of_all(pool: Pool, space: DesignSpace, scores: Scores, keep: int) -> None:
    """Add to a pool the designs of a countable space that are best by any of the scores.

    Args:
        pool: grows in place.
        space: with `size` designs.
        scores: features (q x f) to some times q numbers, larger is better; together, since what
            they have in common costs most.
        keep: how many by each score.
    """
    size = space.size or 0
    best: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, size, CHUNK):
        codes = space.codes_at(np.arange(start, min(size, start + CHUNK)))
        codes = codes[space.allowed(codes)]
        if not len(codes):
            continue
        X = space.features_at(codes)
        for k, values in enumerate(scores(X)):
            if k == len(best):
                best.append((np.empty(0), np.empty((0, space.width))))
            floor = best[k][0].min() if len(best[k][0]) == keep else -np.inf
            better = values > floor
            merged = np.concatenate([best[k][0], values[better]])
            places = np.vstack([best[k][1], codes[better]])
            top = np.argsort(-merged, kind="stable")[:keep]
            best[k] = (merged[top], places[top])
    for _, codes in best:
        pool.add(codes, "whole space")
    pool.decoded = size
