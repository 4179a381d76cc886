"""A zip from outside, unpacked so that nothing of it can be anywhere else or of any size."""

from __future__ import annotations

import io
import re
import stat
import zipfile
from pathlib import Path
from typing import Final

from campaigns.errors import InputErrors, Problem

MOST_FILES: Final = 5000
MOST_BYTES: Final = 256 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ +()=@-]{0,199}")
UNCHANGED: Final = "the campaign: nothing was taken in"


def unpacked(folder: Path, name: str, content: bytes) -> Path:
    """Write what came to an empty folder.

    Args:
        folder: Empty, and ours.
        name: What the sender calls it.
        content: CSV, JSON, or a zip with one of these and CIF files.

    Returns:
        The file of results in the folder.

    Raises:
        InputErrors: A name that could be a path, or a zip that is none or too large.
    """
    if not _NAME.fullmatch(name):
        raise _refused("the upload", "a file's name has letters, digits, and . _ - between them")
    if not name.lower().endswith(".zip"):
        path = folder / name
        path.write_bytes(content)
        return path
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            members = [m for m in packed.infolist() if not m.is_dir()]
            _check(name, members)
            for member in members:
                with packed.open(member) as file:
                    # what the zip says of a size need not be so
                    data = file.read(member.file_size + 1)
                if len(data) != member.file_size:
                    raise _refused(name, f"{member.filename[:80]!r} is not of the size it claims")
                (folder / Path(member.filename).name).write_bytes(data)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise _refused(name, f"it cannot be read as a zip: {error}") from error
    tables = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in (".csv", ".json")]
    if len(tables) != 1:
        raise _refused(name, f"it holds {len(tables) or 'no'} tables of results; one was wanted")
    return tables[0]


def _check(name: str, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MOST_FILES:
        raise _refused(name, f"it holds {len(members)} files: at most {MOST_FILES}")
    if sum(m.file_size for m in members) > MOST_BYTES:
        raise _refused(name, f"it unpacks to more than {MOST_BYTES >> 20} MiB")
    seen: set[str] = set()
    for member in members:
        shown = member.filename[:80]
        parts = member.filename.split("/")
        link = stat.S_ISLNK(member.external_attr >> 16)
        if link or len(parts) > 1 or not _NAME.fullmatch(member.filename):
            raise _refused(name, f"{shown!r} is no plain file at the top of the zip")
        if member.filename in seen:
            raise _refused(name, f"{shown!r} is in it twice")
        seen.add(member.filename)


def _refused(where: str, what: str) -> InputErrors:
    return InputErrors([Problem(where, what)], where, UNCHANGED)
