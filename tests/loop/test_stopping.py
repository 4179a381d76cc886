"""When a campaign should stop: the same history, the same verdict."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import DesignSpace, Objective, OutcomeConstraint, Problem, RangeAxis, stalled
from loop.stopping import Batch, NoGain, Recorded, StopRules, judge, no_gain, target_met

SPACE = DesignSpace((RangeAxis("x", 0.0, 1.0),))
ONE = Problem(
    SPACE, (Objective("cost", "minimize", "EUR"),), (OutcomeConstraint("heat", "<=", 1.0, "K"),)
)
TWO = Problem(
    SPACE,
    (
        Objective("a", "maximize", "GPa", threshold=2.0),
        Objective("b", "target", "eV", target=1.4, tolerance=0.1, threshold=1.0),
    ),
)
NAN = float("nan")


# Stalled


def test_one_objective() -> None:
    rows = np.array([[5, 0], [3, 0], [4, 0], [3, 0], [NAN, NAN], [1, 9]], dtype=float)
    assert stalled(ONE, rows, after=5) is None
    verdict = stalled(ONE, rows, after=4)
    assert verdict is not None
    assert verdict.rule == "stalled"
    assert "cost" in verdict.message
    assert "4 trials" in verdict.message
    assert stalled(ONE, np.vstack([rows, [2.0, 0.0]]), after=4) is None


def test_nothing_feasible_is_no_stall() -> None:
    assert stalled(ONE, np.array([[1.0, 9.0]] * 20), after=3) is None
    assert stalled(ONE, np.empty((0, 2)), after=3) is None


def test_several_objectives_by_hypervolume() -> None:
    problem = Problem(
        SPACE,
        (
            Objective("a", "maximize", "", threshold=0.0),
            Objective("b", "maximize", "", threshold=0.0),
        ),
    )
    rows = [[1.0, 3.0], [3.0, 1.0], [1.0, 1.0], [2.0, 0.5]]
    assert stalled(problem, np.array(rows), after=2) is not None
    assert stalled(problem, np.array([*rows, [2.0, 2.0]]), after=2) is None


def test_after_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="one trial or more"):
        stalled(ONE, np.ones((3, 2)), after=0)


def test_a_stall_that_was_overruled_needs_as_many_new_trials() -> None:
    rows = np.array([[3.0, 0.0]] + [[5.0, 0.0]] * 6)
    assert stalled(ONE, rows, after=3) is not None
    assert stalled(ONE, rows, after=3, since=5) is None
    assert stalled(ONE, np.vstack([rows, [[6.0, 0.0]]]), after=3, since=5) is not None


# Target met


def test_the_first_feasible_design_that_meets_every_target() -> None:
    assert target_met(TWO, np.array([[3.0, 1.6], [1.0, 1.4], [NAN, NAN]])) is None
    rows = np.array([[3.0, 1.6], [2.0, 1.5], [9.0, 1.4]])
    verdict = target_met(TWO, rows, trials=[4, 7, 5])
    assert verdict is not None
    assert verdict.message == (
        "trial 7 meets every target: a 2 GPa (at least 2 was asked), "
        "b 1.5 eV (1.4 within 0.1 was asked)"
    )
    assert json.loads(json.dumps(verdict.data)) == {"trial": 7, "targets": {"a": 2.0, "b": 0.1}}


def test_stated_targets_replace_the_objectives_own() -> None:
    rows = np.array([[3.0, 9.0], [5.0, 9.0]])
    verdict = target_met(TWO, rows, {"a": 4.0})
    assert verdict is not None
    assert verdict.message == "trial 1 meets the target: a 5 GPa (at least 4 was asked)"
    assert target_met(TWO, rows, {"a": 6.0}) is None


def test_a_target_that_violates_a_constraint_is_not_met() -> None:
    assert target_met(ONE, np.array([[1.0, 2.0]]), {"cost": 2.0}) is None
    assert target_met(ONE, np.array([[1.0, 2.0], [1.5, 0.5]]), {"cost": 2.0}) is not None


def test_after_an_answer_only_something_better_meets_the_target() -> None:
    rows = np.array([[2.0, 0.0], [3.0, 0.0]])
    assert target_met(ONE, rows, {"cost": 2.5}, since=2) is None
    worse = np.vstack([rows, [[2.4, 0.0]]])
    assert target_met(ONE, worse, {"cost": 2.5}, since=2) is None
    better = np.vstack([worse, [[1.0, 0.0]]])
    verdict = target_met(ONE, better, {"cost": 2.5}, since=2)
    assert verdict is not None
    assert verdict.data["trial"] == 3


def test_targets_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="no objective says"):
        target_met(ONE, np.ones((1, 2)))
    with pytest.raises(ValueError, match="heat, which is no objective"):
        target_met(ONE, np.ones((1, 2)), {"heat": 1.0})


# No gain


def batches(*gains: float | None) -> list[Batch]:
    return [Batch([gain, None if gain is None else gain / 2], done=True) for gain in gains]


def test_too_little_expected_for_as_long_as_patience_lasts() -> None:
    rows, rule = np.array([[1.0, 0.0], [3.0, 0.0]]), NoGain(below=0.01, patience=2)
    assert no_gain(ONE, rows, batches(0.5, 0.005), rule) is None
    verdict = no_gain(ONE, rows, batches(0.5, 0.009, 0.005), rule)
    assert verdict is not None
    assert "0.9 %" in verdict.message
    assert "less than 1 %" in verdict.message
    assert no_gain(ONE, rows, batches(0.5, 0.005, 0.02), rule) is None
    assert no_gain(ONE, rows, batches(0.009, 0.005), rule, since=1) is None


def test_nothing_is_concluded_where_nothing_was_expected() -> None:
    rows, rule = np.empty((0, 2)), NoGain(patience=2)
    assert no_gain(ONE, rows, [], rule) is None
    assert no_gain(ONE, rows, batches(None, None), rule) is None
    assert no_gain(ONE, rows, batches(0.0, None), rule) is None


def test_a_batch_is_judged_when_all_of_it_has_ended() -> None:
    waiting = [*batches(0.001), Batch([0.001], done=False)]
    assert no_gain(ONE, np.empty((0, 2)), waiting, NoGain(patience=2)) is None
    assert no_gain(ONE, np.empty((0, 2)), batches(0.001, 0.001), NoGain(patience=2)) is not None


def test_a_gain_that_costs_more_than_it_is_worth() -> None:
    rows = np.array([[1.0, 0.0], [3.0, 0.0]])  # spread: the square root of 2
    rule = NoGain(below=1e-9, patience=1, cost=10.0, worth=100.0)
    assert no_gain(ONE, rows, batches(0.1), rule) is None
    verdict = no_gain(ONE, rows, batches(0.05), rule)
    assert verdict is not None
    assert verdict.data["worth"] == pytest.approx(100 * 0.05 * math.sqrt(2))
    assert "less than the 10 that an evaluation costs" in verdict.message
    with pytest.raises(ValueError, match="one objective only"):
        no_gain(TWO, rows, batches(0.05), rule)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"below": 0.0}, "above zero"),
        ({"below": NAN}, "above zero"),
        ({"patience": 0}, "one batch or more"),
        ({"cost": 1.0}, "beside what a unit is worth"),
        ({"cost": -1.0, "worth": 1.0}, "above zero"),
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        NoGain(**wrong)  # type: ignore[arg-type]


# All of them, on a history

OUTCOMES = st.lists(
    st.tuples(
        st.sampled_from([NAN, 0.0, 1.0, 2.0, 3.0, 5.0]), st.sampled_from([NAN, 0.5, 1.4, 1.5])
    ),
    max_size=12,
)


@given(rows=OUTCOMES, answer=st.integers(-1, 12), gains=st.lists(st.floats(0, 0.1), max_size=6))
def test_a_replay_gives_the_same_verdicts(
    rows: list[tuple[float, float]], answer: int, gains: list[float]
) -> None:
    rules = StopRules(stalled_after=3, target_met=True, no_gain=NoGain(below=0.05))
    recorded = Recorded(
        trials=list(range(len(rows))),
        outcomes=np.array(rows, dtype=float).reshape(-1, 2),
        times=[float(i) for i in range(len(rows))],
        batches=[Batch([gain], True, float(i)) for i, gain in enumerate(gains)],
        answered=dict.fromkeys(("stalled", "target_met", "no_gain"), float(answer)),
    )
    verdicts = judge(TWO, rules, recorded)
    assert verdicts == judge(TWO, rules, recorded)
    assert [json.loads(json.dumps(v.data, allow_nan=False)) for v in verdicts] or verdicts == []
    # just after an answer, no rule speaks
    if answer >= len(rows) - 1 and answer >= len(gains) - 1:
        assert verdicts == []
    assert judge(TWO, StopRules(), recorded) == []
