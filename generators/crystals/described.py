"""Symmetric descriptions of many crystals: over processes, and from the cache where they are known.

A description takes some milliseconds, so those of a data set are minutes once, and seconds after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from generators.crystals.parallel import cached
from generators.crystals.symmetry import Array
from generators.crystals.tokens import MAX_ORBITS
from generators.crystals.wyckoff import UndescribableError, WyckoffCrystal, describe

_CODE = ("wyckoff.py", "symmetry.py", "wyckoff_positions.json", "described.py")
_HEAD = 8  # space group, orbits, and the lattice
_WIDTH = _HEAD + 5 * MAX_ORBITS


def describe_all(
    structures: Sequence[Structure], workers: int = 1
) -> list[WyckoffCrystal | UndescribableError]:
    """Descriptions of `n` structures, or why one has none of up to `MAX_ORBITS` orbits.

    Args:
        structures: Ordered or not.
        workers: Processes.
    """
    rows = cached(f"described-{_version()}", _row, structures, _WIDTH, workers)
    return [_read(row, structure) for row, structure in zip(rows, structures, strict=True)]


@lru_cache(maxsize=1)
def _version() -> str:
    """What descriptions depend on: the code that makes them, and the finder of symmetry."""
    digest = hashlib.sha256(version("moyopy").encode())
    for name in _CODE:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:12]


def _row(structure: Structure) -> Array:
    """A description as numbers; nan where there is none, without its orbits if too many."""
    row = np.full(_WIDTH, np.nan)
    try:
        crystal = describe(structure)
    except UndescribableError:
        return row
    orbits = len(crystal.positions)
    row[:_HEAD] = [crystal.number, orbits, *crystal.lattice]
    if orbits <= MAX_ORBITS:
        body = row[_HEAD:].reshape(5, MAX_ORBITS)
        body[:, :orbits] = [crystal.positions, crystal.elements, *crystal.free.T]
    return row


def _read(row: Array, structure: Structure) -> WyckoffCrystal | UndescribableError:
    if np.isnan(row[0]):  # few are, and each tells its reason anew
        try:
            return describe(structure)
        except UndescribableError as error:
            return error
    number, orbits = int(row[0]), int(row[1])
    if orbits > MAX_ORBITS:
        return UndescribableError("too many orbits")
    body = row[_HEAD:].reshape(5, MAX_ORBITS)[:, :orbits]
    positions, elements = (tuple(int(v) for v in line) for line in body[:2])
    a, b, c, alpha, beta, gamma = map(float, row[2:_HEAD])
    free = np.ascontiguousarray(body[2:].T)
    return WyckoffCrystal(number, positions, elements, free, (a, b, c, alpha, beta, gamma))
