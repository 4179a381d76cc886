"""Files that are either complete or absent."""

from __future__ import annotations

from pathlib import Path

from generators.files import cache_folder as cache_folder
from generators.files import replace_whole


def write_atomically(path: Path, text: str) -> None:
    """`generators.files.replace_whole` of text. Raises as it does."""
    replace_whole(path, text.encode())
