"""The process that forks trials: imports once, forks often, watches limits, dies with its parent.

Started by `loop.executor.LocalPool` only. Reads one JSON message a line from its input (first the
settings, then trials) and writes one line a trial that ended to its output. The end of its input,
which the kernel brings about however the parent dies, ends it and every trial.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from generators.processes import memory_of
from loop.evaluators import (
    EvaluationFailed,
    EvaluatorError,
    check_evaluation,
    make_evaluator,
)
from loop.evaluators.base import Evaluation, one_line
from loop.executor import Kind, Outcome, digest_of, exit_text, read_result, write_result

_POLL = 0.1
_PR_SET_PDEATHSIG = 1
# sysexits.h, EX_IOERR: a child that could not write its result says so by its exit status.
_CANNOT_WRITE = 74
_PRELOAD = {
    "potential": ("loop.evaluators.potential", "loop.evaluators.chgnet_calculator", "matcalc"),
    "dft": ("loop.evaluators.dft", "loop.evaluators.chgnet_calculator", "matcalc", "gpaw"),
    "command": ("loop.evaluators.command", "pymatgen.io.cif", "pymatgen.io.vasp"),
    "python": ("numpy",),
}


@dataclass
class _Trial:
    key: str
    payload: dict[str, Any]
    pid: int
    started: float
    log: Path
    # Set once a limit was reached and the trial was killed for it.
    verdict: tuple[Kind, str] | None = None
    cancelled: bool = False


class _Server:
    def __init__(self, settings: dict[str, Any], answers: int, unread: bytes) -> None:
        self.parent: int = settings["parent"]
        self.config: dict[str, Any] = settings["config"]
        self.workers: int = settings["workers"]
        self.time_limit: float = settings["time_limit"]
        self.memory_limit: int = settings["memory_limit"]
        self.results_dir = Path(settings["results_dir"])
        self.answers = answers
        self.unread = unread
        self.line: deque[tuple[str, dict[str, Any]]] = deque()
        self.trials: dict[int, _Trial] = {}

    def serve(self) -> None:
        try:
            while self._read():
                self._reap()
                self._enforce_limits()
                while self.line and len(self.trials) < self.workers:
                    self._fork(*self.line.popleft())
        finally:
            for trial in self.trials.values():
                _kill(trial.pid)

    def _read(self) -> bool:
        """Take in what the parent sends; False when there is no parent any more."""
        if b"\n" not in self.unread:
            busy = self.trials or self.line
            if select.select([0], [], [], _POLL if busy else 1.0)[0]:
                data = os.read(0, 1 << 16)
                if not data:
                    return False
                self.unread += data
        # The input stays open if the parent had forked; its process id tells then.
        if os.getppid() != self.parent:
            return False
        *lines, self.unread = self.unread.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self._cancel(message["cancel"])
            else:
                self.line.append((message["key"], message["payload"]))
        return True

    def _cancel(self, key: str) -> None:
        """Kill a trial that nobody wants any more, and tell nothing of it."""
        self.line = deque(waiting for waiting in self.line if waiting[0] != key)
        for trial in self.trials.values():
            if trial.key == key:
                trial.cancelled = True
                _kill(trial.pid)

    def _fork(self, key: str, payload: dict[str, Any]) -> None:
        log = self.results_dir / "logs" / f"{key}.log"
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_a_trial(self, server, key, payload, log)
        self.trials[pid] = _Trial(key, payload, pid, time.monotonic(), log)

    def _reap(self) -> None:
        for pid in list(self.trials):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                # What the trial had started goes with it; its own number may be another's by now.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                trial = self.trials.pop(pid)
                if not trial.cancelled:
                    self._tell(trial, os.waitstatus_to_exitcode(status))

    def _tell(self, trial: _Trial, code: int) -> None:
        # Nobody here sends SIGTERM: whoever did (a scheduler that ends a job) ends the trial
        # for a reason of their own.
        ended: Kind = "lost" if code == -signal.SIGTERM else "crashed"
        kind, failure = trial.verdict or (ended, _crash_text(code, trial.log))
        digest = digest_of(trial.payload)
        if trial.verdict is not None and read_result(self.results_dir, trial.key, digest) is None:
            # Kept, so that a parent that is killed now does not spend the time again; but the
            # word of a trial that finished in its last instant counts.
            with contextlib.suppress(OSError):  # the parent is told all the same, below
                write_result(
                    self.results_dir,
                    Outcome(trial.key, None, failure, kind),
                    digest,
                )
        elif code == 0:
            with contextlib.suppress(OSError):  # an empty log tells nothing
                if trial.log.stat().st_size == 0:
                    trial.log.unlink()
        answer = json.dumps({"key": trial.key, "kind": kind, "failure": failure})
        with contextlib.suppress(BrokenPipeError):  # the parent is gone, which `_read` sees
            os.write(self.answers, answer.encode() + b"\n")

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        for trial in self.trials.values():
            if trial.verdict is not None:
                continue
            if now - trial.started > self.time_limit:
                trial.verdict = (
                    "timeout",
                    f"stopped after {now - trial.started:.0f} s; the limit is "
                    f"{self.time_limit:g} s",
                )
            elif (used := memory_of(trial.pid)) > self.memory_limit:
                trial.verdict = (
                    "memory",
                    f"stopped at {_size(used)} of memory; the limit is {_size(self.memory_limit)}",
                )
            if trial.verdict is not None:
                _kill(trial.pid)


def main() -> NoReturn:
    """Serve until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Schedulers signal every process of a job: what becomes of the trials is the parent's to say.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # Whatever a library prints goes to the log, not between our answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    unread = b""
    while b"\n" not in unread:
        data = os.read(0, 1 << 16)
        if not data:
            raise SystemExit(0)
        unread += data
    first, unread = unread.split(b"\n", 1)
    server = _Server(json.loads(first), answers, unread)
    _preload(server.config)
    server.serve()
    # Nothing to tidy, and nothing of the libraries' own endings to wait for.
    os._exit(0)


def _preload(config: dict[str, Any]) -> None:
    """Import what trials need. A failure is not reported here: each trial meets it and says so."""
    from loop.evaluators.models import quiet_imports

    quiet = quiet_imports() if config["with"] in ("potential", "dft") else contextlib.nullcontext()
    try:
        with quiet:
            for name in _PRELOAD.get(config["with"], ()):
                importlib.import_module(name)
    except ImportError:
        traceback.print_exc()


# In the child


def _be_a_trial(
    server: _Server, server_pid: int, key: str, payload: dict[str, Any], log: Path
) -> NoReturn:
    """Run one trial in a freshly forked process; never returns."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _die_with_parent(server_pid)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _redirect(log)
        os.close(server.answers)
        outcome = _run(server.config, key, payload, log)
        write_result(server.results_dir, outcome, digest_of(payload))
        status = 0
    except OSError as error:
        status = _CANNOT_WRITE
        # Goes to the log, which may be on the same full disk.
        with contextlib.suppress(OSError):
            print(error, file=sys.stderr, flush=True)
    except BaseException:
        with contextlib.suppress(OSError):
            traceback.print_exc()
    finally:
        # Not sys.exit: that would unwind into the server's loop and run its endings.
        os._exit(status)


def _run(config: dict[str, Any], key: str, payload: dict[str, Any], log: Path) -> Outcome:
    _settle(int(payload.get("seed", 0)))
    try:
        evaluator = make_evaluator(config)
        if "check" in payload:
            for fidelity in payload.get("fidelities") or [None]:
                at = evaluator if fidelity is None else evaluator.at(fidelity)
                at.check(payload["check"])
            return Outcome(key, Evaluation({}), None, "done")
        if "fidelity" in payload:
            evaluator = evaluator.at(payload["fidelity"])
        evaluation = evaluator.evaluate(payload["design"], payload["metrics"], payload["seed"])
        check_evaluation(evaluation, payload["metrics"])
        outcome = Outcome(key, evaluation, None, "done")
    except EvaluationFailed as error:
        outcome = Outcome(key, None, error.reason, "infeasible" if error.infeasible else "failed")
    except EvaluatorError as error:
        outcome = Outcome(key, None, str(error), "failed")
    except MemoryError:
        outcome = Outcome(key, None, "the machine has no memory left for this trial", "memory")
    # A defect of ours or of a library: the trial fails with it, and the log has the traceback.
    except Exception as error:
        traceback.print_exc()
        outcome = Outcome(key, None, f"{one_line(error)}; the log is {log}", "failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return outcome


def _settle(seed: int) -> None:
    """One thread, and the same random numbers whenever this trial is run."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
        torch.manual_seed(seed)


def _die_with_parent(server_pid: int) -> None:
    """Have the kernel kill this process when the server ends, also by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Where there is no such call (macOS), the server's own ending kills its trials. It may have
    # ended before the call.
    if os.getppid() != server_pid:
        os._exit(1)


def _redirect(log: Path) -> None:
    """Nothing to read, and everything printed goes to the trial's log."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)


# Of processes


def _kill(pid: int) -> None:
    """Kill a trial that was not reaped yet, and what it started: it leads a process group."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it is gone already
            kill(pid, signal.SIGKILL)


def _crash_text(code: int, log: Path) -> str:
    if code == _CANNOT_WRITE:
        return f"the result could not be written to {log.parent.parent}{_last_line(log)}"
    if code == 0:
        return f"the process ended without a result; its log is {log}"
    hint = " (the machine may have run out of memory)" if code == -signal.SIGKILL else ""
    return f"the process ended by {exit_text(code)}{hint}; its log is {log}"


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text("utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f": {last}" if last else ""
    return ""


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
