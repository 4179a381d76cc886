"""A problem that looks only near some designs: a box around them, for one proposal.

Numbers are kept in by linear constraints, as those of a spec are, so that what a surrogate sees of
a design stays the same. A latent axis draws, moves and crosses within a box around the latent
vectors, and takes no design that is outside of it when it is encoded again. Choices are left free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from generators.base import Generator, Narrowed
from loop.problem import Problem
from loop.search import encodable
from loop.space import Design, DesignSpace, LatentAxis, LinearConstraint, PoolAxis, RangeAxis

MARGIN = 0.1
"""How far the box reaches beyond the designs, as a share of each side ..."""

LEAST = 0.05
"""... and at least, as a share of the whole range; ..."""

LATENT = 0.5
"""... in a latent space, in standard deviations of the prior."""

_MOVES = (0.05, 0.4)


def near(problem: Problem, designs: Sequence[Design]) -> tuple[Problem, str]:
    """The same problem in a box around designs, and that box in words.

    Args:
        problem: what is sought.
        designs: one or more, as the space reads them.

    Raises:
        ValueError: no design, or none that an axis can encode.
        Infeasible: no design within the box meets the constraints.
    """
    axes, bounds, words = [], list(problem.space.constraints), []
    for axis in problem.space.axes:
        values = [{axis.name: design[axis.name]} for design in designs]
        # where a latent design lies is told as `space.latent` and `Inside.decode` have it
        place = axis.embed if isinstance(axis, LatentAxis) else axis.encode
        codes, kept = encodable(lambda rows, a=axis, f=place: f([r[a.name] for r in rows]), values)  # type: ignore[misc]
        if not kept:
            raise ValueError(f"none of the designs can be encoded: {axis.name}")
        if isinstance(axis, LatentAxis):
            axis = replace(axis, generator=Inside(axis.generator, codes))
            words.append(f"{axis.name} in a box of its latent space")
        elif isinstance(axis, RangeAxis):
            low, high = _box(codes, np.zeros(1), np.ones(1))
            ends = axis.numbers(np.array([low, high]))[:, 0]
            if axis.integer:
                ends = np.array([np.floor(ends[0]), np.ceil(ends[1])])
            _bound(axis.name, ends[0], ends[1], axis.low, axis.high, bounds, words)
        elif isinstance(axis, PoolAxis):
            for name in axis.coordinates:
                column = name.removeprefix(f"{axis.name}.")
                known = np.array([[values[row][axis.name][column]] for row in kept], dtype=float)
                every = axis.table.data[:, axis.table.columns.index(column)]
                least, most = float(np.nanmin(every)), float(np.nanmax(every))
                low, high = _box(known, np.array([least]), np.array([most]))
                _bound(name, low[0], high[0], least, most, bounds, words)
        elif (block := axis.block()) is not None:
            low, high = _box(axis.numbers(codes), block.low, block.high)
            for k, name in enumerate(axis.coordinates):
                _bound(name, low[k], high[k], block.low[k], block.high[k], bounds, words)
        axes.append(axis)
    space = DesignSpace(tuple(axes), tuple(bounds))
    return replace(problem, space=space), ", ".join(words) or "the whole space"


def _box(points: np.ndarray, least: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a box around n x c points, within limits."""
    low, high = points.min(axis=0), points.max(axis=0)
    pad = np.maximum(MARGIN * (high - low), LEAST * (most - least))
    return np.clip(low - pad, least, most), np.clip(high + pad, least, most)


def _bound(
    name: str, low: float, high: float, least: float, most: float,
    bounds: list[LinearConstraint], words: list[str],
) -> None:  # fmt: skip
    """Keep a number between two bounds, where these say more than its limits do."""
    if low > least:
        bounds.append(LinearConstraint({name: 1.0}, ">=", float(low)))
    if high < most:
        bounds.append(LinearConstraint({name: 1.0}, "<=", float(high)))
    if low > least or high < most:
        words.append(f"{name} {low:.4g} to {high:.4g}")


class Inside(Narrowed):
    """A generator of which only a box around n x d latent vectors is looked at."""

    def __init__(self, whole: Generator, around: np.ndarray) -> None:
        super().__init__(whole)
        self._around = np.asarray(around, dtype=np.float64)
        low, high = self._around.min(axis=0), self._around.max(axis=0)
        pad = np.maximum(MARGIN * (high - low), LATENT)
        self.low, self.high = low - pad, high + pad

    def prior(self, n: int, seed: int = 0) -> Tensor:
        """Steps away from the vectors, and crosses of them: where the decoder has been."""
        import torch

        rng = np.random.default_rng(seed)
        rows = rng.integers(len(self._around), size=(2, n))
        between = self.whole.cross(self._around[rows[0]], self._around[rows[1]], rng)
        start = np.where(rng.random((n, 1)) < 0.5, between, self._around[rows[0]])
        return torch.as_tensor(self.move(start, rng.uniform(*_MOVES, n), rng))

    def move(self, z: np.ndarray, step: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As the generator moves, and back into the box."""
        return np.clip(self.whole.move(z, step, rng), self.low, self.high)

    def cross(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As the generator crosses, and back into the box."""
        return np.clip(self.whole.cross(a, b, rng), self.low, self.high)

    def decode(self, z: Tensor, seed: int = 0) -> list[Any | None]:
        """The generator's; None too where the design, encoded again, is outside."""
        found = self.whole.decode(z, seed)
        there = [i for i, design in enumerate(found) if design is not None]
        codes, kept = encodable(self._codes, [{"": found[i]} for i in there])
        good = ((codes >= self.low) & (codes <= self.high)).all(axis=1)
        inside = {there[k] for k, fits in zip(kept, good, strict=True) if fits}
        return [design if i in inside else None for i, design in enumerate(found)]

    def _codes(self, designs: Sequence[Design]) -> np.ndarray:
        if not designs:
            return np.empty((0, self.dim))
        z = self.whole.embed([design[""] for design in designs])
        return np.asarray(z.detach().cpu(), dtype=np.float64)
