"""A real `matloop serve` process with toy campaigns, for the tests of its clients."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from campaigns import records
from campaigns.campaign import Campaign
from campaigns.client import Client
from campaigns.store.models import Trial
from campaigns.store.store import record

SPEC = """
campaign: {name}
space:
  x: {{range: [0, 1]}}
  y: {{range: [0, 1], unit: mm}}
  gas: {{choice: [air, argon]}}
objectives:
  hardness: {{goal: maximize, unit: GPa}}
  cost: {{goal: minimize, unit: dimensionless}}
evaluate: {evaluate}
budget: {{trials: 60, batch: 4}}
lease: {{ttl: {ttl}, attempts: {attempts}}}
approve: {approve}
seed: 3
"""

MEASURE = """
import json, os, time
from pathlib import Path

HERE = Path(__file__).parent


def measure(design, seed):
    log = os.open(HERE / "begun.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, (json.dumps(design) + "\\n").encode())
    os.close(log)
    for _ in range(1200):
        if not (HERE / "wait").exists():
            break
        time.sleep(0.05)
    if (HERE / "melts").exists():
        raise ValueError("it melted")
    x, y = design["x"], design["y"]
    return {"hardness": 100 * (1 - (x - 0.6) ** 2 - (y - 0.3) ** 2), "cost": (1 + x, 0.1)}
"""

PYTHON = "{with: python, function: 'measure.py:measure', time_limit: 60 s}"
LAB = "{with: lab}"

MATLOOP = [
    sys.executable, "-c", "import sys; from campaigns.cli import main; sys.exit(main())",
]  # fmt: skip
HOUSE = Path(__file__).parents[2]


class Toy:
    """A campaign in a folder of its own.

    Attributes:
        name: Its name.
        folder: With its spec, the function that answers it, and what steers that.
    """

    def __init__(
        self, db: str, folder: Path, name: str, n: int, evaluate: str = LAB, **more: Any
    ) -> None:
        self.db, self.name, self.folder = db, name, folder / name
        self.folder.mkdir()
        self.spec = self.folder / f"{name}.yaml"
        lines = {"ttl": "5 min", "attempts": 10, "approve": "false"} | more
        self.spec.write_text(SPEC.format(name=name, evaluate=evaluate, **lines))
        (self.folder / "measure.py").write_text(MEASURE)
        self.campaign = Campaign.create(self.spec, db)
        numbers = random.Random(name)
        with self.campaign._change() as session:  # as proposals are, and a hundred times faster
            for index in range(n):
                self._add(session, index, numbers)

    def _add(self, session: Session, index: int, numbers: random.Random) -> None:
        design = {"x": numbers.random(), "y": numbers.random(), "gas": "argon"}
        told = {"name": f"toy {index}", "method": "test"}
        campaign = self.campaign._row.id
        session.add(Trial(campaign_id=campaign, index=index, design=design, provenance=told))
        record(
            session, campaign, "trial_added", trial=index, design=design, provenance=told,
            fidelity=None, external_id=None,
        )  # fmt: skip

    def trials(self) -> list[dict[str, Any]]:
        """As the store has them, whether the server is up or not."""
        with self.campaign.store.read() as session:
            found = records.trials_of(session, self.campaign._row.id)
            return [records.trial_dict(trial) for trial in found]

    def statuses(self) -> list[str]:
        return [trial["status"] for trial in self.trials()]

    def begun(self) -> int:
        """How often an evaluation has begun."""
        log = self.folder / "begun.log"
        return len(log.read_text().splitlines()) if log.exists() else 0


class Served:
    """A server in a folder; `begin` starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = f"sqlite:///{folder / 'matloop.db'}"
        self.url, self.key = "", ""
        self.process: subprocess.Popen[bytes] | None = None
        self._names = 0

    def toy(self, n: int = 2, evaluate: str = LAB, **more: Any) -> Toy:
        """A campaign with n candidates, made beside the server; `more` is its spec's."""
        self._names += 1
        return Toy(self.db, self.folder, f"toy-{self._names}", n, evaluate, **more)

    def begin(self) -> Served:
        """Start it, at the same port again; without an engine, so that only a test proposes."""
        port = self.url.rsplit(":", 1)[1] if self.url else "0"
        path = self.folder / "serve.log"
        with path.open("w") as log:
            self.process = subprocess.Popen(
                [*MATLOOP, "serve", "--no-engine", "--port", port, "--db", self.db],
                stdout=log, stderr=subprocess.STDOUT, cwd=HOUSE,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        until(lambda: re.search(r"at http://", path.read_text()) or self._died(path))
        said = path.read_text()
        at = re.search(r"serving .* at (http://[\d.:]+)", said)
        assert at is not None, said
        self.url = at[1]
        if found := re.search(r"mlk_[\w-]+", said):
            self.key = found[0]
        with self.client() as client:
            client.health()
        return self

    def _died(self, log: Path) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, log.read_text()
        return False

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)

    def client(self, patience: float = 20.0) -> Client:
        return Client(self.url, self.key, patience=patience)


def until(seen: Callable[[], object], patience: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + patience
    while not seen():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)
