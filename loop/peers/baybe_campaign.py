"""BayBE, choosing among given designs."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from loop.backtest.parameters import Number, Parameter
from loop.backtest.replay import Choice, Prediction
from loop.peers.base import Peer, quiet
from loop.problem import Problem
from loop.proposal import History
from loop.space import Design


class BayBE(Peer):
    """BayBE's `Campaign` with its default recommender on the table as a discrete search space.

    Ranges and the ingredients of compositions are `NumericalDiscreteParameter`s, choices are
    `CategoricalParameter`s, or `CustomDiscreteParameter`s where they have descriptors. Several
    objectives are a `ParetoObjective`. BayBE takes no standard errors and has no outcome
    constraints: it does without both.
    """

    def __init__(self, problem: Problem, designs: Sequence[Design]) -> None:
        super().__init__(problem, designs)
        with quiet():
            import pandas as pd

            baybe, objectives = _baybe(), _baybe("objectives")
            numerical = _baybe("targets").NumericalTarget
            self._frame = pd.DataFrame(self._rows)
            discrete = _baybe("searchspace.discrete").SubspaceDiscrete.from_dataframe(
                self._frame, [_baybe_parameter(p, self._frame) for p in self._parameters]
            )
            space = _baybe("searchspace").SearchSpace(discrete=discrete)
            targets = [
                numerical.match_absolute(o.metric, o.target)
                if o.target is not None
                else numerical(o.metric, minimize=o.goal == "minimize")
                for o in problem.objectives
            ]
            objective = (
                objectives.SingleTargetObjective(targets[0])
                if len(targets) == 1
                else objectives.ParetoObjective(targets)
            )
            self._campaign = baybe.Campaign(searchspace=space, objective=objective)
        self._notes = (
            ["BayBE has no outcome constraints: it does not see them"]
            if problem.constraints
            else []
        )

    def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
        """N designs by its default recommender."""
        import pandas as pd

        with quiet(), _seeded(seed + self._told):
            new = self._new(history)
            measured = self._frame.loc[[row for row, _, _ in new]].copy()
            for objective in self._problem.objectives:
                j = self._problem.metrics.index(objective.metric)
                measured[objective.metric] = [float(outcomes[j]) for _, outcomes, _ in new]
            self._campaign.add_measurements(measured)
            names = list(self._frame.columns)
            # It knows measured designs by nearness, and where two are near takes one for the other.
            self._campaign.toggle_discrete_candidates(measured[names], exclude=True)
            found: pd.DataFrame = self._campaign.recommend(n)
            offered = {self._place[id(design)]: k for k, design in enumerate(left)}
            known = {tuple(self._frame.loc[place, names]): place for place in offered}
            places = [known[tuple(row)] for row in found[names].itertuples(index=False)]
        rows = [offered[place] for place in places]
        return Choice(rows, lambda: self._predictions(found), self._notes)

    def _predictions(self, found: Any) -> list[dict[str, Prediction]]:
        with quiet(), _seeded(self._told):  # it fits its surrogate once more
            stats = self._campaign.posterior_stats(found)
        return [
            {
                o.metric: Prediction(
                    float(stats[f"{o.metric}_mean"].iloc[k]),
                    float(stats[f"{o.metric}_std"].iloc[k]),
                )
                for o in self._problem.objectives
                if o.target is None
            }
            for k in range(len(found))
        ]


def _baybe(module: str = "") -> Any:
    """A module of BayBE, which is an extra: nothing but a backtest against it needs it."""
    return importlib.import_module(f"baybe.{module}".rstrip("."))


def _baybe_parameter(parameter: Parameter, frame: Any) -> Any:
    import pandas as pd

    made = _baybe("parameters")
    if isinstance(parameter, Number):
        return made.NumericalDiscreteParameter(parameter.name, sorted(set(frame[parameter.name])))
    if parameter.descriptors is None:
        return made.CategoricalParameter(parameter.name, parameter.values)
    data = pd.DataFrame(
        parameter.descriptors, index=list(parameter.values), columns=list(parameter.names)
    )
    if data.duplicated().any():  # it refuses two values that are described alike
        return made.CategoricalParameter(parameter.name, parameter.values)
    return made.CustomDiscreteParameter(parameter.name, data)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """BayBE draws from the global generators."""
    import random

    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
