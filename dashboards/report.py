"""The report: one self-contained HTML page that says what a campaign found.

It needs no network and no file beside it; without its script only hovering, sorting and turning
are gone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from campaigns import __version__
from campaigns.calibration import track_records
from campaigns.errors import MatloopError
from campaigns.explaining import learnt
from campaigns.facts import Facts, read_facts
from campaigns.write_file import write_whole
from dashboards import charts, progress, provenance, tables, words
from dashboards.crystal_picture import colour, gradients
from dashboards.crystals import SYMPREC
from dashboards.figures import VIRIDIS_CSS
from dashboards.found import found as what_was_found
from dashboards.maps import maps as trial_maps
from dashboards.typography import name, plural

if TYPE_CHECKING:
    from jinja2 import Environment

    from campaigns.campaign import Campaign

_TEMPLATES = Path(__file__).with_name("templates")

_MAP_NOTE = (
    "The trials' latent vectors along their two principal components. Dotted: what holds 50 % and "
    "90 % of the prior, seen along the same two directions. Filled with colour: measured (paler: a "
    "constraint is violated). The axes are those that spread these trials most: with few trials in "
    "many dimensions they look further out than they are."
)


def to_report(campaign: Campaign, out: Path) -> Path:
    """Write the report of a campaign; the file is there whole or not at all.

    Args:
        campaign: May be running meanwhile; the page shows it at one instant.
        out: The file. Its folder must exist.

    Returns:
        The file.

    Raises:
        UsageError: There is no such folder.
        MatloopError: The database failed, or the file cannot be written.
    """
    facts = read_facts(campaign)
    return write_whole(out, render(facts, campaign.artifacts, learnt=_learnt(campaign, facts)))


def _learnt(campaign: Campaign, facts: Facts) -> dict[str, Any]:
    """What the results teach; or why that cannot be worked out here."""
    if not facts.ended:
        return {}
    try:
        return learnt(campaign)
    except MatloopError as error:
        # the page can be read where the generator is no more
        return {"notes": [f"what was learnt could not be worked out here: {error.what}"]}


def render(
    facts: Facts,
    artifacts: tables.Artifacts,
    written: datetime | None = None,
    learnt: Mapping[str, Any] | None = None,
) -> str:
    """The page's text.

    Args:
        facts: The campaign.
        artifacts: From a trial's index to what its evaluation left: name to text.
        written: The time to state; default: now.
        learnt: What the campaign has learnt, as `campaigns.explaining.learnt` gives it.
    """
    told = learnt or {}
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    context: dict[str, Any] = {
        "facts": facts,
        "version": __version__,
        "written": written or datetime.now(UTC),
        # ours, and meant as they are; everything else is escaped
        "style": Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "goal": words.goal(facts),
        "trials_word": plural(len(facts), "trial"),
        "found": [*what_was_found(facts), *words.stopped(facts)],
        "learnt": [lesson["sentence"] for lesson in told.get("learnt", ())],
        "learnt_notes": [f"{note[:1].upper()}{note[1:]}." for note in told.get("notes", ())],
        "space": words.space(facts),
        "caution": words.caution(facts),
        "tiles": tables.tiles(facts),
        "columns": tables.columns(facts),
        "filters": tables.filters(facts),
        "kind_names": facts.kind_names,
        "file_stem": re.sub(r"[^A-Za-z0-9._-]+", "-", facts.name),
        "provenance": provenance.everything(facts),
        **_front(facts, artifacts),
        **_trials(facts, artifacts),
        **_figures(facts),
    }
    context["sections"] = [
        (key, title)
        for key, title, there in (
            ("front", context["front_title"], True),
            ("progress", context["progress_title"], context["goal_figures"]),
            ("predictions", "Predictions", True),
            ("map", context["map_title"], context["map_figures"]),
            ("trials", "All trials", True),
            ("surrogate", "What was learnt", True),
            ("provenance", "Provenance", True),
        )
        if there
    ]
    return _environment().get_template("report.html.j2").render(context)


def _front(facts: Facts, artifacts: tables.Artifacts) -> dict[str, Any]:
    front = tables.front(facts, artifacts)
    crystals = [row.crystal for row in front if row.crystal]
    symbols = frozenset[str]().union(*(c.symbols for c in crystals))
    return {
        "front": front,
        "front_title": "The front" if facts.several else "The best designs",
        "front_note": words.front_note(facts, len(front)),
        "nothing": words.nothing(facts),
        "any_file": any(row.files for row in front),
        "any_picture": any(c.picture for c in crystals),
        "gradients": gradients(symbols) if symbols else "",
        "colours": {symbol: colour(symbol) for c in crystals for symbol in c.elements},
        "symprec": SYMPREC,
    }


def _trials(facts: Facts, artifacts: tables.Artifacts) -> dict[str, Any]:
    table = tables.table(facts, artifacts)
    carried = sum(bool(row.files) for row in table)
    note = ""
    if 0 < carried < len(table):
        note = f"CIFs of {carried} of {len(table)} trials are on this page."
    return {"table": table, "table_note": note, "table_files": carried > 0}


def _figures(facts: Facts) -> dict[str, Any]:
    records, maps = track_records(facts), trial_maps(facts)
    latent = any(figure.bar for figure in maps)
    return {
        "goal_figures": charts.objective_space(facts) + progress.figures(facts),
        "progress_title": "Trade-offs and progress" if facts.several else "Progress",
        "parity": [
            (figure, words.record_words(record, facts.units[record.metric]))
            for figure, record in zip(charts.parity(facts, records), records, strict=True)
        ],
        "chances": words.chances(facts),
        "map_figures": maps,
        "map_title": "Latent map" if latent else "Parameters",
        "map_note": _MAP_NOTE if latent else "Each objective against each parameter.",
        "ramp": Markup(VIRIDIS_CSS),
        "surrogate": words.surrogate(facts),
        "learning": charts.learning(facts),
        "metric_names": [name(metric) for metric in facts.metrics],
    }


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
