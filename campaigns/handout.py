"""What goes to a laboratory: the crystals, and one table to make them by and to fill in.

The table names each candidate and its parameters beside empty columns for the results. It comes
back by `matloop ingest`, which then finds rows that were mixed up, and parameters that were
changed.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns.csv_cells import neutral
from campaigns.errors import MatloopError, UsageError
from campaigns.results_columns import Known, header, with_unit
from campaigns.spec_changes import completed
from campaigns.write_file import make_folder, write_whole

if TYPE_CHECKING:
    from campaigns.spec import Spec

TABLE: Final = "candidates.csv"


@dataclass(frozen=True)
class Handout:
    """The files of a batch.

    Attributes:
        table: The table to fill in.
        crystals: The CIF files, by trial; empty without a crystal in the space.
    """

    table: Path
    crystals: dict[int, list[Path]]


def known_columns(
    spec: Spec, designs: Iterable[tuple[int, str | None, Mapping[str, Any]]]
) -> dict[str, Known]:
    """What a table of results may repeat of the campaign's designs: names and parameters.

    Args:
        spec: The campaign's.
        designs: Number, name and design (JSON) of trials.
    """
    designs = list(designs)
    columns: dict[str, Known] = {}
    metrics = spec.metric_units()
    if "name" not in {*spec.space, *metrics}:
        columns["name"] = Known("", {trial: name or "" for trial, name, _ in designs})
    flat = {trial: flat_design(completed(spec, design)) for trial, _, design in designs}
    gone = {axis for _, _, design in designs for axis in design if axis not in spec.space}
    for axis in (*spec.space, *sorted(gone)):
        kind = spec.space.get(axis)
        if hasattr(kind, "latent"):
            continue
        names = dict.fromkeys(
            name for parts in flat.values() for name in parts if name.partition(".")[0] == axis
        )
        # In which unit an axis was that is no more, its tables say and nobody else.
        unit = None if kind is None else getattr(kind, "unit", "")
        for name in names:
            values = {trial: parts[name] for trial, parts in flat.items() if name in parts}
            columns[name] = Known(unit, values)
    return columns


def flat_design(design: Mapping[str, Any]) -> dict[str, Any]:
    """A design as numbers and words by name: `temperature`, `alloy.Fe`; without crystals."""
    flat: dict[str, Any] = {}
    for axis, value in design.items():
        if not isinstance(value, Mapping):
            flat[axis] = value
        elif not is_crystal(value):
            parts = {f"{axis}.{part}": one for part, one in value.items()}
            flat |= {name: one for name, one in parts.items() if isinstance(one, int | float | str)}
    return flat


def prepare(folder: str | Path) -> Path:
    """A folder for a handout, before anything is proposed for it.

    Raises:
        UsageError: It holds a table already, which may be filled in.
        MatloopError: It cannot be written to.
    """
    folder = Path(folder)
    if os.path.exists(folder / TABLE):
        raise UsageError(
            f"there is a {TABLE} already",
            where=str(folder),
            unchanged="the folder and the campaign",
            hint="name another folder with --out: results may be filled in there",
        )
    return make_folder(folder)


def hand_out(spec: Spec, trials: Sequence[Mapping[str, Any]], folder: Path) -> Handout:
    """Write candidates to a folder that was prepared.

    Args:
        spec: The campaign's.
        trials: The candidates, as `Campaign.trial` gives them.
        folder: Where.

    Raises:
        MatloopError: A file cannot be written.
    """
    crystals: dict[int, list[Path]] = {}
    try:
        for trial in trials:
            cifs = {axis: v["cif"] for axis, v in trial["design"].items() if is_crystal(v)}
            for axis, text in cifs.items():
                more = f"-{axis}" if len(cifs) > 1 else ""
                path = write_whole(folder / f"trial-{trial['trial']}{more}.cif", text)
                crystals.setdefault(trial["trial"], []).append(path)
        return Handout(write_whole(folder / TABLE, _table(spec, trials)), crystals)
    except MatloopError as error:
        # They are in the store, and would be proposed no second time.
        error.hint = (
            f"`matloop propose {spec.campaign} --waiting --out DIR` writes these trials again"
        )
        raise


def is_crystal(value: Any) -> bool:
    """Whether a value of a design, as JSON, is a crystal."""
    return isinstance(value, Mapping) and isinstance(value.get("cif"), str)


def _table(spec: Spec, trials: Sequence[Mapping[str, Any]]) -> str:
    known = known_columns(spec, [(t["trial"], t["name"], t["design"]) for t in trials])
    named = tuple(spec.fidelities)
    _, *results = header(spec.metric_units())
    names = [with_unit(name, column.unit or "") for name, column in known.items()]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["trial", *(["fidelity"] if named else []), *names, *results])
    for trial in trials:
        values = (column.values.get(trial["trial"]) for column in known.values())
        shown = [f"{v:.7g}" if isinstance(v, float) else neutral(v) for v in values]
        fidelity = [trial["fidelity"]] if named else []
        lines.writerow([trial["trial"], *fidelity, *shown, *("" for _ in results)])
    return text.getvalue()
