"""A fresh database of each kind, and a toy campaign, for the tests of the store and the
campaign."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.served import Served

MEASURE = '''
"""Answer a toy trial: slowly, or wrongly where asked."""

import json
import math
import os
import time
from pathlib import Path

HERE = Path(__file__).parent


def measure(design, seed):
    settings = json.loads((HERE / "settings.json").read_text())
    time.sleep(settings.get("sleep", 0.0))
    x, y = design["x"], design["y"]
    if x > settings.get("melts_above", 2.0):
        raise ValueError("it melted")
    # Another number each time it is asked: so a test can tell which evaluation an observation is
    # from.
    serial = time.time_ns() % 10**12
    answer = {
        "hardness": 100.0 * (1 - (x - 0.6) ** 2 - (y - 0.3) ** 2),
        "cost": 1.0 + x + 2.0 * y,
        "serial": float(serial),
    }
    log = os.open(HERE / "finished.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, (json.dumps({"x": x, "y": y, "seed": seed, "serial": serial}) + "\\n").encode())
    os.close(log)
    return answer
'''

SPEC = """
campaign: toy
space:
  x: {range: [0, 1]}
  y: {range: [0, 1]}
objectives:
  hardness: {goal: maximize, unit: GPa}
  cost: {goal: minimize, unit: dimensionless}
constraints: [serial >= 0 dimensionless]
evaluate: %s
budget: {trials: %d, batch: %d}
stop: {%s}
seed: 3
"""

PYTHON = "{with: python, function: 'measure.py:measure', workers: %d, time_limit: 30 s}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server: the one MATLOOP_TEST_POSTGRES names, or one started here."""
    given = os.environ.get("MATLOOP_TEST_POSTGRES")
    if given:
        yield given
        return
    pytest.importorskip("psycopg", reason="PostgreSQL NOT TESTED: its driver is not installed")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL NOT TESTED: no server is installed (apt-get install postgresql)")
    binaries = Path(initdb).parent
    # not pytest's folder: a socket's path has at most 107 characters
    folder = Path(tempfile.mkdtemp(prefix="matloop-pg-"))
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres")
    data = str(folder / "data")
    with tempfile.TemporaryFile() as log:
        told: dict[str, Any] = {"stdout": log, "stderr": log, "cwd": "/", **user}
        subprocess.run(
            [initdb, "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            **told,
        )
        # a socket in the folder instead of a port: nothing else can be in its place
        options = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *(f"--{k}={v}" for k, v in options.items())],
            **told,
        )
        try:
            yield _answering(f"postgresql://tester@/postgres?host={folder}", server)
        finally:
            server.send_signal(signal.SIGQUIT)  # PostgreSQL's word for: at once
            server.wait(30)
            shutil.rmtree(folder)


def _answering(url: str, server: subprocess.Popen[bytes]) -> str:
    import psycopg

    for _ in range(600):
        try:
            psycopg.connect(url).close()
            return url
        except psycopg.OperationalError:
            assert server.poll() is None, "the PostgreSQL server ended"
            time.sleep(0.1)
    raise AssertionError("the PostgreSQL server does not answer")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> str:
    """The URL of a fresh database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'matloop.db'}"
    return emptied(request.getfixturevalue("postgres"))


def emptied(server: str) -> str:
    """The database of a PostgreSQL server, emptied."""
    import psycopg

    # much faster than a database a test, of a thousand files each
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 1 MB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"FULL DISK NOT TESTED, no right to mount one: {made.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.fixture
def fill_disk() -> Callable[[Path], Path]:
    """Fill a disk to the last byte with one file; its path."""

    def fill(disk: Path) -> Path:
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            file.writelines(itertools.repeat(b"x" * 4096))
        return filler

    return fill


class Toy:
    """A campaign over two plain parameters, and the Python function that answers it, in a
    folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.spec = folder / "toy.yaml"
        self.db = f"sqlite:///{folder / 'matloop.db'}"
        self.results = folder / "matloop.results" / "toy"

    def write(
        self,
        *,
        trials: int = 6,
        batch: int = 2,
        workers: int = 2,
        lab: bool = False,
        stop: str = "",
        **settings: float,
    ) -> Path:
        """Write the spec and its function; `settings` are the function's."""
        evaluate = "{with: lab}" if lab else PYTHON % workers
        self.spec.write_text(SPEC % (evaluate, trials, batch, stop))
        (self.folder / "measure.py").write_text(MEASURE)
        (self.folder / "settings.json").write_text(json.dumps(settings))
        return self.spec

    def finished(self) -> list[dict[str, float]]:
        """What the function answered, in the order in which it did."""
        log = self.folder / "finished.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def toy(tmp_path) -> Toy:
    """A toy campaign's folder, with nothing in it yet."""
    return Toy(tmp_path)


@pytest.fixture
def toy_on_small_disk(small_disk) -> Toy:
    """The same on a disk of 1 MB."""
    return Toy(small_disk)


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[Served]:
    """A server without an engine, for all tests of clients; each makes campaigns of its own."""
    made = Served(tmp_path_factory.mktemp("served"))
    yield made.begin()
    made.end()
