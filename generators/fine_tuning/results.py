"""Reading a table of examined crystals, row by row: a bad one is told of and left out."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from generators.crystals.dataset import parse_cif
from generators.crystals.identity import flaw
from generators.fine_tuning.recipe import Examined, FineTuneError

MOST_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Table:
    """What a file of results holds.

    Attributes:
        examined: Its rows that could be read.
        refused: Row number (the header is 1) and why, of the others.
        units: Of each metric, where the file says so.
    """

    examined: Examined
    refused: tuple[tuple[int, str], ...]
    units: Mapping[str, str]


def read_results(path: Path, metrics: Sequence[str]) -> Table:
    """Read a `.csv` or `.csv.gz` of results, such as `matloop export --format csv` writes.

    Its column `cif` (or the one that ends in `_cif`) has the text of a CIF, or the path of one from
    the table's folder on. A metric's column is its name, or its name and unit as in `density
    (g/cm^3)`; an empty cell is not measured. Where `status` says failed, the evaluation failed.

    Raises:
        FineTuneError: It is no such table, or has none of the metrics.
        OSError: It cannot be read.
    """
    lines = csv.DictReader(io.StringIO(_text(path)))
    header = [name for name in (lines.fieldnames or []) if name]
    crystal = next((n for n in header if n == "cif"), None) or next(
        (n for n in header if n.endswith("_cif")), None
    )
    if crystal is None:
        raise FineTuneError(
            f"{path.name} has no column `cif`, but {', '.join(header) or 'nothing'}"
        )
    columns, units = {}, {}
    for metric in metrics:
        name, unit = _column(metric, header)
        if name is None:
            raise FineTuneError(f"{path.name} has no column {metric!r}: {', '.join(header)}")
        columns[metric] = name
        if unit:
            units[metric] = unit
    designs: list[Structure] = []
    values: dict[str, list[float]] = {metric: [] for metric in metrics}
    failed: list[bool] = []
    refused: list[tuple[int, str]] = []
    csv.field_size_limit(2**30)
    for number, row in enumerate(lines, 2):
        try:
            numbers = {m: _number(row.get(c)) for m, c in columns.items()}
            structure = _crystal(row.get(crystal), path.parent)
        except Exception as error:  # pymatgen raises of everything on a broken CIF
            refused.append((number, " ".join(str(error).split())[:200] or type(error).__name__))
            continue
        designs.append(structure)
        failed.append((row.get("status") or "").strip().lower() == "failed")
        for metric, value in numbers.items():
            values[metric].append(value)
    found = {metric: np.array(column) for metric, column in values.items()}
    return Table(Examined(designs, found, np.array(failed, dtype=bool)), tuple(refused), units)


def _text(path: Path) -> str:
    if not path.name.endswith((".csv", ".csv.gz")):
        raise FineTuneError(f"{path.name}: results are read from .csv and .csv.gz")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise FineTuneError(f"{path.name} is larger than {MOST_BYTES // 2**30} GiB")
        return data.decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise FineTuneError(f"{path.name} is no table in UTF-8: {error}") from error


def _column(metric: str, header: Sequence[str]) -> tuple[str | None, str | None]:
    """The column of a metric, and its unit where it is said."""
    for name in header:
        if match := re.fullmatch(rf"{re.escape(metric)}(?:\s*\((?P<unit>[^()]*)\))?", name.strip()):
            return name, match["unit"]
    return None, None


def _number(cell: Any) -> float:
    if cell is None or not str(cell).strip():
        return math.nan
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(f"{cell!r} is no measurement: leave it empty")
    return value


def _crystal(cell: Any, folder: Path) -> Structure:
    text = str(cell or "").strip()
    if not text:
        raise ValueError("it has no crystal")
    if "\n" not in text:
        place = (folder / text).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise ValueError(f"{text[:80]!r} lies outside the folder of the table")
        text = place.read_text("utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on the style of a CIF
        structure = parse_cif(text)
    if why := flaw(structure):
        raise ValueError(why)
    return structure
