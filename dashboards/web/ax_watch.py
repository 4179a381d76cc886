"""The process that follows an Ax experiment, seen from the web server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from campaigns.ax_source import AxSource
from campaigns.ax_worker import tell_source


class AxWatch:
    """Starts the process, reads what it keeps, and starts it again where it dies.

    Args:
        source: The experiment.
        folder: Where the process keeps its state.
        cards: Where it keeps cards.
    """

    def __init__(self, source: AxSource, folder: Path, cards: Path) -> None:
        self.source, self.folder, self._cards = source, folder, cards
        self._ends = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep_running, daemon=True)
        self._seen: tuple[int, dict[str, Any]] = (0, self._nothing("starting"))
        self._died = ""

    def start(self) -> None:
        """Start the process."""
        (self.folder / "state.json").unlink(missing_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """End the process."""
        self._ends.set()
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()  # by which it knows
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread.is_alive():
            self._thread.join(2)

    def state(self) -> dict[str, Any]:
        """What is known now: ``rev``, ``state``, ``error``, ``experiment``, ``cards``, ``read``."""
        path = self.folder / "state.json"
        try:
            changed = path.stat().st_mtime_ns
            if changed != self._seen[0]:
                self._seen = (changed, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return self._nothing("starting")
        told = self._seen[1]
        if self._died:
            error = {"what": "the process that computes died", "why": self._died,
                     "hint": "it is being started again"}  # fmt: skip
            told = told | {"error": told["error"] or error, "rev": told["rev"] + 1}
        return told

    def cards(self, since: float | None) -> dict[str, Any]:
        """The state; with each card that was made after a time, its analysis."""
        told = self.state()
        if since is None:
            return told
        cards = [dict(card) for card in told["cards"]]
        for card in cards:
            if card["state"] == "done" and card["time"] > since:
                path = self.card(card["file"])
                if path is not None:
                    card["analysis"] = json.loads(path.read_text(encoding="utf-8"))
        return told | {"cards": cards}

    def card(self, name: str) -> Path | None:
        """The file of a card, by the name that the state gives it."""
        known = {card["file"] for card in self.state()["cards"]}
        path = self._cards / name
        return path if name in known and path.is_file() else None

    def recompute(self) -> None:
        """Make all cards anew."""
        process = self._process
        if process is not None and process.stdin is not None and process.poll() is None:
            process.stdin.write("recompute\n")
            process.stdin.flush()

    def _nothing(self, state: str) -> dict[str, Any]:
        return {
            "rev": 0, "source": self.source.shown, "state": state, "error": None,
            "experiment": None, "cards": [], "read": None,
        }  # fmt: skip

    def _keep_running(self) -> None:
        pause = 1.0
        while not self._ends.is_set():
            begun = time.monotonic()
            # no accelerator: what is computed is small, and the processes are forked
            quiet = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
            one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "campaigns.ax_worker", str(self.folder), str(self._cards)],
                stdin=subprocess.PIPE,
                text=True,
                env=one | os.environ | quiet,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(tell_source(self.source))
            self._process.stdin.flush()
            status = self._process.wait()
            if self._ends.is_set():
                return
            self._died = f"status {status}"
            pause = 1.0 if time.monotonic() - begun > 60 else min(2 * pause, 30.0)
            self._ends.wait(pause)
            self._died = ""
