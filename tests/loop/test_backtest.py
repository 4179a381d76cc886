"""Replays, and what they are judged by, against examples worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.backtest import Choice, LookupTable, Prediction, Trace, average_repeats, replay, summarise
from loop.backtest import curves as measure
from loop.backtest.methods import METHODS, make_method
from loop.backtest.statistics import band, difference, estimate, ratio
from loop.problem import Objective, OutcomeConstraint, Problem
from loop.proposal import History
from loop.space import Design, DesignSpace, RangeAxis

SPACE = DesignSpace((RangeAxis("x", 0.0, 10.0),))
ONE = Problem(SPACE, (Objective("y", "maximize", "GPa"),))
TWO = Problem(SPACE, (Objective("a", "maximize", "GPa"), Objective("b", "minimize", "eV")))


def _table(outcomes: Sequence[Sequence[float]] | np.ndarray) -> LookupTable:
    n = len(outcomes)
    designs = [{"x": 10.0 * i / (n - 1)} for i in range(n)]
    return average_repeats(SPACE, designs, np.array(outcomes), np.full(np.shape(outcomes), np.nan))


class _InOrder:
    """Chooses the first that are left, and predicts 1 +- 2 of all."""

    def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
        return Choice(list(range(n)), lambda: [{"y": Prediction(1.0, 2.0)}] * n, ["first"])


# The table


def test_repeats_are_averaged_and_their_spread_is_pooled_where_they_are_few() -> None:
    designs: list[Design] = [{"x": 1.0}] * 4 + [{"x": 2.0}] * 2 + [{"x": 3.0}]
    y = np.array([[1.0], [2.0], [3.0], [6.0], [4.0], [6.0], [9.0]])
    table = average_repeats(SPACE, designs, y, np.full((7, 1), np.nan))
    assert [d["x"] for d in table.designs] == [1.0, 2.0, 3.0]
    assert table.outcomes[:, 0].tolist() == [3.0, 5.0, 9.0]
    # squares about the means: 4 + 1 + 0 + 9 = 14 with 3 degrees of freedom, 1 + 1 = 2 with 1
    own, pooled = 14 / 3, (14 + 2) / (3 + 1)
    wanted = [math.sqrt(own / 4), math.sqrt(pooled / 2), math.sqrt(pooled)]
    assert table.sem[:, 0] == pytest.approx(wanted)


def test_given_standard_errors_come_before_those_of_repeats() -> None:
    designs: list[Design] = [{"x": 1.0}, {"x": 1.0}, {"x": 2.0}]
    table = average_repeats(
        SPACE, designs, np.array([[1.0], [3.0], [5.0]]), np.array([[0.3], [0.4], [np.nan]])
    )
    assert table.sem[0, 0] == pytest.approx(0.25)  # sqrt(0.09 + 0.16) / 2
    assert table.sem[1, 0] == pytest.approx(math.sqrt(2.0))  # pooled: (1 + 1) / 1


def test_without_repeats_and_with_copied_ones_no_standard_error_is_known() -> None:
    assert np.isnan(_table([[1.0], [2.0], [3.0]]).sem).all()
    designs: list[Design] = [{"x": 1.0}] * 3 + [{"x": 2.0}]
    copied = average_repeats(
        SPACE, designs, np.array([[5.0], [5.0], [5.0], [1.0]]), np.full((4, 1), np.nan)
    )
    assert np.isnan(copied.sem).all()


def test_one_repeat_answers_where_noise_is_wanted_and_the_same_for_all_methods() -> None:
    designs: list[Design] = [{"x": 1.0}] * 3 + [{"x": 2.0}]
    y = np.array([[1.0], [2.0], [6.0], [4.0]])
    table = average_repeats(SPACE, designs, y, np.full((4, 1), np.nan))
    drawn = {float(table.answers(seed)[0][0, 0]) for seed in range(30)}
    assert drawn == {1.0, 2.0, 6.0}
    assert np.array_equal(table.answers(3)[0], table.answers(3)[0])
    assert np.isnan(table.answers(3)[1]).all()


# Curves


def test_top_designs_are_the_best_share_and_ties_are_drawn() -> None:
    y = np.arange(40.0)[:, None]
    assert np.flatnonzero(measure.top_designs(ONE, y, 0.05)).tolist() == [38, 39]
    assert measure.top_designs(ONE, y[:10], 0.05).sum() == 1  # never none
    tied = np.array([[1.0]] * 5 + [[2.0]])
    drawn = [measure.top_designs(ONE, tied, 0.34, seed) for seed in range(20)]
    assert all(top.sum() == 3 and top[5] for top in drawn)
    assert len({top.tobytes() for top in drawn}) > 1


def test_only_feasible_designs_are_on_top() -> None:
    problem = Problem(SPACE, ONE.objectives, (OutcomeConstraint("c", "<=", 0.5, "eV"),))
    y = np.array([[9.0, 1.0], [8.0, 0.0], [7.0, 0.0], [1.0, 0.0]])
    assert measure.top_designs(problem, y, 0.05).tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match="satisfies the constraints"):
        measure.top_designs(problem, y[:1], 0.05)


def test_the_top_of_several_objectives_is_the_front() -> None:
    outcomes = np.array([[1.0, 1.0], [2.0, 2.0], [1.0, 2.0], [3.0, 1.0]])
    assert measure.top_designs(TWO, outcomes, 0.05).tolist() == [False, False, False, True]


def test_factors_of_a_replay_worked_out_by_hand() -> None:
    top = np.zeros(20, dtype=bool)
    top[[3, 4, 5, 6]] = True
    curve = measure.found_curve([0, 3, 1, 4, 5, 2, 6, 7], top)
    assert curve.tolist() == [0.0, 0.25, 0.25, 0.5, 0.75, 0.75, 1.0, 1.0]
    # half is found after 4 evaluations; random search needs half of 20
    assert measure.evaluations_to(curve, 0.5) == 4.0
    assert measure.acceleration(curve, 20, 0.5) == pytest.approx(10 / 4)
    # between evaluations: 0.6 is two fifths of the way from 4 to 5
    assert measure.evaluations_to(curve, 0.6) == pytest.approx(4.4)
    assert measure.enhancement(curve, 20)[3] == pytest.approx(0.5 / (4 / 20))
    assert math.isnan(measure.acceleration(curve[:3], 20, 0.5))


@given(st.integers(5, 60), st.integers(0, 2**32 - 1))
def test_opening_the_whole_table_finds_everything_and_enhances_nothing(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = rng.normal(size=(n, 1))
    top = measure.top_designs(ONE, outcomes, 0.1)
    picked = rng.permutation(n)
    curve = measure.found_curve(picked, top)
    assert curve[-1] == 1.0
    assert measure.enhancement(curve, n)[-1] == pytest.approx(1.0)
    assert (np.diff(curve) >= 0).all()
    regret = measure.regret_curve(ONE, outcomes, picked)
    assert regret[-1] == pytest.approx(0.0)
    assert (np.diff(regret) <= 0).all()


def test_regret_is_a_share_of_the_range_whichever_way_is_better() -> None:
    y = np.array([[0.0], [10.0], [5.0], [4.0]])
    assert measure.regret_curve(ONE, y, [0, 3, 2, 1]).tolist() == [1.0, 0.6, 0.5, 0.0]
    least = Problem(SPACE, (Objective("y", "minimize", "GPa"),))
    assert measure.regret_curve(least, y, [1, 3, 0]).tolist() == [1.0, 0.4, 0.0]
    target = Problem(SPACE, (Objective("y", "target", "GPa", target=5.0),))
    assert measure.regret_curve(target, y, [0, 3, 2]).tolist() == [1.0, 0.2, 0.0]


def test_regret_is_one_until_something_is_feasible() -> None:
    problem = Problem(SPACE, ONE.objectives, (OutcomeConstraint("c", "<=", 0.5, "eV"),))
    y = np.array([[9.0, 1.0], [8.0, 0.0], [0.0, 0.0]])
    assert measure.regret_curve(problem, y, [0, 2, 1]).tolist() == [1.0, 1.0, 0.0]


def test_hypervolume_counts_from_the_corner_of_the_whole_table() -> None:
    outcomes = np.array([[4.0, 2.0], [2.0, 0.0], [0.0, 4.0]])
    # The front is (4, 2), (2, 0); a tenth of the spreads (4 and 4) below its worst: (1.6, 2.4).
    # Whole: 2.4 * 0.4 + 0.4 * 2.0 = 1.76; alone: 2.4 * 0.4 = 0.96 and 0.4 * 2.4 = 0.96.
    curve = measure.hypervolume_curve(TWO, outcomes, [2, 0, 1])
    assert curve == pytest.approx([0.0, 0.96 / 1.76, 1.0])
    assert measure.area(curve) == pytest.approx((0.96 / 1.76 + 1.0) / 3)


def test_coverage_of_normal_predictions_is_nominal() -> None:
    errors = np.random.default_rng(0).normal(scale=3.0, size=20000)
    for level in (0.5, 0.8, 0.95):
        inside = measure.coverage(errors, np.full(20000, 3.0), level)
        assert inside == pytest.approx(level, abs=0.01)
    assert math.isnan(measure.coverage(np.array([]), np.array([]), 0.5))


# Intervals


def test_intervals_hold_the_value_and_narrow_with_seeds() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(1.0, 0.2, (5, 3)), rng.normal(1.0, 0.2, (100, 3))
    for curves in (few, many):
        told = estimate(curves, measure.area)
        assert told.low < told.value < told.high
        mean, low, high = band(curves)
        assert ((low <= mean) & (mean <= high)).all()
    wide, narrow = (estimate(c, measure.area) for c in (few, many))
    assert narrow.high - narrow.low < wide.high - wide.low
    assert math.isnan(estimate(few[:1], measure.area).low)


def test_a_pair_is_compared_seed_by_seed() -> None:
    base = np.random.default_rng(0).normal(0.0, 5.0, (20, 1))
    told = difference(base + 1.0, base, measure.area)
    assert (told.value, told.low, told.high) == pytest.approx((1.0, 1.0, 1.0))


def test_what_is_not_reached_is_told_so() -> None:
    reached, never = np.array([[0.0, 0.5]] * 4), np.zeros((4, 2))

    def figure(curve: np.ndarray) -> float:
        return measure.acceleration(curve, 10, 0.5)

    assert math.isnan(estimate(never, figure).value)
    assert ratio(reached, reached, figure).value == 1.0
    assert ratio(never, reached, figure).value == 0.0
    assert math.isinf(ratio(reached, never, figure).value)
    assert math.isnan(ratio(never, never, figure).value)
    mixed = np.vstack([reached[:2], never[:2]])
    told = estimate(mixed, lambda c: measure.acceleration(c, 10, 0.25))
    assert told.value == pytest.approx(1.25)
    assert math.isnan(told.low)  # where nobody is drawn who got there


# Replays


def test_first_points_are_those_of_the_seed_and_batches_fill_the_budget() -> None:
    table = _table(np.arange(20.0)[:, None])
    trace = replay(ONE, table, _InOrder(), seed=1, batch=4, budget=12, initial=5)
    other = replay(ONE, table, make_method("random", ONE, table), seed=1, batch=4, budget=12)
    assert trace.picked[:5] == other.picked[:5]
    assert [len(step.rows) for step in trace.steps] == [4, 3]
    assert len(set(trace.picked)) == 12
    rest = [row for row in range(20) if row not in trace.picked[:5]]
    assert trace.picked[5:] == rest[:7]
    assert Trace.from_json(trace.to_json()) == trace


def test_a_replay_ends_with_the_table() -> None:
    table = _table(np.arange(9.0)[:, None])
    trace = replay(ONE, table, _InOrder(), seed=0, batch=4, budget=100, initial=5)
    assert sorted(trace.picked) == list(range(9))


@pytest.mark.parametrize("rows", [[0, 0], [99], [-1], [0, 1, 2]])
def test_a_method_that_chooses_what_it_cannot_is_refused(rows: list[int]) -> None:
    class Wrong:
        def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
            return Choice(rows)

    with pytest.raises(ValueError, match="chose"):
        replay(ONE, _table(np.arange(9.0)[:, None]), Wrong(), seed=0, batch=2, budget=9)


def test_a_method_that_chooses_nothing_says_why() -> None:
    class Idle:
        def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
            return Choice([], notes=["all alike"])

    with pytest.raises(RuntimeError, match=r"chose none of 4 .*all alike"):
        replay(ONE, _table(np.arange(9.0)[:, None]), Idle(), seed=0, batch=2, budget=9)


def test_a_summary_has_figures_coverage_and_comparisons() -> None:
    table = _table(np.arange(40.0)[:, None])
    settings = {"batch": 4, "budget": 20}
    traces = {
        name: [
            replay(ONE, table, make_method(name, ONE, table), seed=seed, **settings)
            for seed in range(3)
        ]
        for name in ("random", "evolution")
    }
    traces["matloop"] = [replay(ONE, table, _InOrder(), seed=seed, **settings) for seed in range(3)]
    told = summarise(ONE, table, traces)
    assert told["table"] == {
        "designs": 40,
        "measurements": 40,
        "top": 2,
        "top_share": 0.05,
        "acceleration_level": 0.5,
    }
    method = told["methods"]["matloop"]
    assert method["evaluations"] == 20
    assert len(method["curves"]["regret"]["mean"]) == 20
    assert method["coverage"]["y"]["predictions"] == 45
    assert set(told["against"]) == {"random", "evolution"}
    assert told["against"]["random"]["seeds"] == [0, 1, 2]
    assert told["methods"]["random"]["coverage"] == {}


def test_matloop_beats_chance_on_a_smooth_table() -> None:
    x = np.linspace(0.0, 1.0, 60)
    table = _table((-((x - 0.7) ** 2))[:, None])
    method = make_method("matloop", ONE, table)
    trace = replay(ONE, table, method, seed=0, batch=4, budget=24)
    curve = measure.found_curve(trace.picked, measure.top_designs(ONE, table.outcomes, 0.05))
    assert curve[-1] == 1.0
    predicted = [p for step in trace.steps for p in step.predictions if p]
    assert predicted
    assert all(p["y"].sd > 0 for p in predicted)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="no method 'x', only matloop, random"):
        make_method("x", ONE, _table([[1.0], [2.0]]))
    assert "baybe" in METHODS
