"""A finished table of designs and outcomes, read for a backtest: all of it, or every mistake.

CSV with a header and a row for each measurement. It has a column for each axis of the spec and for
each metric (`density (g/cm^3)` where the unit should be said; case, spaces and underscores do not
matter), a column for each ingredient of a composition, and where wanted `METRIC_sem`. Rows with the
same design are repeats. Other columns are ignored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns import units
from campaigns.backtest_columns import Columns, Numbers
from campaigns.errors import InputErrors, MatloopError, Problem, UsageError, did_you_mean, quoted
from campaigns.text_file import read_text

if TYPE_CHECKING:
    import loop.problem
    import loop.space
    from campaigns.spec import Spec
    from loop.backtest import LookupTable

MOST_BYTES = 200 * 2**20
MOST_PROBLEMS = 200
UNCHANGED = "nothing was run"
CLOSE_TO_WHOLE = 0.02
"""Amounts of a composition that add up to its total within this are scaled to do so exactly."""

Reader = Callable[[Sequence[str]], Any]
"""Takes the cells of a row and returns a value as JSON; raises `ValueError`."""


@dataclass(frozen=True)
class TableRead:
    """A table that was read.

    Attributes:
        table: the designs and their outcomes.
        rows: measurements that were taken in.
        ignored: columns that the spec does not name.
        left_out: rows that cannot be used, with the reason; only with `skip`.
    """

    table: LookupTable
    rows: int
    ignored: list[str]
    left_out: list[Problem]

    def notes(self) -> list[str]:
        """What a person should know of it."""
        table = self.table
        told = f"{len(table)} designs"
        if self.rows > len(table):
            repeated = sum(len(r) > 1 for r in table.repeats)
            told += f" from {self.rows} measurements ({repeated} designs measured more than once)"
        lines = [told]
        if self.ignored:
            lines.append(f"columns that the spec does not name: {', '.join(self.ignored)}")
        if self.left_out:
            lines.append(f"left out {len(self.left_out)} rows, the first: {self.left_out[0]}")
        return lines


def read_table(
    path: str | Path, spec: Spec, problem: loop.problem.Problem, *, skip: bool = False
) -> TableRead:
    """Read a table.

    Args:
        path: the CSV file.
        spec: names the axes and the metrics, with their units.
        problem: `spec.problem()`.
        skip: leave out rows that cannot be used, in place of refusing the table.

    Raises:
        InputErrors: every mistake with its row, or too few designs.
        UsageError: the space has an axis that a table cannot hold.
    """
    from loop.backtest import average_repeats

    path = Path(path)
    header, lines = _lines(path)
    columns = Columns(header, str(path))
    readers = {axis.name: _reader(axis, columns) for axis in problem.space.axes}
    wanted = spec.metric_units()
    metrics = {m: columns.numbers(m, unit=wanted[m]) for m in problem.metrics}
    sems = {
        m: columns.numbers(f"{m}_sem", unit=wanted[m], needed=False, spread=True)
        for m in problem.metrics
    }
    if columns.problems:
        raise InputErrors(columns.problems, str(path), UNCHANGED)
    found = _Rows(str(path), problem.space)
    for number, cells in lines:
        found.take(number, cells, readers, metrics, sems)
    found.check_inside()
    if found.problems and not skip:
        raise InputErrors(
            found.problems, str(path), UNCHANGED + " (--skip leaves such rows out)"
        )  # fmt: skip
    if len(found.designs) < 2:
        raise InputErrors(
            found.problems or [Problem(str(path), "the table has no two rows that can be used")],
            str(path),
            UNCHANGED,
        )
    try:
        table = average_repeats(
            problem.space, found.designs, np.array(found.outcomes), np.array(found.sems)
        )
    except ValueError as error:
        raise InputErrors([Problem(str(path), str(error))], str(path), UNCHANGED) from error
    return TableRead(table, len(found.designs), columns.ignored, found.problems)


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the rows that are not empty with their numbers (the header's is 1)."""
    text = read_text(path, MOST_BYTES)
    first = text.lstrip("\r\n").partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        problem = Problem(str(path), f"the file is not CSV: {error}", "is a quote left open?")
        raise InputErrors([problem], str(path), UNCHANGED) from error
    filled = [(i, row) for i, row in enumerate(rows, start=1) if any(c.strip() for c in row)]
    if len(filled) < 2:
        problem = Problem(str(path), "the table is empty", "a header, then a row a measurement")
        raise InputErrors([problem], str(path), UNCHANGED)
    return filled[0][1], filled[1:]


def _reader(axis: loop.space.Axis, columns: Columns) -> Reader:
    """How the value of an axis is read from a row, as `axis.from_json` takes it."""
    from loop.space import ChoiceAxis, CompositionAxis, LatentAxis, PoolAxis, RangeAxis

    name = axis.name
    if isinstance(axis, LatentAxis):
        raise UsageError(
            f"axis {name} is the latent space of a generator: a table cannot hold its designs",
            unchanged=UNCHANGED,
            hint="backtest a space of ranges, choices and compositions",
        )
    if isinstance(axis, RangeAxis):
        column = columns.numbers(name, unit=axis.unit or "dimensionless")
        return lambda cells: _number(cells, column)
    if isinstance(axis, ChoiceAxis):
        return _choice_reader(name, axis.values, columns)
    if isinstance(axis, CompositionAxis):
        unit = axis.unit or "dimensionless"
        parts = {
            i: columns.numbers(f"{name}.{i}", f"{name}_{i}", i, unit=unit) for i in axis.ingredients
        }
        return lambda cells: _amounts(cells, parts, axis.total)
    if isinstance(axis, PoolAxis):
        return _pool_reader(axis, columns)
    header = columns.find(name)
    return lambda cells: cells[header.index].strip() if header else None


def _choice_reader(name: str, choices: Sequence[Any], columns: Columns) -> Reader:
    header = columns.find(name)
    texts = {str(value).casefold(): value for value in choices}

    def read(cells: Sequence[str]) -> Any:
        assert header is not None
        cell = " ".join(cells[header.index].split())
        if cell in choices:
            return cell
        if not isinstance(choices[0], str):
            value = units.parse_number(cell)
            return next((choice for choice in choices if choice == value), value)
        if cell.casefold() in texts:
            return texts[cell.casefold()]
        hint = did_you_mean(cell, map(str, choices))
        told = f"{name}: {quoted(cell)} is none of the choices"
        raise ValueError(f"{told} ({hint})" if hint else told)

    return read


def _pool_reader(axis: loop.space.PoolAxis, columns: Columns) -> Reader:
    """A row of a pool by what stands in the pool's columns."""
    headers = {c: columns.find(f"{axis.name}.{c}", c) for c in axis.table.columns}
    rows: dict[tuple[Any, ...], Any] = {}
    for value in axis.decode(axis.codes_at(np.arange(axis.size)), 0):
        assert value is not None  # every row of a pool is a design
        rows.setdefault(tuple(_plain_cell(value[c]) for c in headers), value)

    def read(cells: Sequence[str]) -> Any:
        given = [cells[h.index] for h in headers.values() if h is not None]
        value = rows.get(tuple(map(_plain_cell, given)))
        if value is None:
            raise ValueError(f"{axis.name}: the pool has no row {', '.join(map(str.strip, given))}")
        return value

    return read


def _plain_cell(value: Any) -> Any:
    """A cell as it is compared: 0.50 and 0.5 are one number."""
    try:
        return float(f"{float(value):.12g}")
    except ValueError:
        return str(value).strip()


def _number(cells: Sequence[str], column: Numbers | None) -> float:
    assert column is not None  # a missing one is a problem of the header
    cell = cells[column.header.index].strip()
    if not cell:
        raise ValueError(f"{column.header.text} is empty")
    try:
        return column.read(cell)
    except ValueError as error:
        raise ValueError(f"{column.header.text}: {error}") from error


def _amounts(
    cells: Sequence[str], parts: Mapping[str, Numbers | None], total: float
) -> dict[str, float]:
    """Amounts that add up; in percent too where the total is one."""
    amounts = {name: _number(cells, column) for name, column in parts.items()}
    found = sum(amounts.values())
    wholes = [total] + ([100.0] if total == 1.0 else [])
    if not any(abs(found / whole - 1.0) <= CLOSE_TO_WHOLE for whole in wholes):
        raise ValueError(f"{', '.join(parts)} add up to {found:g}, not to {wholes[0]:g}")
    return {name: amount * total / found for name, amount in amounts.items()}


@dataclass
class _Rows:
    """Rows as they are read."""

    path: str
    space: loop.space.DesignSpace
    designs: list[Any] = field(default_factory=list)
    outcomes: list[list[float]] = field(default_factory=list)
    sems: list[list[float]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def take(
        self,
        number: int,
        cells: list[str],
        readers: Mapping[str, Reader],
        metrics: Mapping[str, Numbers | None],
        sems: Mapping[str, Numbers | None],
    ) -> None:
        """Keep a row, or what is wrong with it."""
        cells = cells + [""] * 1000 if len(cells) < 1000 else cells
        try:
            data = {name: read(cells) for name, read in readers.items()}
            outcome = [_number(cells, column) for column in metrics.values()]
            errors = [
                _number(cells, column)
                if column is not None and cells[column.header.index].strip()
                else float("nan")
                for column in sems.values()
            ]
            if any(e < 0 for e in errors):
                raise ValueError("a standard error is below zero")
            design = self.space.from_json(data)
            self.space.features([design])
        except (ValueError, MatloopError) as error:
            self.problems.append(self._told(number, error))
            return
        self.designs.append(design)
        self.outcomes.append(outcome)
        self.sems.append(errors)
        self.numbers.append(number)

    def check_inside(self) -> None:
        """Put out the rows whose designs the space does not allow."""
        if not self.designs:
            return
        inside = self.space.allowed(self.space.encode(self.designs))
        for row in np.flatnonzero(~inside):
            shown = self.space.describe(self.designs[row])
            what = f"{shown} is outside the design space"
            self.problems.append(Problem(f"{self.path}, row {self.numbers[row]}", what))
        for part in (self.designs, self.outcomes, self.sems, self.numbers):
            part[:] = [item for item, ok in zip(part, inside, strict=True) if ok]

    def _told(self, number: int, error: Exception) -> Problem:
        what = getattr(error, "what", None) or str(error)
        return Problem(f"{self.path}, row {number}", what, getattr(error, "hint", None))
