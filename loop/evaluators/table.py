"""Answers a trial from a table of designs that were measured before: CSV or Parquet.

A row is one design: a column for each axis (of a composition for each ingredient, of a pool for
each of its columns) and one for each metric, named as in `bulk_modulus (GPa)`. Rows of one design
are averaged. A column `fidelity` says at which a row was measured; `failure`, why it has no value.
"""

from __future__ import annotations

import csv
import math
import re
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from loop.evaluators.base import (
    Evaluation,
    EvaluationFailed,
    Evaluator,
    EvaluatorError,
    Measurement,
)

Row = Mapping[str, Any]

_HEADER = re.compile(r"\s*(?P<name>.*?)\s*(?:[(\[](?P<unit>.*)[)\]])?\s*", re.DOTALL)
_FIDELITY, _FAILURE = "fidelity", "failure"
MOST_BYTES = 256 * 2**20


class TableEvaluator(Evaluator):
    """Evaluator `table`.

    Args:
        config: `table` (a path) and `metrics` (name to the unit of a column that names none).

    Raises:
        EvaluatorError: There is no such file. It is read at the first use.
    """

    def __init__(self, config: Mapping[str, Any], fidelity: str | None = None) -> None:
        if unknown := sorted(set(config) - {"with", "table", "metrics"}):
            raise EvaluatorError(f"evaluate: table does not know {', '.join(unknown)}")
        path = config.get("table")
        if not isinstance(path, str) or not Path(path).expanduser().is_file():
            raise EvaluatorError(f"there is no table {path}", f"seen from {Path.cwd()}")
        self._config = dict(config)
        self._fidelity = fidelity
        self.path = Path(path).expanduser()
        self._units = {str(m): str(u) for m, u in (config.get("metrics") or {}).items()}

    def at(self, fidelity: str) -> TableEvaluator:
        """The rows of one fidelity.

        Raises:
            EvaluatorError: The table has no column of them, or no such row.
        """
        if not any(_FIDELITY in row for row in self.rows[:1]):
            raise EvaluatorError(
                f"{self.path} has no column {_FIDELITY}", "add one, or a table each"
            )
        if not any(row[_FIDELITY] == fidelity for row in self.rows):
            raise EvaluatorError(f"{self.path} has no row of the fidelity {fidelity!r}")
        return TableEvaluator(self._config, fidelity)

    @cached_property
    def _read(self) -> tuple[dict[str, str | None], list[Row]]:
        return read_rows(self.path)

    @property
    def columns(self) -> dict[str, str | None]:
        """The table's columns, each with the unit that its header names."""
        return self._read[0]

    @property
    def rows(self) -> list[Row]:
        """The table's rows: name without unit to the cell."""
        return self._read[1]

    def metrics(self) -> dict[str, str]:
        """Return every column with a unit, its own or the configuration's."""
        columns = self.columns
        named = {name: unit for name, unit in columns.items() if unit is not None}
        return named | {m: u for m, u in self._units.items() if m in columns and m not in named}

    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Look a design up; `seed` plays no part.

        Raises:
            EvaluationFailed: There is no such row, or it has no value.
            EvaluatorError: On a metric or an axis that the table has no column of.
        """
        started = time.perf_counter()
        self.check_metrics(metrics)
        wanted = flat(design)
        columns, units = self.columns, self.metrics()
        lacking = [name for name in wanted if not _column(name, columns)]
        if lacking:
            raise EvaluatorError(
                f"{self.path} has no column {', '.join(lacking)}", f"it has {', '.join(columns)}"
            )
        found = [
            row
            for row in self.rows
            if all(same(row[_column(name, columns)], value) for name, value in wanted.items())
            and self._fidelity in (None, row.get(_FIDELITY))
        ]
        if not found:
            told = ", ".join(f"{name} {value}" for name, value in wanted.items())
            raise EvaluationFailed(f"the table has no row of {told}")
        measurements = {name: self._measured(name, found, units[name]) for name in metrics}
        return Evaluation(
            measurements,
            seconds=time.perf_counter() - started,
            provenance={"evaluator": "table", "table": self.path.name, "rows": len(found)},
        )

    def _measured(self, name: str, rows: Sequence[Row], unit: str) -> Measurement:
        values = [value for row in rows if (value := number(row[name])) is not None]
        if not values:
            why = next((str(row[_FAILURE]) for row in rows if row.get(_FAILURE)), None)
            raise EvaluationFailed(why or f"the table has no value of {name} for it")
        mean, sem = sum(values) / len(values), None
        if len(values) > 1:
            spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
            sem = spread / math.sqrt(len(values))
        elif (given := number(rows[0].get(f"{name}_sem", ""))) is not None:
            sem = given
        return Measurement(mean, sem, unit)


def flat(design: Mapping[str, Any]) -> dict[str, Any]:
    """Name to value of what a row must have: `axis.ingredient` and `axis.column` of mappings.

    Raises:
        EvaluatorError: The design has a crystal, which a table cannot hold.
    """
    found: dict[str, Any] = {}
    for axis, value in design.items():
        if not isinstance(value, Mapping):
            found[axis] = value
        elif "cif" in value:
            raise EvaluatorError(f"{axis} is a crystal: a table cannot be asked about it")
        else:
            found |= {f"{axis}.{key}": v for key, v in value.items() if key != "row"}
    return found


def read_rows(path: Path) -> tuple[dict[str, str | None], list[Row]]:
    """Return the columns of a table with their units (None = not said), and its rows.

    Raises:
        EvaluatorError: It cannot be read.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise EvaluatorError(f"{path} has more than {MOST_BYTES >> 20} MiB")
        if path.suffix.lower() == ".parquet":
            header, cells = _parquet(path)
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                first = file.readline()
                file.seek(0)
                separator = max(",;\t", key=first.count)
                header, *cells = csv.reader(file, delimiter=separator, strict=True)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        if isinstance(error, EvaluatorError):
            raise
        raise EvaluatorError(f"{path} cannot be read: {error}") from error
    matches = [_HEADER.fullmatch(text) for text in header]
    names = [m["name"] if m else text.strip() for m, text in zip(matches, header, strict=True)]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise EvaluatorError(f"{path}: two columns are called {twice[0]!r}")
    rows: list[Row] = []
    for line, row in enumerate(cells, start=2):
        if len(row) > len(names):
            raise EvaluatorError(f"{path}, row {line}: {len(row)} cells, and {len(names)} columns")
        if any(str(cell).strip() for cell in row):
            rows.append(dict.fromkeys(names, "") | dict(zip(names, row, strict=False)))
    if not rows:
        raise EvaluatorError(f"{path} has no rows")
    return {n: m["unit"] if m else None for n, m in zip(names, matches, strict=True)}, rows


def _parquet(path: Path) -> tuple[list[str], list[list[Any]]]:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise EvaluatorError(
            "Parquet needs the package pyarrow", "pip install 'matloop[tables]', or save it as CSV"
        ) from error
    frame = frame.astype(object).where(frame.notna(), "")
    return [str(name) for name in frame.columns], frame.to_numpy().tolist()


def has_column(name: str, columns: Mapping[str, Any]) -> bool:
    """Whether a table has a column of an axis, or of a part of one."""
    return bool(_column(name, columns))


def _column(name: str, columns: Mapping[str, Any]) -> str:
    """The column of an axis or of a part of one; empty where there is none."""
    return next((n for n in (name, name.rpartition(".")[2]) if n in columns), "")


def number(cell: Any) -> float | None:
    """The finite number in a cell, or None."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def same(cell: Any, value: Any) -> bool:
    """Whether a cell holds a value: numbers to a millionth, texts but for blanks around them."""
    a, b = number(cell), number(value)
    if a is not None and b is not None and not isinstance(value, bool):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return str(cell).strip() == str(value).strip()
