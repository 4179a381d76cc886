"""Files that people get: each is written whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from campaigns.errors import MatloopError, UsageError

UNCHANGED = "what was there before"


def write_whole(path: str | Path, text: str) -> Path:
    """Write a file so that it is at any instant the former one or the new one, complete.

    Args:
        path: The file; its folder must be there.
        text: Its content.

    Returns:
        The path.

    Raises:
        UsageError: There is no such folder, or something else than a file is there.
        MatloopError: It cannot be written; nothing is left behind.
    """
    path = Path(path)
    check_writable(path)
    # What a link points to is replaced, not the link.
    target = path.resolve()
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files that only their owner can read.
            Path(name).chmod(target.stat().st_mode & 0o777 if target.exists() else _usual_mode())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise not_written(path, error) from error
    return path


def check_writable(path: Path) -> None:
    """Refuse a path where no file can be, before work is done for it.

    Raises:
        UsageError: There is no such folder, or something else than a file is there.
    """
    if not os.path.isdir(path.parent):
        raise UsageError(
            f"there is no folder {path.parent}",
            where=str(path),
            unchanged="nothing was written",
            hint="make it first, or name another place with --out",
        )
    if os.path.exists(path) and not path.is_file():
        raise UsageError(
            "a file was wanted, and something else is there",
            where=str(path),
            unchanged="nothing was written",
            hint="name a file with --out",
        )


def make_folder(path: str | Path) -> Path:
    """A folder that files can be written to; made, with those above it, if it is not there.

    Raises:
        MatloopError: It cannot be made or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> MatloopError:
    """The error of a file or folder that cannot be written."""
    return MatloopError(
        f"{path} cannot be written",
        why=error.strerror or str(error),
        unchanged=UNCHANGED,
        hint="check the disk and the folder's permissions, or name another place with --out",
    )


def _usual_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
