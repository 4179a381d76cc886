"""Whether a cheap fidelity pays: band gaps from theory (cost 1) and from experiment (cost 10).

The pool is 150 compounds with both gaps (two-fidelity table of Palizhati et al., npj Comput. Mater.
8, 175 (2022)); designs are eight composition features, chosen beforehand. What is sought is the
experimental gap: the largest, or one of 1.4 eV. Both ways begin with the same five compounds,
drawn at random: by experiment where that is all there is, else by theory.

    python benchmarks/fidelities.py --seeds 20
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from tables import data_folder

from loop.fidelities import Left, NamedFidelities
from loop.problem import Objective, Problem
from loop.proposal import History, propose
from loop.space import Design, DesignSpace, RangeAxis

FEATURES = (
    "mean Electronegativity", "range Electronegativity", "mean CovalentRadius", "mean Column",
    "mean Row", "mean MeltingT", "mean NValence", "mean GSvolume_pa",
)  # fmt: skip
GOALS = {
    "largest": Objective("gap", "maximize", "eV"),
    "1.4 eV": Objective("gap", "target", "eV", target=1.4, tolerance=0.1),
}
COSTS = {"theory": 1.0, "experiment": 10.0}
FIRST, BATCH = 5, 4
RESULTS = Path(__file__).parent / "results" / "fidelities.json"


def read_pool() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, n x f features, and n x 2 gaps (experiment, theory)."""
    path = data_folder() / "bandgap_multifidelity" / "bandgap_multifidelity_300.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    gaps: dict[str, dict[int, float]] = {}
    features: dict[str, list[float]] = {}
    for row in rows:
        name = row["reduced_formula"]
        gaps.setdefault(name, {})[int(row["theory_data"])] = float(row["bandgap"])
        features[name] = [float(row[f"MagpieData {f}"]) for f in FEATURES]
    names = [name for name, both in gaps.items() if len(both) == 2]
    return (
        names,
        np.array([features[n] for n in names]),
        np.array([[gaps[n][0], gaps[n][1]] for n in names]),
    )


def error(goal: Objective, gap: np.ndarray) -> np.ndarray:
    """How much worse a gap is than it could be, before the best is taken off."""
    return -gap if goal.target is None else np.abs(gap - goal.target)


def replay(goal: str, cheap: bool, seed: int, budget: float) -> list[tuple[float, float]]:
    """Cost so far and simple regret (eV), after each experiment."""
    _, X, gaps = read_pool()
    axes = tuple(
        RangeAxis(f"x{j}", float(X[:, j].min()), float(X[:, j].max())) for j in range(X.shape[1])
    )
    designs: list[Design] = [
        {axis.name: float(v) for axis, v in zip(axes, x, strict=True)} for x in X
    ]
    place = {tuple(d.values()): i for i, d in enumerate(designs)}
    fidelities = NamedFidelities.of(COSTS, "experiment") if cheap else None
    problem = Problem(DesignSpace(axes), (GOALS[goal],), fidelities=fidelities)
    losses = error(GOALS[goal], gaps[:, 0])
    first = np.random.default_rng([seed, 7]).permutation(len(designs))[:FIRST]
    tried = [(int(i), int(cheap)) for i in first]  # design, and 0 experiment or 1 theory
    cost, trace, warm = 0.0, [], None
    done: list[tuple[int, int]] = []
    while tried:
        for i, source in tried:
            cost += COSTS["theory"] if source else COSTS["experiment"]
            done.append((i, source))
            if not source:
                best = min(losses[j] for j, s in done if not s)
                trace.append((cost, float(best - losses.min())))
        rows = [i for i, _ in done]
        history = History(
            [designs[i] for i in rows],
            gaps[tuple(np.array(done).T)][:, None],
            np.full((len(done), 1), np.nan),
            np.zeros(len(done), dtype=bool),
            source=np.array([s for _, s in done]),
        )
        n = BATCH if cheap else min(BATCH, int((budget - cost) // COSTS["experiment"]))
        if n < 1:
            break
        proposal = propose(
            problem, history, n, seed, warm, among=designs, left=Left(None, budget - cost)
        )
        warm = proposal.warm_start or warm
        tried = [
            (place[tuple(c.design.values())], int(c.fidelity == "theory"))
            for c in proposal.candidates
        ]
    return trace


def one(task: tuple[str, bool, int, float]) -> tuple[tuple[str, bool, int, float], Any, float]:
    """A replay and its seconds."""
    began = time.perf_counter()
    return task, replay(*task), time.perf_counter() - began


def summary(
    traces: Sequence[Sequence[tuple[float, float]]], at: Sequence[float]
) -> list[dict[str, float]]:
    """Mean simple regret with its 95 % interval at each cost, and the share that found the best."""
    told = []
    for cost in at:
        regrets = [[r for c, r in trace if c <= cost] for trace in traces]
        last = np.array([r[-1] if r else np.nan for r in regrets])
        known = last[np.isfinite(last)]
        half = 1.96 * known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else float("nan")
        told.append(
            {
                "cost": cost, "regret": float(known.mean()) if len(known) else None,
                "half": float(half) if np.isfinite(half) else None,
                "found": float((last <= 1e-9).mean()), "without": float(np.isnan(last).mean()),
            }
        )  # fmt: skip
    return told


def main() -> None:
    """Replay, print and write."""
    parser = argparse.ArgumentParser(description="A cheap fidelity against none.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=300.0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    tasks = [
        (goal, cheap, seed, arguments.budget)
        for goal in GOALS
        for seed in range(arguments.seeds)
        for cheap in (True, False)
    ]
    traces: dict[tuple[str, bool], list[Any]] = {}
    seconds: dict[bool, float] = {True: 0.0, False: 0.0}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for (goal, cheap, *_), trace, took in pool.map(one, tasks):
            traces.setdefault((goal, cheap), []).append(trace)
            seconds[cheap] += took
    at = [c for c in (50.0, 75.0, 100.0, 150.0, 200.0, 300.0) if c <= arguments.budget]
    names, _, gaps = read_pool()
    found = {
        "compounds": len(names),
        "correlation": float(np.corrcoef(gaps.T)[0, 1]),
        "costs": COSTS,
        "seeds": arguments.seeds,
        "goals": {
            goal: {
                "with theory" if cheap else "experiment only": summary(traces[goal, cheap], at)
                for cheap in (True, False)
            }
            for goal in GOALS
        },
        "seconds": {"with theory": seconds[True], "experiment only": seconds[False]},
    }
    for goal, ways in found["goals"].items():  # type: ignore[attr-defined]
        for way, rows in ways.items():
            shown = "  ".join(
                f"{r['cost']:g}: {-1 if r['regret'] is None else r['regret']:.2f}"
                f"±{r['half'] or 0:.2f} ({r['found']:.0%})"
                for r in rows
            )
            print(f"{goal:8} {way:16} {shown}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
