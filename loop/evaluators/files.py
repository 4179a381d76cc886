"""Files that are either complete or absent."""

from __future__ import annotations

import hashlib
from pathlib import Path

from generators.files import cache_folder as cache_folder
from generators.files import replace_whole


def write_atomically(path: Path, text: str) -> None:
    """`generators.files.replace_whole` of text. Raises as it does."""
    replace_whole(path, text.encode())


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
