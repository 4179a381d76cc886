"""A generator that foretells every metric is asked before there are results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from loop import (
    DesignSpace,
    History,
    LatentAxis,
    Objective,
    Problem,
    ProposalSettings,
    hypervolume,
    propose,
)
from loop.acquisition import STRATEGIES, WITHOUT_SURROGATE
from loop.learnt import review
from loop.level import classified
from tests.loop.conftest import Points

Answer = Callable[[dict[str, Any]], list[float]]
QUICK = ProposalSettings(prior=200, rounds=2, children=60, shortlist=60, samples=32,
                         joint_samples=32)  # fmt: skip


class Teller(Points):
    """Foretells a, b and c, each with an error of its own."""

    def __init__(self, answer: Answer, units: dict[str, str] | None = None) -> None:
        self._answer = answer
        self.feature_names = (*Points.feature_names, *(f"predicted_{m}" for m in "abc"))
        self.feature_units = units or {}

    def features(self, designs: Sequence[Any]) -> Tensor:
        x = super().features(designs)
        said = torch.tensor([self._answer({"point": d}) for d in designs], dtype=torch.float64)
        off = 0.1 * torch.sin(40.0 * x[:, :3] + torch.arange(3))
        return torch.cat([x, said.reshape(-1, 3) + off], 1)


@pytest.fixture
def foretold(problem: Problem, answer: Answer) -> Problem:
    return _with(problem, Teller(answer))


def _with(problem: Problem, generator: Points) -> Problem:
    return replace(problem, space=DesignSpace((LatentAxis("point", generator),)))


def _history(problem: Problem, designs: list[dict[str, Any]], answer: Answer) -> History:
    outcomes = np.array([answer(d) for d in designs], dtype=float).reshape(-1, 3)
    nothing = np.full_like(outcomes, math.nan)
    return History(designs, outcomes, nothing, np.zeros(len(designs), dtype=bool))


def test_first_designs_are_better_than_blind_ones(
    problem: Problem, foretold: Problem, answer: Answer
) -> None:
    volumes: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(4):
        for asked in (True, False):
            settings = QUICK if asked else replace(QUICK, initial=8)
            past = _history(foretold, [], answer)
            proposal = propose(foretold, past, 4, seed, settings=settings)
            found = np.array([answer(c.design) for c in proposal.candidates])
            volumes[asked].append(hypervolume(problem, found))
    assert np.mean(volumes[True]) > np.mean(volumes[False]) + 0.2


def test_what_is_foretold_is_told_and_judged_as_nothing_else(
    foretold: Problem, answer: Answer
) -> None:
    proposal = propose(foretold, _history(foretold, [], answer), 3, 0, settings=QUICK)
    assert proposal.surrogate_report is None
    assert proposal.warm_start is None
    assert any("0 completed" in n and "foretells" in n for n in proposal.notes)
    for candidate in proposal.candidates:
        assert candidate.notes["foretold"] is True
        assert "widened" not in candidate.notes  # so that no error of it counts as the surrogate's
        assert candidate.notes["why"]["kind"] == "foretold"
        assert candidate.notes["expected_gain"] is None  # no rule stops a campaign by it
        assert candidate.feasibility is None
        mean, sd = candidate.prediction["a"]
        assert abs(mean - answer(candidate.design)[0]) < 3 * sd
    again = propose(foretold, _history(foretold, [], answer), 3, 0, settings=QUICK)
    assert [c.design for c in again.candidates] == [c.design for c in proposal.candidates]


def test_results_take_its_place(foretold: Problem, answer: Answer) -> None:
    drawn = [d for d in foretold.space.sample(20, 0) if d is not None]
    few = propose(foretold, _history(foretold, drawn[:5], answer), 2, 0, settings=QUICK)
    assert all(c.notes["foretold"] for c in few.candidates)
    assert few.candidates[0].notes["why"]["nearest"]["row"] < 5  # a trial, never what stands in
    enough = propose(foretold, _history(foretold, drawn[:8], answer), 2, 0, settings=QUICK)
    assert enough.surrogate_report is not None
    assert enough.surrogate_report["a"]["n"] == 8
    assert not any("foretold" in c.notes for c in enough.candidates)


def test_all_have_failed(foretold: Problem, answer: Answer) -> None:
    drawn = [d for d in foretold.space.sample(12, 0) if d is not None][:6]
    nothing = np.full((6, 3), math.nan)
    past = History(drawn, nothing, nothing, np.ones(6, dtype=bool))
    proposal = propose(foretold, past, 3, 0, settings=QUICK)
    assert len(proposal.candidates) == 3
    assert all(c.feasibility is not None for c in proposal.candidates)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy(foretold: Problem, answer: Answer, strategy: str) -> None:
    if strategy == "level-set":
        levels = replace(foretold.objectives[0], goal="level", target=1.0, threshold=None)
        foretold = replace(foretold, objectives=(levels,))
    settings = replace(QUICK, strategy=strategy)
    past = History([], *(np.empty((0, len(foretold.metrics))),) * 2, np.empty(0, dtype=bool))
    if strategy == "level-set":  # `b` is not wanted any more
        assert foretold.metrics == ("a", "c")
    proposal = propose(foretold, past, 2, 0, settings=settings)
    assert len(proposal.candidates) == 2
    blind = {c.method for c in proposal.candidates} == {"prior"}
    assert blind is (strategy in WITHOUT_SURROGATE)


@pytest.mark.parametrize(("unit", "blind"), [("GPa", False), ("MPa", True)])
def test_another_unit_is_no_foretelling(
    problem: Problem, answer: Answer, unit: str, blind: bool
) -> None:
    told = _with(problem, Teller(answer, {"predicted_a": unit, "predicted_b": "g / cm**3"}))
    proposal = propose(told, _history(told, [], answer), 2, 0, settings=QUICK)
    assert ({c.method for c in proposal.candidates} == {"prior"}) is blind


def test_one_metric_that_nobody_foretells(foretold: Problem, answer: Answer) -> None:
    other = replace(foretold.objectives[0], metric="hardness")
    asked = replace(foretold, objectives=(other, foretold.objectives[1]))
    proposal = propose(asked, _history(asked, [], answer), 2, 0, settings=QUICK)
    assert {c.method for c in proposal.candidates} == {"prior"}


def test_what_is_foretold_is_in_the_model_that_explains(foretold: Problem, answer: Answer) -> None:
    designs = [d for d in foretold.space.sample(40, 1) if d is not None][:12]
    past = _history(foretold, designs, answer)
    report = propose(foretold, past, 1, seed=0, settings=QUICK).surrogate_report
    told = [x.data["loo_r2"] for x in review(foretold, past).lessons if x.topic == "model"]
    # the bounds of features rest on two samples of the space
    wanted = [(report or {})[metric]["loo_r2"] for metric in foretold.metrics]
    assert told == pytest.approx(wanted, abs=0.005)


def test_what_is_foretold_classifies_too(problem: Problem) -> None:
    def rough(design: dict[str, Any]) -> list[float]:
        return [math.sin(20.0 * sum(design["point"])), 0.0, 0.0]

    level = replace(
        _with(problem, Teller(rough)),
        objectives=(Objective("a", "level", "GPa", target=0.2),),
        constraints=(),
    )
    designs = [d for d in level.space.sample(300, 1) if d is not None]
    outcomes = np.array([rough(d)[:1] for d in designs])
    past = History(designs[:2], outcomes[:2], np.full((2, 1), math.nan), np.zeros(2, dtype=bool))
    (contour,) = classified(level, past, designs[2:]).contours
    right = (contour.above > 0.5) == (outcomes[2:, 0] > 0.2)
    assert right.mean() > 0.9
