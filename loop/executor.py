"""Runs trials in parallel on this machine: one child process a trial, with limits.

The parent (`LocalPool`) starts one server process, which imports what evaluators need once and
forks a child for each trial (`loop.trial_server`). This is what `multiprocessing`'s fork server
does, and the reasons for our own are: it re-imports the user's main program in every child, it
leaves children running when the parent is killed, and nobody would watch time and memory while
the parent is busy fitting. A `ProcessPoolExecutor` loses all its trials when one child dies.

Whatever happens to the parent, a result is on disk, complete, before anybody is told of it:
`<results_dir>/<key>.json`. A new parent finds it there (`LocalPool.finished`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from loop.evaluators import Evaluation, EvaluatorError, make_evaluator
from loop.evaluators.files import write_atomically

Kind = Literal["done", "failed", "infeasible", "timeout", "memory", "crashed", "lost"]

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_CHECK = "evaluator-check"
_FORMAT = 1
# numpy, torch and the hub read these when they are imported, that is in the server.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        key: The trial's key.
        evaluation: What was measured; None unless `kind` is `done`.
        failure: The reason, one line, for every other kind.
        kind: `done`; `failed` (the evaluator said why); `infeasible` (it said that such
            a design cannot be); `timeout` and `memory` (a limit was
            reached); `crashed` (the process died, or could not write its result); `lost` (not the
            trial's fault: whatever ran it, as a node of a cluster, is gone).
    """

    key: str
    evaluation: Evaluation | None
    failure: str | None
    kind: Kind


class LocalPool:
    """A pool of child processes, `workers` at a time; more trials than that wait in line.

    Use it as a context manager, or call `close`. Trials die with the process that made the pool,
    even if that is killed.

    Args:
        config: The evaluator, see `loop.evaluators.make_evaluator`.
        workers: Trials that run at the same time, at least 1.
        time_limit: Seconds a trial may take.
        memory_limit: Bytes a trial (with the processes it starts) may hold in memory. What the
            libraries take (about 600 MB with torch) counts.
        results_dir: Folder of results and logs; made where needed.

    Raises:
        EvaluatorError: If `config` is wrong, or its model cannot be had.
        ValueError: If a number is out of range.
        OSError: If `results_dir` cannot be made.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        workers: int,
        time_limit: float,
        memory_limit: int,
        results_dir: Path,
    ) -> None:
        if not hasattr(os, "fork"):
            raise EvaluatorError("parallel trials need Linux or macOS", "use WSL on Windows")
        if workers < 1 or time_limit <= 0 or memory_limit <= 0:
            raise ValueError(
                f"workers {workers}, time_limit {time_limit} and memory_limit {memory_limit} "
                "must be positive"
            )
        make_evaluator(config).prepare()
        self.config = dict(config)
        self.workers = workers
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self.results_dir = Path(results_dir).absolute()
        (self.results_dir / "logs").mkdir(parents=True, exist_ok=True)
        self._running: dict[str, str] = {}  # key -> digest of its payload
        self._waiting_for_delivery: list[Outcome] = []
        self._buffer = b""
        self._server: subprocess.Popen[bytes] | None = None
        self._start()

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def check(
        self, metrics: Sequence[str], fidelities: Sequence[str] = (), timeout: float = 300.0
    ) -> None:
        """Load the evaluator in a child and test it, before trials are spent on a broken one.

        Raises:
            EvaluatorError: With the reason, if every trial would fail.
        """
        # what a killed process left of its own, whole or half
        for name in (f"{_CHECK}.json", f".{_CHECK}.json.*.tmp"):
            for left_behind in self.results_dir.glob(name):
                left_behind.unlink(missing_ok=True)
        self._send(_CHECK, {"check": list(metrics), "fidelities": list(fidelities)})
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            for outcome in self._collect(left):
                if outcome.key != _CHECK:
                    self._waiting_for_delivery.append(outcome)
                    continue
                self.forget(_CHECK)
                if outcome.kind != "done":
                    raise EvaluatorError(str(outcome.failure))
                return
        raise EvaluatorError(f"the evaluator was not ready after {timeout:g} s")

    def submit(self, key: str, payload: Mapping[str, Any]) -> None:
        """Start a trial, or put it in line.

        A trial that has finished before, with this very payload, is not run again: its result is
        delivered by the next `wait`.

        Args:
            key: Its name, unique in `results_dir`: letters, digits, `.`, `_`, `-`.
            payload: `{"design": JSON of the design, "metrics": [name, ...], "seed": int}`, and
                where there are fidelities `"fidelity": name`.

        Raises:
            ValueError: If the key is no file name or is running already.
        """
        _result_path(self.results_dir, key)
        if key in self._running:
            raise ValueError(f"trial {key} is running already")
        found = read_result(self.results_dir, key, digest_of(payload))
        if found is not None:
            self._waiting_for_delivery.append(found)
            return
        self._send(key, payload)

    def cancel(self, key: str) -> None:
        """Kill a trial, or take it out of the line; no outcome of it will be delivered."""
        self._waiting_for_delivery = [o for o in self._waiting_for_delivery if o.key != key]
        if self._running.pop(key, None) is not None and self._server is not None:
            self._write({"cancel": key})

    def running(self) -> list[str]:
        """Return the keys that were submitted and whose outcome was not yet delivered."""
        return [key for key in self._running if key != _CHECK] + [
            outcome.key for outcome in self._waiting_for_delivery
        ]

    def wait(self, timeout: float) -> list[Outcome]:
        """Return the trials that ended, as soon as there is one or `timeout` seconds have passed.

        Returns at once, with nothing, when nothing runs.
        """
        ready, self._waiting_for_delivery = self._waiting_for_delivery, []
        if ready:
            return ready + self._collect(0.0)
        return self._collect(timeout)

    def finished(self, keys: Iterable[str]) -> list[Outcome]:
        """Return what a former parent's trials left in `results_dir`.

        A torn or altered file counts as not finished.
        """
        found = (read_result(self.results_dir, key) for key in keys)
        return [outcome for outcome in found if outcome is not None]

    def forget(self, key: str) -> None:
        """Delete a trial's result, once its content is safe elsewhere."""
        forget_result(self.results_dir, key)

    def close(self) -> None:
        """Kill what runs and end the server. Results on disk stay."""
        self._running.clear()
        if self._server is not None:
            self._end_server(5.0)

    # The server

    def _start(self) -> None:
        path = [entry or os.getcwd() for entry in sys.path]
        with (self.results_dir / "logs" / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                # Not `-m`: that would put the working folder first, and a file of the user's
                # called like one of our packages before ours.
                [
                    sys.executable,
                    "-I",
                    "-c",
                    f"import sys; sys.path[:] = {path!r}; "
                    "from loop.trial_server import main; main()",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | _ENVIRONMENT,
                # Ctrl-C in the terminal reaches the parent alone.
                start_new_session=True,
            )
        self._buffer = b""
        self._write(
            {
                "parent": os.getpid(),
                "config": self.config,
                "workers": self.workers,
                "time_limit": self.time_limit,
                "memory_limit": self.memory_limit,
                "results_dir": str(self.results_dir),
            }
        )

    def _end_server(self, patience: float) -> int:
        """Close the pipes, whose end the server ends by, and return how it ended."""
        server, self._server = self._server, None
        assert server is not None
        assert server.stdin is not None
        assert server.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            server.stdin.close()
        server.stdout.close()
        try:
            return server.wait(patience)
        except subprocess.TimeoutExpired:
            server.kill()
            return server.wait()

    def _send(self, key: str, payload: Mapping[str, Any]) -> None:
        if self._server is not None and self._server.poll() is not None:
            # It died unnoticed: this trial must not be taken for one that it took with it.
            self._waiting_for_delivery += self._server_died()
        if self._server is None:
            self._start()
        self._running[key] = digest_of(payload)
        self._write({"key": key, "payload": payload})

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._server is not None
        assert self._server.stdin is not None
        try:
            self._server.stdin.write(json.dumps(message).encode() + b"\n")
            self._server.stdin.flush()
        except BrokenPipeError:
            return  # the server has died; `_collect` sees the end of its output and tells why

    def _collect(self, timeout: float) -> list[Outcome]:
        deadline = time.monotonic() + timeout
        while self._running and self._server is not None:
            assert self._server.stdout is not None
            descriptor = self._server.stdout.fileno()
            left = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left)[0]:
                # A Ctrl-C between reading an answer and keeping it loses the answer, not the file.
                return [outcome for key in list(self._running) if (outcome := self._on_disk(key))]
            data = os.read(descriptor, 1 << 16)
            if not data:
                return self._server_died()
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            outcomes = [outcome for line in lines if (outcome := self._outcome(line)) is not None]
            if outcomes:
                return outcomes
        return []

    def _outcome(self, line: bytes) -> Outcome | None:
        message = json.loads(line)
        key, kind, failure = message["key"], message["kind"], message["failure"]
        digest = self._running.pop(key, None)
        if digest is None:
            return None
        # The child's word counts, however its process ended after it had written.
        found = read_result(self.results_dir, key, digest)
        return found if found is not None else Outcome(key, None, failure, kind)

    def _on_disk(self, key: str) -> Outcome | None:
        found = read_result(self.results_dir, key, self._running[key])
        if found is not None:
            del self._running[key]
        return found

    def _server_died(self) -> list[Outcome]:
        code = self._end_server(5.0)
        log = self.results_dir / "logs" / "server.log"
        reason = f"the process that starts trials ended by {exit_text(code)}; its log is {log}"
        outcomes = []
        for key, digest in self._running.items():
            found = read_result(self.results_dir, key, digest)
            outcomes.append(found or Outcome(key, None, reason, "crashed"))
        self._running.clear()
        return outcomes


# Results on disk, written by children and by the server, read by any parent


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_result(results_dir: Path, outcome: Outcome, payload_digest: str) -> None:
    """Write an outcome so that it is on disk, complete, when this returns.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    body = {
        "key": outcome.key,
        "payload": payload_digest,
        "kind": outcome.kind,
        "failure": outcome.failure,
        "evaluation": None if outcome.evaluation is None else outcome.evaluation.to_json(),
    }
    text = json.dumps({"format": _FORMAT, "digest": digest_of(body), "body": body}, allow_nan=False)
    write_atomically(_result_path(results_dir, outcome.key), text)


def read_result(results_dir: Path, key: str, payload_digest: str | None = None) -> Outcome | None:
    """Return the outcome on disk; None where there is none, or none that is whole.

    Args:
        results_dir: The folder.
        key: The trial.
        payload_digest: Where given, a result of any other payload does not count.
    """
    try:
        text = _result_path(results_dir, key).read_text("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    try:
        record = json.loads(text)
        body = record["body"]
        if record["format"] != _FORMAT or record["digest"] != digest_of(body):
            return None
        if body["key"] != key or body["kind"] not in get_args(Kind):
            return None
        if payload_digest is not None and body["payload"] != payload_digest:
            return None
        evaluation = body["evaluation"]
        return Outcome(
            key=key,
            evaluation=None if evaluation is None else Evaluation.from_json(evaluation),
            failure=body["failure"],
            kind=body["kind"],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # torn or not ours: the trial counts as not finished


def forget_result(results_dir: Path, key: str) -> None:
    """Delete a result, once its content is safe elsewhere."""
    _result_path(results_dir, key).unlink(missing_ok=True)


def _result_path(results_dir: Path, key: str) -> Path:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key: letters, digits, '.', '_', '-', at most 120")
    return results_dir / f"{key}.json"


def exit_text(code: int) -> str:
    """Return how a process ended, in words: `SIGSEGV` or `exit status 3`."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
