"""One reading of a table of designs, in pieces: checked, and written as an array of numbers."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 50_000
"""Rows that are in memory at one time."""

MOST_CATEGORIES = 500
"""Different texts that a column may have."""

_PEEK = 2_000
_CSV = (".csv", ".tsv", ".txt")

ENDINGS = (*_CSV, ".parquet", ".npy", ".npz")
"""What a table may be; CSV compressed with gzip too."""


class PoolError(ValueError):
    """A table that cannot be a pool: what is wrong, with file, line and column.

    Attributes:
        what: what is wrong.
        where: file, line and column.
        hint: what would be right.
    """

    def __init__(self, what: str, where: str, hint: str | None = None) -> None:
        super().__init__(f"{where}: {what}" + (f" ({hint})" if hint else ""))
        self.what, self.where, self.hint = what, where, hint


@dataclass
class _Card:
    """What is kept beside the data."""

    sha256: str
    in_place: bool
    columns: list[str]
    low: list[float]
    high: list[float]
    categories: list[list[str]]


class PoolReader:
    """One reading of a table, in pieces."""

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        self.path, self.wanted = path, list(columns) if columns else None
        name = path.name.removesuffix(".gz")
        self.kind = Path(name).suffix.lower()
        self.separator = ","
        self.codes: dict[str, dict[str, int]] = {}

    def read(self, made: Path) -> dict[str, Any]:
        """Check the table, and write its numbers to a `.npy` file unless it is one."""
        if self.kind not in ENDINGS:
            raise self.wrong("this is no table", hint=f"a pool is one of {', '.join(ENDINGS)}")
        if self.kind in (".npy", ".npz"):
            columns, pieces, in_place = self._arrays()
        else:
            columns, pieces, in_place = self._frames()
        hashes: list[np.ndarray] = []
        low, high = np.full(len(columns), np.inf), np.full(len(columns), -np.inf)
        first = 0
        with made.open("wb") as file:
            _header(file, 0, len(columns))
            for piece in filter(len, pieces):
                self._check_finite(piece, columns, first)
                low, high = np.minimum(low, piece.min(axis=0)), np.maximum(high, piece.max(axis=0))
                hashes.append(_row_hashes(piece))
                if not in_place:
                    file.write(np.ascontiguousarray(piece, dtype="<f8").tobytes())
                first += len(piece)
            if not first:
                raise self.wrong("the table has no rows")
            file.seek(0)
            _header(file, first, len(columns))
        data = np.load(self.path if in_place else made, mmap_mode="r", allow_pickle=False)
        self._check_duplicates(np.concatenate(hashes), data)
        del data
        if in_place:
            made.unlink()
        texts = [list(self.codes.get(name, {})) for name in columns]
        return asdict(
            _Card(_digest(self.path), in_place, columns, low.tolist(), high.tolist(), texts)
        )

    def names(self) -> list[str]:
        """The columns that describe a design, by the head of the file alone.

        Raises:
            OSError: The file cannot be read.
            PoolError: It has no such head.
        """
        if self.kind == ".npz" and not self.wanted:
            return list(self._loaded().files)
        if self.kind in (".npy", ".npz"):
            return self._arrays()[0]
        return self._parquet()[0] if self.kind == ".parquet" else self._select(self._head())

    def wrong(
        self,
        what: str,
        *,
        row: int | None = None,
        column: str | None = None,
        hint: str | None = None,
    ) -> PoolError:
        """An error about the file, one of its rows (from 0) or a cell."""
        where = str(self.path)
        if row is not None:
            line = self._line(row)
            where += f", row {row}" if line is None else f", line {line}"
        if column is not None:
            where += f", column {column}"
        return PoolError(what, where, hint)

    def _line(self, row: int) -> int | None:
        """The line of a row, counted anew: quoted cells may hold line ends. None if not CSV."""
        if self.kind not in _CSV:
            return None
        with self._text() as file:
            reader = csv.reader(file, delimiter=self.separator)
            at = -2  # the header is the first that is not empty
            for cells in reader:
                at += bool(cells)
                if at == row:
                    return reader.line_num
        return None

    def _text(self) -> IO[str]:
        if self.path.suffix.lower() == ".gz":
            return gzip.open(self.path, "rt", encoding="utf-8-sig", newline="")
        return self.path.open(encoding="utf-8-sig", newline="")

    # CSV and Parquet

    def _frames(self) -> tuple[list[str], Iterator[np.ndarray], bool]:
        if self.kind == ".parquet":
            names, frames = self._parquet()
        else:
            names, frames = self._csv()
        return names, self._numbers(names, frames), False

    def _select(self, names: list[str]) -> list[str]:
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise self.wrong(f"two columns are called {twice[0]!r}")
        missing = [n for n in self.wanted or () if n not in names]
        if missing:
            told = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise self.wrong(f"there is no column {missing[0]!r}", hint=f"it has {told}")
        return self.wanted or names

    def _head(self) -> list[str]:
        """The names in the first line of a CSV file that is not empty."""
        try:
            with self._text() as file:
                first = next((line for line in file if line.strip()), "")
            self.separator = max(",;\t", key=first.count)
            header = next(csv.reader([first], delimiter=self.separator), [])
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise self.wrong(f"the file cannot be read as text: {error}") from error
        except csv.Error as error:
            raise self.wrong(_parser_says(error)) from error
        header = [cell.strip() for cell in header]
        if not any(header):
            raise self.wrong("the table is empty")
        if all(map(_is_number, header)):
            raise self.wrong("the first row is numbers", hint="it names the columns")
        return header

    def _csv(self) -> tuple[list[str], Iterator[pd.DataFrame]]:
        import pandas as pd

        header = self._head()
        try:
            names = self._select(header)
            shared: dict[str, Any] = {
                "sep": self.separator,
                "encoding": "utf-8-sig",
                "keep_default_na": False,
                "na_values": [""],
                "skipinitialspace": True,
                # Not `usecols`: with it, rows that are too long are cut short in silence.
                "names": header,
                "header": 0,
            }
            self._check_first_row(len(header))
            peek = pd.read_csv(self.path, nrows=_PEEK, dtype=str, **shared)
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise self.wrong(f"the file cannot be read as text: {error}") from error
        except (pd.errors.ParserError, csv.Error) as error:
            raise self.wrong(_parser_says(error)) from error
        for name in names:
            cells = peek[name].dropna()
            if len(cells) and sum(map(_is_number, cells)) < 0.5 * len(cells):
                self.codes[name] = {}
        return names, self._csv_frames(shared)

    def _check_first_row(self, columns: int) -> None:
        """Refuse a first row that is too long: pandas would take its first cells for names."""
        with self._text() as file:
            rows = (cells for cells in csv.reader(file, delimiter=self.separator) if cells)
            next(rows)
            first = next(rows, [])
        if len(first) > columns:
            raise self.wrong(f"wanted {columns} cells, as in the header, not {len(first)}", row=0)

    def _csv_frames(self, shared: dict[str, Any]) -> Iterator[pd.DataFrame]:
        import pandas as pd

        text = dict.fromkeys(self.codes, str)
        try:
            with pd.read_csv(
                self.path,
                dtype=text,
                chunksize=CHUNK,
                low_memory=False,
                **shared,
            ) as frames:
                yield from frames
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise self.wrong(f"the file cannot be read as text: {error}") from error
        except pd.errors.ParserError as error:
            raise self.wrong(_parser_says(error)) from error

    def _parquet(self) -> tuple[list[str], Iterator[pd.DataFrame]]:
        try:  # by name, since it need not be there
            pyarrow = importlib.import_module("pyarrow")
            importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise self.wrong(
                "Parquet needs the package pyarrow, which is not installed",
                hint="pip install 'matloop[tables]', or save the table as CSV",
            ) from error
        try:
            file = pyarrow.parquet.ParquetFile(self.path)
            names = self._select(list(file.schema_arrow.names))
            for name in names:
                kind = file.schema_arrow.field(name).type
                if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
                    self.codes[name] = {}
        except pyarrow.ArrowException as error:
            raise self.wrong(f"the file is not Parquet: {_one_line(error)}") from error
        return names, (
            batch.to_pandas() for batch in file.iter_batches(batch_size=CHUNK, columns=names)
        )

    def _numbers(self, names: list[str], frames: Iterator[pd.DataFrame]) -> Iterator[np.ndarray]:
        first = 0
        for frame in frames:
            piece = np.empty((len(frame), len(names)))
            for j, name in enumerate(names):
                text = name in self.codes
                piece[:, j] = (self._coded if text else self._column)(frame[name], name, first)
            first += len(frame)
            yield piece

    def _column(self, cells: pd.Series, name: str, first: int) -> np.ndarray:
        """A column of numbers; what is none of them is an error."""
        import pandas as pd

        if not pd.api.types.is_numeric_dtype(cells.dtype) or cells.dtype == bool:
            numbers = pd.to_numeric(cells, errors="coerce")
            junk = np.asarray(numbers.isna() & cells.notna())
            if junk.any():
                at = int(junk.argmax())
                cell = str(cells.iloc[at])[:60]
                comma = "," in cell and _is_number(cell.replace(",", "."))
                raise self.wrong(
                    f"{cell!r} is not a number",
                    row=first + at,
                    column=name,
                    hint="decimals have a point" if comma else None,
                )
            cells = numbers
        return cells.to_numpy(dtype=np.float64, na_value=np.nan)

    def _coded(self, cells: pd.Series, name: str, first: int) -> np.ndarray:
        """A column of text, as numbers of its categories."""
        import pandas as pd

        codes = self.codes[name]
        missing = np.asarray(cells.isna())
        if missing.any():
            raise self.wrong("a value is missing", row=first + int(missing.argmax()), column=name)
        index, texts = pd.factorize(cells)
        numbers = np.array([codes.setdefault(str(t).strip(), len(codes)) for t in texts])
        if len(codes) > MOST_CATEGORIES:
            raise self.wrong(
                f"more than {MOST_CATEGORIES} different texts",
                column=name,
                hint="leave the column out of `columns`: names say nothing of a design",
            )
        return numbers[index].astype(np.float64)

    # numpy

    def _loaded(self) -> Any:
        try:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise self.wrong(f"the file is not numpy's: {_one_line(error)}") from error

    def _arrays(self) -> tuple[list[str], Iterator[np.ndarray], bool]:
        loaded = self._loaded()
        if self.kind == ".npz":
            return self._archive(loaded)
        if loaded.ndim != 2 or loaded.dtype.kind not in "fiu":
            raise self.wrong(f"wanted rows x columns of numbers, not {loaded.dtype}{loaded.shape}")
        names = self.wanted or [f"x{i}" for i in range(loaded.shape[1])]
        if len(names) != loaded.shape[1] or len(set(names)) < len(names):
            raise self.wrong(f"it has {loaded.shape[1]} columns, and `columns` names {len(names)}")
        in_place = loaded.dtype in (np.dtype("f4"), np.dtype("f8"))
        return names, _pieces(loaded), in_place

    def _archive(self, loaded: Any) -> tuple[list[str], Iterator[np.ndarray], bool]:
        try:
            arrays = {name: loaded[name] for name in self.wanted or loaded.files}
        except (KeyError, ValueError) as error:
            raise self.wrong(_one_line(error), hint=f"it has {', '.join(loaded.files)}") from error
        shapes = {array.shape for array in arrays.values()}
        numbers = all(array.dtype.kind in "fiu" for array in arrays.values())
        if not arrays or len(shapes) > 1 or len(next(iter(shapes))) != 1 or not numbers:
            raise self.wrong("wanted arrays of numbers, all of one length, one a column")
        table = list(arrays.values())
        pieces = (
            np.stack([a[at : at + CHUNK] for a in table], axis=1).astype(np.float64)
            for at in range(0, len(table[0]), CHUNK)
        )
        return list(arrays), pieces, False

    # What is wrong with rows

    def _check_finite(self, piece: np.ndarray, columns: list[str], first: int) -> None:
        bad = ~np.isfinite(piece)
        if bad.any():
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            infinite = math.isinf(float(piece[row, column]))
            raise self.wrong(
                "a number is infinite" if infinite else "a value is missing",
                row=first + int(row),
                column=columns[int(column)],
                hint="fill it in, or leave the row out",
            )

    def _check_duplicates(self, hashes: np.ndarray, data: np.ndarray) -> None:
        order = np.argsort(hashes, kind="stable")
        twins = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
        for at in twins:
            a, b = sorted((int(order[at]), int(order[at + 1])))
            if np.array_equal(data[a], data[b]):
                line = self._line(a)
                first = f"row {a}" if line is None else f"line {line}"
                raise self.wrong(
                    f"this row is the same as that in {first}",
                    row=b,
                    hint="a pool has each design once: remove the repeated rows",
                )


def _header(file: IO[bytes], rows: int, columns: int) -> None:
    """The head of a `.npy` file, of the same length whatever the number of rows."""
    told = {"descr": "<f8", "fortran_order": False, "shape": (rows, columns)}
    np.lib.format.write_array_header_1_0(file, told)


def _pieces(table: np.ndarray) -> Iterator[np.ndarray]:
    for at in range(0, len(table), CHUNK):
        yield np.asarray(table[at : at + CHUNK], dtype=np.float64)


def _row_hashes(piece: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each row, the same for equal rows."""
    bits = np.ascontiguousarray(piece + 0.0, dtype=np.float64).view(np.uint64)
    hashes = np.full(len(piece), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in bits.T:
        hashes = (hashes ^ column) * np.uint64(0xFF51AFD7ED558CCD)
        hashes ^= hashes >> np.uint64(33)
    return hashes


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _parser_says(error: Exception) -> str:
    return (
        f"the file is not CSV: {_one_line(error).removeprefix('Error tokenizing data. C error: ')}"
    )
