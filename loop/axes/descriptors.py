"""Numbers that describe a category: properties of the elements, or columns of a user's table."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

ELEMENT_PROPERTIES = {
    "Z": "atomic number",
    "atomic_mass": "atomic mass",
    "atomic_radius": "atomic radius",
    "X": "electronegativity",
    "group": "group",
    "row": "row",
    "mendeleev_no": "Mendeleev number",
    "melting_point": "melting point",
}
"""What `elements` describes an element by: pymatgen's attribute, and the descriptor's name."""

MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Descriptors:
    """A table of numbers: one row a category.

    Attributes:
        names: the descriptors.
        rows: pairs of a category and its numbers, in the order of `names`.

    Raises:
        ValueError: no descriptor, rows of other lengths, numbers that are not finite, or a category
            twice.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[Any, tuple[float, ...]], ...]

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"wanted one descriptor or more, each once: {self.names}")
        for category, numbers in self.rows:
            if len(numbers) != len(self.names) or not all(map(math.isfinite, numbers)):
                raise ValueError(
                    f"{category!r} has the descriptors {numbers}: wanted {len(self.names)} numbers"
                )
        if len(self._numbers) < len(self.rows):
            raise ValueError("a category has descriptors twice")

    @classmethod
    def of(cls, table: Mapping[Any, Mapping[str, float]]) -> Descriptors:
        """Descriptors from category to name to number; every category has the same names.

        Raises:
            ValueError: as the class, or a category lacks a descriptor that others have.
        """
        names = tuple(dict.fromkeys(name for row in table.values() for name in row))
        for category, row in table.items():
            if missing := [name for name in names if name not in row]:
                raise ValueError(f"{category!r} has no descriptor {', '.join(missing)}")
        return cls(names, tuple((c, tuple(float(r[n]) for n in names)) for c, r in table.items()))

    @cached_property
    def _numbers(self) -> dict[Any, tuple[float, ...]]:
        return {category_key(category): numbers for category, numbers in self.rows}

    def __contains__(self, category: Any) -> bool:
        return category_key(category) in self._numbers

    def check(self, axis: str, categories: Sequence[Any]) -> None:
        """Refuse categories that are not described. Raises `ValueError`."""
        if missing := [str(c) for c in categories if c not in self]:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise ValueError(f"{axis}: no descriptors of {shown}")

    def numbers(self, categories: Sequence[Any]) -> np.ndarray:
        """Descriptors as they are: categories x descriptors."""
        rows = [self._numbers[category_key(c)] for c in categories]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))

    def scaled(self, categories: Sequence[Any]) -> tuple[tuple[str, ...], np.ndarray]:
        """Descriptors from 0 to 1 over the categories; those that do not differ are left out.

        Returns:
            Their names, and categories x names.
        """
        table = self.numbers(categories)
        low, spread = table.min(axis=0), np.ptp(table, axis=0)
        kept = spread > 1e-12 * np.maximum(np.abs(table).max(axis=0), 1e-300)
        names = tuple(name for name, keep in zip(self.names, kept, strict=True) if keep)
        return names, (table[:, kept] - low[kept]) / spread[kept]


def category_key(category: Any) -> Any:
    """What a category and the text of it in a table share: 2, 2.0 and "2" are one."""
    text = str(category).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def element_descriptors(formulas: Sequence[str]) -> Descriptors:
    """Properties of elements; of a formula their mean, weighted by composition.

    A property that pymatgen does not know for one of the elements is left out for all.

    Raises:
        ValueError: a text that is neither an element nor a formula.
    """
    from pymatgen.core import Composition

    rows: list[list[float]] = []
    with warnings.catch_warnings():
        # pymatgen warns of the electronegativity that a noble gas lacks; it is left out below.
        warnings.simplefilter("ignore")
        for formula in formulas:
            try:
                parts = Composition(str(formula)).fractional_composition.items()
            except (ValueError, KeyError) as error:
                raise ValueError(f"{formula!r} is neither an element nor a formula") from error
            if not parts or any(not hasattr(element, "Z") for element, _ in parts):
                raise ValueError(f"{formula!r} is neither an element nor a formula")
            rows.append(
                [
                    sum(share * _number(getattr(element, name)) for element, share in parts)
                    for name in ELEMENT_PROPERTIES
                ]
            )
    table = np.array(rows)
    known = np.isfinite(table).all(axis=0)
    names = tuple(n for n, keep in zip(ELEMENT_PROPERTIES.values(), known, strict=True) if keep)
    numbers = (tuple(row) for row in table[:, known].tolist())
    return Descriptors(names, tuple(dict(zip(map(str, formulas), numbers, strict=True)).items()))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def read_descriptors(path: str | Path, column: str) -> Descriptors:
    """Read a table of descriptors.

    Wide: a header, then one row a category, its name first and a column for each descriptor. Long:
    one row a number, `category,descriptor,value`, or with what it is a category of before that.

    Args:
        path: a CSV file.
        column: the axis or column whose categories are wanted, for long tables of several.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such table; with file, line and column.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: larger than {MOST_BYTES // 2**20} MiB is no table of categories")
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            text = file.read()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not text in UTF-8") from error
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=separator)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    if not rows:
        raise ValueError(f"{path}: the file is empty")
    return _long(path, rows, column) if _is_long(rows) else _wide(path, rows)


_Rows = list[tuple[int, list[str]]]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_long(rows: _Rows) -> bool:
    """Whether each row but a header is a category, a descriptor's name and a number."""
    body = rows if _is_number(rows[0][1][-1]) else rows[1:]
    return bool(body) and all(
        len(row) in (3, 4)
        and len(row) == len(body[0][1])
        and _is_number(row[-1])
        and not _is_number(row[-2])
        for _, row in body
    )


def _long(path: Path, rows: _Rows, column: str) -> Descriptors:
    table: dict[str, dict[str, float]] = {}
    lines = rows if _is_number(rows[0][1][-1]) else rows[1:]
    for line, row in lines:
        if len(row) == 4 and row[0] != column:
            continue
        category, name, number = row[-3:]
        if name in table.setdefault(category, {}):
            raise ValueError(f"{path}, line {line}: {category} has {name} twice")
        table[category][name] = float(number)
    if not table:
        raise ValueError(f"{path}: no row begins with {column}")
    try:
        return Descriptors.of(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _wide(path: Path, rows: _Rows) -> Descriptors:
    (_, header), *body = rows
    if len(header) < 2 or not body:
        raise ValueError(
            f"{path}: wanted a header and rows, the category first and then its descriptors"
        )
    table: dict[str, dict[str, float]] = {}
    for line, row in body:
        if len(row) != len(header):
            raise ValueError(f"{path}, line {line}: wanted {len(header)} cells, not {len(row)}")
        if row[0] in table:
            raise ValueError(f"{path}, line {line}: {row[0]!r} is there twice")
        table[row[0]] = {}
        for name, cell in zip(header[1:], row[1:], strict=True):
            if not _is_number(cell):
                what = f"{cell!r} is not a finite number" if cell else "a number is missing"
                raise ValueError(f"{path}, line {line}, column {name}: {what}")
            table[row[0]][name] = float(cell)
    try:
        return Descriptors.of(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
