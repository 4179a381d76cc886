"""A watched folder: proposals go out as a table, results come in as tables, by trial number.

    <folder>/proposals.csv       what to make; always whole, written anew when something changes
             trial-7.cif         the crystals of these trials
             anything.csv        dropped here by people or instruments
             done/               what was taken in
             quarantine/         rows and files that were wrong, each beside a file that says why

A file is read when it has stopped growing. It may be killed at any instant and started again: a
file is moved to `done/` only after it was taken in, and taking in the same table twice is once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from campaigns.client import Unreachable
from campaigns.csv_cells import neutral
from campaigns.errors import InputErrors, Problem
from campaigns.results_columns import header, with_unit
from campaigns.watch_desks import Desk, Waiting
from campaigns.watch_files import (
    MOST_BYTES,
    Arrivals,
    move_away,
    problems_of,
    put_aside,
    split,
)
from campaigns.write_file import make_folder, write_whole

PROPOSALS: Final = "proposals.csv"
DONE: Final = "done"
QUARANTINE: Final = "quarantine"


class Watch:
    """One watched folder.

    Args:
        folder: Made where needed.
        desk: The campaign.
        n: Trials that are to wait in the folder at one time.
        settle: Seconds for which a file must not have changed.
        tell: Told each thing that happens, one line.
    """

    def __init__(
        self,
        folder: Path,
        desk: Desk,
        n: int,
        settle: float = 2.0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder, self.desk, self.n, self.tell = make_folder(folder), desk, n, tell
        self._arrivals = Arrivals(folder, settle)
        self._written = folder / f".{PROPOSALS}.sha256"
        self._shown: list[Waiting] | None = None
        self._silent = False

    def run(self, stop: threading.Event, every: float = 1.0) -> int:
        """Watch until `stop` is set.

        Returns:
            How many files were dealt with.

        Raises:
            MatloopError: The folder cannot be written, or the server refuses this key.
        """
        count = 0
        while True:
            try:
                count += self.look()
                self._silent = False
            except Unreachable as error:
                if not self._silent:
                    self.tell(f"the server does not answer ({error.why}); waiting for it")
                self._silent = True
            if stop.wait(every):
                return count

    def look(self) -> int:
        """Take in what has arrived, and bring the table of proposals up to date.

        Returns:
            How many files were dealt with.

        Raises:
            Unreachable: The server does not answer; what has arrived stays where it is.
            MatloopError: As `run`.
        """
        arrived = [path for path in self._arrivals.whole() if not self._is_ours(path)]
        for path in arrived:
            self._take_in(path)
        self._propose()
        return len(arrived)

    # What comes in

    def _is_ours(self, path: Path) -> bool:
        """Whether it is the table as we wrote it; one that a person filled in is not."""
        if path.name != PROPOSALS or not self._written.exists():
            return False
        return _digest(path.read_bytes()) in self._written.read_text("utf-8").split()

    def _take_in(self, path: Path) -> None:
        if path.stat().st_size > MOST_BYTES:
            problem = Problem(path.name, f"it is larger than {MOST_BYTES >> 20} MiB")
            self._refuse(path, b"(too large to be copied here)", [problem])
            return
        content = path.read_bytes()
        rest, wrong = content, 0
        while True:
            try:
                done = self.desk.take_in(self.folder, path.name, rest)
                break
            except InputErrors as error:
                problems = problems_of(error, path.name)
            parts = split(path.name, rest.decode("utf-8-sig", "replace"), problems)
            if parts is None:
                if path.name == PROPOSALS and "holds no results" in problems[0].what:
                    path.unlink()  # a spreadsheet saved it as it was
                    self._shown = None
                    return
                if wrong:  # of the rest too, nothing can be used
                    put_aside(self._quarantine, path.name, rest, problems, "Nothing was taken in.")
                    done = {}
                    break
                self._refuse(path, content, problems)
                return
            # The wrong rows are safe before the right ones are taken in and the file is moved.
            good, bad = parts
            put_aside(self._quarantine, path.name, bad, problems, "The other rows were taken in.")
            wrong += len({p.where.split(", column")[0] for p in problems})
            rest = good.encode()
        move_away(path, self.folder / DONE)
        self._shown = None
        self.tell(
            f"{path.name}: {_summary(done)}"
            + (f"; {wrong} rows are in {QUARANTINE}" if wrong else "")
        )

    def _refuse(self, path: Path, content: bytes, problems: list[Problem]) -> None:
        put_aside(self._quarantine, path.name, content, problems, "Nothing of it was taken in.")
        path.unlink()
        self.tell(f"{path.name}: {problems[0]}; it is in {QUARANTINE}")

    @property
    def _quarantine(self) -> Path:
        return self.folder / QUARANTINE

    # What goes out

    def _propose(self) -> None:
        waiting = self.desk.waiting(self.n)
        if waiting == self._shown and (self.folder / PROPOSALS).exists():
            return
        text = self._table(waiting)
        path = self.folder / PROPOSALS
        if path.exists() and not self._is_ours(path):
            return  # a person is filling it in: it is taken in first, when it is whole
        for trial in waiting:
            for axis, cif in trial.crystals.items():
                more = f"-{axis}" if len(trial.crystals) > 1 else ""
                write_whole(self.folder / f"trial-{trial.trial}{more}.cif", cif)
        # Both the former and the new table are known as ours at the instant between.
        former = [_digest(path.read_bytes())] if path.exists() else []
        write_whole(self._written, "\n".join([_digest(text.encode()), *former]))
        write_whole(path, text)
        if self._shown is None or {w.trial for w in waiting} - {w.trial for w in self._shown}:
            self.tell(f"{PROPOSALS}: trials {', '.join(str(w.trial) for w in waiting) or 'none'}")
        self._shown = waiting

    def _table(self, waiting: list[Waiting]) -> str:
        """The table to fill in: trials, their parameters, and empty columns for the results."""
        names = list(dict.fromkeys(name for trial in waiting for name in trial.params))
        told = [with_unit(name, self.desk.units.get(name.partition(".")[0], "")) for name in names]
        _, *results = header(self.desk.metrics)
        at = ["fidelity"] if self.desk.fidelities else []
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["trial", *at, *map(neutral, told), *results])
        for trial in waiting:
            values = [trial.params.get(name) for name in names]
            shown = [f"{v:.7g}" if isinstance(v, float) else neutral(v) for v in values]
            fidelity = [trial.fidelity] if at else []
            lines.writerow([trial.trial, *fidelity, *shown, *("" for _ in results)])
        return text.getvalue()


def _summary(done: dict[str, Any]) -> str:
    if done.get("already_ingested"):
        return "was taken in before"
    counts = [
        f"{done[key]} {word}"
        for key, word in (("added", "values"), ("corrected", "corrected"), ("repeated", "repeated"))
        if done.get(key)
    ]
    failed = done.get("failed") or []
    if failed:
        counts.append(f"{len(failed)} failed")
    return ", ".join(counts) or "nothing was taken in"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
