"""Run the service: a web server, and beside it the engine, which is started again when it dies."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from campaigns.service import tokens
from campaigns.service.app import create_app
from campaigns.service.settings import ServiceSettings
from campaigns.store import Store
from campaigns.web_server import address_of, listen, run

_PATIENCE: Final = (1.0, 30.0)
"""Seconds before an engine that died is started again: after the first time, and at most."""


def serve(
    db: str | None,
    host: str,
    port: int,
    *,
    engine: bool = True,
    settings: ServiceSettings | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve until a signal ends it.

    Args:
        db: The database.
        host: The address to listen at.
        port: The port; 0 = any that is free.
        engine: Whether to run an engine beside it.
        settings: Limits.
        tell: Told where it listens, and what a person should know.

    Raises:
        UsageError: The address is in use, or none of this machine's.
        MatloopError: The database cannot be used.
    """
    app = create_app(db, settings=settings)
    store: Store = app.state.service.store
    listening = listen(host, port, "the service cannot listen there")
    address = address_of(listening, host)
    _first_key(store, address)
    beside = Engine(store.url) if engine else None
    tell(f"serving {store.where} at {address}")
    if host not in ("127.0.0.1", "::1", "localhost"):
        tell("anybody who reaches this address may try a key, and what is sent is not encrypted: "
             "put a proxy with TLS before it")  # fmt: skip
    try:
        if beside:
            beside.start()
        run(app, listening, timeout_graceful_shutdown=5, timeout_keep_alive=75)
    finally:
        if beside:
            beside.stop()


def _first_key(store: Store, address: str) -> None:
    """Make a key where there is none, and show it: nobody can find it again."""
    with store.read() as session:
        if tokens.any_is_valid(session):
            return
    with store.write() as session:
        if tokens.any_is_valid(session):
            return
        key, _ = tokens.make(session, "first", tokens.SCOPES)
    print(
        f"the first key of this database, shown only now: {key}\n"
        f"its page: {address}/login?key={key}",
        file=sys.stderr,
        flush=True,
    )


class Engine:
    """The engine's process: it ends with this one, however this one ends.

    Args:
        url: The database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._ends = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="matloop-engine", daemon=True)

    def start(self) -> None:
        """Start it, and start it again whenever it dies."""
        self._thread.start()

    def stop(self) -> None:
        """End it; what it proposed is kept."""
        self._ends.set()
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()  # by which it knows
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()  # in the midst of a fit; the store is consistent at every instant
                process.wait()
        if self._thread.is_alive():
            self._thread.join(5)

    def _watch(self) -> None:
        log = logging.getLogger("matloop.service")
        pause = _PATIENCE[0]
        while not self._ends.is_set():
            begun = time.monotonic()
            # The database's URL may hold a password: not on the command line, which all can read.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "campaigns.service.engine"],
                stdin=subprocess.PIPE,
                env=os.environ | {"MATLOOP_DB": self._url},
            )
            status = self._process.wait()
            # one that dies as it starts would do so again; one that had worked is missed
            lived = time.monotonic() - begun
            pause = _PATIENCE[0] if lived > 20 else min(2 * pause, _PATIENCE[1])
            # a signal to the whole group ends it a moment before the server
            if self._ends.wait(min(pause, 1.0)):
                return
            log.warning("the engine ended with status %s; again in %.0f s", status, pause)
            self._ends.wait(pause)
