"""A million candidates of 32 numbers each, of which four are proposed after 200 outcomes.

    python benchmarks/pools.py                  # writes a table of 128 MB beside the results
    python benchmarks/pools.py --quick          # of 20,000

Seconds a candidate of the whole proposal (fit, score of every candidate, choice) and of the scoring
alone, against BoTorch's `optimize_acqf_discrete` with LogEI on 10,000 candidates: on our surrogate
and on its own SingleTaskGP, both fitted beforehand. Then the largest memory of a fresh process, and
whether of 20,000 candidates the one is chosen that is best by the exact score of all at once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from functions import Function

import loop.proposal
from loop.acquisition import Acquisition
from loop.axes.pool_table import open_pool
from loop.problem import Objective, Problem
from loop.proposal import History, ProposalSettings, propose
from loop.space import DesignSpace, PoolAxis

RESULTS = Path(__file__).parent / "results" / "pools.json"
D, TOLD = 32, 200
STRATEGIES = ("portfolio", "improvement", "joint")
FUNCTION = Function("ackley", D)


def write_pool(path: Path, n: int) -> None:
    """N uniform rows, a piece at a time."""
    rng = np.random.default_rng(0)
    data = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, D))
    for at in range(0, n, 100_000):
        data[at : at + 100_000] = rng.random((min(100_000, n - at), D))
    data.flush()


def campaign(path: Path) -> tuple[Problem, History]:
    """The pool, and the outcomes of 200 of its rows."""
    pool = PoolAxis("pool", open_pool(path))
    problem = Problem(DesignSpace((pool,)), (Objective("y", "minimize", "dimensionless"),))
    rows = np.random.default_rng(1).choice(pool.size, TOLD, replace=False)
    designs = [d for d in problem.space.decode(rows[:, None].astype(float)) if d is not None]
    Y = FUNCTION(np.asarray(pool.table.data[rows], dtype=np.float64))
    return problem, History(designs, Y, np.full(Y.shape, np.nan), np.zeros(TOLD, dtype=bool))


def _memory() -> float:
    """The most memory that this process ever had, GiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)


def alone(path: Path, strategy: Any) -> dict[str, Any]:
    """One proposal in this process."""
    problem, told = campaign(path)
    before, scored = _memory(), [0.0, 0.0]
    whole = loop.proposal.best_of_all

    def timed(*arguments: Any) -> None:
        begin = time.process_time()
        whole(*arguments)
        scored[0] += time.process_time() - begin

    loop.proposal.best_of_all = timed
    wall, cpu = time.perf_counter(), time.process_time()
    answer = propose(problem, told, 4, 0, settings=ProposalSettings(strategy=strategy))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    n = problem.space.size or 0
    return {
        "candidates": n, "cpu": cpu, "wall": wall, "scoring_cpu": scored[0],
        "cpu_per_candidate": cpu / n, "scoring_per_candidate": scored[0] / n,
        "memory_gib": _memory(), "memory_before_gib": before,
        "rows": [c.design["pool"]["row"] for c in answer.candidates],
        "model": (answer.surrogate_report or {})["y"]["model"],
    }  # fmt: skip


def captured(problem: Problem, told: History, strategy: Any) -> tuple[int, Acquisition]:
    """The first row that is proposed, and the acquisition function as it was then."""
    made: list[Acquisition] = []

    class Recorder(Acquisition):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    loop.proposal.Acquisition = Recorder  # type: ignore[misc]
    answer = propose(problem, told, 1, 0, settings=ProposalSettings(strategy=strategy))
    loop.proposal.Acquisition = Acquisition  # type: ignore[misc]
    made[0].forget()
    return int(answer.candidates[0].design["pool"]["row"]), made[0]


def exact(path: Path, strategy: Any) -> dict[str, Any]:
    """Whether the best by the score of all candidates at once is the one that is proposed."""
    problem, told = campaign(path)
    row, acquisition = captured(problem, told, strategy)
    known = problem.space.features(told.designs)
    codes = np.arange(problem.space.size or 0)[:, None].astype(float)
    X = problem.space.features_at(codes)
    if strategy == "joint":
        from loop.joint import JointScore

        samples = ProposalSettings().joint_samples
        values = JointScore(acquisition, known, known[:0], samples, 0)(X)
    else:
        surrogate = acquisition.surrogate
        with torch.no_grad():
            answers = [m.marginal(surrogate.unit(X)) for m in surrogate.models]
            mean, variance = (torch.stack([a[k] for a in answers], -1) for k in (0, 1))
            values = acquisition.score(mean, variance, TOLD).cpu().numpy()
    tried = {d["pool"]["row"] for d in told.designs}
    values[list(tried)] = -np.inf
    return {
        "candidates": len(codes), "proposed": row, "best": int(values.argmax()),
        "rank": 1 + int((values > values[row]).sum()),
        "model": acquisition.surrogate.models[0].recipe.name,
    }  # fmt: skip


def botorch(path: Path, n: int) -> dict[str, Any]:
    """Seconds a candidate of optimize_acqf_discrete."""
    from botorch.acquisition import LogExpectedImprovement
    from botorch.acquisition.objective import ScalarizedPosteriorTransform
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.optim import optimize_acqf_discrete
    from gpytorch.mlls import ExactMarginalLogLikelihood

    problem, told = campaign(path)
    _, acquisition = captured(problem, told, "improvement")
    X = torch.as_tensor(problem.space.features(told.designs))
    y = torch.as_tensor(-told.outcomes)
    single = SingleTaskGP(X, y)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(single.likelihood, single))
    pool = problem.space.features_at(np.arange(n)[:, None].astype(float))
    choices = torch.as_tensor(pool)
    minus = ScalarizedPosteriorTransform(torch.tensor([-1.0], dtype=torch.float64))
    ours = acquisition.surrogate
    best = -ours.models[0].marginal(ours.unit(X))[0].min()
    functions = {
        "our surrogate": LogExpectedImprovement(
            ours.model, best_f=best.detach(), posterior_transform=minus
        ),
        "SingleTaskGP": LogExpectedImprovement(single, best_f=y.max()),
    }
    told_of: dict[str, Any] = {"candidates": n}
    for name, function in functions.items():
        optimize_acqf_discrete(function, q=1, choices=choices[:2048])
        seconds = []
        for _ in range(3):
            begin = time.process_time()
            optimize_acqf_discrete(function, q=1, choices=choices)
            seconds.append(time.process_time() - begin)
        told_of[name] = {"cpu": seconds, "cpu_per_candidate": float(np.median(seconds)) / n}
    return told_of


def _fresh(arguments: list[str]) -> Any:
    """What this file answers in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 candidates, not kept")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)  # a strategy and a pool
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.only:
        print(json.dumps(alone(Path(arguments.only[1]), arguments.only[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MATLOOP_CACHE"] = folder
        large, small = Path(folder) / "large.npy", Path(folder) / "small.npy"
        write_pool(small, 20_000)
        write_pool(large, 20_000 if arguments.quick else 1_000_000)
        told: dict[str, Any] = {"exact": {s: exact(small, s) for s in STRATEGIES}}
        print(json.dumps(told["exact"], indent=1), flush=True)
        told["matloop"] = {}
        told["botorch"] = []
        for strategy in STRATEGIES:
            runs = []
            for _ in range(1 if arguments.quick else arguments.repeats):
                runs.append(_fresh(["--only", strategy, str(large)]))
                told["botorch"].append(botorch(small, 10_000))  # by turns
            told["matloop"][strategy] = runs
            print(strategy, json.dumps(runs[-1]), json.dumps(told["botorch"][-1]), flush=True)
    peers = {
        name: float(np.median([b[name]["cpu_per_candidate"] for b in told["botorch"]]))
        for name in ("our surrogate", "SingleTaskGP")
    }
    told["times_faster"] = {
        strategy: {
            f"{what}, {name}": peer / float(np.median([r[key] for r in runs]))
            for what, key in (("whole proposal", "cpu_per_candidate"),
                              ("scoring", "scoring_per_candidate"))
            for name, peer in peers.items()
        }
        for strategy, runs in told["matloop"].items()
    }  # fmt: skip
    print(json.dumps(told["times_faster"], indent=1))
    if not arguments.quick:
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
