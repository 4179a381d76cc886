"""Rows that were computed of crystals, remembered by the crystals themselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from generators.crystals.identity import identity

if TYPE_CHECKING:
    from pymatgen.core import Structure

CACHED = 20_000


class RowMemory:
    """Computes the rows of crystals that it has not seen, and gives all of them.

    Args:
        compute: n crystals to n rows.
        width: Numbers in a row.
    """

    def __init__(self, compute: Callable[[Sequence[Structure]], np.ndarray], width: int) -> None:
        self._compute, self._width = compute, width
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def __call__(self, structures: Sequence[Structure]) -> np.ndarray:
        """Rows of n crystals: n x width."""
        keys = [identity(structure) for structure in structures]
        new = {key: s for key, s in zip(keys, structures, strict=True) if key not in self._rows}
        if new:
            self._rows |= zip(new, self._compute(list(new.values())), strict=True)
        for key in keys:
            self._rows.move_to_end(key)
        found = np.array([self._rows[key] for key in keys]).reshape(len(keys), self._width)
        while len(self._rows) > CACHED:
            self._rows.popitem(last=False)
        return found
