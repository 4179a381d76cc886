"""Reading crystals that somebody else wrote, row by row: a bad one is told and left out."""

from __future__ import annotations

import csv
import gzip
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pymatgen.core import Structure

from generators.crystals.dataset import parse_cif
from generators.crystals.identity import flaw

LARGEST_TEXT = 2_000_000
"""Bytes of one CIF. That of 500 atoms without symmetry has about 40,000."""

KINDS = (".cif", ".csv", ".csv.gz", ".json.gz", ".zip")


@dataclass(frozen=True)
class Refused:
    """A row that is no crystal we can use.

    Attributes:
        name: Of the row: its file, or its number in a file.
        reason: One line for a person.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Read:
    """A crystal and where it comes from."""

    name: str
    structure: Structure


def read_crystals(path: Path) -> Iterator[Read | Refused]:
    """Crystals of a `.cif`, `.csv` or `.csv.gz` with a column `cif`, `.json.gz`, `.zip`, or folder.

    A folder is read with the folders in it, in the order of names. Nothing is unpacked to disk, and
    nothing unpickled.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of no kind that can be read, or is not what its ending says.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(KINDS))
        for file in files:
            try:
                for row in read_crystals(file):
                    name = f"{file.relative_to(path).as_posix()}: {row.name}"
                    if file.suffix == ".cif":
                        name = file.relative_to(path).as_posix()
                    yield _named(row, name)
            except (OSError, ValueError) as error:
                yield Refused(file.relative_to(path).as_posix(), _line(error))
        return
    if not path.is_file():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if not path.name.endswith(KINDS):
        raise ValueError(f"{path}: crystals are read from {', '.join(KINDS)} or a folder of them")
    try:
        yield from _rows(path)
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, json.JSONDecodeError, csv.Error,
            UnicodeDecodeError, KeyError, TypeError) as error:  # fmt: skip
        raise ValueError(f"{path} cannot be read to its end: {_line(error)}") from error


def _rows(path: Path) -> Iterator[Read | Refused]:
    if path.suffix == ".cif":
        size = path.stat().st_size
        yield _cif(path.name, size, lambda: path.read_bytes())
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in sorted(archive.infolist(), key=lambda i: i.filename):
                if info.filename.endswith(".cif") and not info.filename.startswith("__MACOSX"):
                    yield _cif(info.filename, info.file_size, lambda i=info: archive.read(i))  # type: ignore[misc]
    elif path.name.endswith((".csv", ".csv.gz")):
        csv.field_size_limit(2**30)
        with _opened(path) as handle:
            table = csv.DictReader(handle)
            if "cif" not in (table.fieldnames or ()):
                raise ValueError(f"{path} has no column `cif`")
            for number, row in enumerate(table, 2):
                text = (row["cif"] or "").encode()
                yield _cif(f"row {number}", len(text), lambda text=text: text)  # type: ignore[misc]
    else:
        with gzip.open(path, "rt") as handle:
            data = json.load(handle)
        if isinstance(data, dict):
            data = [dict(zip(data["columns"], row, strict=False)) for row in data["data"]]
        for number, row in enumerate(data, 1):
            yield _made(f"row {number}", lambda row=row: Structure.from_dict(_structure_of(row)))  # type: ignore[misc]


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", newline="")
    return path.open(newline="")


def _structure_of(row: dict[str, Any]) -> dict[str, Any]:
    """The structure of a row of ours, or of pymatgen's AFLOW prototypes."""
    return row["snl"] if "snl" in row else row["structure"]


def _cif(name: str, size: int, text: Callable[[], bytes]) -> Read | Refused:
    if size > LARGEST_TEXT:
        return Refused(name, f"{size} bytes are too many for a CIF")
    return _made(name, lambda: parse_cif(text().decode()))


def _made(name: str, make: Callable[[], Structure]) -> Read | Refused:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on the style of a CIF
            structure = make()
    # What a parser raises of text that anybody may have written is without limit; it is told.
    except Exception as error:
        return Refused(name, f"cannot be read: {_line(error)}")
    if why := flaw(structure):
        return Refused(name, why)
    if not len(structure):
        return Refused(name, "it has no atoms")
    return Read(name, structure)


def _named(row: Read | Refused, name: str) -> Read | Refused:
    return Read(name, row.structure) if isinstance(row, Read) else Refused(name, row.reason)


def _line(error: BaseException) -> str:
    """An exception as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
