"""How every command speaks: results, narration, errors, and the status it ends with.

For people: results and narration on standard output, errors on standard error. With ``--json``:
one JSON document on standard output (see ``docs/cli.md``), everything else on standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO

from campaigns._version import __version__
from campaigns.errors import MatloopError
from campaigns.strict import plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SCHEMA: Final = 1
"""Version of the JSON documents; a key that changes its meaning or goes raises it."""

_PIPED_WIDTH = 160
"""Columns of tables where no terminal sets them."""


@dataclass
class Output:
    """One command's voice.

    Attributes:
        command: Its name, as `generators list`; empty before one is known.
        json: Whether the result is to be JSON.
        debug: Whether the traceback of a defect is shown.
    """

    command: str = ""
    json: bool = False
    debug: bool = False

    @property
    def narration(self) -> TextIO:
        """Where a person looks while it works."""
        return sys.stderr if self.json else sys.stdout

    def console(self, stream: TextIO | None = None) -> Console:
        """A rich console on the narration, or on another stream."""
        from rich.console import Console

        class Piped(Console):
            def on_broken_pipe(self) -> None:
                raise BrokenPipeError  # rich would end the process itself

        stream = stream or self.narration
        width = None if stream.isatty() else _PIPED_WIDTH
        return Piped(file=stream, width=width, highlight=False, markup=False, emoji=False)

    def note(self, text: str) -> None:
        """Tell a person something, on a line of its own, at once."""
        print(text, file=self.narration, flush=True)

    def result(self, data: dict[str, Any], *shown: RenderableType) -> None:
        """End with a result.

        Args:
            data: What a program gets with `--json`.
            shown: What a person gets: texts and rich's tables, one below the other.
        """
        if self.json:
            self._document({"ok": True, "command": self.command, "data": data})
            return
        console = None
        for part in shown:
            if isinstance(part, str):  # not by way of rich, which would break long lines
                print(part)
            else:
                console = console or self.console()
                console.print(part)
        sys.stdout.flush()

    def error(self, error: MatloopError) -> int:
        """End with an error.

        Returns:
            The exit status: 2 for wrong use, 130 or 143 where a signal ended it, else 1.
        """
        status = _status(error)
        if self.json:
            told = error.as_dict() | {"exit_status": status}
            self._document({"ok": False, "command": self.command, "error": told})
        sys.stdout.flush()
        print(_red("error: ") + str(error), file=sys.stderr, flush=True)
        return status

    def interrupted(self) -> int:
        """End since the person said so, where the command had no more to say."""
        return self.error(
            _Stopped(
                "interrupted",
                why="SIGINT",
                unchanged="everything that was finished",
                hint="run the same command again",
            )
        )

    def defect(self, error: BaseException) -> int:
        """End with a defect of ours: one line, and where the traceback is."""
        text = "".join(traceback.format_exception(error))
        line = " ".join(f"{type(error).__name__}: {error}".split())
        if self.debug:
            print(text, file=sys.stderr, end="")
            hint = None
        else:
            hint = f"{_saved(text)}; --debug shows it here"
        return self.error(
            MatloopError(
                f"matloop {__version__} failed in a way it should not: {line[:500]}",
                unchanged="everything that was finished is in the database",
                hint=hint,
            )
        )

    def _document(self, content: dict[str, Any]) -> None:
        document = plain({"matloop": __version__, "schema": SCHEMA} | content)
        print(json.dumps(document, allow_nan=False, ensure_ascii=False, indent=2), flush=True)


class _Stopped(MatloopError):
    """Ctrl-C outside a run."""


def _status(error: MatloopError) -> int:
    if error.why in ("SIGINT", "SIGTERM"):
        return 128 + signal.Signals[error.why]
    return error.exit_status


def _saved(text: str) -> str:
    """Keep a traceback; where it is, or that it could not be kept."""
    try:
        handle, name = tempfile.mkstemp(prefix="matloop-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"matloop {__version__}, Python {sys.version}\n{sys.argv}\n\n{text}")
    except OSError as error:
        return f"its traceback could not be saved ({error.strerror})"
    return f"its traceback is in {name}"


def _red(text: str) -> str:
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    return f"\x1b[1;31m{text}\x1b[0m" if colour else text


_now = Output()


def begin(command: str, json: bool, debug: bool | None = None) -> Output:
    """The voice of a command that begins; errors are told by it too.

    Args:
        command: Its name.
        json: Whether its result is to be JSON.
        debug: Whether a defect's traceback is shown; default: as before.
    """
    global _now
    _now = Output(command, json, _now.debug if debug is None else debug)
    return _now


def current() -> Output:
    """The voice of the command that runs."""
    return _now
