"""The command by which a person says which of two trials is better: `matloop prefer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from campaigns.cli_options import Db, Json, Which
from campaigns.cli_output import begin
from campaigns.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from campaigns.campaign import Campaign


def prefer(
    campaign: Which,
    better: Annotated[
        int | None,
        typer.Argument(min=0, metavar="[A]", help="The better trial.", show_default=False),
    ] = None,
    worse: Annotated[
        int | None,
        typer.Argument(min=0, metavar="[B]", help="The worse one.", show_default=False),
    ] = None,
    ask: Annotated[
        bool, typer.Option("--ask", help="Show the two trials whose ranking would teach most.")
    ] = False,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Take back what was said of A and B, or what was said last."),
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Say that trial A is better than trial B, where objectives are in conflict.

    From three ranked pairs on, designs are proposed by the utility that these tell of, in place of
    hypervolume. Without trials, it lists what was said; nothing that was said is ever deleted.
    """
    out = begin("prefer", json)
    from campaigns import preferences
    from campaigns.cli_campaigns import _opened

    if (better is None) != (worse is None):
        raise UsageError("a preference is between two trials", hint="as in matloop prefer NAME 4 7")
    if ask and (undo or better is not None):
        raise UsageError("--ask only asks", hint="leave the trials and --undo out")
    pair = None if better is None or worse is None else (better, worse)
    with _opened(campaign, db) as opened:
        data: dict[str, Any] = {"campaign": opened.name}
        shown: list[RenderableType] = []
        if ask:
            found = preferences.question(opened)
            data["ask"] = list(found)
            shown += _pair(opened, found)
            name = opened.name
            shown.append(f"next: matloop prefer {name} {found[0]} {found[1]}, if {found[0]} is")
            shown.append(f"better; matloop prefer {name} {found[1]} {found[0]}, if {found[1]} is")
        elif undo:
            back = preferences.undo(opened, pair)
            data["undone"] = {"better": back[0], "worse": back[1]}
            shown.append(f"taken back: that trial {back[0]} is better than trial {back[1]}")
        elif pair is not None:
            data |= preferences.prefer(opened, *pair)
            told = f"trial {pair[0]} is better than trial {pair[1]}"
            told += "" if data["changed"] else ": that was said before"
            shown.append(f"{told}, not worse as was said before" if data["replaced"] else told)
        with opened.store.read() as session:
            data["preferences"] = preferences.status(session, opened)
        if not ask and not undo and pair is None:
            shown += [f"trial {p['better']} is better than trial {p['worse']}"
                      for p in data["preferences"]["pairs"]]  # fmt: skip
        said = preferences.sentence(data["preferences"])
        shown.append(said or "no pair of trials is ranked")
        out.result(data, *shown)


def _pair(campaign: Campaign, pair: Sequence[int]) -> list[RenderableType]:
    """Two trials side by side, objective by objective."""
    from campaigns.cli_tables import number, table, titled

    trials: list[Mapping[str, Any]] = [campaign.trial(index) for index in pair]
    metrics = [(o.metric, titled(o.metric, o.unit)) for o in campaign.goals.objectives]
    titles = [title for _, title in metrics]
    made = table("trial", "design", *titles, numeric=["trial", *titles])
    for trial in trials:
        measured = trial["observations"]
        values = [number(measured.get(m, {}).get("mean")) for m, _ in metrics]
        made.add_row(str(trial["trial"]), trial["name"] or "", *values)
    return ["which is better?", made]
