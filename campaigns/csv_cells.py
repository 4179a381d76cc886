"""Cells that a spreadsheet takes for text, and not for a formula."""

from __future__ import annotations

import re
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def neutral(cell: Any) -> Any:
    """The same cell, with an apostrophe before what a spreadsheet would evaluate.

    Numbers stay numbers, also negative ones.
    """
    if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA):
        return cell if _NUMBER.fullmatch(cell.strip()) else f"'{cell}"
    return cell


def original(cell: str) -> str:
    """What `neutral` was given."""
    return cell[1:] if cell.startswith("'") and neutral(cell[1:]) == cell else cell
