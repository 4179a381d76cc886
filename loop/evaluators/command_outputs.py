"""Numbers out of the files that a command leaves: by a pattern, a JSON pointer or a CSV column."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.evaluators.base import EvaluationFailed, EvaluatorError, one_line

STDOUT, STDERR = "stdout.txt", "stderr.txt"
MOST_BYTES = 64 * 2**20
WAYS = ("regex", "pointer", "column")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")


def check_name(name: Any) -> str:
    """Return a file's name if it stays inside the working folder.

    Raises:
        EvaluatorError: It does not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise EvaluatorError(
            f"{name!r} is no name of a file in the working folder",
            "letters, digits, `_ . + -`, and `/` between folders",
        )
    return name


@dataclass(frozen=True)
class Output:
    """Where one metric stands.

    Attributes:
        metric, unit: what it is.
        file: its name in the working folder; without one, what the command printed.
        way: one of `WAYS`.
        what: a pattern whose last match counts, its first group where it has one; the pointer
            into a JSON file (RFC 6901); or a column of a CSV file, whose last row counts.
        sem: the same for the standard error, None where there is none.
    """

    metric: str
    unit: str
    file: str
    way: str
    what: str
    sem: str | None = None

    @classmethod
    def of(cls, metric: str, config: Any) -> Output:
        """Read a configuration.

        Raises:
            EvaluatorError: It names no unit, no or two ways, or a pattern that is none.
        """
        hint = 'as in {file: out.log, regex: "E = (\\S+)", unit: eV}'
        if not isinstance(config, Mapping):
            raise EvaluatorError(f"the output {metric} is not described", hint)
        ways = [way for way in WAYS if way in config]
        if unknown := sorted(set(config) - {"file", "unit", "sem", *WAYS}):
            raise EvaluatorError(f"the output {metric} knows no {', '.join(unknown)}", hint)
        if len(ways) != 1:
            raise EvaluatorError(f"the output {metric} needs one of {', '.join(WAYS)}", hint)
        if not isinstance(config.get("unit"), str):
            raise EvaluatorError(f"the output {metric} has no unit", hint)
        way, what, sem = ways[0], config[ways[0]], config.get("sem")
        for text in (what, sem):
            if text is not None and not isinstance(text, str):
                raise EvaluatorError(f"the output {metric}: {text!r} is no text", hint)
            if way == "regex" and text is not None:
                compile_pattern(text, f"the output {metric}")
            if way == "pointer" and text and not text.startswith("/"):
                raise EvaluatorError(f"the output {metric}: a pointer begins with /, not {text!r}")
        file = check_name(config.get("file", STDOUT))
        return cls(metric, config["unit"], file, way, what, sem)

    def read(self, folder: Path) -> tuple[float, float | None]:
        """Return value and standard error.

        Raises:
            EvaluationFailed: The file or the number is not there.
        """
        text = read_text(folder, self.file)
        if text is None:
            raise EvaluationFailed(f"{self.metric}: the command left no file {self.file}")
        reader = {"regex": _by_regex, "pointer": by_pointer, "column": _by_column}[self.way]
        try:
            value = reader(text, self.what)
            return value, None if self.sem is None else reader(text, self.sem)
        except (ValueError, LookupError, TypeError) as error:
            raise EvaluationFailed(f"{self.metric}: {self.file}: {one_line(error, 200)}") from error


def compile_pattern(text: str, where: str) -> re.Pattern[str]:
    """Return a pattern; `^` and `$` are of lines.

    Raises:
        EvaluatorError: It is none.
    """
    try:
        return re.compile(text, re.MULTILINE)
    except re.error as error:
        raise EvaluatorError(f"{where}: {text!r} is no pattern: {error}") from error


def read_text(folder: Path, name: str) -> str | None:
    """Return a file of the working folder, None where there is none.

    Raises:
        EvaluationFailed: It is too large, or a link that leads out of the folder.
    """
    path = folder / name
    if not path.is_file():
        return None
    if not path.resolve().is_relative_to(folder.resolve()):
        raise EvaluationFailed(f"{name} leads out of the working folder")
    if path.stat().st_size > MOST_BYTES:
        raise EvaluationFailed(f"{name} has more than {MOST_BYTES >> 20} MiB")
    return path.read_text("utf-8", errors="replace")


def _number(text: Any) -> float:
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError(f"{text!r} is no number")
    # Fortran writes 1.5D+03.
    return float(re.sub(r"(?<=\d)[dD](?=[+-]?\d)", "e", text) if isinstance(text, str) else text)


def _by_regex(text: str, pattern: str) -> float:
    last = deque(re.finditer(pattern, text, re.MULTILINE), maxlen=1)
    if not last:
        raise ValueError(f"nothing matches {pattern!r}")
    found = last[0]
    return _number((found[1] if found.re.groups else found[0]).strip())


def by_pointer(text: str, pointer: str) -> float:
    """The number that a JSON pointer (RFC 6901) leads to.

    Raises:
        ValueError, LookupError, TypeError: There is none.
    """
    value = json.loads(text)
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return _number(value)


def _by_column(text: str, column: str) -> float:
    rows = list(csv.DictReader(text.splitlines()))
    if not rows:
        raise ValueError("there is no row")
    if column not in rows[-1]:
        raise ValueError(f"there is no column {column!r}, but {', '.join(map(str, rows[-1]))}")
    return _number(rows[-1][column])
