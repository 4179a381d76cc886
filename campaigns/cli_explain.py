"""The command that says why: `matloop explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from campaigns.cli_options import Db, Json, Which
from campaigns.cli_output import begin

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_FEATURES = 8


def explain(
    campaign: Which,
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial",
            min=0,
            metavar="N",
            help="Only why this trial was proposed.",
            show_default="those that wait",
        ),
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Say why designs were proposed, and what the campaign has learnt.

    Of each proposal that waits, or else of the last ones: what was expected of it, how sure that
    was, and the nearest design tried before. Then what matters to each metric, how far the model
    can be believed, what is in conflict, where trials fail, and what is still uncertain.
    """  # fmt: skip
    out = begin("explain", json)
    from campaigns.cli_campaigns import _opened

    with _opened(campaign, db) as opened:
        if trial is None:
            out.note("fitting what was observed")
        told = opened.explain(trial)
        units = opened.spec.metric_units()
        out.result(told, *_shown(told, units))


def _shown(told: Mapping[str, Any], units: Mapping[str, str]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for trial in told["trials"]:
        parts.append(f"trial {trial['trial']}, {trial['name'] or 'a design'} ({trial['status']})")
        parts.append(f"  {trial['text']}")
        parts += [f"  {line}" for line in _outcome(trial, units)]
    if not told["trials"]:
        parts.append("nothing was proposed yet")
    if "learnt" not in told:
        return parts
    parts.append("what the campaign has learnt" if told["learnt"] else "nothing was learnt yet")
    parts += [f"  - {lesson['sentence']}" for lesson in told["learnt"]]
    parts += [f"  ({note})" for note in told["notes"]]
    if any(found["shares"] for found in told["importances"].values()):
        parts.append(_importances(told["importances"]))
    return parts


def _outcome(trial: Mapping[str, Any], units: Mapping[str, str]) -> list[str]:
    from campaigns.cli_tables import number

    if trial["status"] == "failed":
        return [f"It failed: {trial['failure'] or 'no reason'}"]
    measured = [
        f"{metric} {number(seen['mean'])} {seen['unit']}".removesuffix(" dimensionless")
        for metric in units
        if (seen := trial["observations"].get(metric)) is not None
    ]
    return [f"Measured: {', '.join(measured)}"] if measured else []


def _importances(found: Mapping[str, Any]) -> RenderableType:
    from campaigns.cli_tables import table

    metrics = [metric for metric, told in found.items() if told["shares"]]
    largest = {
        feature: max(found[m]["shares"].get(feature, 0.0) for m in metrics)
        for m in metrics
        for feature in found[m]["shares"]
    }
    features = sorted(largest, key=largest.__getitem__, reverse=True)[:_MOST_FEATURES]
    title = "what matters, as a share"
    if len(features) < len(largest):
        title += f" (the first {len(features)} of {len(largest)} features)"
    made = table("feature", *metrics, numeric=metrics, title=title)
    for feature in features:
        shares = (found[m]["shares"].get(feature, 0.0) for m in metrics)
        made.add_row(feature, *(f"{100 * share:.0f} %" for share in shares))
    return made
