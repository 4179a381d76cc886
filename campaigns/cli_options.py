"""Options that commands share."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document; everything else goes to standard error.",
        rich_help_panel="Everywhere",
    ),
]
Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        envvar="MATLOOP_DB",
        help="The database: sqlite:///FILE or postgresql://USER@HOST/NAME.",
        show_default="sqlite:///matloop.db",
        rich_help_panel="Everywhere",
    ),
]
# Taken everywhere, so that one set of options goes with any command.
UnusedDb = Annotated[str | None, typer.Option("--db", hidden=True)]

Which = Annotated[
    str,
    typer.Argument(
        metavar="CAMPAIGN", help="The campaign's name, or its spec.", show_default=False
    ),
]


def flow(app: typer.Typer) -> None:
    """Let the lines of each paragraph of an app's help flow, as a terminal is wide."""
    for entry in (app.registered_callback, *app.registered_commands):
        if entry is not None and entry.callback is not None:
            paragraphs = inspect.cleandoc(entry.callback.__doc__ or "").split("\n\n")
            entry.help = "\n\n".join(" ".join(p.split()) for p in paragraphs)
