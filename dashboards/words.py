"""What the report says in sentences. Everything is plain text; the template escapes it."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

import numpy as np

from campaigns.calibration import LEVELS, Record
from campaigns.facts import Facts
from campaigns.spec_axes import ChoiceAxis, CompositionAxis, LatentAxis, PoolAxis, RangeAxis
from dashboards.typography import (
    NOTHING,
    listed,
    name,
    number,
    percent,
    plural,
    short,
    unit,
)
from loop.calibration import calibration_in_words
from loop.front import feasible
from loop.problem import Objective, OutcomeConstraint

METHODS = {
    "prior": "drawn blindly from the prior",
    "LogEI": "chosen by expected improvement (LogEI)",
    "LogEHVI": "chosen by expected hypervolume improvement (LogEHVI)",
    "qLogNEI": "chosen by expected improvement (qLogNEI)",
    "qLogNEHVI": "chosen by expected hypervolume improvement (qLogNEHVI)",
    "qLogNParEGO": "chosen by expected improvement of a random weighting of the objectives "
    "(qLogNParEGO)",
    "PF": "chosen by the probability of satisfying the constraints (PF)",
    "qLogPF": "chosen by the probability of satisfying the constraints (qLogPF)",
    "EUI": "chosen by expected improvement of what a person's answers prefer (EUI)",
    "straddle": "chosen where it is least certain on which side of the level it lies (straddle)",
    "uncertainty": "chosen where least is known",
    "mean": "chosen by what is expected of it, whatever the uncertainty",
    "thompson": "chosen as the best of one draw from what may be true (Thompson sampling)",
    "evolution": "bred from the best designs so far, without a model",
    "substitution": "one part of a good design replaced, without a model",
}


def method(called: str) -> str:
    """How a design was chosen, in words; a method that has none keeps its name.

    Args:
        called: as the trial's provenance has it, such as `LogEI` or `UCB-HVI 0.25`.
    """
    bound_, _, deviations = called.partition(" ")
    if bound_ in ("UCB", "UCB-HVI") and deviations:
        what = "hypervolume" if bound_ == "UCB-HVI" else "value"
        many = "deviation" if deviations == "1" else "deviations"
        return (
            f"chosen by the {what} it would bring if it came out {deviations} standard {many} "
            f"better than expected ({called})"
        )
    return METHODS.get(called, called)


def goal(facts: Facts) -> str:
    """What is sought, in a sentence."""
    wants = [_want(objective) for objective in facts.problem.objectives]
    text = listed(wants)
    bounds = [bound(c) for c in facts.problem.constraints]
    if bounds:
        text += f", with {listed(bounds)}"
    return f"{text[0].upper()}{text[1:]}."


def _want(objective: Objective) -> str:
    of = unit(objective.unit)
    if objective.goal == "level":
        where = quantity_short(objective.target, objective.unit)
        return f"find where {name(objective.metric)} crosses {where}"
    if objective.target is not None:
        within = f" within {quantity_short(objective.tolerance, objective.unit)}"
        return (
            f"bring {name(objective.metric)} to {quantity_short(objective.target, objective.unit)}"
            + (within if objective.tolerance else "")
        )
    verb = "maximise" if objective.goal == "maximize" else "minimise"
    side = "above" if objective.goal == "maximize" else "below"
    said = f"{verb} {name(objective.metric)}"
    if objective.threshold is not None:
        return f"{said} (worth having {side} {quantity_short(objective.threshold, objective.unit)})"
    return f"{said} ({of})" if of else said


def quantity_short(value: float | None, of: str) -> str:
    """A number as the spec has it, with its unit."""
    if value is None:
        return NOTHING
    return f"{short(value)}\N{NO-BREAK SPACE}{unit(of)}".rstrip("\N{NO-BREAK SPACE}")


def bound(constraint: OutcomeConstraint) -> str:
    """A constraint in print."""
    sign = "≤" if constraint.op == "<=" else "≥"
    return f"{name(constraint.metric)} {sign} {quantity_short(constraint.bound, constraint.unit)}"


def _asked(value: Any) -> str:
    """The value of a condition, as it was written."""
    if isinstance(value, dict):
        return listed([f"{name(str(k))} {_asked(v)}" for k, v in value.items()])
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def space(facts: Facts) -> list[str]:
    """What a design is, and what the screen asks of it: a sentence each."""
    axes = []
    for axis_name, axis in facts.spec.space.items():
        if isinstance(axis, LatentAxis):
            asked = _asked(axis.conditions or {})
            axes.append(
                f"{name(axis_name)}, from the latent space of the generator {axis.latent}"
                + (f" (asked for: {asked})" if asked else "")
            )
        elif isinstance(axis, RangeAxis):
            low, high = (short(x) for x in axis.range)
            how = ", on a log scale" if axis.log else ""
            axes.append(f"{name(axis_name)}, {low} to {high} {unit(axis.unit)}".rstrip() + how)
        elif isinstance(axis, ChoiceAxis):
            axes.append(f"{name(axis_name)}, one of {listed([str(v) for v in axis.choice], 'or')}")
        elif isinstance(axis, CompositionAxis):
            most = f", at most {axis.at_most} of them" if axis.at_most else ""
            whole = f"{short(axis.total)} {unit(axis.unit)}".rstrip()
            axes.append(
                f"{name(axis_name)}, of {listed(list(axis.composition))}{most}, {whole} in all"
            )
        elif isinstance(axis, PoolAxis):
            axes.append(f"{name(axis_name)}, a row of the table {PurePath(axis.pool).name}")
    said = [f"A design is: {'; '.join(axes)}."]
    if exact := [c for c in facts.spec.constraints if facts.spec.on_parameters(c)]:
        said.append(f"Every design meets: {'; '.join(exact)}.")
    rules, screen = [], facts.spec.screen
    if screen.elements.include is not None:
        rules.append(f"only the elements {', '.join(screen.elements.include)}")
    if screen.elements.exclude:
        rules.append(f"none of the elements {', '.join(screen.elements.exclude)}")
    if screen.charge_neutral:
        rules.append("only compositions whose charges balance")
    if screen.steady:
        rules.append("only designs that come back from their latent vectors as they are")
    if screen.max_atoms:
        rules.append(f"at most {plural(screen.max_atoms, 'atom')} in the primitive cell")
    if rules:
        said.append(f"Screened before anything was spent on it: {'; '.join(rules)}.")
    return said


def record_words(record: Record, of: str) -> list[str]:
    """How good the predictions of one metric were: two or three sentences."""
    n = len(record)
    said = [
        f"{plural(n, 'prediction')} answered; mean absolute error "
        f"{_rounded(record.mean_error, of)}."
    ]
    guess = record.guess_error
    if math.isfinite(guess) and guess > 0:
        change = 1 - record.mean_error / guess
        word = f"{percent(abs(change))} {'less' if change > 0 else 'more'} than"
        said.append(
            f"That is {word} the {_rounded(guess, of)} of always guessing the mean of what "
            "was known by then."
        )
    held = listed([f"{100 * record.covered(level) / n:.0f}" for level in LEVELS])
    levels = listed([str(level) for level in LEVELS])
    said.append(f"The {levels} % intervals held {held} % of the results.")
    said.append(
        {
            "few": "Too few to judge the intervals by.",
            "fit": "That is as it should be, as far as so many can tell.",
            "narrow": "The intervals are too narrow: the model is too sure of itself here.",
            "wide": "The intervals are too wide: the model is more careful than it needs to be.",
        }[record.verdict()]
    )
    return said


def _rounded(value: float, of: str) -> str:
    return f"{number(value, 3)}\N{NO-BREAK SPACE}{unit(of)}".rstrip("\N{NO-BREAK SPACE}")


def chances(facts: Facts) -> list[str]:
    """Whether the stated chances of success and of satisfying the constraints came true."""
    said = []
    rows = facts.ended
    told = [facts.trials[i]["provenance"] for i in rows]
    stated = [t.get("feasibility") for t in told]
    known = [
        (s, facts.trials[i]["status"]) for s, i in zip(stated, rows, strict=True) if s is not None
    ]
    if known:
        mean = sum(s for s, _ in known) / len(known)
        done = sum(status == "completed" for _, status in known)
        said.append(
            f"Of {plural(len(known), 'trial')} with a stated chance to succeed, {percent(mean)} "
            f"were expected to and {percent(done / len(known))} did."
        )
    holds = feasible(facts.problem, facts.outcomes)
    pairs = [
        (t["notes"]["p_constraints"], bool(holds[i]))
        for t, i in zip(told, rows, strict=True)
        if (t.get("notes") or {}).get("p_constraints") is not None
        and facts.trials[i]["status"] == "completed"
    ]
    if pairs:
        said.append(
            f"Of {len(pairs)} that were chosen with a stated chance to satisfy the constraints, "
            f"{percent(sum(p for p, _ in pairs) / len(pairs))} were expected to and "
            f"{percent(sum(h for _, h in pairs) / len(pairs))} did."
        )
    return said


def surrogate(facts: Facts) -> list[str]:
    """What the last surrogate knew of each metric, in a sentence each."""
    if not facts.fits:
        return ["No surrogate was fitted: there were too few results."]
    report = facts.fits[-1]["report"]
    said = []
    for metric, told in report.items():
        of = facts.units.get(metric, "")
        r2 = told.get("loo_r2")
        if told.get("informative"):
            text = "informative: it predicts a left-out result better than the mean of the others"
        else:
            text = "not informative: it predicts a left-out result no better than their mean"
        text += f" (R² {r2:.2f}" if r2 is not None else " (R² not defined"
        text += f", {plural(told.get('n', 0), 'result')})"
        cover = told.get("coverage") or {}
        if cover:
            held = listed([percent(v) for v in cover.values()])
            text += f". Left-out results inside the {listed(list(cover))} % intervals: {held}"
            text += f" ({calibration_in_words(cover, told.get('n', 0))})"
        if told.get("noise") is not None:
            text += f". Scatter that it takes for noise: {_rounded(told['noise'], of)}"
        if told.get("converged") is False:
            text += ". Its fit did not converge"
        said.append(f"{name(metric).capitalize()}: {text}.")
    return said


def stopped(facts: Facts) -> list[str]:
    """Why a stop rule ended or paused the campaign, where one did last: at most a sentence."""
    last = next((e for e in reversed(facts.events) if e["kind"].startswith("run_")), None)
    if last is None or last["kind"] != "run_ended" or not last["payload"].get("verdicts"):
        return []
    message = last["payload"].get("message") or ""
    if last["payload"].get("reason") == "paused":
        return [f"The campaign paused, and asks whether to go on: {message}."]
    return [f"A stop rule ended it: {message}."]


def overruled(facts: Facts) -> list[str]:
    """What a person went on in spite of."""
    return [
        verdict["message"]
        for told in facts.told("run_resumed")
        for verdict in told.get("overruled", ())
    ]


def front_note(facts: Facts, shown: int) -> str:
    """What the first table shows."""
    if not facts.several:
        (objective,) = facts.problem.objectives
        feasible_ = " feasible" if facts.problem.constraints else ""
        return f"The {shown} best{feasible_} trials by {name(objective.metric)}, best first."
    total = int(facts.front.sum())
    text = "No other trial is as good in every objective and better in one."
    return text if shown == total else f"{text} Shown: {shown} of {total}."


def nothing(facts: Facts) -> str:
    """Why the first table is empty."""
    if not facts.trials:
        return "No trial has been proposed yet."
    if not np.isfinite(facts.outcomes).any():
        return "No trial has a result yet."
    if facts.problem.constraints:
        bounds = listed([bound(c) for c in facts.problem.constraints])
        return f"No trial has all its objectives measured and satisfies {bounds}."
    return "No trial has all its objectives measured."


def caution(facts: Facts) -> str:
    """What the results are worth, where they come from a model."""
    if facts.spec.evaluate.with_ != "potential":
        return ""
    return (
        "These figures are a model's, not an experiment's: a machine-learned interatomic potential "
        "is best near what it was trained on. Check what you find with DFT before you believe it, "
        "and with a synthesis before you publish it."
    )
