"""The commands that are about the service: serve, and its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from campaigns.cli_options import Db, Json
from campaigns.cli_output import begin
from campaigns.errors import UsageError

token = typer.Typer(no_args_is_help=True, help="Make, list and revoke keys to the service.")


def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; by default only this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="The port.")] = 8000,
    spec: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="SPEC", help="Begin this campaign, or go on with it.", show_default=False
        ),
    ] = None,
    no_engine: Annotated[
        bool,
        typer.Option("--no-engine", help="Propose nothing here: another server does, or nobody."),
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Serve campaigns to laboratories, workers and people.

    An engine beside the server proposes ahead of need, and learns from what comes in. At the first
    start, a key is made and shown once.
    """
    out = begin("serve", json)
    from campaigns.service.serving import serve as run

    for path in spec or ():
        from campaigns.campaign import Campaign

        with Campaign.create_or_open(path, db) as campaign:
            out.note(f"{campaign.name} is in {campaign.store.where}")
    run(db, host, port, engine=not no_engine, tell=out.note)
    out.result({"host": host, "port": port}, "the service ended; every change is kept")


@token.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="read, work, ingest, decide or admin; several times.",
            show_default="read and work",
        ),
    ] = None,
    campaign: Annotated[
        str | None,
        typer.Option(metavar="CAMPAIGN", help="Only for this campaign.", show_default="all"),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(metavar="N", help="Until it expires.", show_default="never"),
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Make a key and show it: nobody can find it again."""
    out = begin("token create", json)
    from campaigns.service import tokens
    from campaigns.store import Store

    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise UsageError("a key has a name of 1 to 200 characters", where=repr(name[:40]))
    if days is not None and not 0 < days <= 36500:
        raise UsageError("a key lives for more than no time", where=f"--days {days:g}")
    store = Store(db)
    with store.write() as session:
        key, told = tokens.make(session, name, scope or ["read", "work"], campaign, days)
    store.close()
    out.result({**told, "key": key}, key)


@token.command("list")
def listed(db: Db = None, json: Json = False) -> None:
    """Show all keys, without what opens anything."""
    out = begin("token list", json)
    from campaigns.cli_tables import table
    from campaigns.service import tokens
    from campaigns.store import Store

    store = Store(db, create=False)
    with store.read() as session:
        found = tokens.listed(session)
    store.close()
    shown = table("id", "name", "for", "campaign", "made", "expires", "revoked")
    for row in found:
        shown.add_row(
            row["id"], row["name"], ", ".join(row["scopes"]), row["campaign"] or "all",
            row["created"][:16], (row["expires"] or "never")[:16], (row["revoked"] or "")[:16],
        )  # fmt: skip
    out.result({"tokens": found}, shown if found else "there is no key yet")


@token.command("revoke")
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `matloop token list` shows it.")],
    db: Db = None,
    json: Json = False,
) -> None:
    """End a key, within seconds."""
    out = begin("token revoke", json)
    from campaigns.service import tokens
    from campaigns.store import Store

    store = Store(db, create=False)
    with store.write() as session:
        there = tokens.revoke(session, id)
    store.close()
    if not there:
        raise UsageError(f"there is no key {id!r}", unchanged="all keys")
    out.result({"id": id, "revoked": True}, f"{id} opens nothing any more")
