"""What was found, in sentences. Everything is plain text; the template escapes it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from campaigns.facts import Facts
from campaigns.store.models import FAILED
from dashboards.typography import design_name, listed, name, plural, quantity, share
from dashboards.words import bound, quantity_short
from loop.front import feasible, hypervolume, reference_point, utilities
from loop.problem import Objective


def found(facts: Facts) -> list[str]:
    """What was found, in two to five sentences."""
    if not facts.trials:
        return ["No trial has been proposed yet."]
    said = [_counts(facts)]
    completed = [i for i, t in enumerate(facts.trials) if t["status"] == "completed"]
    if not completed:
        reasons = Counter(t["failure"] for t in facts.trials if t["status"] in FAILED)
        if reasons:
            reason, times = reasons.most_common(1)[0]
            said.append(f"Nothing was measured; the commonest reason ({times}): {reason}")
        return said
    if facts.problem.constraints:
        said.append(_feasibility(facts, completed))
    rows = np.flatnonzero(facts.front)
    if not len(rows):
        return said
    if facts.problem.contour:
        return [*said, *_sides(facts)]
    if facts.several:
        worth = np.flatnonzero(facts.worth)
        said += [_front(facts, rows), _ends(facts, worth if len(worth) else rows)]
        said.append(_preferences(facts))
    else:
        said.append(_best(facts, rows))
    said.append(_methods(facts, rows))
    return [s for s in said if s]


def _counts(facts: Facts) -> str:
    by = Counter(t["status"] for t in facts.trials)
    text = f"{plural(by['completed'], 'trial')} completed"
    if failed := sum(by[status] for status in FAILED):
        text += f", {failed} failed"
    waiting = by["candidate"] + by["running"]
    if waiting:
        text += f", {waiting} not answered yet"
    if by["abandoned"]:
        text += f", {by['abandoned']} abandoned"
    return f"{text}, of a budget of {facts.granted}."


def _feasibility(facts: Facts, completed: list[int]) -> str:
    holds = feasible(facts.problem, facts.outcomes)
    ok = sum(bool(holds[i]) for i in completed)
    bounds = listed([bound(c) for c in facts.problem.constraints])
    if not ok:
        return f"None of them satisfies {bounds} yet."
    return f"Of those completed, {share(ok, len(completed))} satisfy {bounds}."


def _sides(facts: Facts) -> list[str]:
    """How many trials were measured on which side of each level."""
    said = []
    for objective in facts.problem.objectives:
        y = facts.outcomes[:, facts.metrics.index(objective.metric)]
        above, below = int((y >= objective.target).sum()), int((y < objective.target).sum())
        level = quantity_short(objective.target, objective.unit)
        said.append(
            f"Of {name(objective.metric)}, {above} were measured above {level} and {below} below."
        )
    return said


def _preferences(facts: Facts) -> str:
    """Whether a person's word on pairs of trials says what is proposed."""
    told = facts.preferences
    if not told.get("used"):
        return ""
    return (
        f"What is better was said of {told['count']} pairs of trials, and this chooses what is "
        "proposed in place of hypervolume."
    )


def _front(facts: Facts, rows: np.ndarray) -> str:
    if len(rows) == 1:
        return f"{_name(facts, rows[0])} (trial {rows[0]}) is best in every objective at once."
    text = f"{len(rows)} of them form the front: no other trial is as good in every objective and "
    text += "better in one."
    worth = int(facts.worth.sum())
    if worth < len(rows):
        text += (
            f" {worth or 'None'} of these {'is' if worth == 1 else 'are'} within all thresholds."
        )
    return text


def _ends(facts: Facts, rows: np.ndarray) -> str:
    """The front's best in each objective, and its most even compromise."""
    gains = utilities(facts.problem, facts.outcomes)[rows]
    said = []
    for k, objective in enumerate(facts.problem.objectives[:3]):
        row = rows[int(np.argmax(gains[:, k]))]
        said.append(f"{_superlative(objective)} is {_values(facts, row)}")
    spread = np.ptp(gains, axis=0)
    if len(rows) > 2 and (spread > 0).all():
        lost = (gains.max(axis=0) - gains) / spread
        middle = rows[int(np.argmin(np.linalg.norm(lost, axis=1)))]
        said.append(f"the most even compromise is {_values(facts, middle)}")
    text = "; ".join(said)
    if facts.worth.any() and not facts.worth.all() and len(rows) < facts.front.sum():
        text = f"of these, {text}"
    return f"{text[0].upper()}{text[1:]}."


def _superlative(objective: Objective) -> str:
    if objective.target is not None:
        return f"closest to the wanted {name(objective.metric)}"
    word = "highest" if objective.goal == "maximize" else "lowest"
    return f"{word} in {name(objective.metric)}"


def _best(facts: Facts, rows: np.ndarray) -> str:
    (objective,) = facts.problem.objectives
    row = rows[0]
    text = f"The best is {_values(facts, row)}"
    if objective.target is not None:
        column = facts.metrics.index(objective.metric)
        away = abs(float(facts.outcomes[row, column]) - objective.target)
        text += f", {quantity_short(away, objective.unit)} from the target"
        if objective.tolerance is not None:
            near = feasible(facts.problem, facts.outcomes) & (
                np.abs(facts.outcomes[:, column] - objective.target) <= objective.tolerance
            )
            text += f"; {plural(int(near.sum()), 'trial')} came within the wanted "
            text += quantity_short(objective.tolerance, objective.unit)
    return f"{text}."


def _methods(facts: Facts, rows: np.ndarray) -> str:
    """How many of the front the model chose: the campaign's own control."""
    model = [t["provenance"].get("method") not in ("prior", None) for t in facts.trials]
    tried = facts.ended
    chosen, blind = (sum(model[i] == flag for i in tried) for flag in (True, False))
    if not chosen or not blind:
        return ""
    best = sum(model[i] for i in rows)
    noun = "the front" if facts.several else "the best"
    text = (
        f"Of the {plural(blind, 'trial')} drawn blindly, {len(rows) - best or 'none'} ended on "
        f"{noun}; of the {chosen} chosen by the model, {best or 'none'}."
    )
    if not facts.several:
        text = f"It was chosen by the model, after {plural(blind, 'trial')} drawn blindly."
        if not best:
            text = f"It was drawn blindly; none of the {chosen} that the model chose beat it."
    return text


def volume(facts: Facts) -> float | None:
    """The hypervolume, where there are several objectives and a front."""
    if not facts.several or not facts.front.any():
        return None
    corner, _ = reference_point(facts.problem, facts.outcomes)
    return hypervolume(facts.problem, facts.outcomes, corner)


def _values(facts: Facts, row: int) -> str:
    """A trial's name with its index and its objectives."""
    values = ", ".join(
        quantity(float(facts.outcomes[row, facts.metrics.index(o.metric)]), o.unit)
        for o in facts.problem.objectives
    )
    return f"{_name(facts, row)} (trial {row}: {values})"


def _name(facts: Facts, row: int) -> str:
    return design_name(facts.trials[row]["name"]).partition(" (")[0]
