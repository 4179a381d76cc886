"""Every way of choosing designs: hedge, level sets, targets, evolution and substitution."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.spec_models import Acquisition as SpecAcquisition
from loop import (
    DesignSpace,
    History,
    LatentAxis,
    Objective,
    OutcomeConstraint,
    Problem,
    ProposalSettings,
    RangeAxis,
    ScreenRules,
    propose,
)
from loop.acquisition import STRATEGIES, Acquisition
from loop.evolution import ranks
from loop.front import pareto_mask, utilities
from loop.hedge import LEAST, MEMBERS, chances, draw, worths
from loop.level import classified
from loop.stopping import target_met
from surrogates import fit_surrogate

PLANE = DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("y", 0.0, 1.0)))
QUICK = ProposalSettings(prior=200, jitter=60, cross=30, rounds=2, children=60, parents=8,
                         polish=5, shortlist=120, samples=16, joint_samples=16)  # fmt: skip


def points(n: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [{"x": float(x), "y": float(y)} for x, y in rng.random((n, 2))]


def past(problem: Problem, designs: list[dict[str, Any]], Y: Any, **more: Any) -> History:
    Y = np.asarray(Y, dtype=float).reshape(len(designs), -1)
    failed = ~np.isfinite(Y).any(axis=1)
    return History(designs, Y, np.full_like(Y, math.nan), failed, **more)


def hill(design: dict[str, Any]) -> float:
    return float(-((design["x"] - 0.7) ** 2) - (design["y"] - 0.3) ** 2)


ONE = Problem(PLANE, (Objective("f", "maximize", ""),))


def test_the_spec_offers_every_strategy() -> None:
    assert set(SpecAcquisition.__args__) == set(STRATEGIES)


@pytest.mark.parametrize(
    "strategy", [s for s in STRATEGIES if s not in ("level-set", "substitution")]
)
def test_every_strategy_proposes_new_designs(strategy: Any) -> None:
    designs = points(10)
    seen = past(ONE, designs, [hill(d) for d in designs])
    choice = replace(QUICK, strategy=strategy)
    found = propose(ONE, seen, 3, seed=1, settings=choice)
    assert len({(c.design["x"], c.design["y"]) for c in found.candidates}) == 3
    assert all(c.design not in designs for c in found.candidates)
    again = propose(ONE, seen, 3, seed=1, settings=choice)
    assert [c.design for c in found.candidates] == [c.design for c in again.candidates]
    json.dumps([c.notes for c in found.candidates])
    given = points(40, seed=5)
    among = propose(ONE, seen, 3, seed=1, settings=choice, among=given)
    assert all(c.design in given for c in among.candidates)
    assert len(among.candidates) == 3


def test_strategies_that_make_no_sense_are_refused() -> None:
    X = np.random.default_rng(0).random((8, 2))
    surrogate = fit_surrogate(X, X[:, :1], metrics=("f",))
    for strategy in ("level-set", "evolution", "portofolio"):
        with pytest.raises(ValueError, match=r"strategy|level"):
            Acquisition(ONE, surrogate, X, X[:, :1], strategy=strategy)  # type: ignore[arg-type]


# Hedge


def test_a_bad_member_loses_weight() -> None:
    members = [MEMBERS[i % 4] for i in range(24)]
    worth = np.array([0.1 if m == "thompson" else 0.8 for m in members])
    now = chances(worth, members)
    assert sum(now.values()) == pytest.approx(1.0)
    assert now["thompson"] < 0.1 < 0.25 < now["bold"]
    early = chances(worth[:4], members[:4])
    assert now["thompson"] < early["thompson"] < 0.25
    # and may come back
    later = chances(np.append(worth, [1.0] * 12), [*members, *["thompson"] * 12])
    assert later["thompson"] > now["thompson"]


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([None, *MEMBERS])), max_size=40))
def test_chances_are_chances(told: list[tuple[float, str | None]]) -> None:
    now = chances(np.array([w for w, _ in told]), [m for _, m in told])
    assert set(now) == set(MEMBERS)
    assert sum(now.values()) == pytest.approx(1.0)
    assert min(now.values()) >= LEAST - 1e-12
    assert set(draw(now, 9, np.random.default_rng(0))) <= set(MEMBERS)


def test_what_failed_or_breaks_a_constraint_is_worth_nothing() -> None:
    problem = Problem(
        PLANE, (Objective("f", "maximize", ""),), (OutcomeConstraint("g", "<=", 1, ""),)
    )
    X = np.linspace(0, 1, 8)[:, None] * np.ones(2)
    Y = np.stack([X[:, 0], np.where(np.arange(8) == 7, 2.0, 0.0)], 1)
    surrogate = fit_surrogate(X, Y, metrics=problem.metrics)
    Y[2] = np.nan
    worth = worths(problem, surrogate, X, Y)
    assert worth[7] == worth[2] == 0.0
    assert worth[6] == pytest.approx(1.0)
    assert (np.diff(worth[[0, 1, 3, 4, 5, 6]]) > -0.05).all()


def test_the_hedge_is_derived_from_the_history_alone() -> None:
    """Whoever is killed knows as much afterwards: members are notes of the trials."""
    designs = points(24)
    Y = [hill(d) for d in designs]
    worst = np.argsort(Y)[:8]
    members: list[str | None] = [None] * 24
    for i in range(24):
        members[i] = "bold" if i in worst else MEMBERS[1 + i % 3]
    seen = past(ONE, designs, Y, members=members)
    found = propose(ONE, seen, 4, seed=0, settings=replace(QUICK, strategy="hedge"))
    (told,) = [note for note in found.notes if note.startswith("who chooses")]
    share = {w.split()[0]: float(w.split()[1]) for w in told.split(": ")[1].split(", ")}
    assert share["bold"] == min(share.values()) < 25
    assert {c.notes["member"] for c in found.candidates} <= set(MEMBERS)
    other = propose(
        ONE, past(ONE, designs, Y), 4, seed=0, settings=replace(QUICK, strategy="hedge")
    )
    assert any("bold 25 %" in note for note in other.notes)


# Levels


CONTOUR = Problem(PLANE, (Objective("f", "level", "eV", target=0.5),))


def ring(design: dict[str, Any]) -> float:
    return 2.0 * math.hypot(design["x"] - 0.5, design["y"] - 0.5)


def test_a_level_is_found_and_told_apart() -> None:
    designs = points(10, seed=3)
    while len(designs) < 40:
        seen = past(CONTOUR, designs, [ring(d) for d in designs])
        found = propose(CONTOUR, seen, 5, seed=0, settings=QUICK)
        assert {c.method for c in found.candidates} <= {"straddle", "uncertainty"}
        designs += [c.design for c in found.candidates]
    late = np.array([ring(d) for d in designs[15:]])
    drawn = np.array([ring(d) for d in points(2000, seed=9)])
    assert np.median(np.abs(late - 0.5)) < 0.6 * np.median(np.abs(drawn - 0.5))
    asked = points(400, seed=8)
    seen = past(CONTOUR, designs, [ring(d) for d in designs])
    (contour,) = classified(CONTOUR, seen, asked).contours
    truth = np.array([ring(d) > 0.5 for d in asked])
    sides = np.array(contour.sides)
    assert (sides != "unsure").mean() > 0.85
    assert truth[sides == "above"].mean() > 0.98
    assert truth[sides == "below"].mean() < 0.02
    told = contour.as_dict()
    assert told["above"] + told["below"] + told["unsure"] == 400
    everywhere = classified(CONTOUR, seen)
    assert len(everywhere.designs) == 1000


def test_the_straddle_prefers_what_cannot_be_told_apart() -> None:
    X = np.array([[0.0, 0.5], [0.2, 0.5], [0.8, 0.5], [1.0, 0.5]])
    surrogate = fit_surrogate(X, X[:, :1], metrics=("f",))
    acquisition = Acquisition(CONTOUR, surrogate, X, X[:, :1])
    assert acquisition.strategy == "level-set"
    at = surrogate.models[0].warp(torch.tensor([0.5], dtype=torch.float64))
    mean = torch.stack([at, at, at + 2.0, at + 2.0])
    variance = torch.tensor([[1.0], [0.25], [1.0], [1e-6]], dtype=torch.float64)
    score = acquisition.score(mean, variance, 0)
    assert score.isfinite().all()
    assert score[0] > score[1] > score[2] > score[3]
    assert np.isnan(acquisition.expected_gain(mean, variance)).all()


def test_what_cannot_be_classified_is_said() -> None:
    with pytest.raises(ValueError, match="no objective is a level"):
        classified(ONE, past(ONE, points(3), [1, 2, 3]))
    with pytest.raises(ValueError, match="no result yet"):
        classified(CONTOUR, past(CONTOUR, points(2), [math.nan, math.nan]))
    with pytest.raises(ValueError, match="certainty"):
        classified(CONTOUR, past(CONTOUR, points(3), [1, 2, 3]), certainty=0.4)


# Targets


def test_within_the_tolerance_all_distances_are_alike() -> None:
    goal = Objective("f", "target", "eV", target=1.4, tolerance=0.1, threshold=0.5)
    problem = Problem(PLANE, (goal,))
    values = utilities(problem, np.array([[1.4], [1.45], [1.31], [1.2], [1.7]]))[:, 0]
    assert values[0] == values[1] == values[2] == -0.1
    assert values[3:] == pytest.approx([-0.2, -0.3])
    assert pareto_mask(problem, np.array([[1.4], [1.45], [1.2]])).tolist() == [True, True, False]
    # what is asked may be less than the tolerance all the same
    outcomes = np.array([[1.45], [1.41]])
    met = target_met(problem, outcomes, {"f": 0.02})
    assert met is not None
    assert met.data["trial"] == 1


@pytest.mark.parametrize("strategy", ["improvement", "bound", "portfolio"])
def test_improvement_and_bound_know_the_tolerance(strategy: Any) -> None:
    goal = Objective("f", "target", "", target=0.5, tolerance=0.2)
    problem = Problem(PLANE, (goal,))
    X = np.linspace(0, 1, 12)[:, None] * np.ones(2)
    surrogate = fit_surrogate(X, 2.0 * X[:, :1], metrics=("f",))
    inside = surrogate.standardise(torch.tensor([[0.5], [0.4], [0.65]], dtype=torch.float64))
    outside = surrogate.standardise(torch.tensor([[1.2]], dtype=torch.float64))
    small = torch.full((3, 1), 1e-8, dtype=torch.float64)
    acquisition = Acquisition(problem, surrogate, X, 2.0 * X[:, :1], strategy=strategy)
    score = acquisition.score(inside, small, 0)
    assert score == pytest.approx(float(score[0]), abs=1e-3)
    assert float(acquisition.score(outside, small[:1], 0)) < float(score[0]) - 1.0


# Evolution and substitution


def test_evolution_asks_no_surrogate_and_climbs() -> None:
    designs = points(12)
    choice = ProposalSettings(strategy="evolution")
    names = [f"design {i}" for i in range(200)]
    while len(designs) < 60:
        seen = past(ONE, designs, [hill(d) for d in designs], names=names[: len(designs)])
        found = propose(ONE, seen, 4, seed=2, settings=choice)
        assert found.surrogate_report is None
        for c in found.candidates:
            assert (c.method, c.acquisition, c.prediction) == ("evolution", None, {})
            assert set(c.notes["parents"]) <= set(names)
            assert c.notes["why"]["text"].startswith(("A cross of", "A step from"))
        designs += [c.design for c in found.candidates]
    assert max(hill(d) for d in designs) > -0.003
    late = np.mean([hill(d) for d in designs[40:]])
    assert late > np.mean([hill(d) for d in points(500, seed=9)]) + 0.1


def test_parents_are_of_the_front(problem: Problem) -> None:
    Y = np.array([[1.0, 1.0, 0.0], [2.0, 0.5, 0.0], [3.0, 0.1, 0.9], [0.5, 1.5, 0.0]])
    assert ranks(problem, Y).tolist() == [1.0, 0.0, 5.0, 2.0]


def test_substitution_replaces_elements(rocksalt: Any) -> None:
    """Only what the generator can represent is proposed, and nothing twice."""
    space = DesignSpace((LatentAxis("crystal", rocksalt), RangeAxis("t", 0.0, 1.0)))
    problem = Problem(space, (Objective("f", "maximize", ""),), (), ScreenRules(exclude=("Fe",)))
    designs = [d for d in space.sample(40, 1) if d is not None and "Fe" not in d["crystal"].formula]
    designs = designs[:12]
    seen = past(problem, designs, [d["crystal"].volume for d in designs])
    found = propose(problem, seen, 3, seed=0, settings=ProposalSettings(strategy="substitution"))
    assert found.candidates
    known = {d["crystal"].composition.reduced_formula for d in designs}
    for c in found.candidates:
        assert c.method == "substitution"
        assert " in place of " in c.notes["why"]["text"]
        assert "Fe" not in c.design["crystal"].formula
        (parent,) = c.notes["parents"]
        assert parent.split(" ")[0] in known


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**16))
def test_substituted_crystals_keep_their_sites(seed: int) -> None:
    from pymatgen.core import Lattice, Structure

    from loop.substitution import substituted

    sites = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    crystal = Structure(Lattice.cubic(3.9), ["Sr", "Ti", "O", "O", "O"], sites)
    made, told = substituted(crystal, np.random.default_rng(seed))
    new, old = told.split(" in place of ")
    assert old in {"Sr", "Ti", "O"}
    assert {s.specie.symbol for s in made} == {"Sr", "Ti", "O"} - {old} | {new}
    assert 0.4 < made.volume / crystal.volume < 2.5
    assert crystal.composition.reduced_formula == "SrTiO3"
