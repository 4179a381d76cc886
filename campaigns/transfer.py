"""What a campaign learns from others: the results of earlier ones, and tables.

They teach the surrogate, each as a source of its own, and count for nothing else: not for the
budget, the front or the incumbent. What is not in common is left out, and a note says how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from sqlalchemy import select

from campaigns import fidelities, records, units
from campaigns.errors import MatloopError, UsageError, did_you_mean, quoted
from campaigns.realised import made
from campaigns.spec_axes import AnyAxis, CompositionAxis, PoolAxis, RangeAxis
from campaigns.spec_changes import completed, in_space
from campaigns.store.models import CampaignRow, Trial

if TYPE_CHECKING:
    import numpy as np

    from campaigns.campaign import Campaign
    from campaigns.spec import Spec
    from loop.problem import Problem
    from loop.proposal import History

MOST: Final = 300
"""Results that are taken of one campaign or table: with more, some at random. Beyond a thousand in
all, a surrogate is no longer exact."""


@dataclass(frozen=True)
class Earlier:
    """What one campaign or table has to teach.

    Attributes:
        name: of the campaign, or the path of the table.
        designs: n of them, as the space reads them.
        outcomes, sem: n x m, in the problem's units; nan = not known.
        notes: what was left out.
    """

    name: str
    designs: list[dict[str, Any]]
    outcomes: np.ndarray
    sem: np.ndarray
    notes: list[str]


def with_earlier(campaign: Campaign, history: History) -> tuple[History, list[str]]:
    """A history, and what the campaign learns from, as further sources; with notes.

    Raises:
        UsageError: There is no such campaign, or nothing that it has in common with this one.
        MatloopError: A table cannot be read.
    """
    import numpy as np

    spec, problem = campaign.spec, campaign.problem
    notes: list[str] = []
    found = problem.fidelities
    number = 1 if found is None else found.sources
    for one in spec.learn_from:
        earlier = (
            _campaign(campaign, one) if isinstance(one, str) else _table(spec, problem, one.table)
        )
        earlier = _some(earlier, spec.seed)
        n = len(earlier.designs)
        notes += earlier.notes
        if not n:
            continue
        notes.append(f"learns from {n} results of {earlier.name} (source {number})")
        source = np.zeros(len(history.designs), int) if history.source is None else history.source
        history = replace(
            history,
            designs=[*history.designs, *earlier.designs],
            outcomes=np.vstack([history.outcomes, earlier.outcomes]),
            sem=np.vstack([history.sem, earlier.sem]),
            failed=np.concatenate([history.failed, np.zeros(n, dtype=bool)]),
            source=np.concatenate([source, np.full(n, number)]),
            source_names={**history.source_names, number: earlier.name},
            names=None,
            members=None if history.members is None else [*history.members, *[None] * n],
            errors=None
            if history.errors is None
            else np.vstack([history.errors, np.full_like(earlier.outcomes, np.nan)]),
        )
        number += 1
    return history, notes


def _some(earlier: Earlier, seed: int) -> Earlier:
    """At most `MOST` of the results."""
    import numpy as np

    n = len(earlier.designs)
    if n <= MOST:
        return earlier
    rows = np.sort(np.random.default_rng([seed, n]).permutation(n)[:MOST])
    return Earlier(
        earlier.name,
        [earlier.designs[i] for i in rows],
        earlier.outcomes[rows],
        earlier.sem[rows],
        [*earlier.notes, f"{earlier.name}: {MOST} of {n} results, drawn at random"],
    )


def _table(spec: Spec, problem: Problem, path: str) -> Earlier:
    from campaigns.backtest_table import read_table

    read = read_table(path, spec, problem, skip=True)
    outcomes, sem = read.table.answers(None)
    lost = read.left_out
    notes = [f"{path}: left out {len(lost)} rows, the first: {lost[0]}"] if lost else []
    return Earlier(path, list(read.table.designs), outcomes, sem, notes)


def _campaign(campaign: Campaign, name: str) -> Earlier:
    from campaigns.spec import Spec

    spec, where = campaign.spec, f"learn_from: {name}"
    with campaign.store.read() as session:
        rows = {row.name: row for row in session.scalars(select(CampaignRow))}
        if name not in rows:
            others = [other for other in rows if other != campaign.name]
            raise UsageError(
                f"there is no campaign {quoted(name)} to learn from",
                where=where,
                unchanged="the campaign",
                hint=did_you_mean(name, others)
                or f"{campaign.store.where} has no other campaign: name a table, or remove it",
            )
        trials = records.trials_of(session, rows[name].id)
    try:
        theirs = Spec.model_validate(rows[name].spec)
    except ValidationError as error:
        raise MatloopError(
            f"the spec of campaign {name!r} cannot be read", where=where, unchanged="the campaign",
            hint="it may be of a later matloop",
        ) from error  # fmt: skip
    wanted = spec.metric_units()
    if not set(wanted) & set(theirs.metric_units()):
        raise UsageError(
            f"{name} has none of this campaign's metrics",
            where=where,
            why=f"it has {', '.join(theirs.metric_units())}; this one {', '.join(wanted)}",
            unchanged="the campaign",
            hint="the metrics need the same names; or remove it from learn_from",
        )
    usable = [
        trial
        for trial, counts in zip(trials, fidelities.counting(theirs, trials), strict=True)
        if counts and trial.status == "completed"
    ]
    return _read(campaign, name, theirs, usable)


def _read(campaign: Campaign, name: str, theirs: Spec, trials: list[Trial]) -> Earlier:
    import numpy as np

    from loop.search import encodable

    space, wanted = campaign.problem.space, campaign.spec.metric_units()
    metrics = campaign.problem.metrics
    designs: list[dict[str, Any]] = []
    values: list[list[tuple[float, float]]] = []
    why = ""
    for trial in trials:
        row = [_value(trial, metric, wanted[metric], name) for metric in metrics]
        if all(np.isnan(mean) for mean, _ in row):
            continue
        try:
            asked = space.from_json(_translated(campaign.spec, theirs, trial.design))
            design = made(campaign.spec, asked, _realised(campaign.spec, theirs, trial))
            _, good = encodable(space.features, [design])
            if not good:
                raise ValueError("the space cannot encode it")
        except (ValueError, KeyError) as error:
            why = why or f"trial {trial.index}: {' '.join(str(error).split())}"
            continue
        designs.append(design)
        values.append(row)
    left_out = len(trials) - len(designs)
    if trials and not designs:
        raise UsageError(
            f"no design of {name} fits this campaign's space",
            where=f"learn_from: {name}",
            why=why or "nothing that this campaign asks for was measured",
            unchanged="the campaign",
            hint="the axes need the same names and values; or remove it from learn_from",
        )
    notes = [] if trials else [f"{name} has no results yet to learn from"]
    if left_out:
        told = f" ({why})" if why else ""
        notes.append(f"{name}: left out {left_out} of {len(trials)} results{told}")
    if extra := sorted(set(theirs.space) - set(campaign.spec.space)):
        notes.append(f"{name}: its {', '.join(extra)} is not looked at, being no axis here")
    found = np.array(values, dtype=float).reshape(len(designs), len(metrics), 2)
    return Earlier(name, designs, found[..., 0], found[..., 1], notes)


def _realised(ours: Spec, theirs: Spec, trial: Trial) -> dict[str, dict[str, Any]]:
    """What was realised of a trial of another campaign, in the units of this one's axes."""
    told = {}
    for name, one in (trial.realised or {}).items():
        axis, other = (s.space.get(name.partition(".")[0]) for s in (ours, theirs))
        if axis is None or isinstance(one["value"], str):
            told[name] = one
        elif isinstance(axis, CompositionAxis) and isinstance(other, CompositionAxis):
            told[name] = {"value": one["value"] * axis.total / other.total}
        else:
            told[name] = {"value": _translate(axis, other, one["value"])}
    return told


def _value(trial: Trial, metric: str, unit: str, name: str) -> tuple[float, float]:
    """Mean and standard error in our unit; nan where not measured."""
    observed = records.current(trial).get(metric)
    if observed is None:
        return float("nan"), float("nan")
    try:
        mean = units.convert(observed.mean, observed.unit, unit)
        if observed.sem is None:
            return mean, float("nan")
        return mean, units.convert_spread(observed.sem, observed.unit, unit)
    except units.UnitError as error:
        raise UsageError(
            f"{name} has {metric} in {observed.unit}, which is no {unit}",
            where=f"learn_from: {name}",
            why=error.what,
            unchanged="the campaign",
            hint="metrics of one name must measure one kind of thing; or remove it from learn_from",
        ) from error


def _translated(ours: Spec, theirs: Spec, design: Mapping[str, Any]) -> dict[str, Any]:
    """A design of another campaign, as JSON, in the units and parts of this one's axes.

    Raises:
        ValueError: It has an ingredient that this space lacks, or a unit of another kind.
    """
    whole = completed(theirs, design)
    shared = {
        name: _translate(ours.space[name], theirs.space.get(name), value)
        for name, value in whole.items()
        if name in ours.space
    }
    return in_space(ours, shared)


def _translate(axis: AnyAxis, other: AnyAxis | None, value: Any) -> Any:
    if isinstance(axis, RangeAxis) and isinstance(other, RangeAxis):
        return units.convert(value, other.unit, axis.unit) if axis.unit != other.unit else value
    if isinstance(axis, CompositionAxis) and isinstance(value, Mapping):
        used = {name: amount for name, amount in value.items() if amount}
        scale = axis.total / other.total if isinstance(other, CompositionAxis) else 1.0
        return {name: amount * scale for name, amount in used.items()}
    if isinstance(axis, PoolAxis) and isinstance(value, Mapping) and axis.columns is not None:
        return {name: value[name] for name in ("row", *axis.columns)}
    return value
