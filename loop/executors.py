"""Trials on any `concurrent.futures.Executor`: Dask, Parsl, or one of your own.

`ExecutorPool` is to such an executor what `loop.executor.LocalPool` is to this machine, and has the
same methods. Where a trial arrives, it runs in a child process with the same limits. What comes
back is written to `results_dir` before anybody is told of it.

An executor's worker that dies (a node, a job at its wall time) is not the design's fault: the trial
is submitted again, and after `retries` times its outcome is `lost`, never `failed`.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from loop.evaluators import Evaluation, EvaluatorError, make_evaluator
from loop.evaluators.base import one_line
from loop.executor import (
    LocalPool,
    Outcome,
    digest_of,
    forget_result,
    read_result,
    write_result,
)

_CHECK_SECONDS = 300.0


@dataclass
class _Job:
    future: Future[str]
    payload: dict[str, Any]
    tries: int = 1


class ExecutorPool:
    """A pool of trials on an executor; use it as a context manager, or call `close`.

    Args:
        executor: Where; whoever made it shuts it down. Its workers must be able to import this
            package and the evaluator.
        config: The evaluator, see `loop.evaluators.make_evaluator`.
        time_limit: Seconds a trial may take, once it has begun.
        memory_limit: Bytes a trial may hold in memory.
        results_dir: Folder of results; made where needed.
        retries: How often a trial is submitted again whose worker died.

    Raises:
        EvaluatorError: `config` is wrong.
        OSError: `results_dir` cannot be made.
    """

    def __init__(
        self,
        executor: Executor,
        config: Mapping[str, Any],
        time_limit: float,
        memory_limit: int,
        results_dir: Path,
        retries: int = 2,
    ) -> None:
        make_evaluator(config)
        self.executor = executor
        self.config = dict(config)
        self.limits = {"time_limit": time_limit, "memory_limit": memory_limit}
        self.results_dir = Path(results_dir).absolute()
        self.results_dir.mkdir(parents=True, exist_ok=True)
        self.retries = retries
        self._jobs: dict[str, _Job] = {}
        self._ready: list[Outcome] = []

    def __enter__(self) -> ExecutorPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def check(
        self, metrics: Sequence[str], fidelities: Sequence[str] = (), timeout: float | None = None
    ) -> None:
        """Test the evaluator on one of the executor's workers.

        Raises:
            EvaluatorError: With the reason, if every trial would fail there, or none can run.
        """
        asked = {"check": {"metrics": list(metrics), "fidelities": list(fidelities)}}
        try:
            told = json.loads(self._submit(asked).result(timeout or _CHECK_SECONDS))
        # Whatever the executor raises, it cannot run trials.
        except Exception as error:
            raise EvaluatorError(f"the executor cannot run trials: {one_line(error)}") from error
        if told is not None:
            raise EvaluatorError(told["what"], told["hint"])

    def submit(self, key: str, payload: Mapping[str, Any]) -> None:
        """Send a trial off; as `LocalPool.submit`.

        Raises:
            ValueError: The key is no file name, or is running already.
        """
        if key in self._jobs:
            raise ValueError(f"trial {key} is running already")
        found = read_result(self.results_dir, key, digest_of(payload))
        if found is not None:
            self._ready.append(found)
            return
        body = dict(payload)
        try:
            self._jobs[key] = _Job(self._submit({"key": key, "payload": body}), body)
        except RuntimeError as error:  # it was shut down
            self._ready.append(_lost(key, error))

    def cancel(self, key: str) -> None:
        """Take a trial back as far as the executor can: one that has begun may run to its end.

        No outcome of it will be delivered.
        """
        self._ready = [outcome for outcome in self._ready if outcome.key != key]
        job = self._jobs.pop(key, None)
        if job is not None:
            job.future.cancel()

    def running(self) -> list[str]:
        """Return the keys that were submitted and whose outcome was not yet delivered."""
        return [*self._jobs, *(outcome.key for outcome in self._ready)]

    def wait(self, timeout: float) -> list[Outcome]:
        """Return the trials that ended, as soon as there is one or `timeout` seconds have passed.

        Returns at once, with nothing, when nothing runs.
        """
        deadline = time.monotonic() + timeout
        ended, self._ready = self._ready, []
        while not ended and self._jobs:
            left = max(0.0, deadline - time.monotonic())
            futures = {job.future: key for key, job in self._jobs.items()}
            done, _ = wait_for(futures, timeout=left, return_when=FIRST_COMPLETED)
            ended = [o for future in done if (o := self._outcome(futures[future])) is not None]
            if not done:
                break
        return ended

    def finished(self, keys: Iterable[str]) -> list[Outcome]:
        """Return what a former pool left in `results_dir`."""
        found = (read_result(self.results_dir, key) for key in keys)
        return [outcome for outcome in found if outcome is not None]

    def forget(self, key: str) -> None:
        """Delete a trial's result, once its content is safe elsewhere."""
        forget_result(self.results_dir, key)

    def close(self) -> None:
        """Take back what was not begun. The executor stays open, results on disk stay."""
        for key in list(self._jobs):
            self.cancel(key)

    def _submit(self, job: Mapping[str, Any]) -> Future[str]:
        return self.executor.submit(
            run_there, json.dumps(self.limits | {"config": self.config, **job})
        )

    def _outcome(self, key: str) -> Outcome | None:
        """The outcome of a job that is done; None where it is tried again."""
        job = self._jobs[key]
        try:
            told = json.loads(job.future.result())
        # The evaluation's own failure comes back as a value: what is raised is the executor's.
        except (Exception, CancelledError) as error:
            if job.tries <= self.retries:
                with contextlib.suppress(Exception):  # then it is lost, below
                    job.future = self._submit({"key": key, "payload": job.payload})
                    job.tries += 1
                    return None
            del self._jobs[key]
            return _lost(key, error)
        del self._jobs[key]
        evaluation = told["evaluation"]
        outcome = Outcome(
            key=key,
            evaluation=None if evaluation is None else Evaluation.from_json(evaluation),
            failure=told["failure"],
            kind=told["kind"],
        )
        write_result(self.results_dir, outcome, digest_of(job.payload))
        return outcome


def _lost(key: str, error: BaseException) -> Outcome:
    return Outcome(key, None, f"the executor lost the trial: {one_line(error)}", "lost")


# Where the executor runs it


class _Own:
    """A thread's pool, and the folder of its results; both end with the thread."""

    def __init__(self, digest: str, config: Mapping[str, Any], limits: tuple[float, int]) -> None:
        self.digest = digest
        self.folder = tempfile.TemporaryDirectory(prefix="matloop-")
        self.pool = LocalPool(config, 1, *limits, Path(self.folder.name))

    def __del__(self) -> None:
        if hasattr(self, "pool"):
            self.pool.close()
        self.folder.cleanup()


class _Here(threading.local):
    """One pool a thread: an executor's worker may have several, and a pool takes long to start."""

    own: _Own | None = None


_here = _Here()


def run_there(text: str) -> str:
    """Run one trial, or the check of an evaluator, in a child process of this one.

    Args:
        text: JSON: `config`, `time_limit`, `memory_limit`, and `key` and `payload`, or `check`.

    Returns:
        JSON: `kind`, `failure` and `evaluation`; of a check null, or `what` and `hint`.
    """
    job = json.loads(text)
    try:
        pool = _pool_of(job["config"], job["time_limit"], job["memory_limit"])
        if "check" in job:
            pool.check(job["check"]["metrics"], job["check"]["fidelities"])
            return "null"
    except EvaluatorError as error:
        if "check" in job:
            return json.dumps({"what": error.what, "hint": error.hint})
        return json.dumps({"kind": "failed", "failure": str(error), "evaluation": None})
    key = job["key"]
    pool.forget(key)
    pool.submit(key, job["payload"])
    while True:
        for outcome in pool.wait(timeout=60.0):
            if outcome.key == key:
                pool.forget(key)
                evaluation = outcome.evaluation
                told: dict[str, Any] = {"kind": outcome.kind, "failure": outcome.failure}
                told["evaluation"] = None if evaluation is None else evaluation.to_json()
                return json.dumps(told)


def _pool_of(config: Mapping[str, Any], time_limit: float, memory_limit: int) -> LocalPool:
    digest = digest_of([dict(config), time_limit, memory_limit])
    if _here.own is None or _here.own.digest != digest:
        _here.own = None  # the former one ends before another starts
        _here.own = _Own(digest, config, (time_limit, memory_limit))
    return _here.own.pool
