"""What people see of a campaign: its state, its front, its candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from campaigns.spec_models import MOST_TRIALS
from campaigns.statuses import FAILED

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType
    from rich.table import Table

    from campaigns.ingestion import Summary
    from campaigns.spec import Spec

_MOST_FAILURES = 5
_MOST_FRONT = 20


def number(value: float | None) -> str:
    """A number as a person reads it; empty for none."""
    return "" if value is None or value != value else f"{value:.4g}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def titled(metric: str, unit: str) -> str:
    """`density (g/cm^3)`, `cost` where the unit is none."""
    return metric if unit in ("", "dimensionless") else f"{metric} ({unit})"


def table(*columns: str, numeric: Sequence[str] = (), title: str | None = None) -> Table:
    """An empty table with these columns, the numeric ones to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        right = column in numeric
        made.add_column(
            column, justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    return made


def counted(status: Mapping[str, Any]) -> str:
    """`12 of 40 trials: 9 completed, 1 failed, 2 running`."""
    counts = [
        plural(n, "candidate") if name == "candidate" else f"{n} {name}"
        for name, n in status["counts"].items()
        if n
    ]
    told = f"{status['counted']} of {plural(status['budget'], 'trial')}"
    if (cost := status.get("cost")) is not None:
        unit = f" {cost['unit']}" if cost["unit"] else ""
        of = "" if cost["budget"] is None else f" of {cost['budget']:g}"
        told += f", at a cost of {cost['spent']:g}{of}{unit}"
        if cost["budget"] is not None and status["budget"] >= MOST_TRIALS:
            told = f"{plural(status['counted'], 'trial')}{told[told.index(',') :]}"
    return f"{told}: {', '.join(counts)}" if counts else told


def best(status: Mapping[str, Any], spec: Spec) -> str:
    """The best value of each objective, and the hypervolume; may be empty.

    Where it is not known what hypervolume counts from, the corner is inferred from the trials, so
    that it may fall as a campaign goes on: then it is not shown.
    """
    parts = [
        f"{metric} {number(b['value'])} {_unit(b['unit'])}(trial {b['trial']})"
        for metric, b in status["best"].items()
    ]
    fixed = all(objective.threshold is not None for objective in spec.objectives.values())
    if status["hypervolume"] is not None and fixed:
        parts.append(f"hypervolume {number(status['hypervolume'])}")
    return ", ".join(parts)


def campaign_parts(
    status: Mapping[str, Any], trials: pd.DataFrame, spec: Spec
) -> list[RenderableType]:
    """A campaign in full: where it stands, what it found, what failed."""
    from campaigns import preferences

    parts: list[RenderableType] = [f"{status['campaign']}: {counted(status)}"]
    if status["question"]:
        parts.append(f"paused: {status['question']['question']}")
        parts.append(f"        {status['question']['answer']}")
    if said := preferences.sentence(status["preferences"]):
        parts.append(said)
    if status["best"]:
        parts.append(f"best: {best(status, spec)}")
    elif status["counts"]["completed"]:
        parts.append("best: no trial meets all constraints yet")
    if status["front"]:
        parts.append(front_table(trials.loc[status["front"]], spec.metric_units()))
    failed = trials[trials["status"].isin(FAILED)]
    for index, trial in failed.tail(_MOST_FAILURES).iterrows():
        reason = trial["failure"] or "no reason"
        parts.append(f"{trial['status']}: trial {index}, {trial['name']}: {reason}")
    if len(failed) > _MOST_FAILURES:
        parts.append(f"        and {len(failed) - _MOST_FAILURES} before")
    return parts


def front_table(front: pd.DataFrame, units: Mapping[str, str]) -> RenderableType:
    """The trials that no other beats, with what was measured of them."""
    metrics = [titled(metric, unit) for metric, unit in units.items()]
    shown = front.head(_MOST_FRONT)
    title = "the front"
    if len(shown) < len(front):
        title = f"the front (the first {len(shown)} of {len(front)} trials)"
    made = table("trial", "design", *metrics, numeric=["trial", *metrics], title=title)
    for index, trial in shown.iterrows():
        made.add_row(str(index), str(trial["name"]), *(number(trial[m]) for m in units))
    return made


def candidates_table(trials: Sequence[Mapping[str, Any]], units: Mapping[str, str]) -> Table:
    """Candidates with what the surrogate predicts of them."""
    metrics = [titled(metric, unit) for metric, unit in units.items()]
    named = ["fidelity"] if any(trial.get("fidelity") for trial in trials) else []
    made = table("trial", "design", *named, *metrics, "method", numeric=["trial", *metrics])
    for trial in trials:
        told = trial["provenance"]
        predicted = [_predicted(told["prediction"].get(metric)) for metric in units]
        at = [trial.get("fidelity") or ""] if named else []
        made.add_row(str(trial["trial"]), trial["name"], *at, *predicted, told["method"])
    return made


def whys(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why each candidate was proposed, a line each; trials of which the same is said share one."""
    from campaigns.explaining import why_text

    said: dict[str, list[str]] = {}
    for trial in trials:
        said.setdefault(why_text(trial["provenance"]), []).append(str(trial["trial"]))
    return [f"why {', '.join(which)}: {text}" for text, which in said.items()]


def campaigns_table(campaigns: Sequence[tuple[Mapping[str, Any], Spec]]) -> Table:
    """All campaigns of a database, one a row."""
    made = table("campaign", "trials", "completed", "failed", "best", numeric=["trials"])
    for status, spec in campaigns:
        counts = status["counts"]
        made.add_row(
            status["campaign"], f"{status['counted']} of {status['budget']}",
            str(counts["completed"]), str(sum(counts[s] for s in FAILED)), best(status, spec),
        )  # fmt: skip
    return made


def _predicted(expected: Mapping[str, Any] | None) -> str:
    if not expected:
        return ""
    mean, sd = expected.get("mean"), expected.get("sd")
    return number(mean) + (f" ± {sd:.2g}" if sd is not None else "")


def _unit(unit: str) -> str:
    return "" if unit in ("", "dimensionless") else unit + " "


def failures(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Failed trials and why, as JSON."""
    failed = trials[trials["status"].isin(FAILED)]
    return [
        {"trial": int(str(index)), "name": trial["name"], "reason": trial["failure"]}
        for index, trial in failed.iterrows()
    ]


def ingested(summary: Summary) -> list[str]:
    """What became of a results file, in lines."""
    if summary.already_ingested:
        return [f"{summary.source} was taken in before: nothing changed"]
    would = "would take" if summary.dry_run else "took"
    lines = [f"{would} in {summary.source}: {plural(summary.added, 'new value')}"]
    if summary.corrected:
        lines.append(f"  corrected: {plural(summary.corrected, 'value')}; the former ones are kept")
    if summary.realised:
        lines.append(f"  as realised: parameters of {plural(len(summary.realised), 'trial')}")
    if summary.repeated:
        lines.append(f"  known already: {plural(summary.repeated, 'value')}")
    for told, trials in (("completed", summary.completed), ("failed", summary.failed)):
        if trials:
            lines.append(f"  {told}: trial{'s' * (len(trials) > 1)} {', '.join(map(str, trials))}")
    return lines
