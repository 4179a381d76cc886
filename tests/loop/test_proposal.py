"""Proposals, from an empty history to a front."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop import (
    Candidate,
    ChoiceAxis,
    CompositionAxis,
    Design,
    DesignSpace,
    History,
    LatentAxis,
    LinearConstraint,
    Objective,
    OutcomeConstraint,
    PoolAxis,
    Problem,
    Proposal,
    ProposalSettings,
    RangeAxis,
    ScreenRules,
    hypervolume,
    propose,
)
from loop.acquisition import STRATEGIES, WITHOUT_SURROGATE
from loop.axes.pool_table import open_pool
from tests.loop.designs import PLANE, at
from tests.loop.designs import history as told
from tests.loop.spaces import spaces

Answer = Callable[[dict[str, Any]], list[float]]

QUICK = ProposalSettings(
    prior=200,
    jitter=100,
    cross=50,
    rounds=2,
    children=60,
    parents=8,
    shortlist=60,
    samples=32,
    joint_samples=32,
    polish=10,
    regions=50,
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
        assert candidate.method in ("UCB-HVI 1.5", "UCB-HVI 0.25", "PF")
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
    assert "drawn from the prior: fewer than two outcomes yet of b (0)" in proposal.notes


def test_hopeless_surrogates_fill_the_space(problem: Problem, answer: Answer) -> None:
    past = history(problem, draw(problem, 12), answer)
    past.outcomes[:, :2] = 1.0
    past.outcomes[:, 2] = 0.0
    proposal = propose(problem, past, 2, seed=0, settings=QUICK)
    assert {c.method for c in proposal.candidates} == {"uncertainty"}
    assert any("no surrogate predicts better" in note for note in proposal.notes)
    tried = np.array([d["point"] for d in past.designs])
    gaps = [np.abs(tried - c.design["point"]).max(axis=1).min() for c in proposal.candidates]
    assert min(gaps) > 0.2
    assert proposal.surrogate_report is not None


def test_failures_are_avoided(problem: Problem, answer: Answer) -> None:
    designs = draw(problem, 40)
    bad = [i for i, d in enumerate(designs) if d["point"][0] > 0.3]
    past = history(problem, designs, answer, failed=bad)
    proposals = [propose(problem, past, 4, seed=seed, settings=QUICK) for seed in range(3)]
    assert any("trials failed" in note for note in proposals[0].notes)
    chosen = [c for proposal in proposals for c in proposal.candidates]
    at = [c.design["point"][0] for c in chosen]
    chances = [c.feasibility or 0.0 for c in chosen]
    assert np.mean(chances) > 0.5
    blind = history(problem, [d for i, d in enumerate(designs) if i not in bad], answer)
    reckless = [propose(problem, blind, 4, seed=seed, settings=QUICK) for seed in range(3)]
    lured = [c.design["point"][0] for proposal in reckless for c in proposal.candidates]
    assert np.mean(lured) > np.mean(at) + 0.05


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
    assert {c.method for c in check} == {"UCB 1.5", "UCB 0.25"}
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


HILL = Problem(PLANE, (Objective("f", "maximize", ""),))
ASKING = [s for s in STRATEGIES if s not in (*WITHOUT_SURROGATE, "level-set")]


def hill(X: np.ndarray) -> np.ndarray:
    return np.exp(-6.0 * ((X - [0.7, 0.3]) ** 2).sum(axis=1))


def seen_by(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 2))


def xy(proposal: Proposal) -> np.ndarray:
    return np.array([[c.design["x"], c.design["y"]] for c in proposal.candidates])


@pytest.mark.parametrize("strategy", ASKING)
def test_every_strategy_proposes(strategy: Any) -> None:
    X = seen_by(12)
    past = told(HILL, at(X), hill(X), pending=at(seen_by(2, seed=8)))
    quick = replace(QUICK, strategy=strategy)
    proposal = propose(HILL, past, 4, seed=2, settings=quick)
    found = xy(proposal)
    assert len(np.unique(found, axis=0)) == 4
    assert len({*map(tuple, found)} & {*map(tuple, np.vstack([X, seen_by(2, seed=8)]))}) == 0
    for candidate in proposal.candidates:
        assert isinstance(candidate.acquisition, float)
        assert math.isfinite(candidate.acquisition)
        json.dumps(candidate.notes, allow_nan=False)
    if strategy not in ("uncertainty", "thompson"):
        assert np.abs(found[0] - [0.7, 0.3]).max() < 0.15
    again = propose(HILL, past, 4, seed=2, settings=quick)
    assert comparable(proposal) == comparable(again)
    assert proposal.notes == again.notes


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("strategy", ["portfolio", "improvement", "joint"])
def test_one_to_five_objectives(k: int, strategy: Any) -> None:
    goals: list[Any] = ["maximize", "minimize", "target", "maximize", "minimize"]
    objectives = tuple(
        Objective(f"f{j}", goal, "", target=0.4 if goal == "target" else None)
        for j, goal in enumerate(goals[:k])
    )
    problem = Problem(PLANE, objectives, (OutcomeConstraint("c", "<=", 1.5, ""),))
    X = seen_by(15)
    centres = np.random.default_rng(1).random((k, 2))
    Y = np.stack([((X - c) ** 2).sum(1) for c in centres] + [X.sum(1)], 1)
    past = told(problem, at(X), Y, pending=at(seen_by(2, seed=8)))
    proposal = propose(problem, past, 3, seed=0, settings=replace(QUICK, strategy=strategy))
    assert len(proposal.candidates) == 3
    assert all(math.isfinite(c.acquisition or math.nan) for c in proposal.candidates)
    assert (xy(proposal).sum(1) <= 1.7).all()
    gains = [c.notes["expected_gain"] for c in proposal.candidates]
    assert all(gain is None or gain >= 0 for gain in gains)


def test_pending_designs_are_counted_as_known() -> None:
    X = seen_by(12)
    first = propose(HILL, told(HILL, at(X), hill(X)), 1, seed=0, settings=QUICK)
    pending = [c.design for c in first.candidates]
    past = told(HILL, at(X), hill(X), pending=pending)
    second = propose(HILL, past, 1, seed=0, settings=QUICK)
    assert second.candidates[0].design != pending[0]
    # a batch goes on where the pending designs end: by turns a bold and a cautious bound
    assert [first.candidates[0].method, second.candidates[0].method] == ["UCB 1.5", "UCB 0.25"]


def test_expected_gain_is_told_against_what_is_known() -> None:
    """Not against the design itself, once that is chosen."""
    X = seen_by(8)
    past = told(HILL, at(X), hill(X))
    one, four = (propose(HILL, past, n, seed=0, settings=QUICK) for n in (1, 4))
    gains = [p.candidates[0].notes["expected_gain"] for p in (one, four)]
    assert one.candidates[0].design == four.candidates[0].design
    assert gains[0] == pytest.approx(gains[1])
    assert gains[0] > 1e-3


def test_a_target_is_approached_from_both_sides() -> None:
    problem = Problem(PLANE, (Objective("f", "target", "", target=1.0),))
    X = seen_by(10)
    past = told(problem, at(X), X.sum(axis=1))
    found = xy(propose(problem, past, 4, seed=0, settings=QUICK))
    assert np.abs(found.sum(axis=1) - 1.0).max() < 0.1


def test_a_bound_that_nothing_meets_is_approached() -> None:
    problem = Problem(PLANE, HILL.objectives, (OutcomeConstraint("x", "<=", -5.0, ""),))
    X = seen_by(10)
    past = told(problem, at(X), np.stack([hill(X), X[:, 0]], 1))
    proposal = propose(problem, past, 3, seed=0, settings=QUICK)
    assert {c.method for c in proposal.candidates} == {"PF"}
    assert any("no design has satisfied" in note for note in proposal.notes)
    assert xy(proposal)[:, 0].min() < 0.1


@pytest.mark.parametrize("bound", [1e200, -1e200, 1e12, -1e12])
def test_absurd_bounds_and_targets(bound: float) -> None:
    X = seen_by(10)
    for op in ("<=", ">="):
        c = (OutcomeConstraint("f", op, bound, ""),)  # type: ignore[arg-type]
        problem = Problem(PLANE, HILL.objectives, c)
        proposal = propose(problem, told(problem, at(X), hill(X)), 2, seed=0, settings=QUICK)
        assert len(proposal.candidates) == 2
    problem = Problem(PLANE, (Objective("f", "target", "", target=bound),))
    proposal = propose(problem, told(problem, at(X), hill(X)), 2, seed=0, settings=QUICK)
    assert len(proposal.candidates) == 2


def test_among_given_designs_only() -> None:
    X = seen_by(12)
    past = told(HILL, at(X), hill(X))
    offered = at(np.vstack([X[:3], seen_by(30, seed=4)]))
    for history_ in (past, told(HILL, at(X[:1]), hill(X[:1]))):
        proposal = propose(HILL, history_, 4, seed=0, settings=QUICK, among=offered)
        assert len(proposal.candidates) == 4
        assert all(c.design in offered for c in proposal.candidates)
        assert all(c.design not in history_.designs for c in proposal.candidates)
        assert {c.notes["origin"] for c in proposal.candidates} == {"given"}
    new = [d for d in offered if d not in past.designs]
    best = max(new, key=lambda d: float(hill(np.array([[d["x"], d["y"]]]))[0]))
    found = propose(HILL, past, 2, seed=0, settings=QUICK, among=offered)
    assert best in [c.design for c in found.candidates]
    for nothing in ([], at(X)):
        for history_ in (past, told(HILL, at(X[:1]), hill(X[:1]))):
            offered = [d for d in nothing if d in history_.designs]
            proposal = propose(HILL, history_, 2, seed=0, settings=QUICK, among=offered)
            assert proposal.candidates == []
            assert any("only 0 of 2" in note for note in proposal.notes)


def test_a_pool_is_looked_at_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATLOOP_CACHE", str(tmp_path / "cache"))
    table = tmp_path / "pool.csv"
    rows = np.random.default_rng(0).random((3000, 2))
    table.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in rows))
    space = DesignSpace((PoolAxis("row", open_pool(table)),))
    problem = Problem(space, (Objective("f", "maximize", ""),))
    designs = [d for d in space.sample(15, 0) if d is not None]

    def f(design: Design) -> list[float]:
        at_ = np.array([[design["row"]["a"], design["row"]["b"]]])
        return [float(hill(at_)[0])]

    past = history(problem, designs, f)
    proposal = propose(problem, past, 4, seed=0, settings=QUICK)
    assert {c.notes["origin"] for c in proposal.candidates} <= {"prior", "whole space"}
    assert any("of 3" in note and "looked at" in note for note in proposal.notes)
    best = max(f(d)[0] for d in space.decode(space.codes_at(np.arange(3000))) if d is not None)
    assert max(f(c.design)[0] for c in proposal.candidates) > 0.95 * best
    assert all(c.design not in designs for c in proposal.candidates)


def test_an_enumerated_space_with_a_constraint() -> None:
    space = DesignSpace(
        (RangeAxis("a", 0, 9, integer=True), RangeAxis("b", 0, 9, integer=True)),
        (LinearConstraint({"a": 1.0, "b": 1.0}, "==", 9.0),),
    )
    problem = Problem(space, (Objective("f", "maximize", ""),))
    designs = [{"a": a, "b": 9 - a} for a in (0, 2, 4, 9)]
    past = history(problem, designs, lambda d: [float(-((d["a"] - 6) ** 2))])
    proposal = propose(problem, past, 10, seed=0, settings=QUICK)
    assert sorted(c.design["a"] for c in proposal.candidates) == [1, 3, 5, 6, 7, 8]
    assert proposal.candidates[0].design["a"] in (5, 6, 7)
    assert all(c.design["a"] + c.design["b"] == 9 for c in proposal.candidates)


def test_a_composition_with_a_constraint_finds_its_best() -> None:
    space = DesignSpace(
        (CompositionAxis("alloy", ("Fe", "Co", "Ni")), RangeAxis("T", 300.0, 900.0, unit="K")),
        (LinearConstraint({"alloy.Fe": 1.0, "alloy.Co": -1.0}, "<=", 0.2),),
    )
    problem = Problem(space, (Objective("f", "maximize", ""),))

    def f(design: Design) -> list[float]:
        iron = design["alloy"].get("Fe", 0.0) - 0.9
        return [-(iron**2) - ((design["T"] - 700.0) / 600.0) ** 2]

    designs = [d for d in space.sample(14, 3) if d is not None]
    for _ in range(3):
        past = history(problem, designs, f)
        proposal = propose(problem, past, 3, seed=0, settings=replace(QUICK, polish=40))
        for candidate in proposal.candidates:
            alloy = candidate.design["alloy"]
            assert sum(alloy.values()) == pytest.approx(1.0)
            assert alloy.get("Fe", 0.0) - alloy.get("Co", 0.0) <= 0.2 + 1e-6
        designs += [c.design for c in proposal.candidates]
    best = max(f(d)[0] for d in designs)
    assert best > -(0.3**2) - 0.01  # Fe 0.6, Co 0.4, 700 K is the best there is


def test_outcomes_far_apart_and_wild_designs() -> None:
    """Observed designs that lie outside the space, or were answered absurdly, do no harm."""
    X = np.vstack([seen_by(10), [[1e9, 0.5], [0.5, -1e12]]])
    Y = np.append(hill(X[:10]), [1e30, -1e30])
    proposal = propose(HILL, told(HILL, at(X), Y), 2, seed=0, settings=QUICK)
    found = xy(proposal)
    assert len(found) == 2
    assert ((found >= 0) & (found <= 1)).all()


def test_all_failed() -> None:
    X = seen_by(20)
    past = told(HILL, at(X), np.full(20, math.nan))
    proposal = propose(HILL, past, 3, seed=0, settings=QUICK)
    assert {c.method for c in proposal.candidates} == {"prior"}
    assert len(proposal.candidates) == 3
    assert all((c.feasibility or 1.0) < 0.1 for c in proposal.candidates)


def test_what_was_read_of_a_failed_trial_counts_for_nothing() -> None:
    X = seen_by(8)
    Y = hill(X)
    failed = np.arange(8) == 7
    proposals = []
    for read in (math.nan, 1e250):
        Y[failed] = read
        past = replace(told(HILL, at(X), Y), failed=failed)
        proposals.append(propose(HILL, past, 2, seed=0, settings=QUICK))
    assert proposals[0].candidates == proposals[1].candidates


def test_one_design_with_contradicting_outcomes() -> None:
    X = np.repeat(seen_by(1), 12, axis=0)
    past = told(HILL, at(X), np.tile([0.0, 1.0], 6))
    proposal = propose(HILL, past, 3, seed=0, settings=QUICK)
    assert len(np.unique(xy(proposal), axis=0)) == 3


WILD = st.sampled_from(
    [0.0, 1.0, 1.0, 2.5, -3.0, math.nan, math.nan, 1e-15, 1e15, -1e30, math.inf, -math.inf, 1e250]
)


@settings(max_examples=60)
@given(st.data())
def test_any_history_gives_a_proposal_or_a_clear_error(data: st.DataObject) -> None:
    space = data.draw(spaces())
    k = data.draw(st.integers(1, 3))
    objectives = []
    for j in range(k):
        goal: Any = data.draw(st.sampled_from(["maximize", "minimize", "target"]))
        target = 1.0 if goal == "target" else None
        objectives.append(Objective(f"f{j}", goal, "", target=target))
    constraints: tuple[OutcomeConstraint, ...] = ()
    if data.draw(st.booleans()):
        constraints = (OutcomeConstraint("c", "<=", data.draw(st.sampled_from([-1e9, 0, 1])), ""),)
    problem = Problem(space, tuple(objectives), constraints)
    n, m = data.draw(st.integers(0, 12)), len(problem.metrics)
    seed = data.draw(st.integers(0, 99))
    designs = [d for d in space.sample(n, seed) if d is not None]
    if len(designs) > 2 and data.draw(st.booleans()):
        designs[1] = designs[0]
    n = len(designs)
    Y = np.array(data.draw(st.lists(WILD, min_size=n * m, max_size=n * m))).reshape(n, m)
    sem = np.full_like(Y, data.draw(st.sampled_from([math.nan, 0.0, 0.1, 1e200, -1.0])))
    failed = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    if data.draw(st.booleans()):
        Y[failed] = math.nan
    pending = [d for d in space.sample(data.draw(st.integers(0, 2)), seed + 1) if d is not None]
    past = History(designs, Y, sem, failed, pending)
    quick = replace(QUICK, strategy=data.draw(st.sampled_from(ASKING)), initial=2, max_iter=10)
    refusal = ""
    try:
        proposal = propose(problem, past, 2, seed=seed, settings=quick)
    except ValueError as error:
        refusal = str(error)
    if refusal:
        clear = ("is infinite", "standard error is negative", "larger than")
        assert any(words in refusal for words in clear), refusal
        return
    codes = space.encode([c.design for c in proposal.candidates])
    assert space.allowed(codes).all()
    as_data = [space.to_json(c.design) for c in proposal.candidates]
    json.dumps([as_data, [c.notes for c in proposal.candidates]], allow_nan=False)
    json.dumps([proposal.surrogate_report, proposal.warm_start], allow_nan=False)
    for candidate in proposal.candidates:
        values = [v for pair in candidate.prediction.values() for v in pair]
        assert all(math.isfinite(v) for v in values)
        assert candidate.acquisition is None or math.isfinite(candidate.acquisition)
    if len(proposal.candidates) < 2:
        assert any("only" in note for note in proposal.notes)
