"""The compositions of a grid, counted and numbered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Every way to share out `parts` among k ingredients, within limits, to few of them.

    Attributes:
        parts: to be shared out.
        low: k smallest shares.
        high: k largest shares.
        ways: (k + 1) x (parts + 1) x (most + 1): ways to share out r parts among the ingredients
            from number i on, with at most s of them used.
    """

    parts: int
    low: np.ndarray
    high: np.ndarray
    ways: np.ndarray

    @classmethod
    def of(cls, parts: int, low: np.ndarray, high: np.ndarray, most: int) -> Grid | None:
        """Count them; None where there are too many to number."""
        k = len(low)
        if parts * parts * (most + 1) * k > 10**9:
            return None
        ways = np.zeros((k + 1, parts + 1, most + 1), dtype=np.float64)
        ways[k, 0] = 1.0
        for i in range(k - 1, -1, -1):
            for share in range(low[i], high[i] + 1):
                after = ways[i + 1, : parts + 1 - share]
                if share:
                    ways[i, share:, 1:] += after[:, :-1]
                else:
                    ways[i] += after
        # Up to 2^53 the counts are exact; beyond, numbers are not handed out.
        return cls(parts, low, high, ways) if ways.max() < 2**53 else None

    @property
    def size(self) -> int:
        """How many there are."""
        return int(self.ways[0, self.parts, -1])

    def at(self, indices: np.ndarray) -> np.ndarray:
        """Those of n numbers from 0 to `size` - 1: n x k whole shares."""
        left = np.asarray(indices, dtype=np.float64).copy()
        n, k = len(left), len(self.low)
        rest = np.full(n, self.parts)
        free = np.full(n, self.ways.shape[2] - 1)
        shares = np.zeros((n, k))
        for i in range(k):
            chosen = np.full(n, -1)
            for share in range(self.low[i], self.high[i] + 1):
                open_ = (chosen < 0) & (share <= rest) & (free >= (share > 0))
                if not open_.any():
                    continue
                spare = free - (share > 0)
                ways = np.where(
                    open_, self.ways[i + 1, np.maximum(rest - share, 0), np.maximum(spare, 0)], 0.0
                )
                here = open_ & (left < ways)
                chosen[here] = share
                left = np.where(open_ & ~here, left - ways, left)
            shares[:, i] = chosen
            rest = rest - chosen
            free = free - (chosen > 0)
        return shares
