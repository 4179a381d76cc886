"""The command that shows an Ax experiment in a browser: `matloop dashboard`."""

from __future__ import annotations

from typing import Annotated

import typer

from campaigns.cli_options import Json, UnusedDb
from campaigns.cli_output import begin
from campaigns.errors import MatloopError, UsageError


def dashboard(
    ax: Annotated[
        str | None,
        typer.Option(
            "--ax",
            metavar="FILE|URL",
            help="The experiment: Ax's JSON file, its SQLite file, or its database's URL.",
            show_default=False,
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which, where a database holds several."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes any that is free.")
    ] = 8001,
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Show any Ax 1.x experiment in a browser: its trials, and Ax's analyses of them.

    The page follows the file or database as it grows. No matloop campaign is needed; those are
    shown by `matloop serve`.
    """
    out = begin("dashboard", json)
    from importlib.metadata import entry_points

    if ax is None:
        raise UsageError(
            "which experiment?",
            where="matloop dashboard",
            hint="name it by --ax FILE_OR_URL; `matloop serve` shows the campaigns of a database",
        )
    found = entry_points(group="matloop.dashboards", name="ax")
    if not found:
        raise MatloopError(
            "the pages are not installed", hint="install matloop anew, whole: `pip install matloop`"
        )
    serve = next(iter(found)).load()
    serve(ax, experiment, host, port, out.note)
