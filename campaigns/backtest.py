"""Backtests in parallel: each seed of each method is a task, and each task that ended is a file.

So an interrupted backtest goes on where it was: a task whose file is there is not done again. A
file is named by a hash of all that its result hangs on: spec, table, options, the method and its
version.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns import __version__
from campaigns.backtest_processes import in_processes
from campaigns.backtest_table import TableRead, read_table
from campaigns.errors import UsageError, did_you_mean
from campaigns.strict import plain
from campaigns.write_file import make_folder, write_whole

if TYPE_CHECKING:
    import loop.problem
    from campaigns.spec import Spec

TASKS = "tasks"
"""Folder, in that of a backtest, of the files of its tasks."""

_FORMAT = 2
"""Version of the task files; another one is done again."""


@dataclass(frozen=True)
class Options:
    """How a campaign is replayed.

    Attributes:
        seeds: replays of each method.
        initial: first points, drawn at random, the same for every method of a seed.
        batch: designs a proposal.
        budget: evaluations in all, the first points included.
        noise: `mean`: an evaluation answers the mean of a design's repeats; `repeats`: one of them.
        top: share of the table that is its best.
        skip: leave out rows of the table that cannot be used.
    """

    seeds: int
    initial: int
    batch: int
    budget: int
    noise: str = "mean"
    top: float = 0.05
    skip: bool = False


@dataclass(frozen=True)
class Task:
    """One replay: a method and a seed."""

    method: str
    seed: int
    spec: str
    table: str
    options: Options
    file: str


@dataclass(frozen=True)
class Done:
    """The file of a task that ended.

    Attributes:
        task: which.
        trace: `loop.backtest.Trace.to_json()`, None where the method raised.
        error: what it raised, in one line.
        seconds: how long it took.
    """

    task: Task
    trace: dict[str, Any] | None
    error: str | None
    seconds: float


class Backtest:
    """A campaign, its finished table, and the methods that replay it.

    Args:
        spec: the campaign.
        table: the table's file.
        methods: names of `loop.backtest.METHODS`; `matloop` comes first whether named or not.
        options: how.
        folder: where tasks and results are kept.

    Raises:
        UsageError: no such method, or counts that do not fit.
        InputErrors: what is wrong with the table.
    """

    def __init__(
        self, spec: Spec, table: Path, methods: Sequence[str], options: Options, folder: Path
    ) -> None:
        from loop.backtest import METHODS

        for name in methods:
            _check_method(name, METHODS)
        self.spec, self.options, self.folder = spec, options, folder
        self.methods = tuple(dict.fromkeys(["matloop", *methods]))
        self.problem = _sought(spec)
        self.read: TableRead = read_table(table, spec, self.problem, skip=options.skip)
        # No longer than the table is, so that a larger budget does not do it all again.
        self.options = replace(options, budget=min(options.budget, len(self.read.table)))
        if self.options.initial >= self.options.budget:
            raise UsageError(
                f"{self.options.initial} first points leave nothing of a budget of"
                f" {self.options.budget} evaluations",
                hint="fewer with --initial, or more with --budget",
            )
        if options.noise == "repeats" and all(len(r) == 1 for r in self.read.table.repeats):
            raise UsageError(
                "--noise repeats: no design of the table was measured more than once",
                hint="leave it out",
            )
        outcomes = self.read.table.outcomes[:, : len(self.problem.objectives)]
        if (outcomes == outcomes[0]).all():
            names = " and ".join(o.metric for o in self.problem.objectives)
            raise UsageError(
                f"all {len(outcomes)} designs of the table tie: there is no best to find",
                where=f"{table}, {names}",
                why="the objective is the same in every row",
                unchanged="nothing was run",
                hint="choose an objective that differs between the designs",
            )
        self._table = table

    def notes(self) -> list[str]:
        """What a person should know of the table, and of what is not replayed."""
        lost = {
            "fidelities": self.spec.loop_fidelities is not None,
            "learn_from": bool(self.spec.learn_from),
        }
        told = ", ".join(key for key, there in lost.items() if there)
        lines = self.read.notes()
        if told:
            lines.append(f"not replayed: {told}; each row counts as what is sought, at a cost of 1")
        return lines

    def tasks(self) -> list[Task]:
        """All of them, by seed and then by method, so that early results compare."""
        from loop.backtest.methods import method_version

        text = self.spec.model_dump_json()
        # Only what a replay hangs on, so that the seed or the budget of the spec may change.
        parts_used = {"space", "objectives", "constraints", "screen"}
        used = self.spec.model_dump_json(include=parts_used, exclude_defaults=True)
        # The budget is in the name since a trace cannot be cut: the last batch would differ.
        told = asdict(self.options) | {"seeds": None, "top": None}
        digest = hashlib.sha256(self._table.read_bytes()).hexdigest()
        found = []
        for seed in range(self.options.seeds):
            for method in self.methods:
                parts = [_FORMAT, used, digest, told, method, method_version(method)]
                if method == "matloop":
                    parts.append(__version__)
                key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
                file = self.folder / TASKS / f"{method}-{seed:04}-{key}.json"
                found.append(Task(method, seed, text, str(self._table), self.options, str(file)))
        return found

    def run(
        self, workers: int, listen: Callable[[Done, int, int], None], again: Sequence[str] = ()
    ) -> list[Done]:
        """Do what is not done.

        Args:
            workers: processes.
            listen: told of each task that ends here, with how many have ended, and of how many.
            again: methods to do again though they are done; failed tasks always are.

        Returns:
            Every task that ended, here or before, in the order of `tasks`.

        Raises:
            MatloopError: a process died, or a file cannot be written. What ended is kept.
        """
        make_folder(self.folder)
        make_folder(self.folder / TASKS)
        tasks = self.tasks()
        done = {t: d for t in tasks if t.method not in again and (d := read_done(t)) and d.trace}
        waiting = [t for t in tasks if t not in done]
        for ended in in_processes(run_task, waiting, workers):
            done[ended.task] = ended
            listen(ended, len(done), len(tasks))
        return [done[t] for t in tasks if t in done]


def _check_method(name: str, known: Mapping[str, str]) -> None:
    if name not in known:
        hint = did_you_mean(name, known) or ", ".join(known)
        raise UsageError(f"no method {name!r}", unchanged="nothing was run", hint=hint)
    module = {"ax": "ax", "baybe": "baybe", "forest": "sklearn"}.get(name)
    if module is not None and find_spec(module) is None:
        raise UsageError(
            f"{name} is not installed",
            unchanged="nothing was run",
            hint="pip install 'matloop[benchmarks]', or leave it out of --against",
        )


def read_done(task: Task) -> Done | None:
    """What a task left, None where it has not ended (or left nothing that can be read)."""
    try:
        data = json.loads(Path(task.file).read_text(encoding="utf-8"))
        return Done(task, data["trace"], data["error"], data["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        # Half a file cannot be: each is written whole. Whatever this is, it is done again.
        return None


def run_task(task: Task) -> Done:
    """Do one task and write its file; what a method raises is its result.

    Raises:
        MatloopError: the file cannot be written.
    """
    began = time.perf_counter()
    trace, error, told = None, None, None
    try:
        trace = _replay(task)
    except Exception as raised:
        error = " ".join(f"{type(raised).__name__}: {raised}".split())[:500]
        told = traceback.format_exc()
    seconds = time.perf_counter() - began
    content = {
        "method": task.method,
        "seed": task.seed,
        "options": asdict(task.options),
        "matloop": __version__,
        "seconds": seconds,
        "trace": trace,
        "error": error,
        "traceback": told,
    }
    write_whole(task.file, json.dumps(plain(content), allow_nan=False))
    return Done(task, trace, error, seconds)


def _sought(spec: Spec) -> loop.problem.Problem:
    """The problem that a table answers: what a campaign seeks, without its cheaper fidelities."""
    return replace(spec.problem(), fidelities=None)


def _replay(task: Task) -> dict[str, Any]:
    from campaigns.spec import Spec
    from loop.backtest import make_method, replay

    spec = Spec.model_validate_json(task.spec)
    problem, options = _sought(spec), task.options
    table = read_table(task.table, spec, problem, skip=options.skip).table
    trace = replay(
        problem,
        table,
        make_method(task.method, problem, table, spec.acquisition),
        seed=task.seed,
        batch=options.batch,
        budget=options.budget,
        initial=options.initial,
        noise="repeats" if options.noise == "repeats" else "mean",
    )
    data: dict[str, Any] = plain(trace.to_json())
    return data
