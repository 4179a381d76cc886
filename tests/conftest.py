"""What all tests share: one thread, fixed seeds, no network, real data where there are any."""

from __future__ import annotations

import os

# Read when numpy and torch are first imported, so before anything else here.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

import random
import signal
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Begun in the background of a shell, pytest and all that it starts would be deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run: a failure that somebody sees, everybody sees.
hypothesis.settings.register_profile("matloop", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("matloop")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: MATLOOP_SHARED_DATA, or ../shared/data beside the repository."""
    given = os.environ.get("MATLOOP_SHARED_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"REAL DATA ABSENT: {folder} is no folder; set MATLOOP_SHARED_DATA to one")
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries that draw from the global generator
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test opens the campaigns of whoever runs it."""
    for name in ("MATLOOP_DB", "MATLOOP_RESULTS"):
        monkeypatch.delenv(name, raising=False)
