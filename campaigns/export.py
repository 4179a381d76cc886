"""How a campaign leaves: as a table, as one JSON document, as an Ax experiment.

Every exporter is a function ``(campaign, out) -> path`` under the entry point group
``matloop.exporters``, so that `dashboards` and other distributions can bring more. Each file is
written whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns import __version__, records
from campaigns.csv_cells import neutral
from campaigns.errors import MatloopError, UsageError, did_you_mean, quoted
from campaigns.handout import is_crystal, known_columns
from campaigns.results_columns import with_unit
from campaigns.store.models import utc_now
from campaigns.write_file import check_writable, make_folder, not_written, write_whole

if TYPE_CHECKING:
    from campaigns.campaign import Campaign

Exporter = Callable[["Campaign", Path], Path]

GROUP: Final = "matloop.exporters"

SCHEMA: Final = 1
"""Version of the JSON export; a key that changes its meaning or goes raises it."""

_ENDINGS: Final = {"csv": ".csv", "json": ".json", "ax": ".ax.json", "report": ".html"}

# SQLite's own files, seen from the database: itself, its write-ahead log, its shared memory.
_OF_SQLITE: Final = ("", "-wal", "-shm", "-journal", "-turn")


def export_formats() -> list[str]:
    """The formats that are installed."""
    return sorted(metadata.entry_points(group=GROUP).names)


def export(campaign: Campaign, format: str, out: str | Path | None = None) -> Path:
    """Write a campaign in one of the formats that are installed.

    Args:
        campaign: What to write.
        format: One of `export_formats`.
        out: The file, or a folder for it; default: `<campaign>.<format>` in this folder.

    Returns:
        The file written.

    Raises:
        UsageError: There is no such format or no such folder, or another kind of file is there.
        MatloopError: The format cannot be loaded, or the file not written.
    """
    found = list(metadata.entry_points(group=GROUP, name=format))
    if not found:
        hint = did_you_mean(format, export_formats())
        raise UsageError(f"there is no export format {quoted(format)}", hint=hint)
    path = Path(campaign.name + _ENDINGS.get(format, f".{format}"))
    if out is not None:
        path = Path(out) / path if os.path.isdir(out) else Path(out)
    check_writable(path)
    _spare(campaign, path, _ENDINGS.get(format, f".{format}"))
    try:
        exporter: Exporter = found[0].load()
    except (ImportError, AttributeError) as error:
        raise MatloopError(
            f"the export format {format!r} cannot be loaded",
            where=found[0].value,
            why=str(error),
            hint="`matloop doctor` tells what is missing",
        ) from error
    try:
        return exporter(campaign, path)
    except OSError as error:
        raise not_written(path, error) from error


def _spare(campaign: Campaign, path: Path, ending: str) -> None:
    """Refuse to overwrite the database, or a file that no export of this format wrote."""
    target, db = path.resolve(), campaign.store.path
    if db and target in {db.resolve().with_name(db.resolve().name + e) for e in _OF_SQLITE}:
        what = "this is the campaign's own database"
    elif os.path.exists(path) and path.suffix.lower() != Path(f"x{ending}").suffix:
        what = f"a file that does not end in {ending} is there already"
    else:
        return
    raise UsageError(
        what,
        where=str(path),
        unchanged="that file; nothing was written",
        hint=f"name a file that ends in {ending} with --out",
    )


def to_csv(campaign: Campaign, out: Path) -> Path:
    """Write one row a trial, and the crystals as CIF files in a folder beside it.

    A text that a spreadsheet would evaluate has an apostrophe before it.

    For each metric there are four columns, all in its unit: what was measured, its standard error,
    what was predicted before, and that prediction's standard deviation.

    Args:
        campaign: What to write.
        out: The file; crystals go to `<its name without .csv>.cif/`.

    Returns:
        The file.

    Raises:
        MatloopError: A file cannot be written.
    """
    trials = _trials(campaign)
    units = campaign.spec.metric_units()
    known = known_columns(campaign.spec, [(t["trial"], t["name"], t["design"]) for t in trials])
    front = set(campaign.front().index)
    crystals = _write_crystals(campaign, trials, out)
    kinds = sorted({kind for files in crystals.values() for kind in files})
    named = ["fidelity"] if campaign.spec.fidelities else []
    columns = [
        "trial",
        "status",
        *named,
        *(with_unit(name, c.unit or "") for name, c in known.items()),
        *kinds,
    ]
    for metric, unit in units.items():
        endings = ("", "_sem", "_predicted", "_predicted_sd")
        columns += [with_unit(metric + ending, unit) for ending in endings]
    columns += [
        "front", "source", "failure", "method", "acquisition", "feasibility", "seed", "generator",
        "attempt", "created", "started", "ended",
    ]  # fmt: skip
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    for trial in trials:
        told, index = trial["provenance"], trial["trial"]
        at = [trial["fidelity"]] if named else []
        row = [index, trial["status"], *at]
        row += [column.values.get(index) for column in known.values()]
        row += [crystals.get(index, {}).get(kind) for kind in kinds]
        for metric in units:
            measured = trial["observations"].get(metric, {})
            expected = (told.get("prediction") or {}).get(metric) or {}
            row += [measured.get("mean"), measured.get("sem")]
            row += [expected.get("mean"), expected.get("sd")]
        sources = sorted({o["source"] for o in trial["observations"].values()})
        generators = [f"{g['name']} {g['version']}" for g in told.get("generators", {}).values()]
        row += ["yes" if index in front else "no", "; ".join(sources), trial["failure"]]
        row += [told.get(key) for key in ("method", "acquisition", "feasibility", "seed")]
        row += ["; ".join(generators), trial["attempt"]]
        row += [trial[key] for key in ("created", "started", "ended")]
        lines.writerow(map(neutral, row))
    return write_whole(out, text.getvalue())


def to_json(campaign: Campaign, out: Path) -> Path:
    """Write all that is known of a campaign as one JSON document (see ``docs/cli.md``).

    Raises:
        MatloopError: The file cannot be written.
    """
    rows = campaign._trials()
    document = {
        "matloop": __version__,
        "schema": SCHEMA,
        "exported": utc_now().isoformat(),
        "campaign": campaign.name,
        "spec": campaign.spec.model_dump(mode="json"),
        "status": campaign.status(),
        "trials": [
            records.trial_dict(row) | {"artifacts": campaign.artifacts(row.index)} for row in rows
        ],
        "observations": [
            {
                "id": o.id, "trial": row.index, "metric": o.metric, "mean": o.mean, "sem": o.sem,
                "unit": o.unit, "fidelity": o.fidelity, "source": o.source,
                "time": o.time.isoformat(),
                "supersedes": o.supersedes_id,
            }
            for row in rows
            for o in row.observations
        ],
        "surrogate_fits": campaign.fits(),
        "generators": campaign.generators(),
        "events": campaign.events(),
    }  # fmt: skip
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1)
    return write_whole(out, text + "\n")


def to_ax(campaign: Campaign, out: Path) -> Path:
    """Write an experiment that `ax.api.client.Client.load_from_json_file` loads.

    See `campaigns.export_ax` for what becomes of the campaign's parts.

    Raises:
        MatloopError: The file cannot be written.
    """
    from campaigns.export_ax import ax_snapshot

    text = json.dumps(ax_snapshot(campaign), ensure_ascii=False)
    return write_whole(out, text + "\n")


def _trials(campaign: Campaign) -> list[dict[str, Any]]:
    return [records.trial_dict(row) for row in campaign._trials()]


def _write_crystals(
    campaign: Campaign, trials: Sequence[Mapping[str, Any]], out: Path
) -> dict[int, dict[str, str]]:
    """Write every trial's crystals; by trial and column: the path as seen from the table."""
    folder = out.with_name(f"{out.stem}.cif")
    written: dict[int, dict[str, str]] = {}
    for trial in trials:
        index = trial["trial"]
        texts = {f"{a}_cif": v["cif"] for a, v in trial["design"].items() if is_crystal(v)}
        for name, text in campaign.artifacts(index).items():
            if name.endswith(".cif"):
                texts[f"{Path(name).stem}_cif"] = text
        for column, text in texts.items():
            if not written:
                make_folder(folder)
            name = f"trial-{index}-{column.removesuffix('_cif')}.cif"
            write_whole(folder / name, text)
            written.setdefault(index, {})[column] = f"{folder.name}/{name}"
    return written
