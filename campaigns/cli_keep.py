"""The commands by which nothing is lost: backup, restore, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from campaigns.cli_options import Db, Json
from campaigns.cli_output import begin
from campaigns.errors import MatloopError


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to.", show_default=False)],
    db: Db = None,
    json: Json = False,
) -> None:
    """Copy the database to a file, whole, while others use it."""
    out = begin("backup", json)
    from campaigns.store import Store, copies

    store = Store(db, create=False)
    names = copies.backup(store, file)
    store.close()
    data = {"file": str(file), "bytes": file.stat().st_size, "campaigns": names}
    out.result(data, f"wrote {file}: {', '.join(names) or 'no campaign'}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A copy.", show_default=False)],
    db: Db = None,
    json: Json = False,
) -> None:
    """Bring a copy back, to where no database is."""
    out = begin("restore", json)
    from campaigns.store import copies, default_url

    url = db or default_url()
    names = copies.restore(file, url)
    out.result({"file": str(file), "campaigns": names}, f"restored {', '.join(names) or 'nothing'}")


def replay(
    campaign: Annotated[
        str | None, typer.Argument(metavar="[CAMPAIGN]", help="Which.", show_default="all")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write what was rebuilt, JSON.", show_default=False
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Write a new database from the events.", show_default=False
        ),
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Rebuild campaigns, trials and observations from the event log, and compare the tables.

    With --into, a database is written whose tables are what the events tell.
    """
    out = begin("replay", json)
    from campaigns.campaign import Campaign
    from campaigns.replaying import differences
    from campaigns.store.models import CampaignRow
    from campaigns.strict import strict_json
    from campaigns.write_file import write_whole

    told, rebuilt, shown = [], {}, []
    for name in Campaign.names(db) if campaign is None else [campaign]:
        with Campaign.open(name, db) as opened, opened.store.read() as session:
            row = session.get_one(CampaignRow, opened._row.id)
            found, differ = differences(session, row)
        trials = found.trials
        observed = sum(len(t.observations) for t in trials.values())
        told.append({"campaign": name, "trials": len(trials), "observations": observed,
                     "differences": differ})  # fmt: skip
        rebuilt[name] = {str(index): trial.as_dict() for index, trial in trials.items()}
        agree = "the tables agree" if not differ else f"{len(differ)} things differ"
        shown += [f"{name}: {len(trials)} trials, {observed} observations; {agree}"]
        shown += [f"  {one}" for one in differ[:20]]
    if file is not None:
        write_whole(file, strict_json(rebuilt))
    if into is not None:
        shown.append(_rebuild(db, into))
    wrong = [one for one in told if one["differences"]]
    if wrong and into is None:
        raise MatloopError(
            "the tables are not what the events tell",
            where=", ".join(str(one["campaign"]) for one in wrong),
            why="\n".join(shown),
            unchanged="the database",
            hint="a program other than matloop wrote to it, or the disk failed: restore a backup, "
            "or `matloop replay --into URL`",
        )
    out.result({"campaigns": told}, *(shown or ["no campaign yet"]))


def _rebuild(db: str | None, into: str) -> str:
    """Write a new database from the events of another; what was written, in a line."""
    from campaigns.rebuilding import rebuild
    from campaigns.store import Store

    target = Store(into)
    rows = rebuild(Store(db, create=False), target)
    target.close()
    told = ", ".join(f"{n} of {table}" for table, n in rows.items() if n)
    return f"wrote {target.where}: {told}"
