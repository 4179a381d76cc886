"""Spaces that can be counted, up to millions of designs: looked at whole, a chunk at a time.

Only the best stay in memory. Each score keeps its own, so that the exact comparison that follows
has the best by every score of the batch.
"""

from __future__ import annotations

import numpy as np

from loop.search import Pool, Score
from loop.space import DesignSpace

CHUNK = 8192


def best_of_all(pool: Pool, space: DesignSpace, scores: list[Score], keep: int) -> None:
    """Add to a pool the designs of a countable space that are best by any of the scores.

    Args:
        pool: grows in place.
        space: with `size` designs.
        scores: features (q x f) to q numbers, larger is better.
        keep: how many by each score.
    """
    size = space.size or 0
    best = [(np.empty(0), np.empty((0, space.width))) for _ in scores]
    for start in range(0, size, CHUNK):
        codes = space.codes_at(np.arange(start, min(size, start + CHUNK)))
        codes = codes[space.allowed(codes)]
        if not len(codes):
            continue
        X = space.features_at(codes)
        for k, score in enumerate(scores):
            values = score(X)
            floor = best[k][0].min() if len(best[k][0]) == keep else -np.inf
            better = values > floor
            merged = np.concatenate([best[k][0], values[better]])
            places = np.vstack([best[k][1], codes[better]])
            top = np.argsort(-merged, kind="stable")[:keep]
            best[k] = (merged[top], places[top])
    for _, codes in best:
        pool.add(codes, "whole space")
    pool.decoded = size
