"""The commands that are about one campaign: run, propose, ingest, status, export."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from campaigns.cli_options import Db, Json, Which
from campaigns.cli_output import Output, begin
from campaigns.errors import UsageError

if TYPE_CHECKING:
    from campaigns.campaign import Campaign

_RECENT = 100
"""Events among which that of a proposal just made is."""


def run(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="SPEC", help="The spec, or the name of a campaign.", show_default=False
        ),
    ],
    budget: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Trials in all.", show_default="the spec's"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**32 - 1,
            metavar="N",
            help="Seed of a new campaign.",
            show_default="the spec's",
        ),
    ] = None,
    go_on: Annotated[
        bool,
        typer.Option(
            "--go-on",
            help="Go on in spite of what ended or paused it: a stop rule, or a budget that asks.",
        ),
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Run a campaign, or go on with it: propose, evaluate, learn.

    It ends when the budget is spent or a stop rule says so, or then pauses and asks. Ctrl-C stops
    it whenever you like; given again, it goes on: no evaluation that finished is lost or made
    twice. Of a spec that a campaign was begun with, budget, stop and evaluate may change, and the
    space and its constraints as far as the trials there are can be kept.
    """
    out = begin("run", json)
    from campaigns.cli_progress import watching
    from campaigns.cli_tables import campaign_parts, counted

    with _begun(spec, db, seed, out) as campaign:
        while True:
            with watching(campaign, out, budget) as listen:
                ended = campaign.run(budget, on_event=listen, go_on=go_on)
            go_on = ended["reason"] == "paused" and _says_yes(ended["question"], out)
            if not go_on:
                break
        shown = campaign_parts(ended, campaign.trials(), campaign.spec)
        # The first line says why it ended, the others what there is.
        shown[0] = f"{campaign.name}: {ended['message']}; {counted(ended)}"
        where = _db_option(db)
        more = f"next: matloop export {campaign.name}{where} --format report"
        if ended["reason"] == "paused":
            more = f"next: matloop run {campaign.name}{where} --go-on, to go on all the same"
        if ended["reason"] == "lab":
            more = f"next: matloop propose {campaign.name}{where} --waiting --out DIR"
        out.result(ended, *shown, more)


def propose(
    campaign: Which,
    n: Annotated[
        int | None,
        typer.Option("-n", min=1, metavar="N", help="How many.", show_default="the spec's batch"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write them here: CIF files, and candidates.csv to fill in.",
            show_default=False,
        ),
    ] = None,
    waiting: Annotated[
        bool,
        typer.Option("--waiting", help="Propose none; show those that wait for results."),
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Propose candidates, for you to make and measure.

    With --out, they are written as CIF files and a table, candidates.csv. Fill the results in, and
    give it to matloop ingest.
    """
    out = begin("propose", json)
    from campaigns import handout
    from campaigns.cli_tables import candidates_table, plural, whys

    with _opened(campaign, db) if waiting else _begun(campaign, db, None, out) as opened:
        if folder is not None:
            handout.prepare(folder)
        if waiting:
            known = opened.trials()
            candidates = known.index[known["status"] == "candidate"]
            trials = [opened.trial(index) for index in candidates]
        else:
            out.note("proposing")
            trials = opened.propose(n)
        data: dict[str, Any] = {"campaign": opened.name, "trials": trials}
        units = opened.spec.metric_units()
        shown: list[Any] = [candidates_table(trials, units), *whys(trials)] if trials else []
        if not waiting:
            data["notes"] = _notes(opened, trials)
            shown += [f"  ({note})" for note in data["notes"]]
        if not trials:
            shown = ["no candidate waits for results"]
        elif folder is not None:
            files = handout.hand_out(opened.spec, trials, folder)
            data["table"] = str(files.table)
            data["crystals"] = {str(t): [str(p) for p in ps] for t, ps in files.crystals.items()}
            cifs = sum(map(len, files.crystals.values()))
            also = f" and {plural(cifs, 'CIF file')}" if cifs else ""
            shown.append(f"wrote {files.table}{also}; fill in the results, then")
            shown.append(
                f"next: matloop ingest {opened.name}{_db_option(db)} {files.table} --dry-run"
            )
        else:
            shown.append(
                f"next: matloop propose {opened.name}{_db_option(db)} --waiting --out DIR "
                "writes them as files"
            )
        out.result(data, *shown)


def ingest(
    campaign: Which,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Results, CSV or JSON.", show_default=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Take in results that you measured: a whole file, or nothing.

    Its columns are trial and the metrics, as in "density (g/cm^3)"; where wanted density_sem,
    status (completed or failed), reason and source. The same file twice is once; another value
    corrects the first.
    """
    out = begin("ingest", json)
    from campaigns.cli_tables import ingested

    with _opened(campaign, db) as opened:
        summary = opened.ingest(file, dry_run=dry_run)
        out.result({"campaign": opened.name, **summary.as_dict()}, *ingested(summary))


def status(
    campaign: Annotated[
        str | None,
        typer.Argument(
            metavar="[CAMPAIGN]", help="A campaign's name, or its spec.", show_default="all"
        ),
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show where campaigns stand, and what they found."""
    out = begin("status", json)
    from campaigns.campaign import Campaign
    from campaigns.cli_tables import campaign_parts, campaigns_table, failures

    names = Campaign.names(db) if campaign is None else [campaign]
    if len(names) == 1:
        with _opened(names[0], db) as opened:
            told, trials = opened.status(), opened.trials()
            parts = campaign_parts(told, trials, opened.spec)
            told["failures"] = failures(trials)
            data = told if campaign is not None else {"campaigns": [told]}
            out.result(data, *parts, f"in {told['database']}")
        return
    every = []
    for name in names:
        with _opened(name, db) as opened:
            told = opened.status() | {"failures": failures(opened.trials())}
            every.append((told, opened.spec))
    shown = campaigns_table(every) if every else "no campaign yet: start one with matloop run SPEC"
    out.result({"campaigns": [told for told, _ in every]}, shown)


def export(
    campaign: Which,
    format: Annotated[
        str,
        typer.Option(
            "--format", metavar="FORMAT", help="csv, json, ax or report.", show_default=False
        ),
    ],
    path: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The file, or a folder for it.",
            show_default="the campaign's name, in this folder",
        ),
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Write a campaign as a table, as data, or as a page.

    csv is a table with a row for each trial, and beside it a folder of CIF files; json is all that
    is known; ax loads with ax.api.client.Client; report is an HTML page that needs nothing else.
    """
    out = begin("export", json)
    from campaigns.export import export as write

    with _opened(campaign, db) as opened:
        written = write(opened, format, path)
    data = {"campaign": opened.name, "format": format, "file": str(written)}
    out.result(data, f"wrote {written}")


def _says_yes(asked: Mapping[str, Any], out: Output) -> bool:
    """Ask whether to go on, where a person sits at a terminal; elsewhere it stays as it is."""
    if out.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return input(f"{asked['question']} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _is_spec(which: str) -> bool:
    return which.lower().endswith((".yaml", ".yml")) or os.sep in which or os.path.isfile(which)


def _opened(which: str, db: str | None) -> Campaign:
    """The campaign of a name or of a spec, as it is in the database."""
    if _is_spec(which):
        from campaigns.spec import load_spec

        which = load_spec(which).campaign
    return _named(which, db)


def _named(name: str, db: str | None) -> Campaign:
    """The campaign of a name; or a hint where the spec may be that was meant."""
    from campaigns.campaign import Campaign

    try:
        return Campaign.open(name, db)
    except UsageError as error:
        specs = [f for f in (f"{name}.yaml", f"{name}.yml") if os.path.isfile(f)]
        if os.path.isdir(name):
            specs = sorted(str(file) for file in Path(name).glob("*.y*ml"))
        if specs:
            error.hint = f"did you mean {specs[0]}?"
        raise


def _begun(which: str, db: str | None, seed: int | None, out: Output) -> Campaign:
    """The campaign of a name, or of a spec: then it is begun, or takes what may change of it."""
    from campaigns.campaign import Campaign

    if not _is_spec(which):
        if seed is not None:
            raise UsageError(
                "the seed of a campaign is given when it begins",
                where=f"--seed {seed}",
                unchanged=f"the campaign {which!r}",
                hint="leave --seed out, or name a spec",
            )
        return _named(which, db)
    from campaigns.spec import load_spec
    from campaigns.spec_environment import check_own_generators

    spec = load_spec(which)
    check_own_generators(spec)  # before there is a campaign of it
    text = Path(which).read_text(encoding="utf-8", errors="replace")
    campaign = Campaign.create_or_open(spec, db, spec_text=text, seed=seed)
    told = campaign.events(last=1)[0]
    if told["kind"] == "campaign_created":
        out.note(f"{campaign.name}: a new campaign in {campaign.store.where}")
    elif told["kind"] == "spec_changed":
        changed = ", ".join(told["payload"]["changed"])
        out.note(f"{campaign.name}: takes the spec's new {changed}")
    return campaign


def _db_option(db: str | None) -> str:
    """What the next command needs to find the same database; MATLOOP_DB is there for it too."""
    return f" --db {db}" if db and db != os.environ.get("MATLOOP_DB") else ""


def _notes(campaign: Campaign, trials: list[dict[str, Any]]) -> list[str]:
    """What there is to say of the proposal that made these trials."""
    made = {trial["trial"] for trial in trials}
    for event in reversed(campaign.events(last=_RECENT)):
        if event["kind"] == "trials_proposed" and made & set(event["payload"]["trials"]):
            notes: list[str] = event["payload"]["notes"]
            return notes
    return []
