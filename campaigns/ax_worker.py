"""A process that follows one Ax experiment and keeps its cards as files, for a page to show.

It imports Ax once, then reads the experiment whenever that changed, and makes the cards in a child
of its own, which may die or be ended without harm. What it knows is in `STATE/state.json`, replaced
at each change. The cards of each content are kept in `CARDS`: who opens the same experiment again
sees them at once.

Run as `python -m campaigns.ax_worker STATE CARDS`; the source comes as one line of JSON on standard
input. A line `recompute` makes the cards anew; at the end of the input it ends.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import re
import select
import shutil
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns.ax_source import AxSource
from campaigns.errors import MatloopError
from campaigns.write_file import write_whole

if TYPE_CHECKING:
    from campaigns.ax_cards import Cards, Wanted

LOOK: Final = 0.5
"""Seconds between looks at the source."""

PATIENCE: Final = 300.0
"""Seconds that one analysis may take."""

# An experiment is saved bit by bit: what cannot be read is read again for so many seconds.
_SETTLES: Final = 3.0
_KEPT: Final = 20


class Worker:
    """The experiment and its cards.

    Args:
        source: Where the experiment is.
        state: The folder of `state.json`.
        cards: The folder of the cards.
    """

    def __init__(self, source: AxSource, state: Path, cards: Path) -> None:
        self.source, self.folder, self._state_file = source, cards, state / "state.json"
        self.state: dict[str, Any] = {
            "rev": 0, "source": source.shown, "state": "starting", "error": None,
            "experiment": None, "cards": [], "read": None,
        }  # fmt: skip
        self._mark = ""
        self._failed: tuple[str, float] = ("", 0.0)
        self._cards: Cards | None = None
        self._plan: list[Wanted] = []
        self._content = cards
        self._child: multiprocessing.process.BaseProcess | None = None
        self._since = 0.0

    def run(self) -> None:
        """Follow the source until the input ends."""
        self._write()
        while True:
            self._look()
            self._tend()
            ready, _, _ = select.select([sys.stdin], [], [], LOOK)
            if ready:
                line = sys.stdin.readline()
                if not line:
                    self._stop()
                    return
                if line.strip() == "recompute" and self._cards is not None:
                    self._begin(anew=True)

    def _look(self) -> None:
        """Read the experiment where it changed."""
        try:
            mark = self.source.mark()
            if mark == self._mark:
                if self.state["error"]:
                    self._write(error=None)
                return
            self._read(mark)
        except MatloopError as error:
            # the same trouble for a while: it is not being written at this moment
            if self._failed[0] != str(error):
                self._failed = (str(error), time.monotonic())
            elif time.monotonic() - self._failed[1] > _SETTLES and not self.state["error"]:
                self._write(error=error.as_dict())

    def _read(self, mark: str) -> None:
        from ax import __version__

        from campaigns.ax_cards import Cards, describe, plan, stamp

        experiment, strategy, content = self.source.load()
        told = describe(experiment)
        self._stop()
        self._cards = Cards(experiment, strategy)
        self._plan = plan(self._cards.experiment)
        digest = hashlib.sha256(f"{content} {__version__} {self.source.name}".encode()).hexdigest()
        self._content = self.folder / digest[:16]
        self._mark, self._failed = mark, ("", 0.0)
        told["capped"] = self._cards.capped
        self.state |= {"experiment": told, "read": stamp(), "error": None}
        self._begin()

    def _begin(self, anew: bool = False, after: int = 0) -> None:
        """Make the cards that are not there, in a child."""
        self._stop()
        if anew:
            shutil.rmtree(self._content, ignore_errors=True)
        self._content.mkdir(parents=True, exist_ok=True)
        self._content.touch()
        self._forget_old()
        left = [i for i in range(after, len(self._plan)) if not self._file(i).exists()]
        if left and self._cards is not None:
            # forked, it need not import Ax again; where that is not safe, it is sent the experiment
            context: Any = multiprocessing.get_context(
                "fork" if sys.platform == "linux" else "spawn"
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
                self._child = context.Process(
                    target=_make, args=(self._cards, self._content, left), daemon=True
                )
                assert self._child is not None
                self._child.start()
            self._since = time.monotonic()
        self._write()

    def _tend(self) -> None:
        """Tell of new cards; go on where the child died or hangs."""
        if not self._plan:
            return
        before = [card["state"] for card in self.state["cards"]]
        if self._child is not None:
            missing = [i for i in range(len(self._plan)) if not self._file(i).exists()]
            status = self._child.exitcode
            if status is not None:
                self._child = None
                if missing:
                    self._give_up(missing[0], f"its process died (status {status})")
            elif time.monotonic() - self._since > PATIENCE and missing:
                self._stop()
                self._give_up(missing[0], f"it took longer than {PATIENCE / 60:.0f} minutes")
        now = self._states()
        if [card["state"] for card in now] != before:
            self._since = time.monotonic()
            self._write()

    def _give_up(self, index: int, reason: str) -> None:
        wanted = self._plan[index]
        told = {"key": wanted.key, "group": wanted.group, "title": wanted.title, "cards": []}
        _keep(self._file(index), told | {"reason": reason, "seconds": None})
        self._begin(after=index + 1)

    def _states(self) -> list[dict[str, Any]]:
        from campaigns.ax_cards import waiting

        found = waiting(self._plan)
        computing = self._child is not None
        for index, card in enumerate(found):
            file = self._file(index)
            card["file"] = f"{self._content.name}/{file.name}"
            if file.exists():
                card["state"] = "done"
                card["time"] = file.stat().st_mtime
            elif computing:
                card["state"], computing = "computing", False
        return found

    def _file(self, index: int) -> Path:
        name = hashlib.sha256(self._plan[index].key.encode()).hexdigest()[:10]
        return self._content / f"{index:03d}-{name}.json"

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._child = None

    def _forget_old(self) -> None:
        ours = [p for p in self.folder.iterdir() if re.fullmatch("[0-9a-f]{16}", p.name)]
        kept = sorted(ours, key=lambda p: -p.stat().st_mtime)
        for old in kept[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def _write(self, **changes: Any) -> None:
        self.state |= changes
        self.state["rev"] += 1
        self.state["cards"] = self._states() if self._plan else []
        waits = any(card["state"] != "done" for card in self.state["cards"])
        if self.state["experiment"] is not None:
            self.state["state"] = "computing" if waits else "done"
        write_whole(self._state_file, json.dumps(self.state, allow_nan=False))


def _make(cards: Cards, folder: Path, left: list[int]) -> None:
    from campaigns.ax_cards import plan

    wanted = plan(cards.experiment)
    for index in left:
        name = hashlib.sha256(wanted[index].key.encode()).hexdigest()[:10]
        _keep(folder / f"{index:03d}-{name}.json", cards.make(wanted[index]))


def _keep(path: Path, told: dict[str, Any]) -> None:
    write_whole(path, json.dumps(told))


def tell_source(source: AxSource) -> str:
    """A source as the line that the process reads."""
    return json.dumps(asdict(source)) + "\n"


def main() -> None:
    """Follow the source that standard input names."""
    source = AxSource(**json.loads(sys.stdin.readline()))
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.nice(5)
    Worker(source, Path(sys.argv[1]), Path(sys.argv[2])).run()


if __name__ == "__main__":
    main()
