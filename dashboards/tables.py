"""The report's two tables: the front with its crystals, and all trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from campaigns.explaining import why
from campaigns.facts import Facts
from campaigns.handout import flat_design
from campaigns.spec_axes import CompositionAxis, RangeAxis
from dashboards import words
from dashboards.crystals import Crystal, Download, cifs, designed_cif, downloads, read_crystal
from dashboards.found import volume as volume_of
from dashboards.typography import (
    design_name,
    design_name_html,
    label,
    name,
    number,
    quantity,
    short,
    unit,
    with_error,
)
from loop.front import utilities

MOST_FRONT = 60  # rows; a front of many objectives can hold every trial
BEST_SHOWN = 10  # with one objective: so many of the best
CIF_BYTES = 400_000  # of links in the table of all trials; the front's are always there

Artifacts = Callable[[int], Mapping[str, str]]
"""From a trial's index to what its evaluation left: name to text."""


@dataclass(frozen=True)
class Column:
    """A metric: its label with its unit, and what is wanted of it."""

    label: str
    wish: str


@dataclass(frozen=True)
class Cell:
    """A metric of a trial.

    Attributes:
        value: To sort by.
        text: To read.
        before: What was predicted.
        far: That it is beyond the threshold of its objective, where it is.
    """

    value: str
    text: str
    before: str
    far: str


@dataclass(frozen=True)
class FrontRow:
    """A trial of the front, with its crystal where it has one."""

    trial: int
    name: str
    crystal: Crystal | None
    parameters: list[str]
    files: list[Download]
    cells: list[Cell]
    method: str


@dataclass(frozen=True)
class TableRow:
    """A trial in the table of all.

    `tip` is what hovering over its mark shows, `why` says why it was proposed.
    """

    trial: int
    name_html: Markup
    kind: str
    status: str
    judged: str
    cells: list[Cell]
    method: str
    why: str
    failure: str
    files: list[Download]
    tip: str


def columns(facts: Facts) -> list[Column]:
    """One for each metric."""
    wishes: dict[str, list[str]] = {metric: [] for metric in facts.metrics}
    for objective in facts.problem.objectives:
        wish = {"maximize": "more is better", "minimize": "less is better"}.get(objective.goal)
        if objective.target is not None:
            wish = "level" if objective.goal == "level" else "wanted"
            wish += f" {short(objective.target)}"
            wish += f" ± {short(objective.tolerance)}" if objective.tolerance else ""
        wishes[objective.metric].append(wish or "")
    for constraint in facts.problem.constraints:
        sign = "≤" if constraint.op == "<=" else "≥"
        wishes[constraint.metric].append(f"{sign} {short(constraint.bound)}")
    return [Column(label(m, facts.units[m]), ", ".join(wishes[m])) for m in facts.metrics]


def front_rows(facts: Facts) -> list[int]:
    """Rows to show first: the front by its first objective; with one objective, the best ten."""
    gains = utilities(facts.problem, facts.outcomes)[:, 0]
    rows = np.flatnonzero(facts.front if facts.several else facts.usable)
    ranked = [int(i) for i in rows[np.argsort(-gains[rows], kind="stable")]]
    return ranked[: MOST_FRONT if facts.several else BEST_SHOWN]


def front(facts: Facts, artifacts: Artifacts) -> list[FrontRow]:
    """The front's rows."""
    found = []
    for row in front_rows(facts):
        trial = facts.trials[row]
        texts = cifs(trial["design"], artifacts(trial["trial"]))
        crystal = read_crystal(texts)
        method = trial["provenance"].get("method")
        found.append(
            FrontRow(
                trial["trial"],
                design_name(trial["name"]),
                crystal,
                _parameters(facts, trial) if crystal else [],
                downloads(trial["trial"], trial["name"], texts),
                _cells(facts, row),
                "by hand" if method is None else "drawn blindly" if method == "prior" else method,
            )
        )
    return found


def table(facts: Facts, artifacts: Artifacts) -> list[TableRow]:
    """All trials; CIFs of the first so many that a page of reasonable size can carry."""
    found, room = [], CIF_BYTES
    for row, trial in enumerate(facts.trials):
        files: list[Download] = []
        if room > 0 and designed_cif(trial["design"]) is not None:
            left = artifacts(trial["trial"]) if trial["status"] == "completed" else {}
            files = downloads(trial["trial"], trial["name"], cifs(trial["design"], left))
            # the one that the results belong to; the design is in the front's table and the exports
            files = files[:1]
            room -= sum(file.size for file in files)
        kind = facts.kinds[row]
        judged = facts.kind_names[kind] if trial["status"] == "completed" else ""
        found.append(
            TableRow(
                trial["trial"],
                design_name_html(trial["name"]),
                kind,
                trial["status"],
                judged,
                _cells(facts, row),
                trial["provenance"].get("method") or "by hand",
                str((why(trial["provenance"]) or {}).get("text") or ""),
                trial["failure"] or "",
                files if room > 0 else [],
                _tip(facts, row),
            )
        )
    return found


def filters(facts: Facts) -> list[tuple[str, str, int]]:
    """What the table can be narrowed to: key, label, count; statuses, then kinds of results."""
    by_status = Counter(t["status"] for t in facts.trials)
    by_kind = Counter(k for k in facts.kinds if k in ("front", "ok", "out", "part"))
    found = [(s, s, n) for s, n in by_status.items()]
    return found + [(k, label, by_kind[k]) for k, label in facts.kind_names.items() if by_kind[k]]


def _parameters(facts: Facts, trial: dict[str, Any]) -> list[str]:
    """The values beside the crystal, a line each."""
    lines = []
    for part, value in flat_design(trial["design"]).items():
        axis_name, _, of_axis = part.partition(".")
        axis = facts.spec.space.get(axis_name)
        if isinstance(axis, CompositionAxis) and not value:
            continue
        part = f"{axis_name} {of_axis}" if of_axis else axis_name
        of = axis.unit if isinstance(axis, RangeAxis | CompositionAxis) else "dimensionless"
        shown = quantity(value, of) if isinstance(value, int | float) else str(value)
        lines.append(f"{name(part)} {shown}")
    return lines


def _cells(facts: Facts, row: int) -> list[Cell]:
    cells = []
    for j, metric in enumerate(facts.metrics):
        mean, sem = float(facts.outcomes[row, j]), float(facts.sem[row, j])
        if math.isfinite(mean):
            text, value, far = with_error(mean, sem), repr(mean), _far(facts, metric, mean)
        else:
            text = value = far = ""
        cells.append(Cell(value, text, _before(facts, row, j), far))
    return cells


def _far(facts: Facts, metric: str, mean: float) -> str:
    for objective in facts.problem.objectives:
        if objective.metric == metric and objective.threshold is not None:
            away = mean if objective.target is None else abs(mean - objective.target)
            beyond = away - objective.threshold
            if (beyond < 0) if objective.goal == "maximize" else (beyond > 0):
                return f"beyond {short(objective.threshold)}"
    return ""


def _before(facts: Facts, row: int, j: int) -> str:
    mean, sd = float(facts.predicted[row, j]), float(facts.predicted_sd[row, j])
    return f"predicted {with_error(mean, sd)}" if math.isfinite(mean) else ""


def _tip(facts: Facts, row: int) -> str:
    trial = facts.trials[row]
    lines = [
        f"{design_name(trial['name'])}",
        f"trial {trial['trial']}: {facts.kind_names[facts.kinds[row]]}",
    ]
    for j, metric in enumerate(facts.metrics):
        mean, of = float(facts.outcomes[row, j]), facts.units[metric]
        shown = quantity(mean, of, float(facts.sem[row, j])) if math.isfinite(mean) else ""
        before = _before(facts, row, j)
        if shown or before:
            lines.append(f"{name(metric)} {shown}" + (f" ({before})" if before else ""))
    if trial["failure"]:
        lines.append(trial["failure"][:160])
    method = trial["provenance"].get("method")
    if method:
        lines.append(words.method(method))
    return "\n".join(lines)


def tiles(facts: Facts) -> list[tuple[str, str]]:
    """The figures at the top: value and label."""
    if not facts.ended:
        return []
    found = []
    gains = utilities(facts.problem, facts.outcomes)
    rows = np.flatnonzero(facts.worth if facts.worth.any() else facts.front)
    for k, objective in enumerate(facts.problem.objectives[:3] if len(rows) else ()):
        row = rows[int(np.argmax(gains[rows, k]))]
        value = float(facts.outcomes[row, facts.metrics.index(objective.metric)])
        word = {"maximize": "highest", "minimize": "lowest"}.get(objective.goal, "closest")
        found.append((quantity(value, objective.unit), f"{word} {name(objective.metric)}"))
    if facts.several and facts.front.any():
        found.append((str(int(facts.front.sum())), "on the front"))
    volume = volume_of(facts)
    if volume is not None:
        units = "·".join(unit(o.unit) for o in facts.problem.objectives if unit(o.unit))
        found.append((number(volume), f"hypervolume ({units})" if units else "hypervolume"))
    failed = sum(kind == "failed" for kind in facts.kinds)
    found.append((f"{len(facts.ended)}", f"trials ended, {failed or 'none'} of them failed"))
    return found
