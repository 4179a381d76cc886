"""Listen at an address and serve an application there, until a signal ends it."""

from __future__ import annotations

import gc
import signal
import socket
from typing import TYPE_CHECKING, Any, Final

from campaigns.errors import UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI


YOUNG: Final = (10_000, 20, 20)
"""After how many new objects, young and middle collections the next older one is made."""


def listen(host: str, port: int, what: str, waiting: int = 2048) -> socket.socket:
    """Listen at an address.

    Args:
        host: A name or number of this machine.
        port: 0 = any that is free.
        what: What cannot be done where this cannot, for a person.
        waiting: Connections that may wait.

    Raises:
        UsageError: The address is in use, or none of this machine's.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(waiting)
    except OSError as error:
        listening.close()
        raise UsageError(
            what,
            where=f"{host}:{port}",
            why=error.strerror or str(error),
            unchanged="everything",
            hint="choose another --port, or --port 0 for any that is free",
        ) from error
    return listening


def address_of(listening: socket.socket, host: str) -> str:
    """The URL of what listens, by the name that was asked for."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def run(app: FastAPI, listening: socket.socket, **options: Any) -> None:
    """Serve until SIGINT or SIGTERM, then end in order and return.

    Args:
        app: What is served.
        listening: Where.
        options: Of `uvicorn.Config`.
    """
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, **options
    )
    # uvicorn ends in order at either, then raises it again for whoever was there before it.
    for ends in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ends, _ended)
    # What is loaded by now stays: a full collection that walks it stops every request for 0.1 s.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*YOUNG)
    uvicorn.Server(config).run(sockets=[listening])


def _ended(_signal: int, _frame: object) -> None:
    """The server has ended as it was asked to."""
