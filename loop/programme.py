"""The mixed-integer programme of linear constraints: is there any design, and the cheapest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loop.axes.base import Block


class _Programme:
    """Variables with limits, some of them whole, and rows that bound sums of them."""

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self.low, self.high = low.tolist(), high.tolist()
        self.whole = [0] * len(low)
        self.rows: list[dict[int, float]] = []
        self.least: list[float] = []
        self.most: list[float] = []

    def new(self, low: float, high: float) -> int:
        """Another variable, a whole number."""
        self.low.append(low)
        self.high.append(high)
        self.whole.append(1)
        return len(self.low) - 1

    def bound(self, row: dict[int, float], least: float, most: float) -> None:
        """Another row: coefficients by variable, and the limits of their sum."""
        self.rows.append(row)
        self.least.append(least)
        self.most.append(most)

    def solve(self, cost: np.ndarray) -> np.ndarray | None:
        """Values of all variables; None where there are none."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        matrix = np.zeros((len(self.rows), len(self.low)))
        for i, row in enumerate(self.rows):
            for j, factor in row.items():
                matrix[i, j] = factor
        costs = np.zeros(len(self.low))
        costs[: len(cost)] = cost
        found = milp(
            costs,
            constraints=LinearConstraint(matrix, self.least, self.most),
            bounds=Bounds(self.low, self.high),
            integrality=np.array(self.whole),
        )
        return None if found.x is None else np.asarray(found.x)


def cheapest(
    blocks: Sequence[Block],
    slices: Sequence[slice],
    A: np.ndarray,
    b: np.ndarray,
    equal: np.ndarray,
    cost: np.ndarray | None = None,
) -> np.ndarray | None:
    """The cheapest values of c coordinates that meet m constraints and the limits of their axes.

    Args:
        blocks: the axes' limits.
        slices: the coordinates of each.
        A: m x c coefficients: A x <= b.
        b: m bounds.
        equal: m booleans: A x == b for these.
        cost: c costs; None = any values will do.

    Returns:
        c values, None where there are none.
    """
    low = np.concatenate([block.low for block in blocks])
    high = np.concatenate([block.high for block in blocks])
    # Values of very different sizes (900 K beside 0.001 bar) would not be solved to one tolerance.
    unit = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    programme = _Programme(low / unit, high / unit)
    for factors, bound, same in zip(A * unit, b, equal, strict=True):
        scale = float(np.abs(factors).max()) or 1.0
        row = {i: float(f) / scale for i, f in enumerate(factors) if f}
        programme.bound(row, float(bound) / scale if same else -np.inf, float(bound) / scale)
    for block, here in zip(blocks, slices, strict=True):
        columns = range(here.start, here.stop)
        if block.levels is not None:
            _pick_level(programme, here.start, block.levels / unit[here.start])
        if block.step is not None:
            for i in columns:
                n = programme.new(0, round(float(block.span[0]) / block.step))
                programme.bound({i: 1.0, n: -block.step / float(unit[i])}, 0, 0)
        if block.at_most is not None:
            picks = [programme.new(0, 1) for _ in columns]
            programme.bound(dict.fromkeys(picks, 1.0), 0, block.at_most)
            for i, pick in zip(columns, picks, strict=True):
                programme.bound({i: 1.0, pick: -float(high[i] / unit[i])}, -np.inf, 0)
    found = programme.solve(np.zeros(len(low)) if cost is None else cost * unit)
    return None if found is None else np.clip(found[: len(low)] * unit, low, high)


def _pick_level(programme: _Programme, column: int, levels: np.ndarray) -> None:
    steps = np.diff(levels)
    if not len(steps):
        return
    if np.allclose(steps, steps[0]):
        n = programme.new(0, len(steps))
        programme.bound({column: 1.0, n: -float(steps[0])}, float(levels[0]), float(levels[0]))
        return
    picks = [programme.new(0, 1) for _ in levels]
    programme.bound(dict.fromkeys(picks, 1.0), 1, 1)
    values = {pick: -float(level) for pick, level in zip(picks, levels, strict=True)}
    programme.bound({column: 1.0, **values}, 0, 0)
