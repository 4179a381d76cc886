"""Proposals, from an empty history to a front."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loop import (
    Candidate,
    ChoiceAxis,
    DesignSpace,
    History,
    LatentAxis,
    Objective,
    Problem,
    Proposal,
    ProposalSettings,
    RangeAxis,
    ScreenRules,
    hypervolume,
    propose,
)

Answer = Callable[[dict[str, Any]], list[float]]

QUICK = ProposalSettings(
    prior=200,
    jitter=100,
    cross=50,
    rounds=2,
    children=60,
    parents=8,
    shortlist=60,
    exact_samples=32,
)


def history(
    problem: Problem,
    designs: list[dict[str, Any]],
    answer: Answer,
    failed: list[int] | None = None,
    pending: list[dict[str, Any]] | None = None,
) -> History:
    m = len(problem.metrics)
    outcomes = np.array([answer(d) for d in designs], dtype=float).reshape(-1, m)
    bad = np.zeros(len(designs), dtype=bool)
    bad[failed or []] = True
    outcomes[bad] = math.nan
    return History(designs, outcomes, np.full_like(outcomes, math.nan), bad, pending or [])


def draw(problem: Problem, n: int, seed: int = 0) -> list[dict[str, Any]]:
    return [d for d in problem.space.sample(2 * n, seed) if d is not None][:n]


def comparable(proposal: Proposal) -> str:
    return repr([replace(c, design={}) for c in proposal.candidates]) + repr(
        [list(c.design.values()) for c in proposal.candidates]
    )


def test_empty_history_draws_from_the_prior(problem: Problem, answer: Answer) -> None:
    empty = history(problem, [], answer)
    proposal = propose(problem, empty, 5, seed=1)
    assert [c.method for c in proposal.candidates] == ["prior"] * 5
    assert proposal.surrogate_report is None
    assert proposal.candidates[0].prediction == {}
    assert proposal.candidates[0].feasibility is None
    assert any("prior" in note for note in proposal.notes)
    assert comparable(proposal) == comparable(propose(problem, empty, 5, seed=1))
    assert comparable(proposal) != comparable(propose(problem, empty, 5, seed=2))


def test_proposal_from_a_surrogate(problem: Problem, answer: Answer) -> None:
    designs = draw(problem, 14)
    past = history(problem, designs[:12], answer, failed=[3], pending=designs[12:])
    proposal = propose(problem, past, 3, seed=1, settings=QUICK)
    assert len(proposal.candidates) == 3
    for candidate in proposal.candidates:
        assert candidate.method in ("qLogNEHVI", "qLogPF")
        assert isinstance(candidate.acquisition, float)
        assert set(candidate.prediction) == {"a", "b", "c"}
        assert all(sd > 0 for _, sd in candidate.prediction.values())
        assert candidate.feasibility == pytest.approx(12 / 14)
        assert candidate.latent is not None
        assert len(candidate.latent) == 6
        assert 0 <= candidate.notes["p_constraints"] <= 1
        assert candidate.design not in designs
    assert len({c.design["point"] for c in proposal.candidates}) == 3
    json.dumps([proposal.surrogate_report, proposal.warm_start, proposal.notes, proposal.screened])


def test_bit_for_bit_the_same(problem: Problem, answer: Answer) -> None:
    past = history(problem, draw(problem, 12), answer)
    first = propose(problem, past, 2, seed=3, settings=QUICK)
    np.random.default_rng(9).random(5)
    again = propose(problem, past, 2, seed=3, settings=QUICK)
    assert comparable(first) == comparable(again)
    assert first.warm_start == again.warm_start
    warm = json.loads(json.dumps(first.warm_start))
    assert len(propose(problem, past, 2, seed=3, warm_start=warm, settings=QUICK).candidates) == 2


def test_beats_random_sampling(problem: Problem, answer: Answer) -> None:
    designs = draw(problem, 8, seed=5)
    warm = None
    while len(designs) < 28:
        past = history(problem, designs, answer)
        proposal = propose(problem, past, 4, seed=5, warm_start=warm, settings=QUICK)
        warm = proposal.warm_start
        designs += [c.design for c in proposal.candidates]
    ours = hypervolume(problem, np.array([answer(d) for d in designs]))
    chance = [
        hypervolume(problem, np.array([answer(d) for d in draw(problem, 28, seed=100 + k)]))
        for k in range(9)
    ]
    assert ours > 1.3 * np.median(chance)


def test_predictions_are_made_as_soon_as_they_can_be(problem: Problem, answer: Answer) -> None:
    past = history(problem, draw(problem, 4), answer)
    candidate = propose(problem, past, 1, seed=0).candidates[0]
    assert candidate.method == "prior"
    assert set(candidate.prediction) == {"a", "b", "c"}
    assert candidate.feasibility == pytest.approx(5 / 6)


def test_a_metric_without_outcomes_keeps_to_the_prior(problem: Problem, answer: Answer) -> None:
    past = history(problem, draw(problem, 10), answer)
    past.outcomes[:, 1] = math.nan
    proposal = propose(problem, past, 2, seed=0, settings=QUICK)
    assert {c.method for c in proposal.candidates} == {"prior"}


def test_hopeless_surrogates_fall_back_to_the_prior(problem: Problem, answer: Answer) -> None:
    past = history(problem, draw(problem, 12), answer)
    past.outcomes[:, :2] = 1.0
    past.outcomes[:, 2] = 0.0
    proposal = propose(problem, past, 2, seed=0, settings=QUICK)
    assert {c.method for c in proposal.candidates} == {"prior"}
    assert any("no surrogate predicts better" in note for note in proposal.notes)
    assert proposal.surrogate_report is not None


def test_failures_are_avoided(problem: Problem, answer: Answer) -> None:
    designs = draw(problem, 40)
    bad = [i for i, d in enumerate(designs) if d["point"][0] > 0.5]
    past = history(problem, designs, answer, failed=bad)
    proposal = propose(problem, past, 4, seed=0, settings=QUICK)
    assert any("trials failed" in note for note in proposal.notes)
    assert all(c.design["point"][0] < 0.7 for c in proposal.candidates)
    assert all((c.feasibility or 0) > 0.5 for c in proposal.candidates)


def test_observed_designs_outside_the_latent_space_are_named(
    problem: Problem, answer: Answer
) -> None:
    past = history(problem, [*draw(problem, 10), {"point": (3.0,) * 6}], answer)
    proposal = propose(problem, past, 1, seed=0, settings=QUICK)
    assert any("1 observed designs" in note for note in proposal.notes)
    assert len(proposal.candidates) == 1


def test_crystals_beside_parameters(rocksalt: Any) -> None:
    problem = Problem(
        DesignSpace(
            (
                LatentAxis("crystal", rocksalt),
                RangeAxis("temperature", 500.0, 1500.0, unit="K"),
                ChoiceAxis("gas", ("air", "argon")),
            )
        ),
        (Objective("density", "target", "g/cm^3", target=4.0),),
        screen=ScreenRules(exclude=("Ti",), charge_neutral=True, max_atoms=4),
    )

    def answer(design: dict[str, Any]) -> list[float]:
        return [design["crystal"].density * (1.0 + design["temperature"] / 1e4)]

    first = propose(problem, history(problem, [], answer), 12, seed=0)
    assert first.screened["not charge-neutral"] > 0
    assert first.screened["element not allowed"] > 0
    assert any("icsd24" in note for note in first.notes)
    past = history(problem, [c.design for c in first.candidates], answer)
    second = propose(problem, past, 4, seed=0, settings=QUICK)
    check: list[Candidate] = second.candidates
    assert {c.method for c in check} == {"qLogNEI"}
    assert all("Ti" not in c.design["crystal"].formula for c in check)
    assert min(abs(answer(c.design)[0] - 4.0) for c in check) < 0.3
    everything = [*past.designs, *(c.design for c in check)]
    pairs = [(a, b) for i, a in enumerate(everything) for b in everything[:i]]
    assert not any(problem.space.same(a, b) for a, b in pairs)


def test_a_small_space_runs_dry() -> None:
    problem = Problem(
        DesignSpace(
            (ChoiceAxis("gas", ("air", "argon", "neon")), ChoiceAxis("salt", (1, 2, 3, 4)))
        ),
        (Objective("rate", "maximize", "1/s"),),
    )

    def answer(design: dict[str, Any]) -> list[float]:
        return [design["salt"] + ("air", "argon", "neon").index(design["gas"])]

    designs = [{"gas": g, "salt": s} for g in ("air", "argon", "neon") for s in (1, 2, 3, 4)]
    past = history(problem, designs[:-2], answer)
    proposal = propose(problem, past, 4, seed=0, settings=QUICK)
    assert [c.design for c in proposal.candidates] == [designs[-1], designs[-2]]
    assert proposal.candidates[0].latent is None
    assert any("only 2 of 4" in note for note in proposal.notes)
    full = propose(problem, history(problem, designs, answer), 1, seed=0, settings=QUICK)
    assert full.candidates == []


def test_a_history_that_does_not_fit_is_refused(problem: Problem, answer: Answer) -> None:
    past = history(problem, draw(problem, 3), answer)
    with pytest.raises(ValueError, match="3 metrics"):
        propose(problem, replace(past, outcomes=past.outcomes[:, :2]), 1, seed=0)
    with pytest.raises(ValueError, match="one design or more"):
        propose(problem, past, 0, seed=0)


def test_a_screen_that_nothing_passes(rocksalt: Any) -> None:
    space = DesignSpace((LatentAxis("crystal", rocksalt),))
    goals = (Objective("density", "minimize", "g/cm^3"),)
    free = Problem(space, goals)
    strict = Problem(space, goals, screen=ScreenRules(include=("He",)))
    for n in (0, 10):
        past = history(free, draw(free, n), lambda d: [d["crystal"].density])
        proposal = propose(strict, past, 2, seed=0, settings=replace(QUICK, max_draws=20))
        assert proposal.candidates == []
        assert any("only 0 of 2" in note for note in proposal.notes)
        assert proposal.screened["element not allowed"] > 20
