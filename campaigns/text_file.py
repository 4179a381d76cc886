"""Text from a person's file, or one clear error: nothing trusts that it is a text, or small."""

from __future__ import annotations

from pathlib import Path

from campaigns.errors import InputErrors, Problem


def read_text(path: Path, most: int) -> str:
    """The text of a small UTF-8 file.

    Args:
        path: The file.
        most: Largest size in bytes.

    Raises:
        InputErrors: There is no such file, or it is a folder, too big, not readable or not text.
    """

    def refuse(what: str, hint: str | None = None) -> InputErrors:
        return InputErrors([Problem(str(path), what, hint)])

    try:
        if path.is_dir():
            raise refuse("this is a folder, a file was wanted")
        if not path.exists():
            near = [p.name for p in path.parent.glob(f"*{path.suffix}")][:3] if path.suffix else []
            raise refuse(
                "the file does not exist", f"beside it: {', '.join(sorted(near))}" if near else None
            )
        if not path.is_file():
            raise refuse("the file is not an ordinary file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        # ValueError: a name with a null character in it.
        reason = error.strerror if isinstance(error, OSError) else None
        raise refuse(f"the file cannot be read: {reason or error}") from error
    if len(data) > most:
        raise refuse(f"the file is larger than {most / 2**20:.3g} MiB, which cannot be right")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("the file is UTF-16 text, UTF-8 was wanted", "save it as UTF-8")
    if b"\0" in data:
        raise refuse("the file is not text (it holds null bytes)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refuse(f"the file is not UTF-8 text (line {line})", "save it as UTF-8") from error
