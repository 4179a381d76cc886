"""Run every example of docs/labs.md against a real server, as somebody new would.

    python benchmarks/labs_tour.py [--only SECTION ...]

A server with an engine starts in a temporary folder; each block of the page runs as it stands,
but for the server's address and what the page says is yours (`measure`, motors, a robot). Ends with
a table of what worked; status 1 where something did not. A section whose package is not installed
is told as such. Slurm and Dask have commands of their own: benchmarks/slurm_demo.sh and
tests/loop/test_executors.py.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
PAGE = (HOUSE / "docs" / "labs.md").read_text(encoding="utf-8")
MATLOOP = [
    sys.executable, "-c", "import sys; from campaigns.cli import main; sys.exit(main())",
]  # fmt: skip

YOURS = {
    "A Python program": "def measure(p): return 5.0, 3.0\n",
    "bluesky": """
from tests.campaigns.adapters.test_bluesky import Knob
temperature, hours, atmosphere = Knob("temperature"), Knob("hours"), Knob("atmosphere", "air")
def evaluate(uid, suggestions):
    return [{"_id": s["_id"], "hardness": 5.0, "porosity": 3.0} for s in suggestions]
""",
    "NIMO": """
import threading, time
from pathlib import Path
def robot_():
    work = Path("work")
    while not list(work.glob("[0-9]*.csv")): time.sleep(0.05)
    (work / "results.csv").write_text("5.5,2.5")
    (work / "outputend.txt").touch()
threading.Thread(target=robot_).start()
""",
    "Ax": """
from ax.api.client import Client as _C
from ax.api.configs import RangeParameterConfig
_e = _C(random_seed=0)
_e.configure_experiment(name="e", parameters=[RangeParameterConfig("t", (0.0, 1.0), "float")])
_e.configure_optimization(objective="strength")
for _i in _e.get_next_trials(2): _e.complete_trial(_i, {"strength": (1.0 + _i, 0.1)})
_e.save_to_json_file("experiment.json")
""",
}

MINE = """
campaign: mine
space: {temperature: {range: [900, 1500], unit: K}, hours: {range: [1, 24], unit: hour}}
objectives: {hardness: {goal: maximize, unit: GPa}, porosity: {goal: minimize, unit: percent}}
evaluate: {with: python, function: 'mine.py:measure'}
"""
MINE_PY = """
def measure(design, seed):
    return {"hardness": design["temperature"] / 300, "porosity": 10 / design["hours"]}
"""


def blocks(section: str) -> list[tuple[str, str]]:
    """Language and text of the code blocks below a heading."""
    body = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = (part for part in body if part.partition("\n")[0] == section)
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


class Tour:
    """The server, and how blocks run against it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "furnace.yaml").write_text(blocks("The server")[0][1])
        (folder / "mine.yaml").write_text(MINE)
        (folder / "mine.py").write_text(MINE_PY)
        bin_ = folder / "bin"
        bin_.mkdir()
        (bin_ / "matloop").write_text(
            f"#!/bin/sh\nPYTHONPATH={HOUSE} exec {sys.executable} -c 'import sys; "
            'from campaigns.cli import main; sys.exit(main())\' "$@"\n'
        )
        (bin_ / "matloop").chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{bin_}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
            "MATLOOP_DB": f"sqlite:///{folder / 'matloop.db'}", "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": f"{HOUSE}",
        }  # fmt: skip
        log = folder / "serve.log"
        with log.open("w") as out:
            self.server = subprocess.Popen(
                ["matloop", "serve", "--spec", "furnace.yaml", "--port", "0"], cwd=folder,
                stdout=out, stderr=subprocess.STDOUT, env=self.environment,
            )  # fmt: skip
        while not (at := re.search(r"serving .* at (http://\S+)", log.read_text())):
            assert self.server.poll() is None, log.read_text()
            time.sleep(0.1)
        self.url = at[1]
        self.key = re.search(r"mlk_[\w-]+", log.read_text())[0]  # type: ignore[index]
        self.environment["MATLOOP_KEY"] = self.key
        self.wait_for(1)

    def wait_for(self, n: int) -> None:
        """Until the engine has so many trials ready."""
        from campaigns.client import Client

        with Client(self.url, self.key) as client:
            while client.status("furnace")["waiting"] < n:
                time.sleep(0.5)

    def done(self) -> int:
        from campaigns.client import Client

        with Client(self.url, self.key) as client:
            return sum(client.status("furnace")["counts"][s] for s in ("completed", "failed"))

    def here(self, text: str) -> str:
        return text.replace("http://127.0.0.1:8000", self.url)

    def shell(self, text: str, seconds: float = 300.0) -> str:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", self.here(text)], cwd=self.folder,
            env=self.environment, capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"status":4' not in done.stdout.replace(" ", ""), done.stdout
        return done.stdout

    def python(self, section: str) -> None:
        (code,) = (text for language, text in blocks(section) if language == "python")
        # `tests` is also the name of a folder that a package may install.
        own = (
            "import sys, types\nm = types.ModuleType('tests')\n"
            f"m.__path__ = [{str(HOUSE / 'tests')!r}]\nsys.modules['tests'] = m\n"
        )
        script = f"{own}key = {self.key!r}\n{YOURS.get(section, '')}\n{self.here(code)}"
        path = self.folder / "example.py"
        path.write_text(script + "\nimport os; sys.stdout.flush(); os._exit(0)\n")
        self.shell(f"{sys.executable} -W ignore example.py")

    def close(self) -> None:
        self.server.send_signal(signal.SIGTERM)
        self.server.wait(30)


def robot(tour: Tour) -> None:
    said = tour.shell(blocks("A robot over HTTP")[0][1])
    assert '"completed"' in said, said


def worker(tour: Tour) -> None:
    said = tour.shell(re.sub(r"export MATLOOP_KEY.*\n", "", blocks("A worker")[0][1]))
    assert "4 completed" in said, said


def spreadsheet(tour: Tour) -> None:
    propose, ingest, send = blocks("People with a spreadsheet")[0][1].strip().splitlines()
    tour.wait_for(1)
    tour.shell(propose)
    table = tour.folder / "batch1" / "candidates.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        made = csv.DictWriter(file, list(rows[0]))
        made.writeheader()
        for row in rows:
            made.writerow(row | {"hardness (GPa)": "5", "porosity (percent)": "2"})
    tour.shell(ingest)
    assert '"already_ingested":true' in tour.shell(send).replace(" ", "")


def folder(tour: Tour) -> None:
    command = blocks("A watched folder")[0][1].partition("#")[0].strip()
    tour.wait_for(1)
    tour.shell(f"{command} --once")
    lines = (tour.folder / "lab-folder" / "proposals.csv").read_text().splitlines()
    trial = lines[1].split(",")[0]
    (tour.folder / "lab-folder" / "friday.csv").write_text(
        f"trial,hardness (GPa),porosity\n{trial},5,2\n9999,1,1\n"
    )
    tour.shell(f"{command} --once")
    assert len(list((tour.folder / "lab-folder" / "done").iterdir())) == 1
    assert len(list((tour.folder / "lab-folder" / "quarantine").iterdir())) == 2


def ivoryos(tour: Tour) -> None:
    """Its own server, with ours among its optimisers."""
    (code,) = (text for _, text in blocks("IvoryOS"))
    path = tour.folder / "ivory.py"
    path.write_text(f"key = {tour.key!r}\n{tour.here(code)}")
    with (tour.folder / "ivory.log").open("w") as log:
        running = subprocess.Popen(
            [sys.executable, str(path)], cwd=tour.folder, env=tour.environment, stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        tour.shell(
            "for i in $(seq 60); do curl -sf -L http://127.0.0.1:8500/ > page.html && exit 0; "
            "sleep 1; done; cat ivory.log; exit 1"
        )
    finally:
        running.terminate()
        running.wait(20)
    tour.wait_for(1)
    script = (
        f"from campaigns.adapters.ivoryos import connected\n"
        f"o = connected({tour.url!r}, {tour.key!r}, campaign='furnace')('run', [], [])\n"
        "o.observe([{'hardness': 5.0, 'porosity': 2.0} for _ in o.suggest(1)])\no.close()\n"
    )
    path.write_text(script)
    tour.shell(f"{sys.executable} ivory.py")


SECTIONS: dict[str, Callable[[Tour], None]] = {
    "A robot over HTTP": robot,
    "A Python program": lambda tour: tour.python("A Python program"),
    "A worker": worker,
    "People with a spreadsheet": spreadsheet,
    "A watched folder": folder,
    "bluesky": lambda tour: tour.python("bluesky"),
    "IvoryOS": ivoryos,
    "NIMO": lambda tour: tour.python("NIMO"),
    "SiLA 2": lambda tour: tour.python("SiLA 2"),
    "Ax": lambda tour: tour.python("Ax"),
}
NEEDS = {"bluesky": "bluesky_adaptive", "IvoryOS": "ivoryos", "NIMO": "nimo", "SiLA 2": "sila2"}


def main() -> int:
    from importlib.util import find_spec

    reader = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    reader.add_argument("--only", nargs="*", choices=list(SECTIONS))
    only = reader.parse_args().only
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="matloop-tour-") as where:
        tour = Tour(Path(where))
        try:
            for name, run in SECTIONS.items():
                if only and name not in only:
                    continue
                if name in NEEDS and find_spec(NEEDS[name]) is None:
                    print(f"{name:28} not tried: {NEEDS[name]} is not installed", flush=True)
                    continue
                begun, before = time.monotonic(), tour.done()
                try:
                    run(tour)
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    wrong += 1
                    print(f"{name:28} WRONG\n{error}", flush=True)
                    continue
                spent = time.monotonic() - begun
                print(
                    f"{name:28} works, {tour.done() - before} trials ended, {spent:.0f} s",
                    flush=True,
                )
        finally:
            tour.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path.insert(0, str(HOUSE))
    sys.exit(main())
