"""What a backtest found, for a person: a table, the comparisons, what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from campaigns.backtest import Backtest, Done
from campaigns.cli_tables import number, plural, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from loop.backtest import Trace

OURS = "matloop"


def summary(backtest: Backtest, done: Sequence[Done]) -> dict[str, Any]:
    """All figures of a backtest as JSON: `loop.backtest.summarise`, with what was asked for.

    Returns:
        `campaign`, `options`, `table`, `methods`, `against`, `failed` (method, seed, error),
        `missing` (how many replays did not end).
    """
    from dataclasses import asdict

    from loop.backtest import Trace, summarise

    traces: dict[str, list[Trace]] = {}
    for task in done:
        if task.trace is not None:
            traces.setdefault(task.task.method, []).append(Trace.from_json(task.trace))
    found = summarise(backtest.problem, backtest.read.table, traces, top=backtest.options.top)
    failed = [
        {"method": d.task.method, "seed": d.task.seed, "error": d.error} for d in done if d.error
    ]
    return {
        "campaign": backtest.spec.campaign,
        "options": asdict(backtest.options),
        "ignored_columns": backtest.read.ignored,
        "rows_left_out": len(backtest.read.left_out),
        **found,
        "failed": failed,
        "missing": len(backtest.methods) * backtest.options.seeds - len(done),
    }


def without_curves(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same without the curves, which are long."""
    methods = {
        name: {key: value for key, value in told.items() if key != "curves"}
        for name, told in data["methods"].items()
    }
    return {**data, "methods": methods}


def figure(told: Mapping[str, float | None], percent: bool = False) -> str:
    """A number and its interval: `2.1 (1.6 to 2.7)`."""

    def shown(value: float | None, nothing: str = "?") -> str:
        if value is None:
            return nothing
        return f"{100 * value:.3g} %" if percent else f"{value:.2g}"

    text = shown(told["value"], "not reached")
    if told["low"] is None and told["high"] is None:
        return text
    return f"{text} ({shown(told['low'])} to {shown(told['high'])})".replace(" % (", " (").replace(
        " % to", " to"
    )


def parts(data: Mapping[str, Any]) -> list[RenderableType]:
    """What a person gets to see of a summary."""
    if not data["methods"]:
        return failures(data)
    several = "hypervolume" in next(iter(data["methods"].values()))["figures"]
    shown: list[RenderableType] = [_methods(data, several)]
    if data["against"]:
        shown.append(_against(data, several))
    shown += failures(data)
    return shown


def _methods(data: Mapping[str, Any], several: bool) -> RenderableType:
    options, top = data["options"], data["table"]
    best = "the front" if several else f"Top {100 * top['top_share']:g} %"
    half = f"{100 * top['acceleration_level']:g} %"
    quality = "hypervolume, area" if several else "simple regret"
    columns = [
        f"{best} found", f"acceleration at {half}", "enhancement", quality, "80 % interval holds",
        "seconds", "replays",
    ]  # fmt: skip
    title = (
        f"{data['campaign']}: {options['budget']} evaluations of {top['designs']} designs, "
        f"{top['top']} of them {'on the front' if several else 'on top'}, batches of"
        f" {options['batch']}, mean (95 % interval)"
    )
    made = table("method", *columns, numeric=columns, title=title)
    for name, told in data["methods"].items():
        figures = told["figures"]
        accelerated = figure(figures["acceleration"])
        if figures["acceleration"]["value"] is None:
            level = top["acceleration_level"]
            accelerated = f"below {level * top['designs'] / told['evaluations']:.2g}"
        worth = figures["hypervolume_area"] if several else figures["regret"]
        inside = [c["inside"]["0.8"] for c in told["coverage"].values()]
        made.add_row(
            name,
            figure(figures["top"], percent=True),
            accelerated,
            figure(figures["enhancement"]),
            figure(worth, percent=True),
            ", ".join(f"{100 * share:.0f} %" for share in inside),
            number(told["seconds"]["cpu"]),
            str(len(told["seeds"])),
        )
    return made


def _against(data: Mapping[str, Any], several: bool) -> RenderableType:
    columns = ["top found, more by", "acceleration, times"]
    columns.append("hypervolume area, more by" if several else "simple regret, more by")
    made = table("against", *columns, numeric=columns, title=f"{OURS}, seed by seed, against")
    for name, told in data["against"].items():
        if not told["seeds"]:
            continue
        worth = told["hypervolume_area"] if several else told["regret"]
        ratio = told["acceleration_ratio"]
        made.add_row(
            name,
            figure(told["top"], percent=True),
            "" if ratio["value"] is None and ratio["low"] is None else figure(ratio),
            figure(worth, percent=True),
        )
    return made


def failures(data: Mapping[str, Any]) -> list[RenderableType]:
    """Replays that raised, each reason once with how often; and those that never ended."""
    lines: list[RenderableType] = []
    for (method, error), count in Counter(
        (f["method"], f["error"]) for f in data["failed"]
    ).items():
        lines.append(f"failed: {plural(count, 'replay')} by {method}: {error}")
    if data["missing"]:
        lines.append(f"not done: {plural(data['missing'], 'replay')}")
    return lines
