"""Numbers and names as pages get them: to so many digits, None for an unknown one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

DIGITS: Final = 5


def short(name: str | None) -> str:
    """The beginning of a name."""
    return (name or "")[:60]


def numbers(values: Iterable[float], digits: int = DIGITS) -> list[float | None]:
    """Each of them as `number` has it."""
    return [number(v, digits) for v in values]


def number(value: Any, digits: int | None = DIGITS) -> float | None:
    """A number to so many digits, which a picture can show; None for an unknown one."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(value) if digits is None else float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
