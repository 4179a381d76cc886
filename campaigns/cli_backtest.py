"""The command backtest: a campaign replayed on a finished table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from campaigns.cli_options import Json, UnusedDb
from campaigns.cli_output import begin
from campaigns.errors import UsageError


def backtest(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The spec.", show_default=False)],
    table: Annotated[
        Path,
        typer.Option(
            "--table",
            metavar="FILE",
            help="A finished table: CSV, a column for each axis and each metric.",
            show_default=False,
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Replays of each method.")] = 10,
    against: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="What to compare with: random, forest, evolution, ax, baybe."
        ),
    ] = "random,forest",
    initial: Annotated[
        int, typer.Option(min=1, metavar="N", help="First points, the same for every method.")
    ] = 5,
    budget: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Evaluations.", show_default="the spec's trials"),
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="What answers: the mean of a design's repeats, or one of its repeats.",
        ),
    ] = "mean",
    top: Annotated[
        float, typer.Option(metavar="PERCENT", help="Share of the designs that counts as best.")
    ] = 5.0,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out rows of the table that cannot be used.")
    ] = False,
    again: Annotated[
        str, typer.Option(metavar="NAMES", help="Methods to replay again.", show_default=False)
    ] = "",
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes.", show_default="one a processor"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Where to keep it all.", show_default="backtest-CAMPAIGN"
        ),
    ] = None,
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Check a spec on a finished table: would it have found the best, and how soon?

    The campaign is replayed as if nothing of the table were known, and so is each method it is
    compared with, from the same first points. Ctrl-C stops it whenever you like; given again, it
    goes on.
    """
    out = begin("backtest", json)
    if noise not in ("mean", "repeats"):
        raise UsageError(f"--noise is mean or repeats, not {noise}")
    if not 0 < top <= 100:
        raise UsageError(f"--top is a percentage above 0, not {top:g}")
    from campaigns.backtest import Backtest, Done, Options
    from campaigns.backtest_page import write_page
    from campaigns.backtest_report import parts, summary, without_curves
    from campaigns.cli_tables import number
    from campaigns.spec import load_spec
    from campaigns.strict import plain
    from campaigns.write_file import write_whole

    read = load_spec(spec)
    options = Options(
        seeds=seeds,
        initial=initial,
        batch=read.budget.batch,
        budget=budget or read.budget.trials,
        noise=noise,
        top=top / 100,
        skip=skip,
    )
    where = folder or Path(f"backtest-{read.campaign}")  # made once nothing is refused
    wanted = Backtest(read, table, _names(against), options, where)
    for line in wanted.notes():
        out.note(line)

    def listen(ended: Done, count: int, of: int) -> None:
        told = ended.error or f"{number(ended.seconds)} s"
        out.note(f"{count:>5} of {of}  {ended.task.method}, seed {ended.task.seed}: {told}")

    done = wanted.run(workers or os.cpu_count() or 1, listen, _names(again))
    data: dict[str, Any] = plain(summary(wanted, done))
    from json import dumps

    file = write_whole(where / "summary.json", dumps(data, indent=1, allow_nan=False) + "\n")
    page = write_page(where / "backtest.html", data)
    files = {"folder": str(where), "summary": str(file), "page": str(page)}
    out.result({**without_curves(data), **files}, *parts(data), f"the curves: {page}")
    if data["failed"]:
        raise typer.Exit(1)


def _names(text: str) -> list[str]:
    return [name.strip().lower() for name in text.split(",") if name.strip()]
