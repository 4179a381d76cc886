"""The rows of a results file, CSV or JSON, cell by cell; what the cells mean is not asked here."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaigns.errors import Problem, quoted
from campaigns.results_columns import Column, ColumnError, Known, parse_column

Row = tuple[int, list[tuple[Column, Any]]]
"""A row's number, and its columns with what stands in them (None = nothing)."""

MOST_PROBLEMS = 200

_AN_OBJECT = 'as in {"trial": 1, "density": 3.2}'


@dataclass
class Sheet:
    """A results file that is being read.

    Attributes:
        path: The file, as errors name it.
        units: The campaign's metrics and their units.
        known: What it may repeat of the campaign's designs.
        fidelities: The names of the campaign's.
        problems: What is wrong with it, so far.
    """

    path: Path
    units: Mapping[str, str]
    known: Mapping[str, Known] = field(default_factory=dict)
    fidelities: Sequence[str] = ()
    problems: list[Problem] = field(default_factory=list)

    def wrong(
        self, what: str, hint: str | None = None, *, row: int | None = None, column: object = None
    ) -> None:
        """Keep a problem with the file, one of its rows or one cell."""
        where = str(self.path)
        if row is not None:
            where += f", row {row}"
        if column is not None:
            where += f", column {column}"
        self.problems.append(Problem(where, what, hint))

    def rows(self, text: str) -> Iterator[Row]:
        """The rows of the file's text; what cannot be read becomes a problem."""
        is_json = self.path.suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{")
        return _json_rows(self, text) if is_json else _csv_rows(self, text)

    def column(self, text: str, row: int, at: object = None) -> Column | None:
        """The column of a name, None (and a problem) where there is none."""
        try:
            return parse_column(text, self.units, self.known, self.fidelities)
        except ColumnError as error:
            self.wrong(error.what, error.hint, row=row, column=at)
            return None


def _csv_rows(sheet: Sheet, text: str) -> Iterator[Row]:
    first, _, rest = text.lstrip("\r\n").partition("\n")
    if first.strip("\r").lower() in ("sep=,", "sep=;", "sep=\t"):
        # The line by which spreadsheets tell each other the separator; they count it as a row.
        separator, text = first.strip("\r")[-1], "\n" + rest
    else:
        separator = _separator(first)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[Column | None] | None = None
    row = 0
    try:
        for row, cells in enumerate(lines, start=1):
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = _csv_header(sheet, row, cells)
                if columns is None:
                    return
            elif len(cells) < len(columns) or any(c.strip() for c in cells[len(columns) :]):
                comma = separator == "," and len(cells) > len(columns)
                sheet.wrong(
                    f"wanted {len(columns)} cells, as in the header, not {len(cells)}",
                    "is there a decimal comma? decimals have a point" if comma else None,
                    row=row,
                )
            else:
                pairs = zip(columns, cells, strict=False)
                yield row, [(column, cell.strip() or None) for column, cell in pairs if column]
            if len(sheet.problems) > MOST_PROBLEMS:
                return
    except csv.Error as error:
        sheet.wrong(f"the file is not CSV: {error}", "is a quote left open?", row=row + 1)


def csv_lines(text: str) -> tuple[str, list[list[str]]]:
    """The separator of a CSV file, and its rows as errors count them, from 1.

    Raises:
        csv.Error: It is not CSV.
    """
    first, _, rest = text.lstrip("\r\n").partition("\n")
    if first.strip("\r").lower() in ("sep=,", "sep=;", "sep=\t"):
        separator, text = first.strip("\r")[-1], "\n" + rest
    else:
        separator = _separator(first)
    return separator, list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))


def _separator(line: str) -> str:
    """The separator of a header: what cuts a column `trial` out of it, else the most frequent."""

    def worth(mark: str) -> tuple[bool, int]:
        cells = [cell.strip().strip('"').lower() for cell in line.split(mark)]
        return "trial" in cells and len(cells) > 1, len(cells)

    return max(",;\t", key=worth)


def _csv_header(sheet: Sheet, row: int, cells: list[str]) -> list[Column | None] | None:
    """The columns of a header, None for those to pass over; None if there are no rows by it."""
    while cells and not cells[-1].strip():
        cells = cells[:-1]
    columns: list[Column | None] = []
    for index, cell in enumerate(cells, start=1):
        column = sheet.column(cell, row, index)
        if column is not None and column.name in [c.name for c in columns if c]:
            sheet.wrong(f"a second column {column.name}", row=row, column=index)
            column = None
        columns.append(column)
    if "trial" not in [c.name for c in columns if c]:
        sheet.wrong("there is no column trial", "the first row names the columns", row=row)
        return None
    return columns


def _json_rows(sheet: Sheet, text: str) -> Iterator[Row]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found and len(sheet.problems) <= MOST_PROBLEMS:
                sheet.wrong(f"an object has the key {quoted(key)} twice")
            found[key] = value
        return found

    try:
        data = json.loads(text, object_pairs_hook=unique, parse_constant=str)
    except json.JSONDecodeError as error:
        sheet.wrong(
            f"the file is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        )
        return
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits, and thousands of brackets.
        sheet.wrong(f"the file is not JSON that can be read: {' '.join(str(error).split())[:100]}")
        return
    items = data.get("results") if isinstance(data, dict) else data
    if not isinstance(items, list):
        sheet.wrong("the file is not a list of results", f"a list of objects, each {_AN_OBJECT}")
        return
    for row, item in enumerate(items, start=1):
        if isinstance(item, dict):
            yield row, list(_json_cells(sheet, row, item))
        else:
            sheet.wrong(f"{quoted(item)} is not an object", _AN_OBJECT, row=row)
        if len(sheet.problems) > MOST_PROBLEMS:
            return


def _json_cells(sheet: Sheet, row: int, item: Mapping[str, Any]) -> Iterator[tuple[Column, Any]]:
    names: set[str] = set()
    for key, value in item.items():
        column = sheet.column(key, row)
        for part, cell in _parts(sheet, row, column, value) if column else ():
            if part.name in names:
                sheet.wrong(f"{part.name} is there twice", row=row)
            names.add(part.name)
            yield part, cell


def _parts(sheet: Sheet, row: int, column: Column, value: Any) -> Iterator[tuple[Column, Any]]:
    """A metric's mean and standard error, where they stand in an object of their own."""
    if column.kind != "mean" or not isinstance(value, dict):
        yield column, None if value == "" else value
        return
    for key in sorted(value.keys() - {"mean", "sem", "unit"}):
        what = f"unknown key {quoted(key)}"
        sheet.wrong(what, "one of: mean, sem, unit", row=row, column=column.name)
    unit = value.get("unit")
    said = f" ({unit})" if unit is not None else ""
    for name, part in ((column.name, "mean"), (f"{column.name}_sem", "sem")):
        if value.get(part) is not None and (inner := sheet.column(name + said, row)):
            yield inner, value[part]
