"""What a campaign has learnt: what the data carry is said, and nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loop import (
    ChoiceAxis,
    DesignSpace,
    History,
    Objective,
    OutcomeConstraint,
    Problem,
    ProposalSettings,
    RangeAxis,
    propose,
)
from loop.learnt import Lesson, review

SPACE = DesignSpace(
    (
        RangeAxis("x", 0.0, 1000.0, unit="K"),
        RangeAxis("idle", 0.0, 1.0),
        ChoiceAxis("gas", ("air", "argon", "N2")),
    )
)
GAS = {"air": 0.0, "argon": 0.5, "N2": 0.1}
PROBLEM = Problem(
    SPACE,
    (Objective("a", "maximize", "GPa"), Objective("b", "minimize", "eV")),
    (OutcomeConstraint("c", "<=", 0.3, "m"),),
)


def history(n: int, melts_above: float = 2000.0, problem: Problem = PROBLEM) -> History:
    designs = [d for d in problem.space.sample(n, 3) if d is not None]
    noise = np.random.default_rng(0).normal(size=n)
    rows = [
        [d["x"] / 500 + GAS[d["gas"]], d["x"] / 1000, e]
        for d, e in zip(designs, noise, strict=True)
    ]
    outcomes = np.array(rows, dtype=float).reshape(-1, 3)[:, : len(problem.metrics)]
    failed = np.array([d["x"] > melts_above for d in designs], dtype=bool)
    outcomes[failed] = math.nan
    return History(designs, outcomes, np.full_like(outcomes, math.nan), failed)


def by_topic(lessons: list[Lesson], topic: str) -> list[Lesson]:
    return [lesson for lesson in lessons if lesson.topic == topic]


def test_what_matters_and_which_way() -> None:
    found = review(PROBLEM, history(36))
    json.dumps(found.as_dict(), allow_nan=False)
    a, b = by_topic(found.lessons, "importance")
    assert a.data["features"][0]["feature"] == "x"
    assert a.data["features"][0]["direction"] == "rising"
    assert a.data["features"][1]["feature"] == "gas"
    assert "highest with argon, lowest with air" in a.sentence
    assert b.sentence.startswith("B depends most on x (")
    assert sum(found.importances["a"].shares.values()) == pytest.approx(1.0)
    # c is noise: of it, nothing is said but that it is not predicted
    told = [lesson.data for lesson in by_topic(found.lessons, "model")]
    assert [t["metric"] for t in told] == ["a", "b", "c"]
    assert told[0]["loo_r2"] > 0.8
    assert all(told_of.data["metric"] != "c" for told_of in by_topic(found.lessons, "uncertainty"))
    (conflict,) = by_topic(found.lessons, "conflict")
    assert "are in conflict" in conflict.sentence
    assert conflict.data["rank_correlation"] < -0.8
    (constraint,) = by_topic(found.lessons, "constraint")
    assert f"of {36} designs" in constraint.sentence
    assert not by_topic(found.lessons, "failures")


def test_where_trials_fail_in_the_parameters_own_numbers() -> None:
    (lesson,) = by_topic(review(PROBLEM, history(40, melts_above=700)).lessons, "failures")
    assert lesson.sentence.startswith("Trials fail with x above ")
    assert " K: " in lesson.sentence
    assert lesson.data["failed_there"] == lesson.data["failed"]
    assert lesson.data["p_value"] < 0.01


def test_failures_without_a_pattern_are_none() -> None:
    past = history(40)
    past.failed[[3, 9, 11, 20, 33]] = True
    past.outcomes[past.failed] = math.nan
    (lesson,) = by_topic(review(PROBLEM, past).lessons, "failures")
    assert lesson.sentence == "5 of 40 trials failed, with no pattern that one feature shows."


def test_the_luckiest_reading_is_not_taken_for_the_best() -> None:
    space = DesignSpace((RangeAxis("x", 0.0, 1.0),))
    problem = Problem(space, (Objective("a", "maximize", "GPa"),))
    designs = [d for d in space.sample(60, 3) if d is not None]
    noise = np.random.default_rng(1).normal(scale=0.3, size=60)
    outcomes = np.array([[2 * d["x"]] for d in designs]) + noise[:, None]
    low = int(np.argmin([abs(d["x"] - 0.4) for d in designs]))
    outcomes[low] = outcomes.max() + 0.1
    past = History(designs, outcomes, np.full_like(outcomes, math.nan), np.zeros(60, dtype=bool))
    names = [f"n{i}" for i in range(60)]
    (best,) = by_topic(review(problem, past, names=names).lessons, "best")
    assert best.data["by_reading"]["name"] == f"n{low}"
    assert best.data["by_model"]["name"] != f"n{low}"
    assert "lucky" in best.sentence


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_little_is_said_of_little(n: int) -> None:
    found = review(PROBLEM, history(n))
    json.dumps(found.as_dict(), allow_nan=False)
    if n < 2:
        assert found.notes == ["no model yet: a metric has fewer than two results"]
        assert found.importances == {}


def test_all_failed() -> None:
    found = review(PROBLEM, history(6, melts_above=-1.0))
    (failures,) = by_topic(found.lessons, "failures")
    assert failures.sentence == "6 of 6 trials failed: none succeeded to compare them with."
    assert by_topic(found.lessons, "best")[0].sentence == "No design satisfies the constraints yet."


def test_a_metric_that_does_not_vary() -> None:
    past = history(12)
    past.outcomes[:, 2] = 0.1
    found = review(PROBLEM, past)
    assert found.importances["c"].shares == {}
    json.dumps(found.as_dict(), allow_nan=False)


def test_latent_designs_that_cannot_be_encoded_are_left_out(problem: Problem, answer: Any) -> None:
    designs = [d for d in problem.space.sample(30, 1) if d is not None][:20]
    designs[4] = {"point": (2.0,) * 6}
    outcomes = np.array([answer(d) for d in designs])
    past = History(designs, outcomes, np.full_like(outcomes, math.nan), np.zeros(20, dtype=bool))
    found = review(problem, past)
    assert found.notes == ["left out: 1 designs without features"]
    assert set(found.importances["a"].shares) == {f"point.x{i}" for i in range(6)}


def lesson_r2(found: list[Lesson]) -> list[float]:
    return [lesson.data["loo_r2"] for lesson in by_topic(found, "model")]


def proposed_r2(proposal: Any, problem: Problem) -> list[float]:
    assert proposal.surrogate_report is not None
    return [proposal.surrogate_report[m]["loo_r2"] for m in problem.metrics]


QUICK = ProposalSettings(prior=500, rounds=1, children=40, shortlist=40, samples=16)


def test_the_model_that_is_described_is_the_one_that_chooses() -> None:
    names = tuple("abcdefgh")
    space = DesignSpace((ChoiceAxis("acid", names), ChoiceAxis("base", names)))
    problem = Problem(space, (Objective("yield", "maximize", "%"),))
    designs = [d for d in space.sample(200, 3) if d is not None]
    unique = list({(d["acid"], d["base"]): d for d in designs}.values())[:30]
    noise = np.random.default_rng(1).normal(size=30)
    y = [
        names.index(d["acid"]) % 3 + 2 * (d["base"] in "cf") + 0.4 * e
        for d, e in zip(unique, noise, strict=True)
    ]
    column = np.array(y, dtype=float)[:, None]
    errors = np.linspace(1.0, 4.0, 30)[:, None]
    past = History(
        unique, column, np.full_like(column, math.nan), np.zeros(30, dtype=bool), errors=errors
    )
    proposal = propose(problem, past, 1, seed=0, settings=QUICK)
    found = review(problem, past, 0)
    assert lesson_r2(found.lessons) == proposed_r2(proposal, problem)
    # and from where a proposal began, it ends where the next one would
    warm = review(problem, past, 0, warm_start=proposal.warm_start)
    again = propose(problem, past, 1, seed=0, settings=QUICK, warm_start=proposal.warm_start)
    assert lesson_r2(warm.lessons) == proposed_r2(again, problem)
    # what is told of its intervals is widened by the same errors
    (unsure,) = by_topic(found.lessons, "uncertainty")
    calm = review(problem, replace(past, errors=np.full((30, 1), 1e-3)), 0)
    (sure,) = by_topic(calm.lessons, "uncertainty")
    assert unsure.data["share_of_spread"] > sure.data["share_of_spread"]
