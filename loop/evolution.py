"""Designs from the best ones so far, without a surrogate: the baselines that a loop should beat.

*Evolution* crosses two good designs and takes a step from there. *Substitution* puts another
element in the place of one, as likely as nature does that ([Hautier2011]_): what chemists do by
hand. Parents win tournaments of three among the trials that ended, feasible ones before others,
nearer to the front first.

.. [Hautier2011] G. Hautier et al., Data Mined Ionic Substitutions for the Discovery of New
   Compounds. Inorganic Chemistry 50, 2011.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from loop.front import counts, feasible, pareto_mask
from loop.problem import Problem
from loop.screening import Seen
from loop.search import Pool, encodable
from loop.space import Design

STEP = 0.2
TOURNAMENT = 3
BROOD = 16
"""Children that are made at once."""


@dataclass(frozen=True)
class Child:
    """A design made from others.

    Attributes:
        design: the design.
        x: f features.
        parents: rows of what it was made from.
        told: how, in a sentence.
    """

    design: Design
    x: np.ndarray
    parents: tuple[int, ...]
    told: str


def ranks(problem: Problem, outcomes: np.ndarray) -> np.ndarray:
    """How far each design is from the front: 0 on it, then layer by layer; n numbers."""
    outcomes = np.asarray(outcomes, dtype=np.float64)
    rank = np.full(len(outcomes), len(outcomes), dtype=float)
    left = counts(problem, outcomes)
    rank[~feasible(problem, outcomes)] += 1
    layer = 0
    while left.any():
        front = pareto_mask(problem, np.where(left[:, None], outcomes, np.nan))
        rank[front] = layer
        left &= ~front
        layer += 1
    return rank


def children(
    problem: Problem,
    designs: list[Design],
    outcomes: np.ndarray,
    names: list[str],
    n: int,
    *,
    pool: Pool,
    seen: Seen,
    rng: np.random.Generator,
    substitute: bool = False,
    given: bool = False,
    tries: int = 200,
) -> list[Child]:
    """N new designs that pass the screen; fewer where they cannot be found.

    Args:
        problem: the goals.
        designs: d designs whose trials ended, all of which can be encoded.
        outcomes: d x m.
        names: what they are called.
        n: how many.
        pool: screens and counts; filled in place. With `given`, it holds the only designs that may
            be chosen: the one that is most like a child then takes its place.
        seen: refuses what was tried; grows.
        rng: the draws.
        substitute: whether an element of each crystal is substituted too.
        given: see `pool`.
        tries: children a design, before giving up.
    """
    found: list[Child] = []
    scale = np.ptp(pool.X, axis=0) if len(pool) else np.ones(pool.X.shape[1])
    scale = np.where(scale > 0, scale, 1.0)
    free = np.ones(len(pool), dtype=bool)
    bred = _brood(problem, designs, outcomes, names, rng, substitute)
    for _ in range(max(1, tries * n // BROOD)):
        made = [next(bred) for _ in range(BROOD)]
        nursery = Pool(problem, seed=0) if given else pool
        for design, parents, told in made:
            if len(found) == n or (given and not free.any()):
                return found
            if design is None:
                pool.refused["did not decode"] += 1
                continue
            before = len(nursery)
            nursery.add_designs([design], "child")
            if len(nursery) == before:
                continue
            row = before
            if given:
                distance = (((pool.X - nursery.X[before]) / scale) ** 2).sum(axis=1)
                row = int(np.argmin(np.where(free, distance, np.inf)))
                free[row] = False
            chosen = pool.design(row)
            refusal = seen.check(chosen)
            if refusal is not None:
                pool.refused[refusal.rule] += 1
                continue
            seen.add(chosen)
            found.append(Child(chosen, pool.X[row], parents, told))
    return found


def _brood(
    problem: Problem,
    designs: list[Design],
    outcomes: np.ndarray,
    names: list[str],
    rng: np.random.Generator,
    substitute: bool,
) -> Iterator[tuple[Design | None, tuple[int, ...], str]]:
    space = problem.space
    codes, kept = encodable(space.encode, designs)
    rank = ranks(problem, outcomes)[kept]
    while True:
        a, b = (
            min(rng.integers(len(codes), size=TOURNAMENT), key=lambda i: float(rank[i]))
            for _ in range(2)
        )
        code = space.jitter(space.mix(codes[[a]], codes[[b]], rng), np.array([STEP]), rng)
        (design,) = space.decode(code, int(rng.integers(2**31)))
        parents = tuple(dict.fromkeys(kept[int(i)] for i in (a, b)))
        if not substitute:
            told = f"A step from {names[parents[0]]}"
            if len(parents) > 1:
                told = f"A cross of {names[parents[0]]} and {names[parents[1]]}, then a step"
            yield design, parents, f"{told}: no model was asked."
            continue
        first = designs[parents[0]]
        changes: list[str] = []
        for axis, value in first.items():
            if isinstance(value, Structure) and design is not None:
                other, what = _substituted(value, rng)
                design, changes = {**design, axis: other}, [*changes, what]
        told = f"{names[parents[0]]} with {' and '.join(changes) or 'nothing replaced'}"
        yield design, parents[:1], f"{told}: no model was asked."


def _substituted(crystal: Structure, rng: np.random.Generator) -> tuple[Structure, str]:
    from loop.substitution import substituted

    return substituted(crystal, rng)
