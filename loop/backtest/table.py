"""A finished table: every design once, with what all its measurements say."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from loop.space import Design, DesignSpace

ENOUGH_REPEATS = 3
"""Repeats from which a design's own spread is believed; below it the pooled one is."""


@dataclass(frozen=True)
class LookupTable:
    """What was measured of N designs, in the order of `problem.metrics` and in the metrics' units.

    Attributes:
        designs: N designs, each different.
        outcomes: N x m means over the repeats: what a design is judged by.
        sem: N x m standard errors of those means; nan = unknown.
        repeats: for each design the r x m single measurements.

    Raises:
        ValueError: parts of different lengths, a mean that is not finite, or less than two designs.
    """

    designs: tuple[Design, ...]
    outcomes: np.ndarray
    sem: np.ndarray
    repeats: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        n = len(self.designs)
        if n < 2:
            raise ValueError(f"a backtest needs two designs or more, the table has {n}")
        if self.outcomes.ndim != 2 or self.outcomes.shape != self.sem.shape:
            raise ValueError(f"outcomes {self.outcomes.shape} and sem {self.sem.shape} do not fit")
        if len(self.outcomes) != n or len(self.repeats) != n:
            raise ValueError(f"{n} designs, {len(self.outcomes)} outcomes")
        if not np.isfinite(self.outcomes).all():
            raise ValueError("an outcome is not finite")

    def __len__(self) -> int:
        return len(self.designs)

    def answers(self, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
        """What an evaluation of each design answers: N x m outcomes and their standard errors.

        Args:
            seed: None: the means. Else one repeat of each design, drawn with this seed; its
                standard error is unknown (nan), as it is to whoever measures once.
        """
        if seed is None:
            return self.outcomes, self.sem
        rng = np.random.default_rng(seed)
        drawn = np.stack([rows[rng.integers(len(rows))] for rows in self.repeats])
        return drawn, np.full_like(drawn, np.nan)


def average_repeats(
    space: DesignSpace, designs: Sequence[Design], outcomes: np.ndarray, sem: np.ndarray
) -> LookupTable:
    """A table in which every design stands once; rows with the same design are its repeats.

    The mean of a design's r repeats has the standard error sd / sqrt(r). The sd is the repeats' own
    where there are `ENOUGH_REPEATS`; below that it is the one pooled over all designs that were
    repeated. A spread of exactly zero is none (numbers that were copied say nothing of noise).
    Standard errors that the rows themselves give come first: sqrt(sum of squares) / r.

    Args:
        space: to tell designs apart.
        designs: n of them, each of which `space.features` takes.
        outcomes: n x m, finite.
        sem: n x m, nan where a row gives none.

    Raises:
        ValueError: as `LookupTable`.
    """
    outcomes = np.asarray(outcomes, dtype=np.float64)
    sem = np.asarray(sem, dtype=np.float64)
    groups: dict[Hashable, list[int]] = {}
    # Closer than a millionth of a range is one design, as it is to the loop itself.
    for row, x in enumerate(np.round(space.features(designs), 6) + 0.0):
        groups.setdefault((space.key(designs[row]), x.tobytes()), []).append(row)
    members = list(groups.values())
    repeats = tuple(outcomes[rows] for rows in members)
    means = np.stack([r.mean(axis=0) for r in repeats])
    pooled = _pooled_variance(repeats, outcomes.shape[1])
    errors = []
    for rows, values in zip(members, repeats, strict=True):
        r = len(rows)
        variance = pooled
        if r >= ENOUGH_REPEATS:
            own = values.var(axis=0, ddof=1)
            variance = np.where(own > 0, own, pooled)
        given = np.sqrt((sem[rows] ** 2).sum(axis=0)) / r
        errors.append(np.where(np.isfinite(given), given, np.sqrt(variance / r)))
    return LookupTable(
        tuple(designs[rows[0]] for rows in members), means, np.stack(errors), repeats
    )


def _pooled_variance(repeats: Sequence[np.ndarray], m: int) -> np.ndarray:
    """Variance within designs, over all that were repeated: m, nan where there is none."""
    freedom = sum(len(r) - 1 for r in repeats)
    if not freedom:
        return np.full(m, np.nan)
    squares = np.sum([((r - r.mean(axis=0)) ** 2).sum(axis=0) for r in repeats], axis=0)
    return np.where(squares > 0, squares / freedom, np.nan)
