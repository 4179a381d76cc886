"""Seconds a proposal on one thread, and what is found: matloop and Ax's default client in turn.

    python benchmarks/speed.py                 # both parts, everything: some hours on one core
    python benchmarks/speed.py --part time --repeats 5
    python benchmarks/speed.py --part regret --seeds 5 --only hartmann6-16
    python benchmarks/speed.py --quick

*time*: q = 4 designs from 200 outcomes. `fresh` knows the outcomes only, `again` has four more and
what it kept of the proposal before (our warm start; Ax's client as it is). Processor seconds of
one thread; telling Ax of the 200 outcomes is not counted, making our features is.
*regret*: from 40 outcomes ten batches of four, the same first designs for both.
Losses are simple regret, or the share of the hypervolume that is lacking. Each case is kept when it
is done; --only makes some of them, and --again makes an arm's anew.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from functions import AxClient, Function, history

from loop.proposal import propose

RESULTS = Path(__file__).parent / "results" / "speed.json"
Q = 4
TIMED = {
    f"{name}-{d}{'-limited' * limited}": Function(name, d, limited)
    for limited in (False, True)
    for name in ("hartmann6", "dtlz2")
    for d in (16, 32)
}
SOUGHT = {
    f"{name}-{d}{'-limited' * limited}": Function(name, d, limited)
    for name, d, limited in (
        ("hartmann6", 16, False),
        ("hartmann6", 32, False),
        ("ackley", 16, False),
        ("levy", 16, False),
        ("dtlz2", 16, False),
        ("zdt1", 16, False),
        ("hartmann6", 16, True),
    )
}


class Matloop:
    """Our proposals; the same interface as `AxClient`."""

    def __init__(self, function: Function, X: np.ndarray, Y: np.ndarray, seed: int) -> None:
        self._problem, self._X, self._Y, self._seed = function.problem, X, Y, seed
        self._warm: dict[str, Any] | None = None
        self.models: list[str] = []

    def propose(self, q: int) -> np.ndarray:
        """The next q designs: q x d."""
        told = history(self._problem, self._X, self._Y)
        answer = propose(self._problem, told, q, self._seed, self._warm)
        self._warm = answer.warm_start
        self.models = [r["model"] for r in (answer.surrogate_report or {}).values()]
        self._asked = self._problem.space.encode([c.design for c in answer.candidates])
        return self._asked

    def tell(self, Y: np.ndarray) -> None:
        """Outcomes of the last proposal: q x m."""
        self._X, self._Y = np.vstack([self._X, self._asked]), np.vstack([self._Y, Y])


ARMS: dict[str, Callable[..., Matloop | AxClient]] = {"matloop": Matloop, "ax": AxClient}


def timed(
    function: Function, n: int, repeats: int, arms: tuple[str, ...], kept: dict[str, Any]
) -> dict[str, Any]:
    """Seconds and losses, one repetition after the other, the arms by turns."""
    rows = kept.setdefault("rows", {})
    whats = ("fresh",) if function.limited else ("fresh", "again")
    for seed in range(repeats):
        if all(str(seed) in rows.get(arm, {}) for arm in arms):
            continue
        X = function.draw(n, 1000 + seed)
        Y = function(X)
        for arm in arms:
            made = ARMS[arm](function, X, Y, seed)
            row: dict[str, Any] = {}
            for what in whats:
                wall, cpu = time.perf_counter(), time.process_time()
                found = made.propose(Q)
                row[f"{what}_cpu"] = time.process_time() - cpu
                row[f"{what}_wall"] = time.perf_counter() - wall
                row[f"{what}_loss"] = function.loss(function(found))
                made.tell(function(found))
            row["best_told"] = function.loss(Y)
            if isinstance(made, Matloop):
                row["models"] = made.models
            rows.setdefault(arm, {})[str(seed)] = row
            print(f"  {seed} {arm}: {json.dumps(row, default=float)}", flush=True)
    kept["median"] = {
        key: {arm: float(np.median([r[key] for r in rows[arm].values()])) for arm in rows}
        for what in whats
        for key in (f"{what}_cpu", f"{what}_wall", f"{what}_loss")
    }
    kept["times_faster"] = {
        what: told["ax"] / told["matloop"]
        for what in whats
        if {"ax", "matloop"} <= set(told := kept["median"][f"{what}_cpu"])
    }
    return kept


def sought(
    function: Function, seeds: int, batches: int, arms: tuple[str, ...], kept: dict[str, Any]
) -> dict[str, Any]:
    """Losses after each batch."""
    for seed in range(seeds):
        X = function.draw(40, 2000 + seed)
        Y = function(X)
        for arm in arms:
            of = kept.setdefault(arm, {})
            if str(seed) in of:
                continue
            made, all_Y = ARMS[arm](function, X, Y, seed), Y
            trace, cpu = [function.loss(Y)], time.process_time()
            for _ in range(batches):
                found = function(made.propose(Q))
                made.tell(found)
                all_Y = np.vstack([all_Y, found])
                trace.append(function.loss(all_Y))
            of[str(seed)] = {"trace": trace, "cpu": time.process_time() - cpu}
            print(f"  {seed} {arm}: {trace[-1]:.4g}, {of[str(seed)]['cpu']:.0f} s", flush=True)
    return kept


def _keep(file: Path, part: str, name: str, told: dict[str, Any]) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    known.setdefault(part, {})[name] = told
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(known, indent=1, default=float) + "\n")
    temporary.replace(file)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("time", "regret", "both"), default="both")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases, by commas")
    parser.add_argument("--arms", default="matloop,ax")
    parser.add_argument("--again", default="", help="arms whose kept results are made anew")
    parser.add_argument("--quick", action="store_true", help="one small case of each, not kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arms = tuple(arguments.arms.split(","))
    only = arguments.only.split(",") if arguments.only else []
    if arguments.quick:
        small = Function("hartmann6", 6)
        timed(small, 20, 1, arms, {})
        sought(small, 1, 1, arms, {})
        return
    for arm in arms:  # what is loaded at first use is not counted
        _warm(arm)
    arguments.out.parent.mkdir(exist_ok=True)
    again = arguments.again.split(",") if arguments.again else []
    for part, cases in (("time", TIMED), ("regret", SOUGHT)):
        for name, function in cases.items():
            if arguments.part not in (part, "both") or (only and name not in only):
                continue
            print(name)
            known = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
            kept = known.get(part, {}).get(name, {})
            for arm in again:
                (kept.get("rows", {}) if part == "time" else kept).pop(arm, None)
            if part == "time":
                told = timed(function, 200, arguments.repeats, arms, kept)
            else:
                told = sought(function, arguments.seeds, 10, arms, kept)
            _keep(arguments.out, part, name, told)


def _warm(arm: str) -> None:
    for function in (Function("hartmann6", 6), Function("dtlz2", 4)):
        X = function.draw(12, 0)
        ARMS[arm](function, X, function(X), 0).propose(2)


if __name__ == "__main__":
    main()
