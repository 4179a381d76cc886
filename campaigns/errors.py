"""Errors a person can act on: what is wrong, where, why, what stayed unchanged, and a hint.

Everything that can go wrong on purpose is a `MatloopError`; its `exit_status` is the command's.
Any other exception is a defect of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


class MatloopError(Exception):
    """One clear error; the command ends with status 1.

    Args:
        what: What is wrong, in one line.
        where: File, line, row or name that it is about.
        why: The cause, where it is known and not plain from `what`.
        unchanged: What stayed as it was.
        hint: What the person can do about it.
    """

    exit_status = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        why: str | None = None,
        unchanged: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what, self.where, self.why = what, where, why
        self.unchanged, self.hint = unchanged, hint

    def __str__(self) -> str:
        details = [
            f"  {name}: {value}"
            for name in ("where", "why", "unchanged", "hint")
            if (value := getattr(self, name))
        ]
        return "\n".join([self.what, *details])

    def as_dict(self) -> dict[str, Any]:
        """The error as JSON-able data, for `--json`."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "unchanged": self.unchanged,
            "hint": self.hint,
            "exit_status": self.exit_status,
        }


class UsageError(MatloopError):
    """Wrong use: bad arguments or bad input; the command ends with status 2."""

    exit_status = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input.

    Attributes:
        where: `spec.yaml:7:3`, or `results.csv, row 3, column density`.
        what: What is wrong there, in one line.
        hint: What would be right, where we can tell.
    """

    where: str
    what: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.hint})" if self.hint else "")


class InputErrors(UsageError):
    """Everything that is wrong with one input, at once.

    Args:
        problems: One or more.
        source: The file they are in.
        unchanged: What stayed as it was.
    """

    shown = 50

    def __init__(
        self, problems: Sequence[Problem], source: str = "", unchanged: str | None = None
    ) -> None:
        if len(problems) == 1:
            (only,) = problems
            super().__init__(only.what, where=only.where, unchanged=unchanged, hint=only.hint)
        else:
            count = f"{len(problems)} things are wrong"
            super().__init__(f"{count} in {source}" if source else count, unchanged=unchanged)
        # What `Exception` hands to its constructor when it travels between processes.
        self.args = (tuple(problems), source, unchanged)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return super().__str__()
        lines = [self.what, *(f"  {problem}" for problem in self.problems[: self.shown])]
        if len(self.problems) > self.shown:
            lines.append(f"  ... and {len(self.problems) - self.shown} more")
        if self.unchanged:
            lines.append(f"  unchanged: {self.unchanged}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The error with its `problems`, each with `where`, `what` and `hint`."""
        return super().as_dict() | {"problems": [asdict(problem) for problem in self.problems]}


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the known word nearest to `word`, or lists them all if they are few."""
    known = list(known)
    by_lower = {name.lower(): name for name in reversed(known)}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"did you mean {by_lower[near[0]]!r}?"
    return f"one of: {', '.join(known)}" if 0 < len(known) <= 12 else None


def quoted(value: object, limit: int = 60) -> str:
    """A value from a file as it may be shown: on one line, no control characters, cut short."""
    # Longer text is cut before `repr`, which would otherwise build all of it.
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else text[:limit] + "..."
