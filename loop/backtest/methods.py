"""The methods that a backtest knows by name: matloop, its baselines and its peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np

from loop.acquisition import Strategy
from loop.backtest.replay import Choice, Method, Prediction
from loop.backtest.table import LookupTable
from loop.calibration import raw_error
from loop.problem import Problem
from loop.proposal import Candidate, History, ProposalSettings, propose
from loop.space import Design

METHODS = {
    "matloop": "the loop of this package, with its defaults",
    "random": "each design that is left is as likely as any other",
    "forest": "a random forest and a confidence bound, batches by believing the mean",
    "evolution": "mutants and crosses of the best, as near as the table has them",
    "ax": "Ax's default surrogate and acquisition on the rows that are left",
    "baybe": "BayBE's default recommender on the table as a discrete space",
}
"""Method to what it is."""

_DISTRIBUTIONS = {
    "matloop": "matloop",
    "ax": "ax-platform",
    "baybe": "baybe",
    "forest": "scikit-learn",
}


class Matloop:
    """`loop.propose`, choosing among the designs that are left.

    Args:
        problem: what to want.
        settings: how hard to look; None = the defaults.
    """

    def __init__(self, problem: Problem, settings: ProposalSettings | None = None) -> None:
        self._problem, self._settings = problem, settings
        self._warm_start: dict[str, Any] | None = None
        self._members: list[str | None] = []
        self._foretold: list[Candidate | None] = []

    def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
        """As `propose` proposes; predictions are those of its candidates."""
        # The first points are nobody's; every other one was chosen here, in this order.
        self._members += [None] * (len(history.designs) - len(self._members))
        self._foretold += [None] * (len(history.designs) - len(self._foretold))
        history = replace(
            history,
            members=self._members[: len(history.designs)],
            errors=self._errors(history.outcomes),
        )
        proposal = propose(
            self._problem, history, n, seed, self._warm_start, self._settings, among=left
        )
        self._warm_start = proposal.warm_start or self._warm_start
        self._members += [c.notes.get("member") for c in proposal.candidates]
        self._foretold += proposal.candidates
        places = {id(design): row for row, design in enumerate(left)}
        rows = [self._row(c.design, left, places) for c in proposal.candidates]
        predictions = [_predictions(c) for c in proposal.candidates]
        return Choice(rows, lambda: predictions, proposal.notes)

    def _errors(self, outcomes: np.ndarray) -> np.ndarray:
        """Of what was foretold: n x m."""
        errors = np.full(outcomes.shape, np.nan)
        for row, candidate in enumerate(self._foretold[: len(outcomes)]):
            for j, metric in enumerate(self._problem.metrics):
                if candidate is not None and metric in candidate.prediction:
                    sd = candidate.notes["predictive_sd"][metric]
                    widened = candidate.notes["widened"][metric]
                    mean = candidate.prediction[metric][0]
                    errors[row, j] = raw_error(outcomes[row, j], mean, sd, widened)
        return errors

    def _row(self, design: Design, left: Sequence[Design], places: dict[int, int]) -> int:
        """Where a design stands: the very object, or else one that is the same."""
        if id(design) in places:
            return places[id(design)]
        space = self._problem.space
        return next(row for row, other in enumerate(left) if space.same(design, other))


def _predictions(candidate: Candidate) -> dict[str, Prediction]:
    noisy = candidate.notes.get("predictive_sd") or {}
    return {
        metric: Prediction(mean, sd, noisy.get(metric))
        for metric, (mean, sd) in candidate.prediction.items()
    }


def make_method(
    name: str, problem: Problem, table: LookupTable, strategy: Strategy = "portfolio"
) -> Method:
    """A fresh method for one replay.

    Args:
        name: one of `METHODS`.
        problem: what it is to want.
        table: the designs it will be offered (it does not see their outcomes).
        strategy: how `matloop` chooses.

    Raises:
        ValueError: there is no such method.
        ModuleNotFoundError: what it runs on is not installed.
    """
    if name == "matloop":
        return Matloop(problem, ProposalSettings(strategy=strategy))
    if name == "ax":
        from loop.peers import Ax

        return Ax(problem, table.designs)
    if name == "baybe":
        from loop.peers import BayBE

        return BayBE(problem, table.designs)
    from loop import baselines

    if name == "random":
        return baselines.Random()
    if name == "forest":
        return baselines.Forest(problem)
    if name == "evolution":
        return baselines.Evolution(problem)
    raise ValueError(f"no method {name!r}, only {', '.join(METHODS)}")


def method_version(name: str) -> str:
    """The version of what a method runs on; that of matloop for our own."""
    return metadata.version(_DISTRIBUTIONS.get(name, "matloop"))
