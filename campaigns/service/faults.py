"""Places where `benchmarks/kill_matrix.py` may have a process die; elsewhere they do nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

FAULTS: Final = os.environ.get("MATLOOP_FAULTS")
"""A folder: the first process that reaches a point of which a file there has the name dies."""


def reached(point: str) -> None:
    """Die here by SIGKILL, as by a power cut, where that was asked for."""
    if FAULTS is None:
        return
    try:
        os.unlink(Path(FAULTS) / point)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
