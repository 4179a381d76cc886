"""A portfolio of acquisition functions in which those that did well are asked more often.

GP-Hedge ([Hoffman2011]_): each member is judged by what is now believed of the designs that it
proposed, and the next design is the choice of a member drawn by those gains. Nothing is kept
between proposals: which member proposed a design is recorded with the trial, and the gains are
worked out anew from the present surrogate.

Hoffman et al. let every member name a design in every round and judge all of them. Here only the
design that was evaluated is known, so a member's mean over its own proposals, times the number of
rounds, stands for its sum. What is believed of a design is the surrogate's mean: for one objective
its utility, for several how far it is behind the front, both as shares of the range.

.. [Hoffman2011] M. Hoffman, E. Brochu and N. de Freitas, Portfolio Allocation for Bayesian
   Optimization. UAI 2011.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from loop.front import counts, utilities
from loop.problem import Problem
from surrogates import Surrogate

MEMBERS = ("bold", "cautious", "improvement", "thompson")
"""A bold and a cautious confidence bound, expected improvement, and Thompson sampling."""

LEAST = 0.05
"""Smallest chance of a member: one that had bad luck may still recover."""


def worths(
    problem: Problem, surrogate: Surrogate, X: np.ndarray, outcomes: np.ndarray
) -> np.ndarray:
    """What is now believed of n designs, 0 (as bad as any) to 1 (as good as the best).

    Designs that failed, or that were measured not to satisfy the constraints, are worth nothing.

    Args:
        problem: the goals.
        surrogate: fitted to `problem.metrics`.
        X: n x f features.
        outcomes: n x m, what was measured of them; rows of nan for failed ones.
    """
    usable = counts(problem, outcomes)
    worth = np.zeros(len(X))
    if not usable.any():
        return worth
    mean = np.asarray(surrogate.posterior(X[usable])[0].detach().cpu(), dtype=np.float64)
    # The surrogate's view of a constraint does not unmake what was measured.
    values = utilities(problem, mean)
    low, high = values.min(axis=0), values.max(axis=0)
    values = (values - low) / np.where(high > low, high - low, 1.0)
    behind = np.zeros(len(values))
    for point in values:
        behind = np.maximum(behind, (point - values).min(axis=1))
    worth[usable] = 1.0 - behind
    return worth


def chances(worth: np.ndarray, members: Sequence[str | None]) -> dict[str, float]:
    """How likely each member is to choose the next design.

    Args:
        worth: n numbers between 0 and 1, see `worths`.
        members: for each of the n designs the member that proposed it, None for none.

    Returns:
        Member to chance; they add up to one. While no member has proposed, all are alike.
    """
    rows = {m: [i for i, of in enumerate(members) if of == m] for m in MEMBERS}
    rounds = sum(map(len, rows.values()))
    if not rounds:
        return dict.fromkeys(MEMBERS, 1.0 / len(MEMBERS))
    every = float(np.mean([worth[i] for of in rows.values() for i in of]))
    # One more proposal, as good as the average one: a single bad design does not damn a member.
    means = np.array([(every + worth[of].sum()) / (1 + len(of)) for of in rows.values()])
    gain = math.sqrt(8.0 * math.log(len(MEMBERS)) * rounds) * means
    share = np.exp(gain - gain.max())
    share = LEAST + (1.0 - LEAST * len(MEMBERS)) * share / share.sum()
    return dict(zip(MEMBERS, share.tolist(), strict=True))


def choosers(
    problem: Problem,
    surrogate: Surrogate,
    X: np.ndarray,
    outcomes: np.ndarray,
    members: Sequence[str | None],
    n: int,
    rng: np.random.Generator,
) -> tuple[list[str], str]:
    """The members that choose the next n designs, and a sentence on why these.

    Args:
        problem: the goals.
        surrogate: fitted to `problem.metrics`.
        X: r x f features of the designs that ended.
        outcomes: r x m, rows of nan for failed ones.
        members: for each of the r designs the member that proposed it, None for none.
        n: how many.
        rng: the draw.
    """
    chance = chances(worths(problem, surrogate, X, outcomes), members)
    told = ", ".join(f"{member} {100 * share:.0f} %" for member, share in chance.items())
    return draw(chance, n, rng), f"who chooses, by what their designs were worth so far: {told}"


def draw(chance: Mapping[str, float], n: int, rng: np.random.Generator) -> list[str]:
    """The members that choose the next n designs."""
    names = list(chance)
    picked = rng.choice(len(names), size=n, p=np.array([chance[m] for m in names]))
    return [names[int(i)] for i in picked]
