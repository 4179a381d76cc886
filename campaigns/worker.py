"""A worker: it leases trials from a server, evaluates them in child processes, and reports.

Why no finished evaluation is lost, and none counts twice:

1. A lease is on disk before its evaluation starts, and the result before it is reported
   (`campaigns.worker_folder`). A worker that is killed leaves both, and the next one that starts in
   the same folder reports the result, or hands the trial back.
2. A report's idempotency key is made of campaign, trial and token, so that it is the same however
   often, and by whichever process, the report is made.
3. A server that does not answer is waited for, while what runs goes on.
4. Ctrl-C, SIGTERM and the wall time hand back what runs as `lost`, which makes it a candidate
   again. That is no failure of the design.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from campaigns.client import Client, Refused, Unreachable
from campaigns.errors import MatloopError, UsageError
from campaigns.leases import Lease
from campaigns.worker_answers import Answers, Tally
from campaigns.worker_folder import WorkerFolder, key_of
from campaigns.worker_places import Pool, PoolMaker, Task, served_task

if TYPE_CHECKING:
    from loop.executor import Outcome

POLL: Final = 0.5
"""Seconds between looks at what runs."""

LONGEST_POLL: Final = 10.0
"""Seconds between requests for a trial, where there was none."""

FAILURES: Final = 6
"""Evaluations that failed one after the other with no success: it is not the designs' fault."""

_ROOM: Final = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What a worker is to do.

    Attributes:
        campaign: The campaign's name.
        name: The worker's.
        folder: The folder that workers share.
        workers: Trials at one time.
        max_trials: End after so many.
        seconds: End after so long (the job's wall time); what runs then is handed back.
        idle: End when there was nothing to do for so many seconds.
        fidelity: Take only trials at this one.
        ttl: Seconds after which the server gives a trial to another, if it hears nothing; None =
            as the campaign has it.
        task: The owner's own evaluator; None = the one that comes with a lease.
        allow_python: Let the server name Python code or commands to run.
    """

    campaign: str
    name: str
    folder: Path
    workers: int = 1
    max_trials: int | None = None
    seconds: float | None = None
    idle: float | None = None
    fidelity: str | None = None
    ttl: float | None = None
    task: Task | None = None
    allow_python: bool = False


@dataclass
class _Running:
    lease: Lease
    pool: Pool
    since: float
    beat: float


@dataclass
class Worker:
    """One worker; call `run` once, in the main thread.

    Args:
        client: The server; its patience should be short, since the worker has its own.
        plan: What to do.
        make_pool: Where to evaluate, see `campaigns.worker_places.place`.
        tell: Told each thing that happens, one line.
    """

    client: Client
    plan: Plan
    make_pool: PoolMaker
    tell: Callable[[str], None] = lambda _: None
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._running: dict[str, _Running] = {}
        self._answers = Answers(
            self.client, self.plan.folder, self.tally, self.tell, self._tell_once
        )
        self._adopted: list[WorkerFolder] = []
        self._pools: list[tuple[Task, Pool]] = []
        self._stop = threading.Event()
        self._signal: str | None = None
        self._silent = False
        self._request: str | None = None
        self._next_lease, self._lease_pause = 0.0, 1.0
        self._failures: list[str] = []
        self._longest = 0.0
        self._begun = self._busy = time.monotonic()

    def run(self) -> str:
        """Work until there is a reason to end.

        Returns:
            Why it ended: one word (max_trials, walltime or idle).

        Raises:
            MatloopError: Ctrl-C or SIGTERM, after everything was handed back; or the evaluator
                does not work here, or the server refuses this worker.
        """
        about = {"server": self.client.url, "campaign": self.plan.campaign}
        with self._signals():
            for orphan in WorkerFolder.orphans(self.plan.folder, about):
                self._adopt(orphan)
            self._home = WorkerFolder.begin(self.plan.folder, self.plan.name, about)
            try:
                why = self._work()
            except BaseException as error:
                self._put_down(f"the worker ended: {error}")
                raise
            else:
                self._put_down(f"the worker ended: {why}")
            finally:
                for folder in (*self._adopted, self._home):
                    folder.close()
        if self._signal is not None:
            raise MatloopError(
                "interrupted",
                why=self._signal,
                unchanged=f"the campaign; {self.tally.handed_back} trials were handed back",
                hint="run the same command again",
            )
        return why

    def _work(self) -> str:
        while True:
            if why := self._reason_to_end():
                return why
            self._answers.deliver()
            self._beat()
            self._take()
            ended = self._wait()
            for key, outcome in ended:
                self._settle(key, outcome)

    def _reason_to_end(self) -> str | None:
        now, plan = time.monotonic(), self.plan
        if self._signal is not None:
            return self._signal
        if plan.seconds is not None and now - self._begun >= plan.seconds:
            return "walltime"
        if self._running or self._answers:
            self._busy = now
            return None
        if plan.max_trials is not None and self._spent() >= plan.max_trials:
            return "max_trials"
        if plan.idle is not None and now - self._busy >= plan.idle:
            return "idle"
        if self._no_time(now):
            return "walltime"
        return None

    def _spent(self) -> int:
        """How many trials count towards `max_trials`."""
        return self.tally.taken - self._answers.returned

    def _no_time(self, now: float) -> bool:
        """Whether what is begun now would hardly end: the longest so far would not."""
        left = None if self.plan.seconds is None else self._begun + self.plan.seconds - now
        return left is not None and left < self._longest

    # Taking

    def _take(self) -> None:
        """Lease as many trials as there is room for."""
        now, plan = time.monotonic(), self.plan
        free = plan.workers - len(self._running)
        if plan.max_trials is not None:
            free = min(free, plan.max_trials - self._spent())
        if free < 1 or now < self._next_lease or self._no_time(now):
            return
        # The same key until it is answered: what was leased and not heard of comes again.
        self._request = self._request or uuid4().hex
        try:
            leases = self.client.lease(
                plan.campaign,
                free,
                worker=plan.name,
                ttl=plan.ttl,
                fidelity=plan.fidelity,
                idempotency_key=self._request,
            )
        except Unreachable as error:
            self._wait_for_server(error)
            return
        except Refused as error:
            if error.status != 409:
                raise
            self._tell_once(f"no trial is given out: {error.what}")
            self._request = None
            self._pause_leasing()
            return
        self._request, self._silent = None, False
        new = [lease for lease in leases if self._receive(lease)]
        for lease in new:
            self._start(lease)
        if len(leases) < free:
            self._pause_leasing()
        else:
            self._next_lease, self._lease_pause = 0.0, 1.0

    def _pause_leasing(self) -> None:
        # Not all at the same moment, where a hundred of them wait.
        self._next_lease = time.monotonic() + self._lease_pause * random.uniform(0.5, 1.0)
        self._lease_pause = min(2 * self._lease_pause, LONGEST_POLL)

    def _wait_for_server(self, error: Unreachable) -> None:
        self._tell_once(f"the server does not answer ({error.why}); waiting for it")
        self._pause_leasing()

    def _tell_once(self, text: str) -> None:
        if not self._silent:
            self.tell(text)
        self._silent = True

    def _receive(self, lease: Lease) -> bool:
        """Make a lease this worker's to answer, whatever happens next; whether it is new."""
        key = key_of(lease)
        if key in self._running or key in self._answers:
            return False
        self._home.keep(key, lease)
        self.tally.taken += 1
        self._answers.owe(key, lease, self._home, reason="it was not begun")
        return True

    def _start(self, lease: Lease) -> None:
        key = key_of(lease)
        task, pool = self._pool(lease)
        payload: dict[str, Any] = {
            "design": lease.design,
            "metrics": list(lease.units),
            "seed": lease.seed,
        }
        if lease.fidelity is not None and task.at_fidelity:
            payload["fidelity"] = lease.fidelity
        pool.submit(key, payload)
        self._answers.withdraw(key)
        now = time.monotonic()
        self._running[key] = _Running(lease, pool, now, now + lease.ttl / 3)
        self.tell(f"trial {lease.trial}: begun (attempt {lease.attempt})")

    def _pool(self, lease: Lease) -> tuple[Task, Pool]:
        """The pool of a lease's evaluator, tested before trials are spent on a broken one."""
        task = self.plan.task or served_task(lease, self.plan.allow_python)
        for known, pool in self._pools:
            if known == task:
                return task, pool
        from loop.evaluators import EvaluatorError

        try:
            pool = self.make_pool(task, self._home.results)
            self._pools.append((task, pool))
            self.tell("loading the evaluator")
            at = [lease.fidelity] if lease.fidelity and task.at_fidelity else []
            pool.check(list(lease.units), at)
        except EvaluatorError as error:
            raise UsageError(
                error.what,
                where="evaluate",
                unchanged="the campaign; its trials were handed back",
                hint=error.hint,
            ) from error
        return task, pool

    # While it runs

    def _wait(self) -> list[tuple[str, Outcome]]:
        busy = [pool for _, pool in self._pools if pool.running()]
        if not busy:
            self._stop.wait(POLL / 2)
        ended = [o for pool in busy for o in pool.wait(POLL / len(busy))]
        return [(outcome.key, outcome) for outcome in ended]

    def _beat(self) -> None:
        """Prolong the leases that are due; end what is not wanted any more."""
        for key, job in list(self._running.items()):
            now = time.monotonic()
            if now < job.beat:
                continue
            try:
                told = self.client.heartbeat(job.lease)
            except Unreachable as error:
                self._tell_once(f"the server does not answer ({error.why}); the evaluation goes on")
                job.beat = now + min(5.0, job.lease.ttl / 10)
                continue
            except Refused as error:
                if error.status not in (404, 409):
                    raise
                if error.only_ran_out(job.lease.token):
                    # Nobody else has the trial, so its result will be taken.
                    job.beat = now + job.lease.ttl
                    continue
                self._give_up(key, job, f"its lease was lost: {error.what}")
                continue
            job.beat = now + job.lease.ttl / 3
            if told.cancel:
                job.pool.cancel(key)
                self._hand_back(key, "the campaign was stopped")

    def _give_up(self, key: str, job: _Running, why: str) -> None:
        """End what somebody else has now."""
        job.pool.cancel(key)
        del self._running[key]
        self._home.drop(key)
        self.tally.refused += 1
        self.tell(f"trial {job.lease.trial}: given up, {why}")

    def _hand_back(self, key: str, reason: str) -> None:
        self._answers.owe(key, self._running.pop(key).lease, self._home, reason=reason)

    def _settle(self, key: str, outcome: Outcome) -> None:
        job = self._running.get(key)
        if job is None:
            return
        self._longest = max(self._longest, time.monotonic() - job.since)
        if outcome.kind == "lost":
            self._hand_back(key, outcome.failure or "it was lost")
            return
        if outcome.kind == "crashed" and shutil.disk_usage(self._home.path).free < _ROOM:
            raise MatloopError(
                "the worker's disk is full", where=str(self._home.path),
                unchanged="the trials; they were handed back", hint="make room, and start it again",
            )  # fmt: skip
        del self._running[key]
        self._answers.owe(key, job.lease, self._home, outcome)
        if outcome.evaluation is not None:
            self._failures.clear()
            return
        if outcome.kind == "infeasible":
            return  # a finding, not a fault
        self._failures.append(outcome.failure or outcome.kind)
        if len(self._failures) >= FAILURES:
            raise MatloopError(
                f"the last {FAILURES} evaluations all failed: this worker is not to be trusted",
                why=self._failures[-1],
                unchanged="the trials that were not begun",
                hint="try the evaluator on this machine by hand; then start the worker again",
            )

    # Beginning and ending

    def _adopt(self, orphan: WorkerFolder) -> None:
        """Answer for a worker that is dead: its results, and that the rest is lost."""
        from loop.executor import read_result

        leases, done = orphan.leases(), 0
        for key, lease in leases.items():
            outcome = read_result(orphan.results, key)
            self._answers.owe(key, lease, orphan, outcome, "the worker was killed", own=False)
            done += outcome is not None
        if leases:
            self._adopted.append(orphan)
            name = orphan.path.name
            self.tell(f"{name} was killed: {done} results of it are reported, "
                      f"{len(leases) - done} trials handed back")  # fmt: skip
        else:
            orphan.close()

    def _put_down(self, why: str) -> None:
        """End what runs, keep what finished, hand back the rest."""
        for _, pool in self._pools:
            pool.close()
        for key, job in list(self._running.items()):
            finished = job.pool.finished([key])
            if finished:
                self._answers.owe(key, self._running.pop(key).lease, self._home, finished[0])
            else:
                self._hand_back(key, why)
        self._answers.last_words()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Note Ctrl-C and SIGTERM; a second one is Python's own."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        self._stop.set()
        signal.signal(number, signal.default_int_handler)
