"""An axis whose values are the rows of a table: designs that exist."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from generators.base import EncodeError
from loop.axes.base import TOLERANCE, Axis
from loop.axes.descriptors import Descriptors
from loop.axes.pool_table import PoolTable

ROW = "row"
"""The key of a value under which its row stands."""

_GONE = -1  # the number of a text that the table does not have any more: the last row of its table
_NEAR = 2048  # rows that a neighbour is looked for among


@dataclass(frozen=True)
class PoolAxis(Axis):
    """The designs of a table, of which one is chosen.

    A value is a dict: the number of its row, from 0, and what stands in its columns. Its code is
    the number of the row. Its features are the columns, scaled to 0 to 1 over the table; a column
    of text is one column a text, and before them its descriptors where there are any.

    Attributes:
        table: the designs.
        descriptors: by column of text, numbers that describe every text.
        rows: numbers of the rows that may be proposed, ascending; None = all.

    Raises:
        ValueError: a column called `row`, descriptors of no column of text, or no row.
    """

    name: str
    table: PoolTable
    descriptors: Mapping[str, Descriptors] = field(default_factory=dict)
    rows: np.ndarray | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if ROW in self.table.columns:
            raise ValueError(f"{self.name}: a column cannot be called {ROW!r}")
        for column, described in self.descriptors.items():
            if column not in self.table.columns or not self._texts[column]:
                raise ValueError(f"{self.name}: {column!r} is no column of text")
            described.check(f"{self.name}.{column}", self._texts[column])
        if self.rows is not None and not len(self.rows):
            raise ValueError(f"{self.name}: no row is left")

    @cached_property
    def _texts(self) -> dict[str, tuple[str, ...]]:
        return dict(zip(self.table.columns, self.table.categories, strict=True))

    @property
    def width(self) -> int:
        """One: the row."""
        return 1

    @cached_property
    def _parts(self) -> list[tuple[tuple[str, ...], np.ndarray | None]]:
        """For each column the names of its features and, of text, a table text x features."""
        parts: list[tuple[tuple[str, ...], np.ndarray | None]] = []
        for column, texts in self._texts.items():
            name = f"{self.name}.{column}"
            if not texts:
                parts.append(((name,), None))
                continue
            names, table = tuple(f"{name}={t}" for t in texts), np.eye(len(texts))
            if column in self.descriptors:
                described, numbers = self.descriptors[column].scaled(texts)
                names = (*(f"{name}.{d}" for d in described), *names)
                table = np.hstack([numbers, table])
            parts.append((names, table))
        return parts

    @cached_property
    def _texts_and_gone(self) -> list[np.ndarray | None]:
        """The tables of `_parts`, and in their last row a text that left the table.

        It is none of those there, and described as their mean.
        """
        tables: list[np.ndarray | None] = []
        for _, table in self._parts:
            if table is not None:
                gone = table.mean(axis=0)
                gone[table.shape[1] - table.shape[0] :] = 0.0
                table = np.vstack([table, gone])
            tables.append(table)
        return tables

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Those of each column."""
        return tuple(name for names, _ in self._parts for name in names)

    @cached_property
    def groups(self) -> tuple[int, ...]:
        """Each number alone, the columns of the texts of one column together."""
        groups: list[int] = []
        for names, table in self._parts:
            texts = 0 if table is None else len(names) - (table.shape[1] - table.shape[0])
            alone = len(names) - texts
            first = max(groups, default=-1) + 1
            groups += [*range(first, first + alone), *([first + alone] * texts)]
        return tuple(groups)

    @property
    def size(self) -> int:
        """How many rows may be proposed."""
        return len(self.table) if self.rows is None else len(self.rows)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The columns of numbers."""
        return tuple(f"{self.name}.{c}" for c, texts in self._texts.items() if not texts)

    def features(self, values: Sequence[Any]) -> np.ndarray:
        """The columns, as the values have them: a row that left the table still has features."""
        return self._features(self._raw(values))

    def features_at(self, codes: np.ndarray) -> np.ndarray:
        """The columns."""
        rows = codes[:, 0].astype(np.int64)
        return self._features(np.asarray(self.table.data[rows], dtype=np.float64))

    def _raw(self, values: Sequence[Any]) -> np.ndarray:
        """What stands in the columns of n values, texts as numbers (`_GONE`: not in it): n x c."""
        raw = np.empty((len(values), len(self.table.columns)))
        for j, (column, texts) in enumerate(self._texts.items()):
            index = self._index[column]
            for i, value in enumerate(values):
                raw[i, j] = index.get(value[column], _GONE) if texts else value[column]
        return raw

    @cached_property
    def _index(self) -> dict[str, dict[str, int]]:
        return {c: {t: i for i, t in enumerate(texts)} for c, texts in self._texts.items()}

    @cached_property
    def _scale(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.array(self.table.low), np.array(self.table.high)
        return low, np.where(high > low, high - low, 1.0)

    def _features(self, raw: np.ndarray) -> np.ndarray:
        low, span = self._scale
        if not any(self.table.categories):
            return (raw - low) / span
        columns = []
        for j, table in enumerate(self._texts_and_gone):
            if table is None:
                columns.append((raw[:, j : j + 1] - low[j]) / span[j])
            else:
                columns.append(table[raw[:, j].astype(int)])
        return np.hstack(columns)

    def sample(self, n: int, seed: int) -> list[Any | None]:
        """Uniform over the rows."""
        return self.decode(self.prior(n, np.random.default_rng(seed)), seed)

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform over the rows."""
        return self.codes_at(rng.integers(self.size, size=n))

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """The rows; a value that is not in the table as it says cannot be encoded."""
        raw = self._raw(values)
        rows = np.array([value[ROW] for value in values], dtype=np.int64)
        there = (rows >= 0) & (rows < len(self.table))
        found = np.asarray(self.table.data[np.where(there, rows, 0)], dtype=np.float64)
        there &= (found == raw).all(axis=1)
        if not there.all():
            at = int(np.argmin(there))
            raise EncodeError(at, f"{self.name}: row {rows[at]} is another in {self.table.source}")
        return rows.astype(np.float64)[:, None]

    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """The rows' contents."""
        rows = codes[:, 0].astype(np.int64)
        raw = np.asarray(self.table.data[rows], dtype=np.float64)
        values: list[Any | None] = []
        for row, numbers in zip(rows.tolist(), raw.tolist(), strict=True):
            value: dict[str, Any] = {ROW: row}
            for (column, texts), number in zip(self._texts.items(), numbers, strict=True):
                value[column] = texts[int(number)] if texts else number
            values.append(value)
        return values

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A near neighbour for a small step, any row for a large one, the same row for none.

        The nearest of so many rows drawn at random as make it about that near.
        """
        f = len(self.feature_names)
        with np.errstate(divide="ignore"):
            count = np.clip(np.power(1.0 / scale, min(f, 8)), 1, _NEAR)
        moved = self._near(self.features_at(self.project(codes)), count, rng, but=codes[:, 0])
        return np.where(scale[:, None] > 0, moved, codes)

    def mix(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One parent's row or the other's, or by turns a row near the line between them."""
        a, b = self.project(a), self.project(b)
        blend = rng.random((len(a), 1))
        between = blend * self.features_at(a) + (1.0 - blend) * self.features_at(b)
        near = self._near(between, np.full(len(a), _NEAR), rng)
        parent = np.where(rng.random(a.shape) < 0.5, a, b)
        return np.where(rng.random((len(a), 1)) < 0.5, near, parent)

    def _near(
        self,
        X: np.ndarray,
        count: np.ndarray,
        rng: np.random.Generator,
        but: np.ndarray | None = None,
    ) -> np.ndarray:
        """For each of n features the nearest of its `count` first rows of a random few."""
        few = self.codes_at(rng.permutation(self.size)[:_NEAR]
                            if self.size <= 4 * _NEAR
                            else rng.integers(self.size, size=_NEAR))  # fmt: skip
        Y = self.features_at(few)
        apart = (X**2).sum(axis=1)[:, None] + (Y**2).sum(axis=1) - 2.0 * X @ Y.T
        apart[np.arange(len(few)) >= count[:, None]] = np.inf
        if but is not None and len(few) > 1:
            first = few[0, 0] == but  # leave one other row to each
            apart[few[:, 0] == but[:, None]] = np.inf
            apart[first & (count < 2), 1] = 0.0
        return few[apart.argmin(axis=1)]

    def project(self, codes: np.ndarray) -> np.ndarray:
        """Numbers of rows; in place of one that may not be proposed, one that is like it."""
        rows = np.clip(np.rint(np.nan_to_num(codes)), 0, len(self.table) - 1)
        out = ~self._may(rows[:, 0])
        if out.any():
            rng = np.random.default_rng(0)
            X = self.features_at(rows[out])
            rows[out] = self._near(X, np.full(len(X), _NEAR), rng)
        return rows

    def _may(self, rows: np.ndarray) -> np.ndarray:
        if self.rows is None:
            return (rows >= 0) & (rows < len(self.table))
        at = np.clip(np.searchsorted(self.rows, rows), 0, len(self.rows) - 1)
        return np.asarray(self.rows[at] == rows)

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        """Whether they are numbers of rows that may be proposed."""
        x = codes[:, 0]
        rows = np.rint(np.nan_to_num(x, nan=-1.0))
        return (np.abs(x - rows) <= TOLERANCE) & self._may(rows)

    def codes_at(self, indices: np.ndarray) -> np.ndarray:
        """The rows that may be proposed."""
        rows = np.asarray(indices) if self.rows is None else self.rows[np.asarray(indices)]
        return rows.astype(np.float64)[:, None]

    def restricted(
        self, coefficients: Mapping[str, float], op: str, bound: float
    ) -> PoolAxis | None:
        """The same pool, of the rows that meet a linear constraint; None where none does.

        Args:
            coefficients: by full names of `coordinates`.
            op: <=, >= or ==.
            bound: of the sum.
        """
        columns = [self.table.columns.index(c.removeprefix(f"{self.name}.")) for c in coefficients]
        factors = np.array(list(coefficients.values()))
        kept: list[np.ndarray] = []
        size = float(np.abs(factors) @ self._scale[1][columns]) or 1.0
        for at in range(0, self.size, 100_000):
            rows = self.codes_at(np.arange(at, min(at + 100_000, self.size)))[:, 0].astype(np.int64)
            off = np.asarray(self.table.data[rows][:, columns], dtype=np.float64) @ factors - bound
            slack = TOLERANCE * size
            good = {"<=": off <= slack, ">=": off >= -slack, "==": np.abs(off) <= slack}[op]
            kept.append(rows[good])
        left = np.concatenate(kept)
        return replace(self, rows=left) if len(left) else None

    def to_json(self, value: Any) -> Any:
        """Row and columns."""
        return dict(value)

    def from_json(self, data: Any) -> Any:
        """Row and columns, checked; the row need not be in the table any more.

        A row alone is looked up.
        """
        wanted = {ROW, *self.table.columns}
        if isinstance(data, Mapping) and set(data) == {ROW}:
            row = data[ROW]
            if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(self.table):
                raise ValueError(f"{self.name}: the table has no row {row!r}")
            return self.decode(np.array([[float(row)]]), 0)[0]
        if not isinstance(data, Mapping) or set(data) != wanted:
            what = f"{self.name}: wanted {', '.join(sorted(wanted))}, not {data!r}"
            if isinstance(data, Mapping) and ROW in data:
                what += "; a column that was renamed in the table needs its former name"
            raise ValueError(what)
        row = data[ROW]
        if isinstance(row, bool) or not isinstance(row, int) or row < 0:
            raise ValueError(f"{self.name}: {row!r} is not the number of a row")
        value: dict[str, Any] = {ROW: row}
        for column, texts in self._texts.items():
            cell = data[column]
            number = isinstance(cell, int | float) and not isinstance(cell, bool)
            if not isinstance(cell, str) if texts else not (number and math.isfinite(cell)):
                raise ValueError(f"{self.name}: {column} cannot be {cell!r}")
            value[column] = cell if texts else float(cell)
        return value

    def same(self, a: Any, b: Any) -> bool:
        """Whether all columns are the same."""
        return bool(self.key(a) == self.key(b))

    def describe(self, value: Any) -> str:
        """Row and the first columns: `candidates row 17 (a 1.2, b 3, ...)`."""
        shown = [
            f"{column} {value[column] if texts else format(value[column], '.4g')}"
            for column, texts in list(self._texts.items())[:3]
        ]
        more = ", ..." if len(self._texts) > 3 else ""
        return f"{self.name} row {value[ROW]} ({', '.join(shown)}{more})"

    def key(self, value: Any) -> Hashable:
        """What stands in the columns."""
        return tuple(value[column] for column in self.table.columns)
