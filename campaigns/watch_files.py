"""Files that people drop: which are whole, which rows of them are wrong, where they go."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from campaigns.errors import InputErrors, Problem
from campaigns.results_rows import csv_lines
from campaigns.write_file import make_folder, write_whole

ENDINGS = (".csv", ".tsv", ".txt", ".json")
MOST_BYTES = 20 * 2**20

# What spreadsheets and copying programs write beside or before the file itself.
_PASSING = re.compile(r"(?i)^[.~#]|\.(tmp|part|partial|crdownload|swp|lock)$|~$")
_ROW = re.compile(r", row (\d+)(?:,|$)")
_CIF = re.compile(r"(?i)\.cif$")


@dataclass
class Arrivals:
    """The files of a folder that have arrived whole.

    A file counts as whole when its size and time are the same at two looks, `settle` seconds apart
    or more: a copy over a slow network grows for a while.

    Attributes:
        folder: Where people drop files.
        settle: Seconds.
    """

    folder: Path
    settle: float
    _seen: dict[str, tuple[tuple[int, int], float]] = field(default_factory=dict)

    def whole(self) -> list[Path]:
        """The files that can be read now, oldest first."""
        now, found = time.monotonic(), []
        present: dict[str, tuple[tuple[int, int], float]] = {}
        for path in self.folder.iterdir():
            if _PASSING.search(path.name):
                continue
            if path.suffix.lower() not in ENDINGS or path.is_symlink() or not path.is_file():
                continue
            try:
                told = path.stat()
            except FileNotFoundError:
                continue  # it was moved away again
            mark = (told.st_size, told.st_mtime_ns)
            before = self._seen.get(path.name)
            since = before[1] if before is not None and before[0] == mark else now
            present[path.name] = (mark, since)
            if now - since >= self.settle and before is not None:
                found.append((told.st_mtime_ns, path))
        self._seen = present
        return [path for _, path in sorted(found)]


def split(name: str, text: str, problems: Iterable[Problem]) -> tuple[str, str] | None:
    """The rows of a CSV file that are right, and those that are not, each under the header.

    Args:
        name: The file's name.
        text: What is in it.
        problems: What is wrong with it.

    Returns:
        Both as CSV; None where something is wrong with the file as a whole, or no row is right.
    """
    rows = {int(m[1]) if (m := _ROW.search(p.where)) else None for p in problems}
    if name.lower().endswith(".json") or text.lstrip()[:1] in ("[", "{") or None in rows:
        return None
    try:
        separator, lines = csv_lines(text)
    except csv.Error:
        return None
    header = next((i for i, cells in enumerate(lines, 1) if any(c.strip() for c in cells)), 0)
    if header in rows:
        return None
    good = [cells for i, cells in enumerate(lines, 1) if i not in rows]
    bad = [cells for i, cells in enumerate(lines, 1) if i in rows or i == header]
    if sum(any(c.strip() for c in cells) for cells in good) < 2:
        return None
    return _csv(good, separator), _csv(bad, separator)


def put_aside(
    folder: Path, name: str, content: bytes | str, problems: Sequence[Problem], rest: str
) -> Path:
    """Write a file, or its wrong rows, to the quarantine, beside a file that says why.

    The name is made of the content, so that doing it twice is doing it once.

    Args:
        folder: The quarantine.
        name: What the person called the file.
        content: What is put aside.
        problems: Why.
        rest: What became of the rest of the file.

    Returns:
        The file.
    """
    text = content if isinstance(content, str) else content.decode("utf-8", "replace")
    path = make_folder(folder) / _stamped(name, text.encode())
    if isinstance(content, str):
        write_whole(path, content)
    else:
        path.write_bytes(content)
    hint = "Put it right, and drop it into the folder again."
    lines = [f"{name}: {len(problems)} things are wrong.", rest, hint, "", *map(str, problems)]
    write_whole(path.with_name(f"{path.name}.reason.txt"), "\n".join(lines) + "\n")
    return path


def move_away(path: Path, folder: Path) -> Path:
    """Move a file that was dealt with; the name tells two of one name apart."""
    target = make_folder(folder) / _stamped(path.name, path.read_bytes())
    return path.replace(target)


def with_crystals(folder: Path, name: str, content: bytes) -> tuple[str, bytes]:
    """A table as it is sent: as a zip with the CIF files that it names and that lie beside it."""
    text = content.decode("utf-8", "replace")
    cells = {cell.strip() for line in text.splitlines() for cell in re.split("[,;\t]", line)}
    found = [folder / c for c in sorted(cells) if _CIF.search(c) and Path(c).name == c]
    files = [path for path in found if path.is_file() and not path.is_symlink()]
    name = re.sub(r"[^A-Za-z0-9._ -]", "_", name)[:150].lstrip("._- ") or "results.csv"
    if not files:
        return name, content
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(name, content)
        for path in files:
            made.write(path, path.name)
    return f"{Path(name).stem}.zip", packed.getvalue()


def problems_of(error: InputErrors, shown: str) -> list[Problem]:
    """What is wrong, under the name that the person knows the file by."""
    return [
        Problem(re.sub(r"^[^,]*", lambda _: shown, p.where, count=1), p.what, p.hint)
        for p in error.problems
    ]


def _stamped(name: str, content: bytes) -> str:
    path = Path(name)
    return f"{path.stem}-{hashlib.sha256(content).hexdigest()[:8]}{path.suffix}"


def _csv(rows: Iterable[Sequence[str]], separator: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()
