"""Fine-tuning in a process of its own, with limits on time and memory."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from generators.files import replace_whole
from generators.fine_tuning.child import JOB, PROGRESS, RESULT
from generators.fine_tuning.recipe import Examined, Recipe, Runtime
from generators.processes import memory_of

LOG = "log"
_POLL = 0.2


def write_job(
    folder: Path,
    generator: str,
    version: str,
    examined: Examined,
    recipe: Recipe,
    out: Path,
    runtime: Runtime,
    tag: Mapping[str, Any] | None = None,
) -> None:
    """Write a job, to be done by `run_job`; what an earlier one left in the folder is deleted.

    Args:
        folder: Of the job alone.
        generator: Name or path of the parent.
        version: That it must be.
        examined: What was found out; its designs as JSON, as the generator's `to_json` has them.
        recipe: What is wanted, and how to learn.
        out: `NAME.safetensors` to write.
        runtime: Where to run.
        tag: What the caller wants to find with the job.

    Raises:
        OSError: It cannot be written.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    job = {
        "generator": generator,
        "version": version,
        "recipe": recipe.as_dict(),
        "runtime": asdict(runtime),
        "designs": list(examined.designs),
        "values": {
            name: [float(v) if math.isfinite(v) else None for v in column]
            for name, column in examined.values.items()
        },
        "failed": [bool(f) for f in examined.failed],
        "out": str(out.absolute()),
        "tag": dict(tag or {}),
    }
    replace_whole(folder / JOB, json.dumps(job).encode())


def read_job(folder: Path) -> dict[str, Any] | None:
    """The job of a folder; None where there is none that is whole."""
    return _read(folder / JOB)


def run_job(
    folder: Path,
    time_limit: float = math.inf,
    memory_limit: float = math.inf,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Do a job, or go on with one that was killed, and wait for its end.

    Whatever ends the wait, an exception too, ends the child.

    Args:
        folder: See `write_job`.
        time_limit: Seconds that this run may take.
        memory_limit: Bytes that the child, with what it starts, may hold.
        on_progress: Called with step, steps and loss.

    Returns:
        `kind` (tuned, collapsed or failed); of a version version, out, before, after, minutes,
        learned_from; of the others message, of one that collapsed before and after, and of one that
        failed `final` where the same job would fail again.

    Raises:
        OSError: The child cannot be started.
    """
    done = _read(folder / RESULT)
    if done is not None:
        return done
    environment = os.environ | {
        # The packages that this process has, wherever they were found, and not the working folder.
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
        "PYTHONSAFEPATH": "1",
        "MATLOOP_TUNED_BY": str(os.getpid()),
        "HF_HUB_OFFLINE": "1",
    }
    with (folder / LOG).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "generators.fine_tuning.child", str(folder)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
    try:
        verdict = _watch(child, folder, time_limit, memory_limit, on_progress)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
    done = _read(folder / RESULT)
    if done is not None:
        return done
    told = verdict or f"its process ended with status {code}; the log is {folder / LOG}"
    return {"kind": "failed", "message": told}


def _watch(
    child: subprocess.Popen[bytes],
    folder: Path,
    time_limit: float,
    memory_limit: float,
    on_progress: Callable[[Mapping[str, Any]], None] | None,
) -> str | None:
    """Wait for a child; why it is to be stopped, None when it ended by itself."""
    started, shown = time.monotonic(), None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_POLL)
            return None
        taken = time.monotonic() - started
        if taken > time_limit:
            return f"it was stopped after {taken:.0f} s, its limit"
        used = memory_of(child.pid)
        if used > memory_limit:
            return f"it was stopped at {used / 2**30:.2f} GiB of memory, over its limit"
        progress = _read(folder / PROGRESS)
        if on_progress is not None and progress is not None and progress != shown:
            shown = progress
            on_progress(progress)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def start_job(
    folder: Path,
    generator: str,
    version: str,
    examined: Examined,
    recipe: Recipe,
    out: Path,
    runtime: Runtime,
) -> None:
    """`write_job`, unless this very job was begun in the folder, from where it will go on.

    Raises:
        OSError: A file cannot be written.
    """
    begun = read_job(folder)
    asked = (version, json.loads(json.dumps(recipe.as_dict())), list(examined.designs))
    if begun is None or (begun["version"], begun["recipe"], begun["designs"]) != asked:
        write_job(folder, generator, version, examined, recipe, out, runtime)
