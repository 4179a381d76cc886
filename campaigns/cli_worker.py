"""The command `matloop worker`: answer a server's trials on this machine, or on a cluster."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from campaigns.cli_options import Json, UnusedDb
from campaigns.cli_output import begin
from campaigns.errors import UsageError, quoted

Server = Annotated[
    str,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="MATLOOP_SERVER",
        help="Where `matloop serve` runs.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        envvar="MATLOOP_KEY",
        help="A key with the scope work; better in the environment, where no other user sees it.",
        show_default=False,
    ),
]
OfCampaign = Annotated[
    str, typer.Option("--campaign", metavar="NAME", help="The campaign.", show_default=False)
]


def worker(
    server: Server,
    campaign: OfCampaign,
    key: Key = None,
    workers: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="Trials at one time.")
    ] = 1,
    max_trials: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="End after N trials.", show_default="no end"),
    ] = None,
    until_walltime: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="End after so long, and hand back what runs: 55m, 1h30m, or 00:55:00.",
            show_default="no end",
        ),
    ] = None,
    until_idle: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="End when there was nothing to do for so long.",
            show_default="no end",
        ),
    ] = None,
    fidelity: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Take only trials at this one.", show_default="any"),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="local; dask:ADDRESS; or FILE.py:FUNCTION of yours that returns an Executor.",
        ),
    ] = "local",
    spec: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Use this spec's evaluator.", show_default="the campaign's"
        ),
    ] = None,
    allow_python: Annotated[
        bool,
        typer.Option(
            "--allow-python",
            help="Let the campaign's spec name Python functions, calculators and commands that "
            "run here. Only where you trust whoever may write specs on that server.",
        ),
    ] = False,
    folder: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="Where results wait until the server has them."),
    ] = Path("matloop-worker"),
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The worker's name.", show_default="host and process"),
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The server gives a trial to another after so long of silence.",
            show_default="the campaign's",
        ),
    ] = None,
    db: UnusedDb = None,
    json: Json = False,
) -> None:
    """Answer a campaign's trials: lease, evaluate, report, until stopped.

    It needs no open port, so it runs on a laptop, on a node, or as a Slurm job. Ctrl-C, SIGTERM and
    the wall time hand back what runs; a server that is away is waited for; and what a killed worker
    had finished is reported by the next one that starts in the same folder.
    """
    out = begin("worker", json)
    from campaigns.client import Client
    from campaigns.worker import Plan, Worker
    from campaigns.worker_places import own_task, place

    plan = Plan(
        campaign=campaign,
        name=name or _name(campaign),
        folder=folder,
        workers=workers,
        max_trials=max_trials,
        seconds=None if until_walltime is None else duration(until_walltime, "--until-walltime"),
        idle=None if until_idle is None else duration(until_idle, "--until-idle"),
        fidelity=fidelity,
        ttl=None if ttl is None else duration(ttl, "--ttl"),
        task=None if spec is None else own_task(spec),
        allow_python=allow_python,
    )
    # Short, since the worker itself waits, and what runs is looked after meanwhile.
    with (
        Client(server, key, patience=0.0, timeout=20.0) as client,
        place(executor, workers) as made,
    ):
        at_work = Worker(client, plan, made, out.note)
        out.note(f"worker {plan.name} asks {client.url} for trials of {campaign}")
        why = at_work.run()
    done = asdict(at_work.tally)
    counts = ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in done.items() if n)
    out.result(
        {"worker": plan.name, "campaign": campaign, "why": why} | done,
        f"ended ({why.replace('_', ' ')}): {counts or 'nothing was done'}",
    )


def duration(text: str, where: str) -> float:
    """A time such as `55m`, `1h30m`, `90 s`, `00:55:00` or plain seconds, in seconds.

    Raises:
        UsageError: It is none.
    """
    said = text.strip().lower()
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", said)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)?", said)
    whole = "".join(re.findall(r"[\d.]+|d|h|min|m|s", said)) == re.sub(r"\s", "", said)
    seconds = 0.0
    if clock:
        days, a, b, c = (int(part or 0) for part in clock.groups())
        # As Slurm has it: minutes and seconds, or hours, minutes and seconds.
        seconds = days * 86400 + (a * 60 + b if clock[4] is None else a * 3600 + b * 60 + c)
    elif parts and whole and (len(parts) == 1 or all(unit for _, unit in parts)):
        sizes = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1, "": 1}
        seconds = sum(float(number) * sizes[unit] for number, unit in parts)
    if seconds <= 0:
        raise UsageError(
            f"{quoted(text)} is not a time", where=where, hint="as 55m, 1h30m, 90s or 00:55:00"
        )
    return seconds


def _name(campaign: str) -> str:
    """A name that is the same in every message, and nobody else's on this machine."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"{campaign}-{socket.gethostname()}-{f'slurm{job}-' if job else ''}{os.getpid()}"
