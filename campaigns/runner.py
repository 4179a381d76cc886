"""Run a campaign: keep every worker busy, take in what ends, survive being killed.

Why nothing is lost and nothing that finished is made twice:

1. A trial is ``running`` in the store before its child process starts. Its key names the campaign's
   token, the trial and the attempt, so the files of no other campaign, trial or attempt are
   mistaken for its own.
2. The child writes its result to ``<key>.json`` (whole, by rename) before its parent hears of it.
3. The parent commits observations, status and event in one transaction, and only then deletes the
   file.
4. A runner that starts takes in the files that are there, of all attempts, and makes candidates
   again of the running trials that have none. No child of the former runner is alive then: they die
   with it.
"""

from __future__ import annotations

import contextlib
import errno
import math
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from campaigns import fidelities, ingestion, records, stopping, units
from campaigns.campaign import Campaign, NoDesign, derived_seed
from campaigns.errors import MatloopError, UsageError
from campaigns.spec_changes import completed
from campaigns.spec_evaluate import Each, evaluator_at
from campaigns.spec_evaluators import Lab, Workers
from campaigns.spec_models import seconds
from campaigns.store.models import Trial
from campaigns.store.store import record

if TYPE_CHECKING:
    from loop.evaluators import EvaluatorError
    from loop.executor import LocalPool, Outcome
    from loop.stopping import Verdict

# Failed batches in a row, with no success between, that mean that it is not the designs' fault.
FAILED_BATCHES: Final = 3

_POLL_SECONDS: Final = 0.5

# Less free disk than this, in bytes, and no result can be written.
_ROOM: Final = 1 << 20


class Interrupted(MatloopError):
    """The person asked the run to stop; the campaign is consistent and can go on."""


class _Asked(KeyboardInterrupt):
    """Raised where the runner lets itself be interrupted; no library swallows it."""


class _Signals:
    """Notice Ctrl-C and SIGTERM; act on them only where that leaves nothing half-done."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._open = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        # Python delivers signals to the main thread; elsewhere whoever runs the thread deals with
        # them.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, _frame: FrameType | None) -> None:
        self.asked = signal.Signals(number).name
        if self._open:
            self._open = False
            raise _Asked

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal end what is done inside, or what is to begin if it came before."""
        if self.asked:
            raise _Asked
        self._open = True
        try:
            yield
        finally:
            self._open = False


class Runner:
    """One run of a campaign; the caller holds the campaign's lock.

    Args:
        campaign: What to run.
        budget: Trials in all; default: the spec's.
        max_new: Trials to propose at most; default: no limit but the budget.
        go_on: Overrule the stop rules' verdict that was told last.
    """

    def __init__(
        self,
        campaign: Campaign,
        budget: int | None = None,
        max_new: int | None = None,
        go_on: bool = False,
    ):
        self._campaign = campaign
        self._spec = campaign.spec
        self._given = budget
        self._left_to_propose = max_new
        self._batch = self._spec.budget.batch
        self._deadline = self._time_is_up_at()
        self._dir = campaign.store.results_dir(campaign.name)
        self._failures: list[str] = []  # of this run, since its last success
        self._go_on = go_on
        self._verdicts: list[Verdict] = []  # of the stop rules
        self._exhausted: str | None = None
        self._checked = False
        self._workers = 1

    def run(self) -> tuple[str, str]:
        """Run to the end.

        Returns:
            Why it ended: one word (budget, target_met, stalled, no_gain, paused, time, max_new,
            exhausted or lab), and a sentence.

        Raises:
            Interrupted: Ctrl-C or SIGTERM.
            MatloopError: See `Campaign.run`.
        """
        evaluate = self._spec.evaluate
        if isinstance(evaluate, Lab) or (
            isinstance(evaluate, Each) and not evaluate.on_this_machine
        ):
            self._answer()
            return self._ended(*self._hand_to_lab())
        with _Signals() as signals, self._pool(evaluate) as pool:
            try:
                self._answer()
                self._recover(pool)
                self._judge()
                self._loop(pool, signals)
            except KeyboardInterrupt as error:
                raise self._interrupted(pool, signals.asked or "SIGINT") from error
            except BaseException:
                # The store may be what failed. Then the trials stay `running`, and the next run
                # puts them right.
                with contextlib.suppress(MatloopError):
                    self._put_down(pool)
                raise
            return self._ended(*self._reason())

    # One run, from its beginning to its end

    @property
    def _budget(self) -> int:
        trials: int = self._campaign.granted(self._given)["trials"]
        return trials

    def _pool(self, evaluate: Workers | Each) -> LocalPool:
        from loop.evaluators import EvaluatorError
        from loop.executor import LocalPool

        self._workers = evaluate.workers
        try:
            return LocalPool(
                self._spec.evaluator_config(),
                workers=evaluate.workers,
                time_limit=evaluate.seconds(),
                memory_limit=evaluate.memory_bytes(),
                results_dir=self._dir,
            )
        except EvaluatorError as error:
            raise _no_evaluator(error) from error
        except OSError as error:
            raise self._no_folder(error) from error

    def _check_evaluator(self, pool: LocalPool, signals: _Signals) -> None:
        """Load the evaluator in a child, so that a broken one costs no trial."""
        from loop.evaluators import EvaluatorError

        self._campaign._narrate("loading_evaluator", evaluator=self._source)
        try:
            with signals.interruptible():
                pool.check(self._campaign.goals.metrics, self._fidelities_here())
        except EvaluatorError as error:
            raise _no_evaluator(error) from error
        self._checked = True

    def _recover(self, pool: LocalPool) -> None:
        """Take in what a former run left, and make candidates again of what it did not finish."""
        self._sweep()
        taken = self._take_in_finished(pool)
        again = self._reset()
        with self._campaign._change() as session:
            record(
                session, self._campaign._row.id, "run_started", budget=self._budget,
                taken_in=taken, again=again,
            )  # fmt: skip

    def _loop(self, pool: LocalPool, signals: _Signals) -> None:
        while True:
            handled = self._fill(pool, signals)
            if not pool.running():
                if not handled:
                    return
                self._judge()
                continue
            with signals.interruptible():
                ended = pool.wait(timeout=_POLL_SECONDS)
            for outcome in ended:
                self._settle(outcome)
            if ended:
                self._judge()

    def _fill(self, pool: LocalPool, signals: _Signals) -> bool:
        """Give every free worker a trial, proposing more when there are too few.

        Returns:
            Whether a trial was waiting. It need not run now: one whose result came late is taken
            in, and one answered by hand meanwhile is passed over.
        """
        if self._verdicts or self._time_is_up():
            return False
        free = self._workers - len(pool.running())
        waiting, at_lab = self._waiting()
        # What a laboratory was asked for and has not answered holds back no more than a batch.
        room = len(waiting) < free and len(at_lab) < self._batch
        if room and self._propose(self._batch, signals.interruptible):
            waiting, _ = self._waiting()
        if waiting and not self._checked:
            self._check_evaluator(pool, signals)
        for trial in waiting[:free]:
            with signals.interruptible():
                # What a child of a former runner wrote in the instant between that runner's death
                # and its own.
                late = pool.finished(self._keys(trial))
            if late:
                self._settle(late[0])
            else:
                self._start(trial, pool)
        return bool(waiting[:free])

    def _waiting(self) -> tuple[list[Trial], list[Trial]]:
        """The candidates that are evaluated here, and those that a person answers."""
        here: list[Trial] = []
        at_lab: list[Trial] = []
        for trial in self._trials("candidate"):
            lab = isinstance(evaluator_at(self._spec.evaluate, trial.fidelity), Lab)
            (at_lab if lab else here).append(trial)
        return here, at_lab

    def _propose(self, most: int, computing: Callable[[], Any] | None = None) -> int:
        """Propose what budget and caller leave of so many trials; how many there are now."""
        left = self._campaign._left(self._given)
        assert left.trials is not None
        n = min(most, left.trials) if fidelities.pays(self._spec, left) else 0
        if self._left_to_propose is not None:
            n = min(n, self._left_to_propose)
        if n < 1 or self._exhausted:
            return 0
        self._campaign._narrate("proposing", n=n)
        try:
            new = self._campaign._propose(n, left, computing)
        except NoDesign as error:
            self._exhausted = error.why or error.what
            return 0
        if self._left_to_propose is not None:
            self._left_to_propose -= len(new)
        return len(new)

    def _start(self, trial: Trial, pool: LocalPool) -> None:
        with self._campaign._change() as session:
            row = session.get_one(Trial, trial.id)
            if row.status != "candidate":  # answered or abandoned by hand meanwhile
                return
            row.move("running")
            record(
                session, self._campaign._row.id, "trial_started",
                trial=row.index, attempt=row.attempt, name=row.provenance.get("name"),
            )  # fmt: skip
        job = {
            "design": completed(self._spec, row.design),
            "metrics": list(self._campaign.goals.metrics),
            "seed": derived_seed(self._spec.seed, row.index, 1),
        }
        if row.fidelity is not None:
            job["fidelity"] = row.fidelity
        pool.submit(self._key(row.index, row.attempt), job)

    def _settle(self, outcome: Outcome) -> int:
        """Write what became of an evaluation in one transaction, then delete its result file.

        Returns:
            The trial's index.
        """
        index, attempt = (int(part) for part in outcome.key.split("-")[1:])
        if outcome.kind == "lost":
            return index  # it stays `running`, and is a candidate again when this run ends
        measured, failure = self._read(outcome)
        if outcome.kind == "crashed" and shutil.disk_usage(self._dir).free < _ROOM:
            # The design is not at fault; the trial stays as it is, and is evaluated again when
            # there is room.
            raise self._no_folder(OSError(errno.ENOSPC, "the disk is full"))
        with self._campaign._change() as session:
            trial = session.scalars(
                select(Trial).where(
                    Trial.campaign_id == self._campaign._row.id, Trial.index == index
                )
            ).one()
            told: dict[str, Any] = {"trial": index, "attempt": attempt}
            if outcome.evaluation is not None:
                told["measurements"] = {
                    metric: {"mean": mean, "sem": sem, "unit": unit}
                    for metric, (mean, sem, unit) in measured.items()
                }
                told["seconds"] = outcome.evaluation.seconds
                told["evaluator"] = records.plain(outcome.evaluation.provenance)
            if failure is not None:
                told |= {"how": outcome.kind, "reason": failure}
            if trial.status not in ("candidate", "running"):
                # answered or abandoned by hand while it ran: the person's word stands, the event
                # keeps the result
                record(session, trial.campaign_id, "result_not_used", status=trial.status, **told)
            elif failure is not None:
                trial.move(
                    "infeasible" if outcome.kind == "infeasible" else "failed", failure=failure
                )
                record(session, trial.campaign_id, "trial_failed", **told)
            else:
                for metric, (mean, sem, unit) in measured.items():
                    source = self._source_at(trial.fidelity)
                    ingestion.observe(session, trial, metric, mean, sem, unit, source)
                if outcome.evaluation is not None:
                    for name, text in outcome.evaluation.artifacts.items():
                        ingestion.keep_artifact(session, trial, name, text)
                trial.move("completed")
                record(session, trial.campaign_id, "trial_completed", **told)
        for key in self._keys(trial):
            (self._dir / f"{key}.json").unlink(missing_ok=True)
        if failure is None:
            self._failures.clear()
        else:
            self._failures.append(failure)
        return index

    def _read(
        self, outcome: Outcome
    ) -> tuple[dict[str, tuple[float, float | None, str]], str | None]:
        """What was measured, in the spec's units, or why the trial failed."""
        if outcome.evaluation is None:
            return {}, outcome.failure or outcome.kind
        from loop.evaluators.base import LARGEST

        wanted = self._spec.metric_units()
        measured: dict[str, tuple[float, float | None, str]] = {}
        for metric, m in outcome.evaluation.measurements.items():
            unit = wanted.get(metric, m.unit)
            try:
                mean = units.convert(m.mean, m.unit, unit)
                sem = None if m.sem is None else units.convert_spread(m.sem, m.unit, unit)
            except units.UnitError as error:
                return {}, f"{metric}: {error.what}"
            if not abs(mean) <= LARGEST or not math.isfinite(sem or 0.0):
                return {}, f"{metric}: {mean} {unit} with standard error {sem} is no measurement"
            measured[metric] = (mean, sem, unit)
        missing = [metric for metric in wanted if metric not in measured]
        return measured, f"the evaluator gave no {', '.join(missing)}" if missing else None

    def _judge(self) -> None:
        """Ask the stop rules, and stop where evaluation after evaluation fails."""
        limit = FAILED_BATCHES * self._batch
        if len(self._failures) >= limit:
            reason, times = Counter(self._failures).most_common(1)[0]
            raise MatloopError(
                f"the last {len(self._failures)} evaluations all failed",
                where=self._campaign.name,
                why=f"{times} of them: {reason}",
                unchanged="the trials before; these are failed trials now",
                hint="find the cause and repair it, then run the same command again: it goes on",
            )
        self._verdicts = stopping.standing(self._campaign, self._given)

    def _answer(self) -> None:
        """Take the answer of a person who goes on in spite of a verdict."""
        if not self._go_on:
            return
        self._go_on = False
        with self._campaign._change() as session:
            overruled = stopping.go_on(session, self._campaign._row.id)
        if not overruled:
            self._campaign._narrate("nothing_to_overrule")

    # How it ends

    def _reason(self) -> tuple[str, str]:
        if self._verdicts:
            reason = "paused" if self._asks() else self._verdicts[0].rule
            return reason, stopping.sentence(self._verdicts)
        if self._exhausted:
            return "exhausted", f"no new design is left: {self._exhausted}"
        if self._time_is_up():
            return "time", f"the time of one run is over ({self._spec.budget.time})"
        if at_lab := len(self._waiting()[1]):
            return "lab", self._lab_waits(at_lab)
        left = self._campaign._left(self._given)
        assert left.trials is not None
        if left.trials < 1 or not fidelities.pays(self._spec, left):
            return "budget", stopping.spent(self._spec, left, self._campaign.granted(self._given))
        return "max_new", "as many new trials were made as this call was to make"

    def _asks(self) -> bool:
        """Whether to ask if the campaign is to go on, and it could."""
        could = self._campaign._counted() < self._budget or bool(self._trials("candidate"))
        could |= any(verdict.rule == stopping.BUDGET for verdict in self._verdicts)
        return could and stopping.asks(self._spec, self._verdicts)

    def _ended(self, reason: str, message: str) -> tuple[str, str]:
        verdicts = stopping.tell(self._verdicts) if self._verdicts else {}
        with self._campaign._change() as session:
            if reason == "paused":
                stopping.ask(session, self._campaign, self._verdicts)
            record(
                session, self._campaign._row.id, "run_ended",
                reason=reason, message=message, **verdicts,
            )  # fmt: skip
        return reason, message

    def _interrupted(self, pool: LocalPool, by: str) -> Interrupted:
        """Leave a consistent store: keep what finished, make candidates again of what did not."""
        again = self._put_down(pool)
        with self._campaign._change() as session:
            record(session, self._campaign._row.id, "run_interrupted", by=by, again=again)
        return Interrupted(
            "interrupted",
            where=self._campaign.name,
            why=by,
            unchanged="every finished evaluation"
            + (f"; the {len(again)} that ran will be made again" if again else ""),
            hint="run the same command again to go on",
        )

    def _hand_to_lab(self) -> tuple[str, str]:
        """Propose what the laboratory is to make, and say how to answer."""
        self._judge()
        if self._verdicts:
            return self._reason()
        waiting = len(self._trials("candidate"))
        waiting += self._propose(self._batch - waiting)
        if not waiting:
            return self._reason()
        return "lab", self._lab_waits(waiting)

    def _lab_waits(self, waiting: int) -> str:
        """What to do about trials that wait for a person."""
        one = waiting == 1
        return (
            f"{waiting} {'trial waits' if one else 'trials wait'} for results: make and measure "
            f"{'it' if one else 'them'}, then `matloop ingest {self._campaign.name} RESULTS.csv` "
            "and run again"
        )

    # Small things

    def _no_folder(self, error: OSError) -> MatloopError:
        return MatloopError(
            "results of evaluations cannot be written",
            where=str(self._dir),
            why=error.strerror or str(error),
            unchanged="every finished evaluation is kept",
            hint="make room or allow writing there, then run the same command again: it goes on",
        )

    def _time_is_up_at(self) -> float:
        limit = self._spec.budget.time
        return math.inf if limit is None else time.monotonic() + seconds(limit)

    def _time_is_up(self) -> bool:
        return time.monotonic() > self._deadline

    @property
    def _source(self) -> str:
        """Who answered, in a word or two: ``potential chgnet``."""
        return _named(self._spec.evaluator_config())

    def _source_at(self, fidelity: str | None) -> str:
        """Who answers at a fidelity."""
        config = self._spec.evaluator_config()
        return _named(config.get("each", {}).get(fidelity, config))

    def _fidelities_here(self) -> list[str]:
        """The fidelities at which no person answers."""
        found = ((name, evaluator_at(self._spec.evaluate, name)) for name in self._spec.fidelities)
        return [name for name, one in found if not isinstance(one, Lab)]

    def _trials(self, status: str) -> list[Trial]:
        with self._campaign.store.read() as session:
            return list(
                session.scalars(
                    select(Trial)
                    .where(Trial.campaign_id == self._campaign._row.id, Trial.status == status)
                    .order_by(Trial.index)
                )
            )

    def _take_in_finished(self, pool: LocalPool) -> list[int]:
        """Settle the trials whose children finished without anybody hearing of it."""
        return [
            self._settle(found[0])
            for trial in self._trials("running")
            if (found := pool.finished(self._keys(trial)))
        ]

    def _sweep(self) -> None:
        """Delete what killed processes left: results the store has, and halves of others."""
        for half in self._dir.glob(f".{self._campaign._row.token}-*.tmp"):
            half.unlink(missing_ok=True)
        open_trials = {t.index for s in ("candidate", "running") for t in self._trials(s)}
        for file in self._dir.glob(f"{self._campaign._row.token}-*-*.json"):
            if int(file.stem.split("-")[1]) not in open_trials:
                file.unlink(missing_ok=True)

    def _put_down(self, pool: LocalPool) -> list[int]:
        """Kill what runs, keep what finished, make candidates again of the rest; their indices."""
        pool.close()
        self._take_in_finished(pool)
        return self._reset()

    def _reset(self) -> list[int]:
        """Make candidates again of the trials that run; no child of theirs is alive.

        Those that are leased are some worker's: they end with their lease.
        """
        with self._campaign._change() as session:
            again = session.scalars(
                select(Trial)
                .where(
                    Trial.campaign_id == self._campaign._row.id,
                    Trial.status == "running",
                    Trial.lease_expires.is_(None),
                )
                .order_by(Trial.index)
            ).all()
            for trial in again:
                trial.move("candidate")
                record(
                    session, trial.campaign_id, "trial_reset",
                    trial=trial.index, attempt=trial.attempt,
                )  # fmt: skip
            return [trial.index for trial in again]

    def _key(self, index: int, attempt: int) -> str:
        return f"{self._campaign._row.token}-{index}-{attempt}"

    def _keys(self, trial: Trial) -> list[str]:
        return [self._key(trial.index, attempt) for attempt in range(1, trial.attempt + 1)]


def _named(config: Mapping[str, Any]) -> str:
    """An evaluator in a word or two."""
    keys = ("with", "model", "code", "function")
    if "each" in config:
        return " and ".join(_named(one) for one in config["each"].values())
    return " ".join(str(config[k]) for k in keys if k in config)


def _no_evaluator(error: EvaluatorError) -> UsageError:
    return UsageError(error.what, where="evaluate", unchanged="the campaign", hint=error.hint)
