"""The periodic table as a grid: which cell an element is in, and how strong its colour."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from campaigns.elements import SYMBOLS

COUNTS = ("tried", "front", "failed")

_NOBLE = (2, 10, 18, 36, 54, 86, 118)


def place(number: int) -> tuple[int, int]:
    """Row and column (from 1) of an element; lanthanides and actinides stand in rows 9 and 10."""
    if 57 <= number <= 71:
        return 9, number - 57 + 3
    if 89 <= number <= 103:
        return 10, number - 89 + 3
    row = next(k for k, last in enumerate(_NOBLE) if number <= last)
    first = ((0, *_NOBLE)[row]) + 1
    at = number - first + 1
    length = _NOBLE[row] - first + 1
    if at <= (1 if row == 0 else 2):
        return row + 1, at
    if length == 32 and number >= 72:
        at -= 14  # the fifteen that stand below take one place
    length = min(length, 18)
    return row + 1, 18 - (length - at)


def cells(found: Mapping[str, Mapping[str, Any]], colour: str) -> list[dict[str, Any]]:
    """Every element with its place and what was explored of it.

    Args:
        found: By symbol: tried, completed, failed, front, mean (by metric).
        colour: What gives a cell its strength: one of `COUNTS`, or a metric.

    Returns:
        symbol, number, row, column, told (None = not explored), value, share (0 to 1).
    """
    values: dict[str, float] = {}
    for symbol, told in found.items():
        value = told.get(colour) if colour in COUNTS else (told.get("mean") or {}).get(colour)
        if value is not None and math.isfinite(value):
            values[symbol] = float(value)
    low = 0.0 if colour in COUNTS else min(values.values(), default=0.0)
    high = max(values.values(), default=0.0)
    made = []
    for number, symbol in enumerate(SYMBOLS, 1):
        row, column = place(number)
        value = values.get(symbol)
        share = None if value is None else (value - low) / (high - low) if high > low else 1.0
        made.append(
            {
                "symbol": symbol, "number": number, "row": row, "column": column,
                "told": found.get(symbol), "value": value, "share": share,
            }
        )  # fmt: skip
    return made
