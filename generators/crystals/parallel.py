"""Work spread over processes, and what was computed before."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from generators.crystals.identity import identity
from generators.files import cache_folder, replace_whole

T = TypeVar("T")
R = TypeVar("R")
_BATCH = 500  # crystals between two times that the cache is written


def spread(function: Callable[[T], R], jobs: Iterable[T], workers: int, chunk: int = 8) -> list[R]:
    """`[function(job) for job in jobs]`, over `workers` processes where there is more than one."""
    todo = list(jobs)
    if workers <= 1 or len(todo) < 2 * chunk:
        return [function(job) for job in todo]
    with multiprocessing.get_context("fork").Pool(workers, initializer=_one_thread) as pool:
        return pool.map(function, todo, chunksize=chunk)


def _one_thread() -> None:
    # A forked child that opens a parallel region of OpenMP may wait for ever.
    import torch

    torch.set_num_threads(1)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cached(
    name: str,
    function: Callable[[Structure], NDArray[np.float64]],
    structures: Sequence[Structure],
    width: int,
    workers: int,
) -> NDArray[np.float64]:
    """`function` of each structure, `n x width`, from the cache on disk where it is there.

    The cache is one file in the folder `crystals` of the user's cache (`MATLOOP_CACHE`, else the
    system's). It is replaced whole; two processes at once cost each other work, never correctness.

    Args:
        name: Of the file. It must tell all versions that the numbers depend on.
        function: Gives `width` numbers for a structure; nan stands for a failure.
        structures: `n` ordered structures.
        width: Of a row.
        workers: Processes.
    """
    path = cache_folder() / "crystals" / f"{name}.npz"
    known = _read(path, width)
    keys = [identity(s) for s in structures]
    todo = {k: s for k, s in zip(keys, structures, strict=True) if k not in known}
    names = list(todo)
    for i in range(0, len(names), _BATCH):
        part = names[i : i + _BATCH]
        rows = spread(function, [todo[k] for k in part], workers)
        known.update(zip(part, rows, strict=True))
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            _write(path, {**_read(path, width), **known})
    return np.array([known[k] for k in keys], dtype=float).reshape(len(keys), width)


def _read(path: Path, width: int) -> dict[bytes, Any]:
    try:
        # numpy leaves open what it opened itself and could not read
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            keys, rows = file["keys"], file["rows"]
    # Absent, cut short or not ours: it is computed again.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    if rows.shape != (len(keys), width):
        return {}
    return dict(zip(keys.tolist(), rows, strict=True))


def _write(path: Path, known: dict[bytes, Any]) -> None:
    content = io.BytesIO()
    np.savez(content, keys=np.array(list(known), dtype="S32"), rows=np.array(list(known.values())))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, content.getvalue())
