"""A service to measure: its database with waiting trials, its processes, a lean client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from campaigns.campaign import Campaign
from campaigns.service import tokens
from campaigns.store import Store
from campaigns.store.models import CampaignRow, Trial
from campaigns.store.store import record

SPEC = """
campaign: load
space:
  x: {range: [0, 1]}
  y: {range: [0, 1]}
  t: {range: [900, 1500], unit: K}
objectives:
  hardness: {goal: maximize, unit: GPa}
  cost: {goal: minimize, unit: dimensionless}
evaluate: {with: lab}
budget: {trials: 1000000, batch: 4}
lease: {ttl: %s, attempts: 1000}
"""


def begin(url: str, ttl: str = "5 min") -> str:
    """Make the campaign `load`; a key to it."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "load.yaml"
        spec.write_text(SPEC % ttl)
        Campaign.create(spec, url).close()
    return another_key(url)


def another_key(url: str) -> str:
    """A key; each may make so many requests a second."""
    store = Store(url)
    with store.write() as session:
        key, _ = tokens.make(session, "benchmark", tokens.SCOPES)
    store.close()
    return key


def add(url: str, n: int) -> None:
    """Let n trials wait, as if they had been proposed."""
    import random

    store, rng = Store(url), random.Random(0)
    with store.write() as session:
        row = session.scalars(select(CampaignRow)).one()
        first = session.scalar(select(func.count()).where(Trial.campaign_id == row.id)) or 0
        for index in range(first, first + n):
            design = {"x": rng.random(), "y": rng.random(), "t": rng.uniform(900, 1500)}
            told = {"name": f"trial {index}", "method": "by hand"}
            session.add(Trial(campaign_id=row.id, index=index, design=design, provenance=told))
            record(
                session, row.id, "trial_added", trial=index, by="benchmark", design=design,
                fidelity=None, provenance=told, external_id=None,
            )  # fmt: skip
    store.close()


class Server:
    """`matloop serve` in a process of its own, which may be killed and started again."""

    def __init__(self, url: str, log: Path, engine: bool = True) -> None:
        self.url, self.log, self.engine = url, log, engine
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it answers."""
        command = [
            sys.executable,
            "-c",
            "from campaigns.cli import main; raise SystemExit(main())",
            "serve",
            "--port",
            str(self.port),
        ]
        command += [] if self.engine else ["--no-engine"]
        environment = os.environ | {"MATLOOP_DB": self.url}
        with self.log.open("ab") as log:
            at = log.tell()
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        for _ in range(1200):
            text = self.log.read_bytes()[at:].decode()
            if found := re.search(r"at http://127.0.0.1:(\d+)", text):
                self.port = int(found[1])
                return
            if self.process.poll() is not None:
                raise RuntimeError(text)
            time.sleep(0.05)
        raise RuntimeError("the server does not start")

    def engine_pid(self) -> int | None:
        """The engine's process."""
        import psutil

        assert self.process is not None
        for child in psutil.Process(self.process.pid).children():
            if "campaigns.service.engine" in " ".join(child.cmdline()):
                return int(child.pid)
        return None

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as a person would."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)


class Connection:
    """One connection of HTTP/1.1, with as little work of its own as can be."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self, method: str, path: str, body: Any = None, key: str | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        )
        if method == "POST":
            head += f"Idempotency-Key: {key or uuid.uuid4().hex}\r\n"
        self._writer.write(head.encode() + b"\r\n" + content)
        top = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", top)
        text = await self._reader.readexactly(int(length[1])) if length else b"null"
        return int(top[9:12]), json.loads(text)

    def close(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The URL of a fresh database, `sqlite` or `postgresql`, on a real disk, with fsync."""
    folder = Path(tempfile.mkdtemp(prefix="matloop-load-"))
    if kind == "sqlite":
        try:
            yield f"sqlite:///{folder / 'matloop.db'}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    data = str(folder / "data")
    initdb = [binaries / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8"]
    subprocess.run(initdb, check=True, **quiet, **user)
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "--listen_addresses=",
         f"--unix_socket_directories={folder}"],
        **quiet, **user,
    )  # fmt: skip
    os.environ.setdefault("MATLOOP_RESULTS", str(folder / "results"))
    import psycopg

    url = f"postgresql://tester@/postgres?host={folder}"
    for _ in range(300):
        try:
            psycopg.connect(url).close()
            break
        except psycopg.OperationalError:
            time.sleep(0.1)
    try:
        yield url
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
