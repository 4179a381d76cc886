"""A process that reads what strangers sent: crystals, result files, specs. It has limits.

Two kilobytes of CIF can keep pymatgen busy for minutes, a table can be of a million columns. So
they are read here: with little memory, no secrets in the environment, killed when it takes too
long, and started again for the next. It reads one JSON document a line and answers with one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from campaigns.errors import InputErrors, MatloopError, Problem, UsageError

MEMORY: Final = 3 << 30
"""Bytes of address space."""

SITES: Final = 500
"""Atoms that a crystal from outside may have."""

SECONDS: Final = 30.0
"""For one document; the first takes longer, since it imports."""


class Reader:
    """The process, seen from the service; one document at a time.

    Args:
        seconds: For one document.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, what: str, **document: Any) -> Any:
        """Have something read.

        Args:
            what: ``design``, ``results`` or ``spec``.
            document: See the functions of this module.

        Returns:
            What it says.

        Raises:
            InputErrors, UsageError: What was sent is wrong, or takes too long to read.
        """
        line = json.dumps({"what": what, **document}, allow_nan=False).encode() + b"\n"
        with self._lock:
            answer = self._asked(line)
        if "problems" in answer:
            problems = [Problem(**one) for one in answer["problems"]]
            raise InputErrors(problems, answer["source"], answer["unchanged"])
        if "error" in answer:
            raise UsageError(**answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def _asked(self, line: bytes) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = _start()
            # it imports before it says that it is ready
            if self._line(60.0) is None:
                self._kill()
                raise MatloopError("the reader of files did not start", unchanged="everything")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
            answer = self._line(self._seconds)
        except BrokenPipeError:
            answer = None
        if answer is None:
            self._kill()
            return {
                "error": {
                    "what": "what was sent takes too much time or memory to read",
                    "why": f"it was given {self._seconds:g} s and {MEMORY / 2**30:g} GiB",
                    "unchanged": "the campaign",
                    "hint": "send less of it at once; of a crystal its primitive cell, in P1",
                }
            }
        found: dict[str, Any] = json.loads(answer)
        return found

    def _line(self, seconds: float) -> bytes | None:
        """The next line that it writes; None where it ends, or none comes in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        until, text = time.monotonic() + seconds, bytearray()
        descriptor = self._process.stdout.fileno()
        while not text.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                return None
            part = os.read(descriptor, 1 << 20)
            if not part:
                return None
            text += part
        return bytes(text)

    def _kill(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process = None


def _start() -> subprocess.Popen[bytes]:
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
    environment = {key: os.environ[key] for key in kept if key in os.environ}
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return subprocess.Popen(
        [sys.executable, "-m", "campaigns.service.reading"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment | dict.fromkeys(threads, "1") | {"HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )


# In the process


def design(spec: Mapping[str, Any], given: Mapping[str, Any], flat: bool) -> dict[str, Any]:
    """Check a design against a campaign's space, constraints and screen.

    Args:
        spec: The campaign's, as its store has it.
        given: The design as JSON, or its flat parameters.
        flat: Whether it is those.

    Returns:
        ``design`` as the store keeps it, ``name``.
    """
    from campaigns.service.designs import checked
    from campaigns.spec import Spec

    return checked(Spec.model_validate(spec), given, flat)


def results(
    name: str, content: str, trials: list[int], units: dict[str, str], known: dict[str, Any],
    fidelities: list[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """Read a file of results; see `campaigns.results_file.read_results`.

    Args:
        name: Its name: CSV, JSON, or a zip of one of these and of CIF files.
        content: Its bytes in base64.
        trials: Numbers of the campaign's trials.
        units: Of its metrics.
        known: What the file may repeat of the campaign's designs.
        fidelities: The campaign's.
    """
    from campaigns.results_columns import Known
    from campaigns.results_file import read_results
    from campaigns.service.zipped import unpacked

    columns = {
        column: Known(one["unit"], {int(t): v for t, v in one["values"].items()})
        for column, one in known.items()
    }
    with tempfile.TemporaryDirectory(prefix="matloop-upload-") as folder:
        path = unpacked(Path(folder), name, base64.b64decode(content))
        try:
            readings = read_results(
                path, trials=set(trials), units=units, known=columns, fidelities=tuple(fidelities)
            )
        except InputErrors as error:
            # the names in errors are the sender's, and no path of ours
            inside = f"{folder}/"
            problems = [
                Problem(
                    p.where.replace(inside, ""),
                    p.what.replace(inside, ""),
                    p.hint and p.hint.replace(inside, ""),
                )
                for p in error.problems
            ]
            raise InputErrors(problems, name, error.unchanged) from error
    return [asdict(reading) for reading in readings]


def spec(text: str) -> dict[str, Any]:
    """Read the text of a spec; what it says, as the store keeps it."""
    from campaigns.spec import Spec
    from campaigns.spec_environment import check_environment
    from campaigns.spec_reading import explain
    from campaigns.yaml_file import parse_yaml

    document = parse_yaml(text, Path("spec.yaml"))
    problems = _files(document.data) or explain(Spec, document.data, document, check_environment)
    if problems:
        raise InputErrors(problems, "spec.yaml", "nothing was begun")
    read: dict[str, Any] = Spec.model_validate(document.data).model_dump(mode="json")
    return read


def _files(data: Any) -> list[Problem]:
    """Files that a spec names: whoever sends it must not find out what is on this machine."""

    def strings(value: Any, where: str) -> list[tuple[str, str]]:
        if isinstance(value, str):
            return [(where, value)]
        if isinstance(value, dict):
            return [s for key, item in value.items() for s in strings(item, f"{where}.{key}")]
        if isinstance(value, list):
            return [s for item in value for s in strings(item, where)]
        return []

    sections = ("space", "evaluate", "learn_from", "fine_tune")
    given = data if isinstance(data, dict) else {}
    hint = "begin it on the server: `matloop serve --spec SPEC`"
    return [
        Problem(f"spec.yaml, {where}", "a spec that is sent names no file", hint)
        for section in sections
        for where, text in strings(given.get(section), section)
        if text.startswith(("/", "~", ".", "\\")) or ".py:" in text
        or where.rpartition(".")[2] in ("pool", "table", "data")
        or text.endswith((".safetensors", ".yaml", ".yml", ".json", ".csv", ".parquet"))
    ]  # fmt: skip


def main() -> None:
    """Read documents until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers: Any = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no answer
    import campaigns.spec  # noqa: F401 - so that the first document does not wait for it

    answers.write(b"ready\n")
    does: dict[str, Callable[..., Any]] = {"design": design, "results": results, "spec": spec}
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        try:
            answer = {"result": does[asked.pop("what")](**asked)}
        except InputErrors as error:
            answer = {
                "problems": [asdict(problem) for problem in error.problems],
                "source": "", "unchanged": error.unchanged,
            }  # fmt: skip
        except MatloopError as error:
            told = error.as_dict()
            parts = ("what", "where", "why", "unchanged", "hint")
            answer = {"error": {part: told[part] for part in parts}}
        except MemoryError:
            os._exit(1)
        answers.write(json.dumps(answer, allow_nan=False).encode() + b"\n")


if __name__ == "__main__":
    main()
