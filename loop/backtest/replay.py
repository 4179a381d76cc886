"""One replay: a method chooses from a finished table as if nothing of it were known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from loop.backtest.table import LookupTable
from loop.problem import Problem
from loop.proposal import History
from loop.space import Design

Noise = Literal["mean", "repeats"]
"""What an evaluation answers: the mean over a design's repeats, or one of them."""


@dataclass(frozen=True)
class Prediction:
    """What was thought of one metric of one design before its result.

    Attributes:
        mean: in the metric's unit.
        sd: standard deviation of the mean, noise not included.
        predictive_sd: noise included; None where the method does not say.
    """

    mean: float
    sd: float
    predictive_sd: float | None = None


@dataclass(frozen=True)
class Choice:
    """What a method chose.

    Attributes:
        rows: positions in the designs that it was offered, each once.
        predict: what was thought of each of them, as metric to `Prediction`; None where a method
            has no predictions. Asked for when the clock has stopped.
        notes: sentences for a person.
    """

    rows: Sequence[int]
    predict: Callable[[], Sequence[dict[str, Prediction]]] | None = None
    notes: Sequence[str] = ()


class Method(Protocol):
    """A way to choose; made anew for every replay, so it may keep a state."""

    def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
        """Choose n of the designs that are left.

        Args:
            history: what was measured so far, in its order.
            left: what can be chosen.
            n: how many, at most `len(left)`.
            seed: of the replay; the same at every step.
        """


@dataclass(frozen=True)
class Step:
    """One proposal of a replay.

    Attributes:
        before: evaluations there were before it.
        rows: rows of the table that were chosen.
        wall: seconds that passed.
        cpu: processor seconds of this process, all its threads.
        predictions: for each row, metric to `Prediction`; empty where the method has none.
        outcomes: what was answered, a row for each of them, in the order of `problem.metrics`.
        sem: standard errors of that; None = unknown.
        notes: what the method said.
    """

    before: int
    rows: list[int]
    wall: float
    cpu: float
    predictions: list[dict[str, Prediction]]
    outcomes: list[list[float]]
    sem: list[list[float | None]]
    notes: list[str]


@dataclass(frozen=True)
class Trace:
    """A whole replay.

    Attributes:
        seed: of the first points, the answers and the method.
        initial: how many first points there were.
        picked: rows of the table in the order of their evaluation, the first points included.
        steps: the proposals after the first points.
    """

    seed: int
    initial: int
    picked: list[int]
    steps: list[Step] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Trace:
        """What `to_json` wrote."""
        steps = [
            Step(
                **step
                | {
                    "predictions": [
                        {metric: Prediction(**p) for metric, p in told.items()}
                        for told in step["predictions"]
                    ]
                }
            )
            for step in data["steps"]
        ]
        return cls(data["seed"], data["initial"], data["picked"], steps)


def first_points(table: LookupTable, initial: int, seed: int) -> list[int]:
    """Rows that every method of a seed begins with, drawn at random."""
    order = np.random.default_rng([seed, 0]).permutation(len(table))
    return [int(row) for row in order[:initial]]


def replay(
    problem: Problem,
    table: LookupTable,
    method: Method,
    *,
    seed: int,
    batch: int,
    budget: int,
    initial: int = 5,
    noise: Noise = "mean",
) -> Trace:
    """Let a method choose until the budget is spent or the table is.

    Args:
        problem: what to want.
        table: what can be chosen, and the answers.
        method: fresh.
        seed: of the first points (the same for every method), of the answers and of the method.
        batch: designs a proposal.
        budget: evaluations in all, the first points included.
        initial: first points.
        noise: what an evaluation answers.

    Raises:
        ValueError: a count below one, or a method that chooses what it cannot.
        RuntimeError: a method that chooses nothing while designs are left.
    """
    if min(batch, budget, initial) < 1:
        raise ValueError(f"batch {batch}, budget {budget}, initial {initial}: each is one or more")
    outcomes, sem = table.answers(seed if noise == "repeats" else None)
    budget = min(budget, len(table))
    picked = first_points(table, min(initial, budget), seed)
    left = np.ones(len(table), dtype=bool)
    left[picked] = False
    trace = Trace(seed, len(picked), picked)
    while len(picked) < budget:
        rows = np.flatnonzero(left)
        n = min(batch, budget - len(picked))
        history = History(
            [table.designs[i] for i in picked],
            outcomes[picked],
            sem[picked],
            np.zeros(len(picked), dtype=bool),
        )
        wall, cpu = time.perf_counter(), time.process_time()
        choice = method.choose(history, [table.designs[i] for i in rows], n, seed)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        chosen = _checked(choice, len(rows), n)
        before, taken = len(picked), [int(rows[i]) for i in chosen]
        predictions = list(choice.predict()) if choice.predict else [{} for _ in taken]
        if len(predictions) != len(taken):
            raise ValueError(f"{len(predictions)} predictions of {len(taken)} designs")
        answered = outcomes[taken].tolist()
        errors = [[e if np.isfinite(e) else None for e in row] for row in sem[taken].tolist()]
        trace.steps.append(
            Step(before, taken, wall, cpu, predictions, answered, errors, list(choice.notes))
        )
        picked += taken
        left[taken] = False
    return trace


def _checked(choice: Choice, offered: int, n: int) -> list[int]:
    rows = [int(row) for row in choice.rows]
    if not rows:
        why = "; ".join(choice.notes)
        raise RuntimeError(f"chose none of {offered} designs that were left ({why or 'no reason'})")
    if len(set(rows)) < len(rows) or len(rows) > n or not all(0 <= r < offered for r in rows):
        raise ValueError(f"chose {rows} where {n} different ones of {offered} were wanted")
    return rows
