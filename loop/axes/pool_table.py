"""Tables of designs that exist, up to a million rows: read once in pieces, then mapped from disk.

A CSV or Parquet file is turned once into an array on disk, in the user's cache folder (or the one
that MATLOOP_CACHE names), and from then on only mapped into memory: no process holds the whole
table. A `.npy` file of floats is mapped as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loop.axes.pool_reader import PoolError as PoolError
from loop.axes.pool_reader import PoolReader

_FORMAT = 1  # of what is kept: another makes every table be read again


@dataclass(frozen=True, eq=False)
class PoolTable:
    """A table of n designs, mapped from disk.

    Attributes:
        source: the file.
        sha256: of the file.
        columns: c names.
        low: c smallest values.
        high: c largest values.
        categories: for each of the c columns the texts that its numbers stand for; empty for
            numbers.
        data: n x c floats.
    """

    source: str
    sha256: str
    columns: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    categories: tuple[tuple[str, ...], ...]
    data: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.data)


def cache_folder() -> Path:
    """Where tables are kept: MATLOOP_CACHE, or the user's cache folder."""
    if given := os.environ.get("MATLOOP_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "matloop" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "matloop"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matloop"


def open_pool(path: str | Path, columns: Sequence[str] | None = None) -> PoolTable:
    """Map a table into memory; the first time, read and check it.

    Args:
        path: a CSV file (`.csv`, `.csv.gz`), Parquet, or floats as `.npy` or `.npz`.
        columns: those that describe a design; None = all.

    Raises:
        OSError: the file cannot be read, or the cache not written.
        PoolError: it is no table of designs: nothing in it, a value that is missing or no number,
            two rows that are the same.
    """
    path = Path(path).absolute()
    stat = path.stat()
    said = [str(path), stat.st_size, stat.st_mtime_ns, list(columns or ()), _FORMAT]
    key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]
    folder = cache_folder() / "pools"
    card_file, data_file = folder / f"{key}.json", folder / f"{key}.npy"
    card = _read_card(card_file)
    if card is None:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="new-") as scratch:
            made = Path(scratch) / "data.npy"
            card = PoolReader(path, columns).read(made)
            if made.exists():
                made.replace(data_file)
            # The card comes last: where it is, the data are whole.
            told = Path(scratch) / "card.json"
            told.write_text(json.dumps(card), encoding="utf-8")
            told.replace(card_file)
    mapped = np.load(path if card["in_place"] else data_file, mmap_mode="r", allow_pickle=False)
    return PoolTable(
        str(path),
        card["sha256"],
        tuple(card["columns"]),
        tuple(card["low"]),
        tuple(card["high"]),
        tuple(tuple(texts) for texts in card["categories"]),
        mapped,
    )


def _read_card(path: Path) -> dict[str, Any] | None:
    """What a former reading found; None where there was none, or its data are gone."""
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card if card["in_place"] or path.with_suffix(".npy").exists() else None
