"""What a campaign has learnt, in plain words and as data.

Every lesson says what it rests on. What the data do not carry is not said: a model that predicts no
better than the mean has no important features, and a pattern in the failures that chance could have
made is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.explain import predicted
from loop.explain_words import listed, number, percent, words
from loop.failures import where_it_fails
from loop.fitted import bounds_of, fitted
from loop.front import counts, pareto_mask, utilities
from loop.importance import Importance, feature_groups, importances
from loop.lessons import (
    MONOTONE,
    TOLD,
    Lesson,
    of_importance,
    of_model,
    of_uncertainty,
    rank_correlation,
)
from loop.problem import Problem
from loop.search import encodable
from loop.space import Design

if TYPE_CHECKING:
    from loop.proposal import History
    from surrogates import Feasibility, Surrogate

SAMPLE = 256
SURE = 0.95
"""Probability from which on it is said to be known on which side of a level a design is."""

FEW = 6
"""With fewer designs nothing is said of how objectives go together."""


@dataclass(frozen=True)
class Review:
    """All that a campaign's history says.

    Attributes:
        lessons: in the order in which to tell them.
        importances: by metric; empty without a surrogate.
        notes: what was left out, and why.
    """

    lessons: list[Lesson]
    importances: dict[str, Importance]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {
            "learnt": [lesson.as_dict() for lesson in self.lessons],
            "importances": {m: i.as_dict() for m, i in self.importances.items()},
            "notes": self.notes,
        }


def review(
    problem: Problem,
    history: History,
    seed: int = 0,
    names: Sequence[str] | None = None,
    warm_start: dict[str, Any] | None = None,
) -> Review:
    """Fit what was observed, as a proposal would, and say what it teaches.

    Args:
        problem: the goals.
        history: everything tried so far.
        seed: of the fit and of the designs that are looked at.
        names: what the designs of the history are called; default: `DesignSpace.describe`.
        warm_start: `Proposal.warm_start` of the last proposal.
    """
    from surrogates import fit_feasibility

    notes: list[str] = []
    made = history.made
    X, kept = encodable(problem.space.features, made)
    if len(kept) < len(made):
        notes.append(f"left out: {len(made) - len(kept)} designs without features")
    designs = [made[i] for i in kept]
    named = [problem.space.describe(d) for d in designs]
    if names is not None:
        named = [names[i] for i in kept]
    outcomes = np.asarray(history.outcomes, dtype=np.float64)[kept]
    sem = np.asarray(history.sem, dtype=np.float64)[kept]
    failed = np.asarray(history.failed, dtype=bool)[kept]
    done = np.isfinite(outcomes).any(axis=1) & ~failed
    drawn = [d for d in problem.space.sample(SAMPLE, seed) if d is not None]
    sample, _ = encodable(problem.space.features, drawn)
    every = bool(done.any()) and bool((np.isfinite(outcomes[done]).sum(axis=0) >= 2).all())
    surrogate = feasibility = None
    bounds = bounds_of(problem, X, sample) if len(X) or len(sample) else None
    if every and bounds is not None:
        errors = None if history.errors is None else np.asarray(history.errors)[kept][done]
        surrogate = fitted(
            problem, X[done], outcomes[done], sem[done], bounds=bounds, seed=seed, errors=errors,
            warm_start=warm_start,
        )  # fmt: skip
    else:
        notes.append("no model yet: a metric has fewer than two results")
    if (done | failed).any():
        ended = done | failed
        feasibility = fit_feasibility(X[ended], ~failed[ended], bounds=bounds)
    found: dict[str, Importance] = {}
    if surrogate is not None and len(sample) > 1:
        groups = feature_groups(problem.space.feature_names)
        found = importances(surrogate, sample, groups, seed=seed)
    lessons = learnt(
        problem, designs, X, outcomes, failed, surrogate, feasibility, sample,
        found=found, names=named,
    )  # fmt: skip
    return Review(lessons, found, notes)


def learnt(
    problem: Problem,
    designs: Sequence[Design],
    X: np.ndarray,
    outcomes: np.ndarray,
    failed: np.ndarray,
    surrogate: Surrogate | None,
    feasibility: Feasibility | None,
    sample: np.ndarray,
    *,
    found: dict[str, Importance] | None = None,
    names: Sequence[str] | None = None,
) -> list[Lesson]:
    """What the designs tried so far teach.

    Args:
        problem: the goals.
        designs: n designs tried so far.
        X: n x f, their features.
        outcomes: n x m, in the order of `problem.metrics`; nan = not measured.
        failed: n booleans.
        surrogate: fitted to `problem.metrics`; None before there is one.
        feasibility: None before there is one.
        sample: s x f features of designs from the whole space.
        found: `importances`; worked out here by default.
        names: what the n designs are called; default: `DesignSpace.describe`.
    """
    names = [problem.space.describe(d) for d in designs] if names is None else names
    report = {} if surrogate is None else surrogate.report()
    trusted = [m for m in problem.metrics if report.get(m, {}).get("informative")]
    lessons = []
    if not problem.contour:
        lessons += _best(problem, X, outcomes, surrogate, names, trusted)
    if surrogate is not None:
        lessons += [of_model(metric, report[metric]) for metric in problem.metrics]
        if len(sample) > 1:
            if found is None:
                groups = feature_groups(problem.space.feature_names)
                found = importances(surrogate, sample, groups)
            mean, sd = predicted(surrogate, sample)
            lessons += of_importance(problem, found, sample, mean, trusted)
            lessons += of_uncertainty(problem, outcomes, sample, sd, trusted)
            lessons += _constraints(problem, outcomes, mean, sd, trusted)
            lessons += _levels(problem, mean, sd)
    if surrogate is None or len(sample) < 2:
        lessons += _constraints(problem, outcomes, None, None, [])
    lessons += _conflicts(problem, outcomes)
    lessons += where_it_fails(problem, designs, X, outcomes, failed, feasibility)
    order = (
        "best", "level", "importance", "conflict", "constraint", "failures", "model", "uncertainty",
    )  # fmt: skip
    return sorted(lessons, key=lambda lesson: order.index(lesson.topic))


def _best(
    problem: Problem,
    X: np.ndarray,
    outcomes: np.ndarray,
    surrogate: Surrogate | None,
    names: Sequence[str],
    trusted: Sequence[str],
) -> list[Lesson]:
    rows = np.flatnonzero(counts(problem, outcomes))
    if not len(rows):
        what = "satisfies the constraints" if problem.constraints else "has all objectives measured"
        return [Lesson("best", f"No design {what} yet.")] if len(outcomes) else []
    if len(problem.objectives) > 1:
        front = np.flatnonzero(pareto_mask(problem, outcomes))
        gains = utilities(problem, outcomes)
        said = []
        for k, objective in enumerate(problem.objectives[:TOLD]):
            row = int(front[int(np.argmax(gains[front, k]))])
            value = outcomes[row, problem.metrics.index(objective.metric)]
            said.append(f"in {words(objective.metric)} {names[row]} "
                        f"({number(float(value), objective.unit)})")  # fmt: skip
        many = f"{len(front)} designs form the front" if len(front) > 1 else "One design is best"
        return [
            Lesson(
                "best", f"{many}. Best so far: {listed(said)}.",
                {"front": [{"row": r, "name": names[r]} for r in front.tolist()]},
            )
        ]  # fmt: skip
    (objective,) = problem.objectives
    column = problem.metrics.index(objective.metric)
    read = int(rows[int(np.argmax(utilities(problem, outcomes[rows])[:, 0]))])
    told = number(float(outcomes[read, column]), objective.unit)
    data: dict[str, Any] = {"by_reading": {"row": read, "name": names[read]}}
    text = f"The best so far is {names[read]}, with a {words(objective.metric)} of {told}"
    if surrogate is not None and objective.metric in trusted:
        mean, sd = predicted(surrogate, X[rows])
        at = int(np.argmax(utilities(problem, mean)[:, 0]))
        row = int(rows[at])
        data["by_model"] = {
            "row": row, "name": names[row],
            "mean": float(mean[at, column]), "sd": float(sd[at, column]),
        }  # fmt: skip
        by_model = f"{number(float(mean[at, column]))} ± {sd[at, column]:.2g}"
        if row == read:
            return [Lesson("best", f"{text} (the model: {by_model}).", data)]
        other = int(np.flatnonzero(rows == read)[0])
        apart = abs(float(mean[at, column] - mean[other, column]))
        sure = apart > float(np.hypot(sd[at, column], sd[other, column]))
        text += f"; by the model it is {names[row]} ({by_model}), " + (
            "which takes that reading for a lucky one" if sure else "too close to tell them apart"
        )
    return [Lesson("best", f"{text}.", data)]


def _constraints(
    problem: Problem,
    outcomes: np.ndarray,
    mean: np.ndarray | None,
    sd: np.ndarray | None,
    trusted: Sequence[str],
) -> list[Lesson]:
    from scipy.special import ndtr

    lessons = []
    for c in problem.constraints:
        j = problem.metrics.index(c.metric)
        y = outcomes[np.isfinite(outcomes[:, j]), j]
        if not len(y):
            continue
        met = int(((y <= c.bound) if c.op == "<=" else (y >= c.bound)).sum())
        rule = f"{words(c.metric)} {c.op} {number(c.bound, c.unit)}"
        data: dict[str, Any] = {"metric": c.metric, "met": met, "of": len(y)}
        text = f"{met} of {len(y)} designs that were measured satisfy {rule}"
        if mean is not None and sd is not None and c.metric in trusted:
            z = (c.bound - mean[:, j]) / np.maximum(sd[:, j], 1e-300)
            share = float(ndtr(z if c.op == "<=" else -z).mean())
            data["expected"] = share
            text += f"; of all designs the model expects {percent(share)} to"
        lessons.append(Lesson("constraint", f"{text}.", data))
    return lessons


def _levels(problem: Problem, mean: np.ndarray, sd: np.ndarray) -> list[Lesson]:
    """Of designs from the whole space, how many are on a known side of each level."""
    from scipy.special import ndtr

    lessons = []
    for objective in problem.objectives:
        if objective.goal != "level" or objective.target is None:
            continue
        j = problem.metrics.index(objective.metric)
        above = ndtr((mean[:, j] - objective.target) / np.maximum(sd[:, j], 1e-300))
        up, down = float((above >= SURE).mean()), float((above <= 1.0 - SURE).mean())
        level = f"{words(objective.metric)} {number(objective.target, objective.unit)}"
        lessons.append(
            Lesson(
                "level",
                f"Of all designs {percent(up)} are surely above {level}, {percent(down)} surely"
                f" below, and {percent(1.0 - up - down)} may be on either side.",
                {"metric": objective.metric, "level": objective.target, "certainty": SURE,
                 "above": up, "below": down},
            )
        )  # fmt: skip
    return lessons


def _conflicts(problem: Problem, outcomes: np.ndarray) -> list[Lesson]:
    values = utilities(problem, outcomes)
    values = values[np.isfinite(values).all(axis=1)]
    if len(problem.objectives) < 2 or len(values) < FEW or problem.contour:
        return []
    lessons = []
    names = [o.metric for o in problem.objectives]
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            rho = rank_correlation(values[:, a], values[:, b])
            pair = f"{words(names[a])} and {words(names[b])}"
            # what chance makes of so many designs, one time in twenty
            limit = max(MONOTONE, 1.96 / math.sqrt(len(values) - 1))
            how = "neither help nor hinder each other"
            if abs(rho) >= limit:
                how = (
                    "go together" if rho > 0 else "are in conflict: what helps one hurts the other"
                )
            lessons.append(
                Lesson(
                    "conflict",
                    f"The goals of {pair} {how} (rank correlation {rho:.2f} of {len(values)} "
                    "designs).",
                    {"objectives": [names[a], names[b]], "rank_correlation": rho,
                     "designs": len(values)},
                )
            )  # fmt: skip
    return lessons
