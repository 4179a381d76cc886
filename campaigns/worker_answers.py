"""What a worker has to tell the server, and has not told yet.

Each answer is on disk (`campaigns.worker_folder`) until the server has it. A server that does not
answer is asked again, after longer and longer pauses.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns.client import Client, FailKind, Refused, Unreachable
from campaigns.errors import MatloopError
from campaigns.leases import Lease
from campaigns.worker_folder import WorkerFolder

if TYPE_CHECKING:
    from loop.executor import Outcome

LONGEST_PAUSE: Final = 10.0
"""Seconds between two tries to tell the server."""

LAST_WORDS: Final = 20.0
"""Seconds for the last reports after a signal: Slurm kills after 30."""


@dataclass
class Tally:
    """What a worker did: numbers of trials."""

    taken: int = 0
    completed: int = 0
    failed: int = 0
    handed_back: int = 0
    refused: int = 0
    undelivered: int = 0


@dataclass
class _Answer:
    lease: Lease
    home: WorkerFolder
    outcome: Outcome | None  # None: handed back
    reason: str
    own: bool
    due: float = 0.0
    pause: float = 0.5


class Answers:
    """The answers that a worker owes.

    Args:
        client: The server.
        folder: The folder that workers share; what the server cannot read is set aside there.
        tally: Counts what was told.
        tell: Told each thing that happens.
        tell_once: The same, for what would be said again and again.

    Attributes:
        returned: The worker's own trials that were handed back.
    """

    def __init__(
        self,
        client: Client,
        folder: Path,
        tally: Tally,
        tell: Callable[[str], None],
        tell_once: Callable[[str], None],
    ) -> None:
        self._client, self._folder, self._tally = client, folder, tally
        self._tell, self._tell_once = tell, tell_once
        self._answers: dict[str, _Answer] = {}
        self.returned = 0

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __len__(self) -> int:
        return len(self._answers)

    def owe(
        self,
        key: str,
        lease: Lease,
        home: WorkerFolder,
        outcome: Outcome | None = None,
        reason: str = "",
        own: bool = True,
    ) -> None:
        """Take an answer to deliver, in place of one that was owed for this lease.

        Args:
            key: The lease's.
            lease: What is answered.
            home: Where the lease is on disk, until the server has the answer.
            outcome: What came of it; None = the trial is handed back, for this reason.
            reason: Why it is handed back.
            own: Whether this worker leased it, and not a dead one.
        """
        self._answers[key] = _Answer(lease, home, outcome, reason, own)

    def withdraw(self, key: str) -> None:
        """Owe nothing for now: the evaluation begins. The lease stays on disk."""
        del self._answers[key]

    def deliver(self) -> None:
        """Tell the server what is due, as far as it answers.

        Raises:
            Refused: The server refuses this worker, not one answer.
            MatloopError: It cannot read a result, which was set aside.
        """
        for key, answer in list(self._answers.items()):
            if time.monotonic() < answer.due:
                continue
            try:
                self._say(key, answer)
            except Unreachable as error:
                self._tell_once(f"the server does not answer ({error.why}); results wait on disk")
                answer.due = time.monotonic() + answer.pause * random.uniform(0.5, 1.0)
                answer.pause = min(2 * answer.pause, LONGEST_PAUSE)
                continue
            except Refused as error:
                if error.status not in (404, 409):
                    raise
                self._tally.refused += 1
                self._tell(f"trial {answer.lease.trial}: refused, {error.what}")
            del self._answers[key]
            answer.home.drop(key)

    def _say(self, key: str, answer: _Answer) -> None:
        lease, outcome = answer.lease, answer.outcome
        if outcome is None:
            self._client.fail(lease, answer.reason, "lost", idempotency_key=f"{key}-lost")
            self._tally.handed_back += 1
            self.returned += answer.own
            self._tell(f"trial {lease.trial}: handed back, {answer.reason}")
            return
        if outcome.evaluation is None:
            reason = outcome.failure or outcome.kind
            kind: FailKind = "infeasible" if outcome.kind == "infeasible" else "failed"
            self._client.fail(lease, reason, kind, idempotency_key=f"{key}-{kind}")
            self._tally.failed += 1
            self._tell(f"trial {lease.trial}: {kind}, {reason}")
            return
        found = outcome.evaluation
        metrics = {
            name: {"value": m.mean, "sem": m.sem, "unit": m.unit}
            for name, m in found.measurements.items()
            if name in lease.units
        }
        told: dict[str, Any] = {"seconds": found.seconds, "provenance": found.provenance}
        try:
            self._client.report(
                lease,
                metrics,
                artifacts=found.artifacts,
                idempotency_key=f"{key}-result",
                **told,
            )
        except Refused as error:
            if error.status == 413 and found.artifacts:
                # The numbers without the files, rather than nothing.
                self._client.report(lease, metrics, idempotency_key=f"{key}-numbers", **told)
            elif error.status == 422:
                raise self._not_understood(key, answer, error) from error
            else:
                raise
        self._tally.completed += 1
        self._tell(f"trial {lease.trial}: completed in {found.seconds:.3g} s")

    def _not_understood(self, key: str, answer: _Answer, error: Refused) -> MatloopError:
        """Set a result aside that the server cannot read: every other would end like it."""
        aside = self._folder / f"refused-{key}.json"
        with contextlib.suppress(OSError):
            shutil.copy(answer.home.results / f"{key}.json", aside)
        answer.outcome, answer.reason = None, f"its result was refused: {error.what}"
        return MatloopError(
            "the server cannot read what this worker measured",
            where=f"trial {answer.lease.trial}",
            why="; ".join(f"{e.get('where')}: {e.get('what')}" for e in error.errors) or error.what,
            unchanged=f"the trial, which was handed back; the result is in {aside}",
            hint="are the evaluator's units those of its metrics, and the versions the same?",
        )

    def last_words(self) -> None:
        """Deliver what can be delivered before the process ends; the rest stays on disk."""
        deadline = time.monotonic() + LAST_WORDS
        while self._answers:
            try:
                self.deliver()
            except MatloopError as error:
                self._tell(f"not delivered: {error.what}")
                break
            if not self._answers or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        self._tally.undelivered = len(self._answers)
        if self._answers:
            self._tell(f"{len(self._answers)} answers wait in {self._folder} for the next start")
