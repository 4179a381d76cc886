"""Axes that linear constraints couple: drawn, moved and judged together.

The constraints hold exactly. They speak of values, so that on a log scale one is not linear in the
code: distances are then measured to first order in the codes, and it is met in the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from loop.axes.base import EXACT, TOLERANCE, Axis, Block
from loop.constraints import Infeasible, LinearConstraint
from loop.polytope import hit_and_run, nearest
from loop.programme import cheapest

_ANCHORS = 32
_ENOUGH = 0.02  # share of draws that meet the constraints, below which drawing again is no way


class Coupled:
    """The axes that some constraints couple, as one factor of the design space.

    Codes here are those of its axes, side by side.

    Args:
        axes: every one has a `block`.
        constraints: coefficients by full names of coordinates.

    Raises:
        Infeasible: the constraints exclude everything.
    """

    def __init__(self, axes: Sequence[Axis], constraints: Sequence[LinearConstraint]) -> None:
        self.axes, self.constraints = tuple(axes), tuple(constraints)
        self._cuts = np.cumsum([a.width for a in self.axes])[:-1]
        blocks = [axis.block() for axis in self.axes]
        self._blocks: list[Block] = [block for block in blocks if block is not None]
        assert len(self._blocks) == len(self.axes)
        names = [name for axis in self.axes for name in axis.coordinates]
        sizes = [len(block.low) for block in self._blocks]
        ends = np.cumsum([0, *sizes])
        self._slices = [slice(a, b) for a, b in pairwise(ends.tolist())]
        self._low = np.concatenate([block.low for block in self._blocks])
        self._high = np.concatenate([block.high for block in self._blocks])
        self._span = np.concatenate([block.span for block in self._blocks])
        self._log = np.concatenate([np.full(len(b.low), b.log) for b in self._blocks])
        c = len(names)
        rows, bounds, equal = [], [], []
        for constraint in self.constraints:
            sign = -1.0 if constraint.op == ">=" else 1.0
            row = np.zeros(c)
            for name, factor in constraint.coefficients.items():
                row[names.index(name)] += sign * factor
            rows.append(row)
            bounds.append(sign * constraint.bound)
            equal.append(constraint.op == "==")
        self._m = len(rows)
        for block, here in zip(self._blocks, self._slices, strict=True):
            if block.total is not None:
                row = np.zeros(c)
                row[here] = 1.0
                rows.append(row)
                bounds.append(block.total)
                equal.append(True)
        self._A, self._b = np.array(rows), np.array(bounds)
        self._equal = np.array(equal, dtype=bool)
        self._check()

    # What it knows of its axes

    def _split(self, codes: np.ndarray) -> list[np.ndarray]:
        return np.split(codes, self._cuts, axis=1)

    def _numbers(self, codes: np.ndarray) -> np.ndarray:
        """Values of all coordinates before rounding: n x c."""
        parts = zip(self.axes, self._split(codes), strict=True)
        return np.hstack([axis.numbers(part) for axis, part in parts])

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        parts = zip(self.axes, self._slices, strict=True)
        return np.hstack([axis.codes_of(numbers[:, here]) for axis, here in parts])

    def _rounded(self, numbers: np.ndarray) -> np.ndarray:
        """The values that these decode to: on the levels and grids of their axes."""
        made = numbers.copy()
        for axis, block, here in zip(self.axes, self._blocks, self._slices, strict=True):
            if block.levels is not None:
                made[:, here] = _to_level(made[:, here], block.levels)
            elif block.step is not None:
                assert block.total is not None
                made[:, here] = axis.on_grid(made[:, here] / block.total) * block.total  # type: ignore[attr-defined]
        return made

    @cached_property
    def _discrete(self) -> np.ndarray:
        """Which coordinates jump: c booleans."""
        jumps = [b.levels is not None or b.step is not None for b in self._blocks]
        return np.concatenate(
            [np.full(len(b.low), jump) for b, jump in zip(self._blocks, jumps, strict=True)]
        )

    @cached_property
    def _sparse(self) -> bool:
        return any(b.at_most is not None and b.step is None for b in self._blocks)

    def _slopes(self, numbers: np.ndarray) -> np.ndarray:
        """Change of each value over a unit of code, at n x c values."""
        scale = np.where(self._log, np.clip(numbers, self._low, self._high), 1.0)
        return np.broadcast_to(self._span, numbers.shape) * scale

    def _rows(self, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients over codes and bounds, scaled so that both are lengths in code space."""
        A = self._A * slopes[:, None, :]
        length = np.sqrt((A**2).sum(axis=2, keepdims=True))
        length = np.where(length > 0, length, 1.0)
        return A / length, self._b / length[:, :, 0]

    def _excess(self, numbers: np.ndarray, m: int | None = None) -> np.ndarray:
        """By how much n values break the worst of m rows, as a length in code space.

        Without m: of all rows, the totals of compositions too.
        """
        slopes = self._slopes(numbers)
        A, b = self._rows(slopes)
        excess = np.einsum("nmc,nc->nm", A[:, :m], numbers / slopes) - b[:, :m]
        equal = self._equal[:m]
        return np.where(equal, np.abs(excess), np.maximum(excess, 0.0)).max(axis=1, initial=0.0)

    def _meets(self, codes: np.ndarray, tolerance: float) -> np.ndarray:
        return self._excess(self._rounded(self._numbers(codes)), self._m) <= tolerance

    # What the space asks

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        """Whether n codes meet the constraints and what each axis wants."""
        good = np.ones(len(codes), dtype=bool)
        for axis, part in zip(self.axes, self._split(codes), strict=True):
            good &= axis.allowed(part)
        safe = np.where(good[:, None], codes, 0.5)
        return good & np.where(good, self._meets(self._each(safe), TOLERANCE), False)

    def _each(self, codes: np.ndarray) -> np.ndarray:
        parts = zip(self.axes, self._split(codes), strict=True)
        return np.hstack([axis.project(part) for axis, part in parts])

    def project(self, codes: np.ndarray) -> np.ndarray:
        """The nearest codes that meet the constraints; those that do stay as they are.

        Nearest exactly where nothing jumps; otherwise near: a rounded neighbour of the nearest, or
        where that has none that is allowed, one of a few designs that are known to be.
        """
        codes = self._each(codes)
        bad = ~self._meets(codes, EXACT)
        if bad.any():
            codes = codes.copy()
            codes[bad] = self._codes(self._repair(self._numbers(codes[bad])))
        return codes

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws that cover what the constraints leave.

        From the axes' priors where a fair share of them meets the constraints; otherwise by hit and
        run from projections of them, each with its own choice of what jumps.
        """
        width = sum(axis.width for axis in self.axes)
        found, count, tried = [np.empty((0, width))], 0, 0
        while count < n and (tried < 500 or count >= _ENOUGH * tried) and tried < 100 * n + 500:
            drawn = np.hstack([axis.prior(max(n, 64), rng) for axis in self.axes])
            tried += len(drawn)
            found.append(drawn[self._meets(drawn, EXACT)])
            count += len(found[-1])
        codes = np.vstack(found)[:n]
        if len(codes) == n:
            return codes
        more = n - len(codes)
        drawn = np.hstack([axis.prior(more, rng) for axis in self.axes])
        return np.vstack([codes, self._codes(self._spread(self._numbers(drawn), rng))])

    # How it does it

    def _solve(
        self, numbers: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest values between limits that meet all rows, and whether there are any."""
        slopes = self._slopes(numbers)
        A, b = self._rows(slopes)
        found, met = nearest(numbers / slopes, low / slopes, high / slopes, A, b, self._equal)
        found = np.clip(found * slopes, low, high)
        # On a log scale, what is as good as met here may be far from it where the value is small.
        off = met & (self._excess(found) > EXACT / 10)
        if off.any():
            slopes = self._slopes(found[off])
            A, b = self._rows(slopes)
            again, met[off] = nearest(
                found[off] / slopes, low[off] / slopes, high[off] / slopes, A, b, self._equal
            )
            found[off] = np.clip(again * slopes, low[off], high[off])
        return found, met

    def _repair(self, numbers: np.ndarray) -> np.ndarray:
        """Values that meet the constraints, near n x c values that do not."""
        low = np.broadcast_to(self._low, numbers.shape)
        high = np.broadcast_to(self._high, numbers.shape)
        found, met = self._solve(numbers, low, high)
        if not self._discrete.any() and not self._sparse:
            return self._or_anchor(numbers, found, met)
        low, high = self._held(found)
        found, met = self._solve(numbers, low, high)
        if self._discrete.any() and not met.all():
            low[~met], high[~met] = self._walk(low[~met], high[~met])
            found[~met], met[~met] = self._solve(numbers[~met], low[~met], high[~met])
        return self._or_anchor(numbers, found, met)

    def _held(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Limits that hold what jumps at its rounded values, and unused ingredients at zero."""
        rounded = self._rounded(numbers)
        low = np.where(self._discrete, rounded, self._low)
        high = np.where(self._discrete, rounded, self._high)
        for axis, block, here in zip(self.axes, self._blocks, self._slices, strict=True):
            if block.at_most is None:
                continue
            assert block.total is not None
            keep = axis._support(numbers[:, here] / block.total)  # type: ignore[attr-defined]
            if block.step is None:
                high[:, here] = np.where(keep, high[:, here], 0.0)
            else:  # round again, among those that are kept
                kept = np.where(keep, numbers[:, here], 0.0)
                kept = axis.project(kept / block.total)
                low[:, here] = high[:, here] = axis.on_grid(kept) * block.total  # type: ignore[attr-defined]
        return low, high

    def _or_anchor(self, numbers: np.ndarray, found: np.ndarray, met: np.ndarray) -> np.ndarray:
        """In place of values that do not meet the constraints, those nearest to a known design."""
        met = met & (self._excess(found) <= TOLERANCE / 10)
        if met.all():
            return found
        anchors = self._anchors
        slopes = self._slopes(numbers[~met])
        apart = ((numbers[~met] - anchors[:, None]) / slopes) ** 2
        anchor = anchors[apart.sum(axis=2).argmin(axis=0)]
        low, high = self._held(anchor)
        near, there = self._solve(numbers[~met], low, high)
        there &= self._excess(near) <= TOLERANCE / 10
        found[~met] = np.where(there[:, None], near, anchor)
        return found

    def _walk(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move what jumps, step by step, until the rest can meet the constraints."""
        free = ~self._discrete
        at = np.where(self._discrete, low, 0.0)
        moves = self._moves
        A = self._A[: self._m] / np.sqrt(((self._A[: self._m] * self._span) ** 2).sum(1))[:, None]
        b = self._b[: self._m] / np.sqrt(((self._A[: self._m] * self._span) ** 2).sum(1))
        equal = self._equal[: self._m]
        ends = np.stack([A[None] * low[:, None], A[None] * high[:, None]])[..., free]
        least, most = ends.min(axis=0).sum(axis=2), ends.max(axis=0).sum(axis=2)

        def broken(values: np.ndarray) -> np.ndarray:
            """N x moves x c values: by how much the constraints must be broken."""
            sums = np.einsum("nkc,mc->nkm", values, A) - b
            over = np.maximum(sums + least[:, None], 0.0)
            under = np.where(equal, np.maximum(-(sums + most[:, None]), 0.0), 0.0)
            return (over + under).sum(axis=2)

        for _ in range(24):
            now = broken(at[:, None])[:, 0]
            if (now <= EXACT).all():
                break
            after = self._step(at, moves)
            worth = broken(np.where(np.isfinite(after), after, at[:, None]))
            worth = np.where(np.isfinite(after).all(axis=2), worth, np.inf)
            length = (((after - at[:, None]) / self._span) ** 2).sum(axis=2)
            worth = worth + 1e-6 * np.where(np.isfinite(length), length, 0.0)
            best = worth.argmin(axis=1)
            rows = np.arange(len(at))
            better = worth[rows, best] < now - 1e-12
            if not better.any():
                break
            at = np.where(better[:, None], after[rows, best], at)
        return np.where(self._discrete, at, low), np.where(self._discrete, at, high)

    @cached_property
    def _moves(self) -> np.ndarray:
        """Moves of what jumps, k x c: to the next level, a step between two ingredients."""
        c = len(self._low)
        moves = []
        for block, here in zip(self._blocks, self._slices, strict=True):
            if block.levels is not None:
                for sign in (-1.0, 1.0):
                    move = np.zeros(c)
                    move[here] = sign
                    moves.append(move)
            elif block.step is not None:
                columns = range(here.start, here.stop)
                for i in columns:
                    for j in columns:
                        if i != j:
                            move = np.zeros(c)
                            move[i], move[j] = 1.0, -1.0
                            moves.append(move)
        return np.array(moves)

    def _step(self, at: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Values after each move: n x moves x c; nan where a move leads out of what is allowed."""
        after = np.repeat(at[:, None], len(moves), axis=1)
        for block, here in zip(self._blocks, self._slices, strict=True):
            if block.levels is not None:
                index = np.searchsorted(block.levels, at[:, here] - 1e-9)[:, None] + moves[:, here]
                inside = (index >= 0) & (index < len(block.levels))
                index = np.clip(index, 0, len(block.levels) - 1).astype(int)
                after[:, :, here] = np.where(inside, block.levels[index], np.nan)
            elif block.step is not None:
                to = after[:, :, here] + moves[:, here] * block.step
                slip = EXACT * block.span
                out = (to < block.low - slip) | (to > block.high + slip)
                if block.at_most is not None:
                    used = (to > slip).sum(axis=2, keepdims=True)
                    out |= used > block.at_most
                after[:, :, here] = np.where(out, np.nan, to)
        return after

    def _spread(self, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move draws that break the constraints to random places that meet them."""
        start = self._repair(numbers)
        low, high = self._held(start)
        corners = [start]
        for _ in range(3):
            draw = low + (high - low) * rng.random(low.shape)
            corner, met = self._solve(draw, low, high)
            corners.append(np.where(met[:, None], corner, start))
        weights = rng.dirichlet(np.ones(4), size=len(start)).T[:, :, None]
        inside = np.clip((np.stack(corners) * weights).sum(axis=0), low, high)
        steps = 10 + 2 * int((self._high > self._low).sum())
        moved = hit_and_run(
            inside, low, high, self._A, self._b, self._equal, steps=steps, rng=rng, log=self._log
        )
        # Hit and run drifts off equalities by rounding only; this puts that right.
        found, met = self._solve(moved, low, high)
        good = met & (self._excess(found) <= TOLERANCE / 10)
        return np.where(good[:, None], found, start)

    # Whether there is anything at all

    def _check(self) -> None:
        if self._programme(range(self._m)) is not None:
            return
        kept = list(range(self._m))
        for j in range(self._m):
            fewer = [i for i in kept if i != j]
            if fewer and self._programme(fewer) is None:
                kept = fewer
        raise Infeasible([self.constraints[i] for i in kept])

    @cached_property
    def _anchors(self) -> np.ndarray:
        """Designs that meet everything, far apart: best in random directions."""
        rng = np.random.default_rng(0)
        found = [
            self._programme(range(self._m), rng.standard_normal(len(self._low)) / self._span)
            for _ in range(_ANCHORS)
        ]
        anchors = np.array([f for f in found if f is not None])
        low, high = self._held(anchors)
        exact, met = self._solve(anchors, low, high)
        return np.unique(np.where(met[:, None], exact, anchors), axis=0)

    def _programme(self, rows: Sequence[int], cost: np.ndarray | None = None) -> np.ndarray | None:
        keep = [*rows, *range(self._m, len(self._b))]
        return cheapest(
            self._blocks, self._slices, self._A[keep], self._b[keep], self._equal[keep], cost
        )


def _to_level(numbers: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The nearest level of each number."""
    if len(levels) == 1:
        return np.full(numbers.shape, levels[0])
    middle = (levels[1:] + levels[:-1]) / 2
    return levels[np.searchsorted(middle, numbers)]
