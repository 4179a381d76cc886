"""An explanation in words: plain sentences, without a number that says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loop.problem import Objective, Problem

if TYPE_CHECKING:
    from loop.explain import Explanation, Outlook


def with_sentences(problem: Problem, told: Explanation) -> Explanation:
    """The same explanation with its sentences."""
    said = [_expectation(problem, told), _reason(problem, told), _doubts(told)]
    return replace(told, sentences=tuple(s for s in said if s))


def _expectation(problem: Problem, told: Explanation) -> str:
    if not told.outlook:
        return "Drawn without a model: too little is known for one yet."
    if len(problem.objectives) > 1:
        return _expected_of_several(problem, told)
    (objective,) = problem.objectives
    return f"Expected {_expected(objective, told.outlook[objective.metric])}."


def _expected_of_several(problem: Problem, told: Explanation) -> str:
    parts = []
    for objective in problem.objectives:
        outlook = told.outlook[objective.metric]
        part = f"{words(objective.metric)} {number(outlook.mean)} ± {outlook.sd:.2g}"
        part += _unit(objective.unit)
        if objective.goal == "level":
            part += f" (level {number(objective.target or 0.0)})"
        parts.append(part if outlook.best is None else f"{part} (best {number(outlook.best)})")
    text = f"Expected {listed(parts)}"
    if told.joins_front is not None:
        text += f"; by the model it would {'' if told.joins_front else 'not '}join the front"
    if told.serves is not None:
        text += f", and serves {words(told.serves)} most"
    return f"{text}."


def _expected(objective: Objective, outlook: Outlook) -> str:
    value = f"{words(objective.metric)} {number(outlook.mean)} ± {outlook.sd:.2g}"
    value += _unit(objective.unit)
    if objective.goal == "level" and objective.target is not None:
        away = outlook.mean - objective.target
        side = "above" if away > 0 else "below"
        return f"{value}, {number(abs(away), objective.unit)} {side} the level"
    best, gain = outlook.best, outlook.gain
    if best is None or gain is None:
        return value
    spread = outlook.sd / outlook.share_of_spread if outlook.share_of_spread > 0 else 0.0
    if objective.target is not None:
        away, was = (abs(x - objective.target) for x in (outlook.mean, best))
        return (
            f"{value}, {number(away, objective.unit)} from the target"
            f" (the best so far: {number(was, objective.unit)}, by the model)"
        )
    so_far = f"the best so far ({number(best, objective.unit)} by the model)"
    if abs(gain) < 0.005 * spread:
        return f"{value}, level with {so_far}"
    # A percentage says something of a number that is large beside how much such numbers differ.
    share = 100 * abs(gain / best) if best else 0.0
    far = f"{share:.{0 if share >= 10 else 1}f} %" if abs(best) > spread else ""
    by = far or number(abs(gain), objective.unit)
    text = f"{value}, {by} {'better than' if gain > 0 else 'short of'} {so_far}"
    if gain <= 0 and outlook.chance is not None:
        text += f", with a chance of {percent(outlook.chance)} to beat it"
    return text


def _reason(problem: Problem, told: Explanation) -> str:
    why = {
        "exploration": "chosen mostly because it is uncertain",
        "exploitation": "chosen mostly because it is expected to be good",
        "both": "chosen because it may be good and because it is uncertain, about equally",
        "slight": "hardly any gain is expected of it",
        "feasibility": "chosen to find a first design that satisfies the constraints",
        "foretold": "chosen for what the generator foretells of it, since nothing is measured yet"
        " that it could be compared with",
        "blind": "drawn blindly, to learn from" if told.outlook else "",
    }[told.kind]
    if problem.contour and told.kind != "blind":
        why = "chosen since it is not known yet on which side it is"
    near = told.nearest
    if near is None:
        return f"{why[:1].upper()}{why[1:]}." if why else ""
    measured = [
        f"{words(o.metric)} {number(value, o.unit)}"
        for o in problem.objectives
        if (value := near.outcomes.get(o.metric)) is not None
    ]
    what = f"{near.name} ({', '.join(measured) if measured else 'without a result'})"
    text = f"The nearest design tried is {what}"
    if near.typical is not None and near.typical > 0:
        if near.distance > 2 * near.typical:
            text = f"It is far from all that was tried, the nearest being {what}"
        elif near.distance < 0.5 * near.typical:
            text = f"It is very close to {what}"
    return f"{text}; {why}." if why else f"{text}."


def _doubts(told: Explanation) -> str:
    parts = [f"{text} holds with {percent(p)}" for text, p in told.constraints.items()]
    if told.feasibility is not None and told.feasibility < 0.9:
        parts.append(f"the trial succeeds with {percent(told.feasibility)}")
    text = listed(parts)
    return f"Chances: {text}." if text else ""


def words(metric: str) -> str:
    """A metric or a feature as words."""
    return metric.replace("_", " ")


def percent(share: float) -> str:
    """A share in percent: never 100 % or 0 % unless it all but is."""
    shown = 100.0 * share
    if 0.0 < shown < 1.0 or 99.0 < shown < 100.0:
        return "less than 1 %" if shown < 1.0 else "more than 99 %"
    return f"{shown:.0f} %"


def _unit(unit: str) -> str:
    return "" if unit in ("", "dimensionless") else f" {unit}"


def number(value: float, unit: str = "") -> str:
    """A number with its unit: `184.2 GPa`."""
    return f"{value:.4g}{_unit(unit)}"


def listed(parts: Sequence[str]) -> str:
    """Parts as a list in a sentence: `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
