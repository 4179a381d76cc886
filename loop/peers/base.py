"""What the peers have in common."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from loop.backtest.parameters import flatten
from loop.backtest.replay import Choice
from loop.problem import Problem
from loop.proposal import History
from loop.space import Design


class Peer:
    """What both need: the table as flat parameters, and which row a design is.

    Args:
        problem: what to want.
        designs: the table.
    """

    def __init__(self, problem: Problem, designs: Sequence[Design]) -> None:
        self._problem, self._designs = problem, designs
        self._parameters, self._rows = flatten(problem, designs)
        self._place = {id(design): row for row, design in enumerate(designs)}
        self._told = 0

    def _new(self, history: History) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """What was measured since the last time: row, outcomes, standard errors."""
        new = [
            (self._place[id(history.designs[i])], history.outcomes[i], history.sem[i])
            for i in range(self._told, len(history.designs))
        ]
        self._told = len(history.designs)
        return new

    def _random(self, left: Sequence[Design], n: int, seed: int, why: str) -> Choice:
        rng = np.random.default_rng([seed, 4, self._told])
        return Choice([int(r) for r in rng.choice(len(left), size=n, replace=False)], notes=[why])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no log lines of a peer: what it does is its own affair."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
