"""The command `matloop watch`: a folder of CSV files as a campaign's laboratory."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from campaigns.cli_options import Db, Json
from campaigns.cli_output import begin
from campaigns.cli_worker import Key, OfCampaign, duration
from campaigns.errors import MatloopError, UsageError


def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)],
    campaign: OfCampaign,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where `matloop serve` runs; without it, the database is used.",
            show_default=False,
        ),
    ] = None,
    key: Key = None,
    n: Annotated[
        int, typer.Option("-n", min=1, max=1000, metavar="N", help="Trials that wait in it.")
    ] = 4,
    settle: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="A file that grew this long ago is whole."),
    ] = 2.0,
    ttl: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="With a server: its trials go to others when this was not running for so long.",
        ),
    ] = "2d",
    once: Annotated[
        bool, typer.Option("--once", help="Look once, after --settle, and end: for cron.")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Hand trials out and take results in by files in a folder.

    It writes proposals.csv, and the crystals beside it. Fill the table in, or drop another with the
    column trial, CSV or JSON: what is right is taken in and moved to done, rows that are wrong go
    to quarantine with the reason. NIMO's folders and instruments that write CSV need no more.
    """
    out = begin("watch", json)
    from campaigns.watch import Watch
    from campaigns.watch_desks import open_desk
    from campaigns.write_file import make_folder

    make_folder(folder)
    told = duration(ttl, "--ttl") if server else None
    if server is None and key is not None and db is None:
        raise UsageError("--key is for a server", where="--key", hint="name it with --server")
    desk = open_desk(
        campaign, server=server, key=key, db=db, folder=folder, ttl=told, tell=out.note
    )
    with contextlib.closing(desk), stopping() as stop:
        watched = Watch(folder, desk, n, settle, out.note)
        if once:
            watched.look()
            stop.event.wait(settle)
            count = watched.look()
        else:
            out.note(f"watching {folder} for {campaign}; Ctrl-C ends it")
            count = watched.run(stop.event)
    if stop.signal is not None:
        raise MatloopError(
            "interrupted", why=stop.signal, unchanged="the folder and the campaign",
            hint="run the same command again",
        )  # fmt: skip
    out.result(
        {"folder": str(folder), "campaign": campaign, "files": count},
        f"{count} files were dealt with",
    )


class Stop:
    """Ctrl-C or SIGTERM, as an event.

    Attributes:
        event: Set when one came.
        signal: Which.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal: str | None = None


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Note signals while something goes on that looks at the event now and then."""
    stop = Stop()

    def note(number: int, _frame: FrameType | None) -> None:
        stop.signal = signal.Signals(number).name
        stop.event.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
