"""Fidelities: what they cost, what is proposed at which, and what counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from loop import Objective, Problem, RangeAxis
from loop.beliefs import Beliefs
from loop.fidelities import (
    AxisFidelities,
    Fidelities,
    Fidelity,
    Left,
    NamedFidelities,
    at_target,
    only_target,
)
from loop.fidelity_rule import FidelityRule, SourcesKnown, _agreement, foretold
from loop.proposal import History, Proposal, ProposalSettings, propose
from loop.space import DesignSpace
from surrogates import fit_surrogate

FAST = ProposalSettings(prior=200, jitter=50, cross=30, rounds=2, children=50, polish=5)
NAMED = NamedFidelities.of({"low": 1.0, "mid": 4.0, "high": 20.0}, "high")
BUDGET = 180.0
GRID = AxisFidelities("mesh", 10.0, 1.0, 10.0, (1.0, 20.0))


def named() -> Problem:
    space = DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("y", 0.0, 1.0)))
    return Problem(space, (Objective("v", "maximize", "eV"),), fidelities=NAMED)


def meshed() -> Problem:
    space = DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("mesh", 1.0, 10.0, fixed=10.0)))
    return Problem(space, (Objective("v", "maximize", "eV"),), fidelities=GRID)


def answer(design: dict[str, Any], source: int) -> float:
    x, y = design["x"], design.get("y", 0.3)
    truth = math.exp(-8.0 * ((x - 0.7) ** 2 + (y - 0.3) ** 2))
    if "mesh" in design:
        return truth - 0.3 * (10.0 - design["mesh"]) / 10.0 * math.sin(3.0 * x)
    return truth + source * 0.1 * math.sin(5.0 * x) + 2.0 * source


class Campaign:
    """A campaign in memory: designs, the sources they were tried at, and outcomes."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.designs: list[dict[str, Any]] = []
        self.source: list[int] = []
        self.failed: list[bool] = []
        assert problem.fidelities is not None
        self.fidelities: Fidelities = problem.fidelities

    def cut(self, n: int) -> Campaign:
        """The same after n trials."""
        made = Campaign(self.problem)
        made.designs, made.source = self.designs[:n], self.source[:n]
        made.failed = self.failed[:n]
        return made

    def history(self, pending: int = 0) -> History:
        """All but the last `pending`, which are being evaluated."""
        n = len(self.designs) - pending
        y = [
            math.nan if f else answer(d, s)
            for d, s, f in zip(self.designs, self.source, self.failed, strict=True)
        ]
        return History(
            self.designs[:n],
            np.array(y[:n]).reshape(-1, 1),
            np.full((n, 1), np.nan),
            np.array(self.failed[:n], dtype=bool),
            self.designs[n:],
            np.array(self.source[:n], dtype=int),
            pending_source=np.array(self.source[n:], dtype=int),
        )

    def take(self, proposal: Proposal, failing: str | None = None) -> None:
        names = [f.label for f in self.fidelities.members]
        for c in proposal.candidates:
            self.designs.append(c.design)
            self.source.append(0 if c.fidelity is None else names.index(c.fidelity))
            self.failed.append(c.fidelity is not None and c.fidelity == failing)

    def labels(self) -> list[str | float]:
        pairs = zip(self.designs, self.source, strict=True)
        return [self.fidelities.of_design(d, s).label for d, s in pairs]

    def cost(self) -> float:
        pairs = zip(self.designs, self.source, strict=True)
        return sum(self.fidelities.of_design(d, s).cost for d, s in pairs)


def run(problem: Problem, steps: int, budget: float | None = None, **options: Any) -> Campaign:
    campaign = Campaign(problem)
    for _ in range(steps):
        left = Left(None, None if budget is None else budget - campaign.cost())
        proposal = propose(problem, campaign.history(), 4, 1, settings=FAST, left=left)
        campaign.take(proposal, **options)
        if not proposal.candidates:
            break
    return campaign


@pytest.fixture(scope="module")
def finished() -> dict[str, Campaign]:
    """A campaign of each kind, its budget spent."""
    return {"named": run(named(), 60, BUDGET), "axis": run(meshed(), 60, BUDGET)}


def test_costs_of_an_axis_are_those_of_its_ends() -> None:
    assert (GRID.cost(1.0), GRID.cost(10.0)) == (1.0, 20.0)
    assert GRID.cost(5.5) == pytest.approx(10.5)
    log = AxisFidelities("n", 1000.0, 1.0, 1000.0, (1.0, 1e6), log=True)
    assert log.cost(10.0) == pytest.approx(100.0)
    assert all(f.cost <= 0.5 * log.target.cost for f in log.members[1:])
    whole = AxisFidelities("n", 8.0, 1.0, 8.0, (1.0, 8.0), integer=True)
    assert all(float(f.label).is_integer() for f in whole.members)
    assert whole.at({"n": 8}, whole.members[1]) == {"n": 1}


@pytest.mark.parametrize(
    "make",
    [
        lambda: NamedFidelities.of({"a": 1.0}, "a"),
        lambda: NamedFidelities.of({"a": 2.0, "b": 2.0}, "b"),
        lambda: NamedFidelities.of({"a": 0.0, "b": 2.0}, "b"),
        lambda: NamedFidelities.of({"a": math.nan, "b": 2.0}, "b"),
        lambda: NamedFidelities((Fidelity("a", 2.0, 0), Fidelity("b", 1.0, 2))),
        lambda: AxisFidelities("m", 10.0, 1.0, 10.0, (9.0, 10.0)),
        lambda: AxisFidelities("m", 11.0, 1.0, 10.0, (1.0, 10.0)),
        lambda: AxisFidelities("m", 10.0, 1.0, 10.0, (-1.0, 10.0)),
        lambda: Problem(
            DesignSpace((RangeAxis("x", 0.0, 1.0),)), (Objective("v", "maximize", "eV"),),
            fidelities=GRID,
        ),
    ],
)  # fmt: skip
def test_fidelities_that_make_no_sense(make: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make()


def test_the_beginning_climbs_from_the_cheapest(finished: dict[str, Campaign]) -> None:
    campaign = finished["named"].cut(16)
    labels = campaign.labels()
    assert labels[:4] == ["low"] * 4 or labels[:3] == ["low"] * 3
    first = {label: labels.index(label) for label in ("low", "mid", "high")}
    assert first["low"] < first["mid"] < first["high"]
    cheap = {tuple(d.values()) for d, s in zip(campaign.designs, campaign.source, strict=True) if s}
    dear = [tuple(d.values()) for d, s in zip(campaign.designs, campaign.source, strict=True)
            if not s]  # fmt: skip
    assert dear[0] in cheap  # what was best below is tried again


@pytest.mark.parametrize("kind", ["named", "axis"])
def test_a_campaign_at_several_fidelities(finished: dict[str, Campaign], kind: str) -> None:
    campaign = finished[kind]
    problem, labels = campaign.problem, campaign.labels()
    assert campaign.cost() <= BUDGET
    # Once nothing that is left pays for the target, it ends.
    assert BUDGET - campaign.cost() < campaign.fidelities.target.cost
    target = campaign.fidelities.target.label
    assert labels[-1] == target
    assert len(set(labels)) >= 2
    assert labels.count(target) >= 4
    keys = [(problem.space.key(d), label) for d, label in
            zip(campaign.designs, labels, strict=True)]  # fmt: skip
    assert len(set(keys)) == len(keys)  # no design twice at one fidelity
    history, rows = only_target(problem, campaign.history())
    assert [labels[i] for i in rows] == [target] * len(rows)
    assert float(history.outcomes.max()) > 0.9  # of one
    cheap = sum(
        campaign.fidelities.of_design(d, s).cost
        for d, s, label in zip(campaign.designs, campaign.source, labels, strict=True)
        if label != target
    )
    assert cheap <= campaign.cost() - cheap + campaign.fidelities.target.cost


@pytest.mark.parametrize("kind", ["named", "axis"])
def test_candidates_say_at_what_they_are_tried_and_why(
    finished: dict[str, Campaign], kind: str
) -> None:
    campaign = finished[kind].cut(18)
    problem = campaign.problem
    proposal = propose(problem, campaign.history(), 4, 1, settings=FAST)
    assert proposal.candidates
    for c in proposal.candidates:
        told = c.notes["fidelity"]
        fidelity = next(f for f in campaign.fidelities.members if f.label == told["name"])
        assert told["cost"] == fidelity.cost
        assert told["why"]
        assert all(0.0 <= share <= 1.0 for share in told["told"].values())
        assert campaign.fidelities.of_design(c.design, fidelity.source) == fidelity
        if isinstance(fidelity.label, str):
            assert c.fidelity == fidelity.label
            # What is predicted is the reading at this fidelity, on its own scale.
            mean, sd = c.prediction["v"]
            assert abs(mean - answer(c.design, fidelity.source)) < 0.5 + 3.0 * sd
    again = propose(problem, campaign.history(), 4, 1, settings=FAST)
    assert [(c.design, c.fidelity) for c in again.candidates] == [
        (c.design, c.fidelity) for c in proposal.candidates
    ]


def test_what_is_pending_is_not_proposed_again_at_any_fidelity(
    finished: dict[str, Campaign],
) -> None:
    campaign = finished["named"].cut(22)
    problem = campaign.problem
    proposal = propose(problem, campaign.history(pending=4), 4, 1, settings=FAST)
    waiting = campaign.designs[-4:]
    for c in proposal.candidates:
        assert not any(problem.space.same(c.design, d) for d in waiting)


def test_the_last_trial_of_a_budget_is_of_the_target(finished: dict[str, Campaign]) -> None:
    campaign = finished["named"].cut(20)
    problem = campaign.problem
    for left in (Left(1), Left(2), Left(None, 21.5)):
        n = 1 if left.trials is None else left.trials
        proposal = propose(problem, campaign.history(), n, 1, settings=FAST, left=left)
        assert proposal.candidates[-1].fidelity in ("high", "low" if left.cost else "high")
    one = propose(problem, campaign.history(), 1, 1, settings=FAST, left=Left(1))
    assert one.candidates[0].fidelity == "high"
    none = propose(problem, campaign.history(), 1, 1, settings=FAST, left=Left(None, 19.0))
    assert not none.candidates
    assert any("does not pay" in told for told in none.notes)


def test_a_person_may_measure_all_at_the_target() -> None:
    campaign = Campaign(named())
    rng = np.random.default_rng(0)
    campaign.designs = [{"x": float(x), "y": float(y)} for x, y in rng.random((8, 2))]
    campaign.source, campaign.failed = [0] * 8, [False] * 8
    proposal = propose(campaign.problem, campaign.history(), 2, 1, settings=FAST)
    assert proposal.surrogate_report is not None
    assert {c.method for c in proposal.candidates}.isdisjoint({"prior"})
    few = propose(campaign.problem, campaign.cut(1).history(), 2, 1, settings=FAST)
    assert few.surrogate_report is None
    assert "some at each fidelity" in " ".join(few.notes)


def test_a_fidelity_that_never_works_is_given_up() -> None:
    campaign = run(named(), 5, failing="low")
    labels = campaign.labels()
    assert labels.count("low") <= 8
    assert labels.count("high") >= 3


def test_a_useless_fidelity_is_hardly_used() -> None:
    problem = named()
    rng = np.random.default_rng(0)
    designs = [{"x": float(x), "y": float(y)} for x, y in rng.random((30, 2))]
    source = np.repeat([0, 1], 15)
    y = np.array([answer(d, 0) for d in designs])
    y[15:] = rng.standard_normal(15)  # says nothing of what is sought
    history = History(designs, y[:, None], np.full((30, 1), np.nan), np.zeros(30, bool),
                      source=source)  # fmt: skip
    history_mid = History(
        [*designs, *designs[:6]], np.vstack([history.outcomes, rng.standard_normal((6, 1))]),
        np.full((36, 1), np.nan), np.zeros(36, bool), source=np.r_[source, [2] * 6],
    )  # fmt: skip
    told = [
        c.notes["fidelity"]["told"]
        for c in propose(problem, history_mid, 4, 1, settings=FAST).candidates
    ]
    assert all(t["low"] < t["high"] for t in told if "low" in t)


def test_others_are_looked_at_before_the_target_is_paid() -> None:
    """The best by a cheap reading waits while looks elsewhere are worth more than its price."""
    space = DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("y", 0.0, 1.0)))
    dear = NamedFidelities.of({"low": 1.0, "high": 1000.0}, "high")
    problem = Problem(space, (Objective("v", "maximize", "eV"),), fidelities=dear)
    rng = np.random.default_rng(3)
    designs = [{"x": float(x), "y": float(y)} for x, y in 0.4 * rng.random((6, 2))]
    both = [*designs, *designs[:2]]
    source = np.r_[np.ones(6, int), [0, 0]]
    y = np.array([answer(d, int(s)) for d, s in zip(both, source, strict=True)])
    history = History(both, y[:, None], np.full((8, 1), np.nan), np.zeros(8, bool), source=source)
    among = [*designs[2:], *({"x": a, "y": b} for a in (0.5, 0.7, 0.9) for b in (0.1, 0.3))]
    found = propose(problem, history, 3, 1, settings=FAST, among=among).candidates
    assert [c.fidelity for c in found] == ["low"] * 3
    assert all(c.design not in designs for c in found)


def test_other_sources_teach_and_count_for_nothing() -> None:
    """A history of another campaign behind this one's own, which has no fidelities."""
    plain = Problem(named().space, (Objective("v", "maximize", "eV"),))
    rng = np.random.default_rng(3)
    designs = [{"x": float(x), "y": float(y)} for x, y in rng.random((46, 2))]
    source = np.repeat([0, 1], [6, 40])
    y = np.array([answer(d, 0) + 5.0 * s for d, s in zip(designs, source, strict=True)])
    history = History(designs, y[:, None], np.full((46, 1), np.nan), np.zeros(46, bool),
                      source=source)  # fmt: skip
    proposal = propose(plain, history, 4, 1, settings=FAST)
    best = max(answer(c.design, 0) for c in proposal.candidates)
    assert best > 0.95  # the other campaign knows where the optimum is
    assert all(c.prediction["v"][0] < 2.0 for c in proposal.candidates)
    assert at_target(plain, designs, source).sum() == 6


def test_beliefs_of_mixed_readings_are_those_of_one_matrix() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((40, 2))
    source = np.arange(40) % 2
    y = np.sin(4.0 * X[:, 0]) + source * X[:, 1]
    surrogate = fit_surrogate(X, y[:, None], source=source, recipes=["gaussian process"])
    model = surrogate.models[0]
    Q = rng.random((6, 2))
    beliefs = Beliefs(surrogate, Q)
    beliefs.take(beliefs.reading(1, Q[1], (1,)))
    beliefs.believe(2)
    beliefs.take(beliefs.reading(3, Q[3], (1,)))
    last = beliefs.reading(0, Q[0], (1,))
    # The same by one joint matrix of six targets and the four readings.
    unit = surrogate.unit(Q)
    points = [(i, 0) for i in range(6)] + [(1, 1), (2, 0), (3, 1), (0, 1)]
    K = torch.stack(
        [
            torch.stack(
                [model.covariances(unit[[i]], unit[j], source=t, of=s)[0] for j, t in points]
            )
            for i, s in points
        ]
    )
    at = [6, 7, 8]
    noise = torch.diag(torch.tensor([model.noise_of(points[k][1]) for k in at]).to(K))
    solved = torch.linalg.solve(K[at][:, at] + noise, K[at])
    left = K - K[:, at] @ solved
    torch.testing.assert_close(beliefs.variance[:, 0], left.diagonal()[:6], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(last.variance[0], left[9, 9], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(last.covariance[0], left[0, 9], rtol=1e-6, atol=1e-9)


def test_sources_are_counted_as_each_metrics_model_does() -> None:
    outcomes = np.array([[1.0, 1.0], [np.nan, 2.0], [3.0, np.nan]])
    known = SourcesKnown(outcomes, np.array([0, 1, 2]))
    assert [known.of(s) for s in (0, 1, 2, 3)] == [(0, 0), (None, 1), (1, None), (None, None)]


def test_pending_of_another_campaign_is_refused() -> None:
    problem = Problem(named().space, (Objective("v", "maximize", "eV"),))
    history = History([], np.empty((0, 1)), np.empty((0, 1)), np.empty(0, bool),
                      [{"x": 0.5, "y": 0.5}], pending_source=np.array([1]))  # fmt: skip
    with pytest.raises(ValueError, match="pending"):
        propose(problem, history, 1, 0)


def test_designs_taken_are_as_the_target_tries_them(finished: dict[str, Campaign]) -> None:
    campaign = finished["axis"].cut(10)
    problem = campaign.problem
    rule = FidelityRule(problem, campaign.history(), None)
    assert all(d["mesh"] == 10.0 for d in rule.taken(every=True))
    assert len(rule.taken()) < len(rule.taken(every=True))


def test_at_the_target_what_is_foretold_is_the_prediction() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((20, 2))
    y = np.sin(4.0 * X[:, 0])
    surrogate = fit_surrogate(X, y[:, None], metrics=["v"], source=np.arange(20) % 2)
    mean, sd, noisy = foretold(surrogate, X[0], (0,))["v"]
    assert mean == pytest.approx(float(surrogate.posterior(X[:1])[0]))
    assert sd == pytest.approx(float(surrogate.posterior(X[:1])[1].sqrt()))
    assert noisy == pytest.approx(float(surrogate.predictive_sd(X[:1])))
    assert foretold(surrogate, X[0], (None,)) == {}


def agreement(table: Any, ours: int = 20) -> str:
    """What is noted of an earlier table whose values are those of a function of the truth."""
    rng = np.random.default_rng(5)
    designs = [{"x": float(x), "y": float(y)} for x, y in rng.random((ours + 40, 2))]
    y = np.array([answer(d, 0) for d in designs])
    y[ours:] = table(y[ours:])
    history = History(
        designs, y[:, None], np.full((len(y), 1), np.nan), np.zeros(len(y), bool),
        source=np.repeat([0, 1], [ours, 40]), source_names={1: "earlier.csv"},
    )  # fmt: skip
    plain = Problem(named().space, (Objective("v", "maximize", "eV"),))
    notes = propose(plain, history, 1, 1, settings=FAST).notes
    (note,) = [note for note in notes if "(correlation " in note]
    return note


def test_it_is_said_how_far_a_source_goes_with_what_is_sought() -> None:
    assert "v: earlier.csv goes with what is sought (corr" in agreement(lambda y: 3.0 + 2.0 * y)
    assert "v: earlier.csv tells little of what is sought (corr" in agreement(lambda y: -y)


def test_of_few_results_it_is_said_that_they_do_not_tell() -> None:
    noise = np.random.default_rng(1).standard_normal(40)
    told = agreement(lambda y: noise, ours=4)
    assert told.startswith(
        "v: how far earlier.csv goes with what is sought cannot be told by 4 results of that yet"
    )


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.8, "low goes with what is sought (correlation 0.80)"),
        (0.79, "low goes with what is sought in part (correlation 0.79)"),
        (0.4, "low goes with what is sought in part (correlation 0.40)"),
        (0.39, "low tells little of what is sought (correlation 0.39)"),
    ],
)
def test_the_words_follow_the_number(share: float, said: str) -> None:
    assert _agreement("low", share, 8) == said
