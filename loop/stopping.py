"""When to stop: pure functions of what was recorded, so that a replay gives the same verdict.

A rule gives a `Verdict` with a sentence, or None. Whether a verdict ends a campaign or makes it
pause and ask is not decided here. Where a person was asked and said to go on, a rule is heard again
only on what came after that answer: `since` counts what was there before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loop.front import counts, feasible, hypervolume_trace, utilities
from loop.problem import Objective, Problem


@dataclass(frozen=True)
class Verdict:
    """What a rule found.

    Attributes:
        rule: `target_met`, `stalled` or `no_gain`.
        message: a sentence that says what was found, without a full stop.
        data: the figures behind it, JSON-able.
    """

    rule: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NoGain:
    """When an expected gain is not worth having.

    Attributes:
        below: share of the spread of what was observed (its standard deviation).
        patience: batches in a row that must expect less.
        cost: of one evaluation, in a currency of your own. None = not asked.
        worth: of one unit of the objective, in the same currency.

    Raises:
        ValueError: a share that is not above zero, no patience, a cost without a worth, or one
            that is not above zero.
    """

    below: float = 0.01
    patience: int = 2
    cost: float | None = None
    worth: float | None = None

    def __post_init__(self) -> None:
        if not self.below > 0:
            raise ValueError(f"a share of the spread is above zero, not {self.below}")
        if self.patience < 1:
            raise ValueError(f"patience takes one batch or more, not {self.patience}")
        if (self.cost is None) != (self.worth is None):
            raise ValueError("a cost says something only beside what a unit is worth")
        if not all(x is None or x > 0 for x in (self.cost, self.worth)):
            raise ValueError("a cost and a worth are above zero")


@dataclass(frozen=True)
class StopRules:
    """Which rules are asked.

    Attributes:
        stalled_after: *trials* without progress that make a stall (for a rule in batches, batches
            times batch size). None = not asked.
        target_met: whether to stop at the first design that meets every target.
        targets: by metric, what to meet in place of the objectives' own thresholds and tolerances
            (see `target_met`); the objectives that are not named here are not asked.
        no_gain: None = not asked.
    """

    stalled_after: int | None = None
    target_met: bool = False
    targets: Mapping[str, float] | None = None
    no_gain: NoGain | None = None


@dataclass(frozen=True)
class Batch:
    """Trials that were proposed at once.

    Attributes:
        gains: what each was expected to gain when it was proposed, as a share of the spread of
            what was observed by then; None where nothing was expected (drawn blindly).
        done: whether all of them have ended.
        time: when they were proposed, in seconds.
    """

    gains: Sequence[float | None]
    done: bool
    time: float = 0.0


@dataclass(frozen=True)
class Recorded:
    """What the rules look at.

    Attributes:
        trials: n numbers, in the order in which the trials ended.
        outcomes: n x m likewise; a row of nan for a failed trial.
        times: n times at which they ended, in seconds.
        batches: in the order in which they were proposed.
        answered: for each rule that a person overruled, when they last did, in seconds.
    """

    trials: Sequence[int]
    outcomes: np.ndarray
    times: Sequence[float]
    batches: Sequence[Batch] = ()
    answered: Mapping[str, float] = field(default_factory=dict)

    def before(self, rule: str) -> tuple[int, int]:
        """How many trials had ended, and batches been proposed, when a rule was overruled."""
        if rule not in self.answered:
            return 0, 0
        then = self.answered[rule]
        return sum(t <= then for t in self.times), sum(b.time <= then for b in self.batches)


def judge(problem: Problem, rules: StopRules, recorded: Recorded) -> list[Verdict]:
    """Ask every rule: the verdicts that stand, none while the campaign should go on.

    Raises:
        ValueError: a rule that makes no sense for this problem.
    """
    found: list[Verdict | None] = []
    outcomes = recorded.outcomes
    if rules.target_met:
        trials, _ = recorded.before("target_met")
        found.append(
            target_met(problem, outcomes, rules.targets, trials=recorded.trials, since=trials)
        )
    if rules.stalled_after is not None:
        trials, _ = recorded.before("stalled")
        found.append(stalled(problem, outcomes, rules.stalled_after, since=trials))
    if rules.no_gain is not None:
        _, batches = recorded.before("no_gain")
        found.append(no_gain(problem, outcomes, recorded.batches, rules.no_gain, since=batches))
    return [verdict for verdict in found if verdict is not None]


def stalled(
    problem: Problem,
    outcomes_in_order: np.ndarray,
    after: int,
    tolerance: float = 1e-3,
    *,
    since: int = 0,
) -> Verdict | None:
    """Whether the last trials brought nothing.

    Progress is hypervolume for several objectives and the best value for one.

    Args:
        problem: the goals.
        outcomes_in_order: n x m in the order in which the trials ended; a row of nan for a failed
            trial, which counts as one that brought nothing.
        after: number of *trials* without progress that make a stall (for a rule in batches, pass
            batches times batch size).
        tolerance: relative gain below which it is none.
        since: rows that a person has seen and gone on from: no stall is made of them.

    Raises:
        ValueError: `after` is below one.
    """
    if after < 1:
        raise ValueError(f"a stall takes one trial or more, not {after}")
    outcomes = np.asarray(outcomes_in_order, dtype=np.float64)
    if len(outcomes) <= after or len(outcomes) - since < after:
        return None
    if not counts(problem, outcomes[:-after]).any():
        return None  # before the first design that counts there is nothing to stall
    if len(problem.objectives) > 1:
        what, trace = "hypervolume", hypervolume_trace(problem, outcomes)
        scale = abs(trace[-1 - after])
        if scale == 0:
            return None  # no design has passed the thresholds yet
    else:
        what = problem.objectives[0].metric
        values = np.where(counts(problem, outcomes), utilities(problem, outcomes)[:, 0], -np.inf)
        trace = np.maximum.accumulate(values)
        scale = float(np.ptp(values[np.isfinite(values)]))
    gain = float(trace[-1] - trace[-1 - after])
    if gain > tolerance * scale:
        return None
    return Verdict(
        "stalled",
        f"the best {what} has not improved in the last {after} trials",
        {"after": after, "gain": gain, "least": tolerance * float(scale)},
    )


def target_met(
    problem: Problem,
    outcomes_in_order: np.ndarray,
    targets: Mapping[str, float] | None = None,
    *,
    trials: Sequence[int] | None = None,
    since: int = 0,
) -> Verdict | None:
    """Whether one feasible design meets every target, by what was measured of it.

    Args:
        problem: the goals.
        outcomes_in_order: n x m in the order in which the trials ended.
        targets: by metric of an objective, the least to be maximised, the most to be minimised, or
            the largest distance from a target value. None = what the objectives say themselves:
            the tolerance of a target where there is one, else the threshold; objectives with
            neither are not asked.
        trials: n numbers, to name the design by.
        since: rows that a person has seen and gone on from: they count no more, and a later design
            counts only where none of them beats it.

    Raises:
        ValueError: a target of what is no objective, or no target at all.
    """
    wanted = {o.metric: _own_target(o) for o in problem.objectives}
    if targets is not None:
        if unknown := [metric for metric in targets if metric not in wanted]:
            raise ValueError(f"a target of {unknown[0]}, which is no objective")
        wanted = {metric: targets.get(metric) for metric in wanted}
    asked = [
        (j, o, value)
        for j, o in enumerate(problem.objectives)
        if (value := wanted[o.metric]) is not None
    ]
    if not asked:
        raise ValueError("no objective says when it is met: it takes a threshold or a tolerance")
    outcomes = np.asarray(outcomes_in_order, dtype=np.float64)
    values = utilities(problem, outcomes)
    met = feasible(problem, outcomes)
    for j, objective, value in asked:
        sign = 1.0 if objective.goal == "maximize" else -1.0
        # a measurement at the edge of its tolerance is within it, whatever the last digit does
        worth = values[:, j]
        if objective.target is not None:  # also where less than its tolerance is asked
            column = problem.metrics.index(objective.metric)
            worth, sign = -np.abs(outcomes[:, column] - objective.target), -1.0
        met &= worth >= sign * value - 1e-12 * max(abs(value), abs(objective.target or 0.0))
    if since:
        before = values[:since][feasible(problem, outcomes[:since])]
        met &= ~np.array([_beaten(row, before) for row in values], dtype=bool)
        met[:since] = False
    if not met.any():
        return None
    row = int(np.argmax(met))
    named = row if trials is None else int(trials[row])
    told = [_met(problem, objective, value, outcomes[row]) for _, objective, value in asked]
    return Verdict(
        "target_met",
        f"trial {named} meets {'the target' if len(told) == 1 else 'every target'}: "
        + ", ".join(told),
        {"trial": named, "targets": {o.metric: value for _, o, value in asked}},
    )


def _beaten(row: np.ndarray, others: np.ndarray) -> bool:
    """Whether one of n x k utilities is as good everywhere as k others, or better."""
    return bool((others >= row).all(axis=1).any())


def _own_target(objective: Objective) -> float | None:
    if objective.tolerance is not None:
        return objective.tolerance
    return objective.threshold


def _met(problem: Problem, objective: Objective, value: float, outcomes: np.ndarray) -> str:
    measured = float(outcomes[problem.metrics.index(objective.metric)])
    unit = "" if objective.unit in ("", "dimensionless") else f" {objective.unit}"
    asked = f"at {'least' if objective.goal == 'maximize' else 'most'} {value:.4g}"
    if objective.target is not None:
        asked = f"{objective.target:.4g} within {value:.4g}"
    return f"{objective.metric} {measured:.4g}{unit} ({asked} was asked)"


def no_gain(
    problem: Problem,
    outcomes: np.ndarray,
    batches: Sequence[Batch],
    rule: NoGain,
    *,
    since: int = 0,
) -> Verdict | None:
    """Whether nothing worth its cost is expected any more.

    A batch is judged by the largest gain that was expected of its trials when they were proposed,
    once all of them have ended. One of which nothing was expected (drawn blindly) is not judged,
    and nothing is concluded across it.

    Args:
        problem: the goals.
        outcomes: n x m, what was measured so far; for the spread that a cost is compared with.
        batches: in the order in which they were proposed.
        rule: what is too little.
        since: batches that a person has seen and gone on from: they count no more.

    Raises:
        ValueError: a cost, and more than one objective.
    """
    if rule.cost is not None and len(problem.objectives) > 1:
        raise ValueError("what a unit is worth can be said of one objective only")
    last = [batch for batch in batches[since:] if batch.done][-rule.patience :]
    best = [max((g for g in batch.gains if g is not None), default=None) for batch in last]
    known = [gain for gain in best if gain is not None]
    if len(known) < rule.patience:
        return None
    most = max(known)
    some = f"the last {rule.patience} batches were" if rule.patience > 1 else "the last batch was"
    share = f"{100 * most:.2g} % of the spread of what was observed"
    data: dict[str, Any] = {"expected": known, "patience": rule.patience, "below": rule.below}
    if most < rule.below:
        least = f"less than {100 * rule.below:.2g} %"
        message = f"{some} expected to gain {share} at most, {least}"
        return Verdict("no_gain", message, data)
    if rule.cost is None or rule.worth is None:
        return None
    objective = problem.objectives[0]
    column = np.asarray(outcomes, dtype=np.float64)[:, problem.metrics.index(objective.metric)]
    column = column[np.isfinite(column)]
    if len(column) < 2:
        return None
    gain = most * float(column.std(ddof=1))
    if gain * rule.worth >= rule.cost:
        return None
    unit = "" if objective.unit in ("", "dimensionless") else f" {objective.unit}"
    return Verdict(
        "no_gain",
        f"{some} expected to gain {gain:.3g}{unit} of {objective.metric} at most, worth "
        f"{gain * rule.worth:.3g}: less than the {rule.cost:.3g} that an evaluation costs",
        data | {"gain": gain, "worth": gain * rule.worth, "cost": rule.cost},
    )
