"""The worth of designs by every strategy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement, UpperConfidenceBound
from botorch.utils.multi_objective.hypervolume import Hypervolume
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from loop import DesignSpace, Objective, OutcomeConstraint, Problem, RangeAxis
from loop.acquisition import BOLD, CAUTIOUS, STRATEGIES, WITHOUT_SURROGATE, Acquisition
from surrogates import fit_surrogate
from tests.loop.designs import ONE, PLANE, TWO, bump, grid, prepare, two

SCORES = [s for s in STRATEGIES if s not in (*WITHOUT_SURROGATE, "level-set")]
SEARCHING = [s for s in SCORES if s != "uncertainty"]


def answers(acquisition: Acquisition, X: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    unit = acquisition.surrogate.unit(X)
    told = [m.marginal(unit) for m in acquisition.surrogate.models]
    return torch.stack([t[0] for t in told], -1), torch.stack([t[1] for t in told], -1)


def scores(acquisition: Acquisition, X: np.ndarray, turn: int = 0) -> np.ndarray:
    return acquisition.score(*answers(acquisition, X), turn).numpy()


def best_of(acquisition: Acquisition, turn: int = 0) -> np.ndarray:
    X = grid()
    return X[int(np.argmax(scores(acquisition, X, turn)))]


@pytest.mark.parametrize("strategy", SEARCHING)
@pytest.mark.parametrize(
    ("objective", "sign"),
    [(Objective("f", "maximize", ""), 1.0), (Objective("f", "minimize", ""), -1.0)],
)
def test_one_objective_finds_the_peak(strategy: Any, objective: Objective, sign: float) -> None:
    acquisition = prepare((objective,), lambda X: sign * 50.0 * bump(X), strategy=strategy)
    for turn in range(2):
        assert np.abs(best_of(acquisition, turn) - [0.7, 0.3]).max() < 0.16


@pytest.mark.parametrize("strategy", SEARCHING)
def test_target_is_met(strategy: Any) -> None:
    acquisition = prepare(
        (Objective("f", "target", "", target=0.5),), lambda X: X[:, :1] * 2.0, strategy=strategy
    )
    assert abs(best_of(acquisition)[0] * 2.0 - 0.5) < 0.11


@pytest.mark.parametrize("strategy", SEARCHING)
def test_constraint_is_respected(strategy: Any) -> None:
    acquisition = prepare(
        ONE,
        lambda X: np.hstack([bump(X), X[:, :1]]),
        (OutcomeConstraint("x", "<=", 0.4, ""),),
        strategy=strategy,
    )
    best = best_of(acquisition)
    assert best[0] <= 0.45
    assert abs(best[1] - 0.3) < 0.16
    other = prepare(
        ONE,
        lambda X: np.hstack([bump(X), -X[:, :1]]),
        (OutcomeConstraint("x", ">=", -0.4, ""),),
        strategy=strategy,
    )
    assert best_of(other)[0] <= 0.45


@pytest.mark.parametrize("strategy", SCORES)
def test_without_a_feasible_design_feasibility_comes_first(strategy: Any) -> None:
    acquisition = prepare(
        ONE,
        lambda X: np.hstack([bump(X), X[:, :1]]),
        (OutcomeConstraint("x", "<=", -0.02, ""),),
        strategy=strategy,
    )
    assert acquisition.constrained
    assert acquisition.name(0) == acquisition.name(1) == "PF"
    assert best_of(acquisition)[0] <= 0.1
    chance = acquisition.log_chance(*answers(acquisition, grid()))
    assert chance[0] > chance[20]
    assert np.isnan(acquisition.expected_gain(*answers(acquisition, grid(3)))).all()


def test_names() -> None:
    names = {
        "portfolio": (("UCB 1.5", "UCB 0.25"), ("UCB-HVI 1.5", "UCB-HVI 0.25")),
        "bound": (("UCB 1", "UCB 1"), ("UCB-HVI 1", "UCB-HVI 1")),
        "improvement": (("LogEI", "LogEI"), ("LogEHVI", "LogEHVI")),
        "joint": (("qLogNEI", "qLogNEI"), ("qLogNEHVI", "qLogNEHVI")),
        "mean": (("mean", "mean"), ("mean", "mean")),
        "uncertainty": (("uncertainty", "uncertainty"), ("uncertainty", "uncertainty")),
        "thompson": (("thompson", "thompson"), ("thompson", "thompson")),
    }
    assert (BOLD, CAUTIOUS) == (1.5, 0.25)
    for strategy, wanted in names.items():
        for (objectives, function), told in zip(((ONE, bump), (TWO, two)), wanted, strict=True):
            acquisition = prepare(objectives, function, strategy=strategy, n=8)
            assert (acquisition.name(0), acquisition.name(1)) == told
    with pytest.raises(ValueError, match="no strategy 'oracle'"):
        prepare(ONE, bump, strategy="oracle")


def test_the_bound_is_botorchs() -> None:
    """For one objective: in the order of designs, and on its own scale."""
    acquisition = prepare(ONE, bump)
    X = grid()
    for turn, weight in enumerate((BOLD, CAUTIOUS)):
        theirs = UpperConfidenceBound(acquisition.surrogate.model, beta=weight**2)
        with torch.no_grad():
            wanted = theirs(torch.as_tensor(X)[:, None]).numpy()
        assert np.argmax(scores(acquisition, X, turn)) == np.argmax(wanted)
        assert spearmanr(scores(acquisition, X, turn), wanted).statistic > 0.9999


def test_improvement_is_botorchs() -> None:
    acquisition = prepare(ONE, bump, strategy="improvement", samples=4096, n=7)
    X = grid()
    with torch.no_grad():
        theirs = LogExpectedImprovement(acquisition.surrogate.model, acquisition._front.max())
        wanted = theirs(torch.as_tensor(X)[:, None]).numpy()
    ours, likely = scores(acquisition, X), wanted > -6.0
    assert likely.sum() > 20
    np.testing.assert_allclose(ours[likely], wanted[likely], atol=0.25)
    assert np.argmax(ours) == np.argmax(wanted)


def test_hypervolume_of_the_mean_is_what_it_would_add() -> None:
    acquisition = prepare(TWO, two, strategy="mean")
    X = grid(9)
    mean, variance = answers(acquisition, X)
    U = acquisition._utilities(mean)
    volume = Hypervolume(acquisition.corner)
    front = acquisition._front
    before = volume.compute(front)
    added = np.array([volume.compute(torch.cat([front, u[None]])) - before for u in U])
    ours = np.exp(acquisition.score(mean, variance, 0).numpy())
    large = added > 0.2 * added.max()  # beside which the softening is slight
    np.testing.assert_allclose(ours[large], added[large], rtol=0.25, atol=0.02)
    assert np.corrcoef(ours, added)[0, 1] > 0.97


def test_uncertainty_asks_where_least_is_known() -> None:
    acquisition = prepare(TWO, two, strategy="uncertainty")
    X = grid()
    wanted = answers(acquisition, X)[1].log().sum(-1).numpy()
    np.testing.assert_allclose(scores(acquisition, X), wanted)


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("strategy", SCORES)
def test_many_objectives(k: int, strategy: Any) -> None:
    objectives = tuple(Objective(f"f{j}", "minimize", "") for j in range(k))
    centres = np.random.default_rng(1).random((k, 2))
    acquisition = prepare(
        objectives,
        lambda X: np.stack([((X - c) ** 2).sum(1) for c in centres], 1),
        n=12,
        strategy=strategy,
    )
    X = grid(7)
    for turn in range(2):
        assert np.isfinite(scores(acquisition, X, turn)).all()
    assert np.isfinite(acquisition.expected_gain(*answers(acquisition, X))).all()
    if strategy == "joint":
        assert acquisition.name(0) == ("qLogNEHVI" if k == 3 else "qLogNParEGO")
    if strategy in ("portfolio", "mean"):  # between the centres, not far from them
        hull = centres.min(0) - 0.2, centres.max(0) + 0.2
        best = X[int(np.argmax(scores(acquisition, X)))]
        assert (best >= hull[0]).all()
        assert (best <= hull[1]).all()


def test_front_below_the_thresholds() -> None:
    far: Any = (Objective("a", "maximize", "", threshold=5.0), TWO[1])
    for strategy in SCORES:
        acquisition = prepare(far, two, n=12, strategy=strategy)
        for turn in range(2):
            assert np.isfinite(scores(acquisition, grid(5), turn)).all()


def test_what_is_chosen_counts_as_there_until_it_is_forgotten() -> None:
    for objectives, function in ((ONE, bump), (TWO, two)):
        acquisition = prepare(objectives, function, n=10, strategy="improvement")
        X = grid()
        mean, variance = answers(acquisition, X)
        first, gain = scores(acquisition, X), acquisition.expected_gain(mean, variance)
        i = int(np.argmax(first))
        acquisition.believe(mean[i])
        assert scores(acquisition, X)[i] < first[i]
        acquisition.forget()
        np.testing.assert_array_equal(scores(acquisition, X), first)
        np.testing.assert_array_equal(acquisition.expected_gain(mean, variance), gain)


def test_expected_gain_does_not_depend_on_the_unit() -> None:
    told = []
    for unit in (1e-15, 1.0, 1e9):
        for objectives, function in ((ONE, bump), (TWO, two)):
            acquisition = prepare(
                tuple(Objective(o.metric, "maximize", "") for o in objectives),
                lambda X, f=function, u=unit: u * f(X),
            )
            told.append(acquisition.expected_gain(*answers(acquisition, grid(5))))
    for other in told[2:]:
        np.testing.assert_allclose(told.pop(0), other, rtol=0.05, atol=1e-4)


def test_the_luckiest_reading_is_not_the_incumbent() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((40, 2))
    Y = X[:, :1] + 0.3 * rng.standard_normal((40, 1))
    problem = Problem(PLANE, ONE)
    acquisition = Acquisition(problem, fit_surrogate(X, Y, metrics=["f"]), X, Y)
    lucky = acquisition.surrogate.standardise(torch.as_tensor(Y)).max()
    assert float(acquisition._front.max()) < float(lucky) - 0.3


def test_metrics_measured_on_different_designs() -> None:
    """No design has all objectives, and nothing breaks."""
    X = np.random.default_rng(0).random((12, 2))
    Y = two(X)
    Y[::2, 0] = math.nan
    Y[1::2, 1] = math.nan
    problem = Problem(PLANE, TWO)
    surrogate = fit_surrogate(X, Y, metrics=problem.metrics)
    for strategy in SCORES:
        acquisition = Acquisition(problem, surrogate, X, Y, strategy=strategy)
        assert np.isfinite(scores(acquisition, grid(5))).all()


@pytest.mark.parametrize("strategy", [s for s in SCORES if s != "thompson"])
@pytest.mark.parametrize("several", [False, True])
def test_scores_can_be_climbed(strategy: Any, several: bool) -> None:
    constraint = (OutcomeConstraint("x", "<=", 0.6, ""),)
    objectives, function = (TWO, two) if several else (ONE, bump)
    acquisition = prepare(
        objectives,
        lambda X: np.hstack([function(X), X[:, :1]]),
        constraint,
        strategy=strategy,
    )
    X = torch.as_tensor(np.random.default_rng(3).random((6, 2))).requires_grad_(True)

    def value(X: torch.Tensor) -> torch.Tensor:
        unit = acquisition.surrogate.unit(X)
        told = [m.marginal(unit) for m in acquisition.surrogate.models]
        mean = torch.stack([t[0] for t in told], -1)
        return acquisition.score(mean, torch.stack([t[1] for t in told], -1), 0)

    (slope,) = torch.autograd.grad(value(X).sum(), X)
    assert bool(slope.isfinite().all())
    for j in range(2):
        step = 1e-6 * torch.eye(2, dtype=torch.float64)[j]
        with torch.no_grad():
            change = (value(X + step) - value(X - step)) / 2e-6
        torch.testing.assert_close(slope[:, j], change, rtol=1e-3, atol=1e-3)


@settings(max_examples=60)
@given(st.data())
def test_no_outcome_makes_a_score_of_nothing(data: st.DataObject) -> None:
    """Scores are numbers whatever was measured, and wherever bounds and targets lie."""
    wild = st.sampled_from([0.0, 1.0, 1.0, -3.0, 1e-15, 1e12, -1e30, 0.5])
    n, k = data.draw(st.integers(2, 8)), data.draw(st.sampled_from([1, 2, 3, 5]))
    objectives = []
    for j in range(k):
        goal = data.draw(st.sampled_from(["maximize", "minimize", "target"]))
        target = data.draw(wild) if goal == "target" else None
        objectives.append(Objective(f"f{j}", goal, "", target=target))
    constraints = ()
    if data.draw(st.booleans()):
        of = data.draw(st.sampled_from(["f0", "c"]))
        op = data.draw(st.sampled_from(["<=", ">="]))
        constraints = (OutcomeConstraint(of, op, data.draw(wild), ""),)
    problem = Problem(
        DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("y", 0.0, 1.0))),
        tuple(objectives),
        constraints,
    )
    m = len(problem.metrics)
    Y = np.array(data.draw(st.lists(wild, min_size=n * m, max_size=n * m))).reshape(n, m)
    X = np.random.default_rng(n).random((n, 2))
    surrogate = fit_surrogate(X, Y, metrics=problem.metrics, max_iter=10)
    strategy: Any = data.draw(st.sampled_from(SCORES))
    acquisition = Acquisition(problem, surrogate, X, Y, strategy=strategy, samples=8)
    for turn in range(2):
        assert np.isfinite(scores(acquisition, grid(4), turn)).all()
    gain = acquisition.expected_gain(*answers(acquisition, grid(4)))
    assert not np.isinf(gain).any()
    assert (np.nan_to_num(gain) >= 0).all()


@pytest.mark.parametrize("turn", [0, 1])
def test_a_target_is_not_met_by_knowing_nothing(turn: int) -> None:
    """A design that may be anything is not the equal of one that is known to be on target."""
    acquisition = prepare((Objective("f", "target", "", target=0.5),), lambda X: X[:, :1])
    on = acquisition.surrogate.standardise(torch.tensor([[0.5]], dtype=torch.float64))
    mean, variance = on.expand(3, 1), torch.tensor([[1e-4], [0.5], [4.0]], dtype=torch.float64)
    values = acquisition.score(mean, variance, turn)
    assert bool((values.diff() < 0).all())
    off = acquisition.score(mean + torch.tensor([[1.0], [1.0], [1.0]]), variance, turn)
    assert bool((values > off).all())


def test_the_distance_from_a_target_is_a_folded_normal() -> None:
    acquisition = prepare((Objective("f", "target", "", target=0.5),), lambda X: X[:, :1])
    warp = acquisition.surrogate.models[0].warp
    torch.manual_seed(0)
    mean = torch.tensor([[-1.0], [0.0], [0.1], [2.0]], dtype=torch.float64)
    variance = torch.tensor([[0.3], [0.5], [2.0], [0.01]], dtype=torch.float64)
    draws = warp.inverse(mean + variance.sqrt() * torch.randn(4, 200_000, dtype=torch.float64))
    away = (draws - 0.5).abs()
    wanted = away.mean(1) - 0.7 * away.std(1)
    found = acquisition._distance(0, mean, variance, 0.7)
    torch.testing.assert_close(found, wanted, atol=0.01, rtol=0.02)
    far = acquisition._distance(0, mean + 1e150, variance, 1.5)
    assert bool(far.isfinite().all())
