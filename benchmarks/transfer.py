"""Whether an earlier campaign helps: catalysts of one plate, then of another.

Overpotentials of 2,121 mixtures of Ni, Fe, Co, Mn, Ce and La (plate 3496) are the earlier campaign,
and mixtures of Sn, Sb, Co, Ca, Ni and Mn (plate 4098) the one that is run. Three ways, with the
same five first points, batch 4 and 40 evaluations:

- alone;
- shared: the earlier mixtures that the space of the second can encode, those of Ni, Co and Mn;
- elements: a space of all nine elements (the foreign three at most 0), described by their
  properties, so that every earlier mixture teaches; 150 of them at random. `elements alone` is the
  same space without them.

    python benchmarks/transfer.py --seeds 10
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from tables import TABLES, data_folder

from loop.axes.descriptors import element_descriptors
from loop.problem import Objective, Problem
from loop.proposal import History, propose
from loop.space import CompositionAxis, Design, DesignSpace

EARLIER, NOW = "oer_plate_3496", "oer_plate_4098"
WAYS = ("alone", "shared", "elements alone", "elements")
FIRST, BATCH, MOST = 5, 4, 150
TOP = 0.05
RESULTS = Path(__file__).parent / "results" / "transfer.json"


def read_plate(name: str) -> tuple[list[dict[str, float]], np.ndarray]:
    """Mixtures, and their overpotentials in V; repeats are averaged."""
    table = TABLES[name]
    found: dict[tuple[float, ...], list[float]] = {}
    with (data_folder() / table.file).open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            amounts = np.array([float(a) for a in row[:6]])
            key = tuple(np.round(amounts / amounts.sum(), 6))
            found.setdefault(key, []).append(float(row[6]))
    elements = [c.name for c in table.simplex]
    mixtures = [dict(zip(elements, key, strict=True)) for key in found]
    return mixtures, np.array([float(np.mean(v)) for v in found.values()])


def space_of(way: str, ours: list[str], foreign: list[str]) -> DesignSpace:
    """The space of the second plate, by itself or with the foreign elements described."""
    if not way.startswith("elements"):
        return DesignSpace((CompositionAxis("mix", tuple(ours)),))
    every = ours + foreign
    axis = CompositionAxis(
        "mix", tuple(every), bounds=dict.fromkeys(foreign, (0.0, 0.0)),
        descriptors=element_descriptors(every),
    )  # fmt: skip
    return DesignSpace((axis,))


def replay(way: str, seed: int, budget: int) -> tuple[list[float], list[float]]:
    """Best overpotential and share of the best 5 % found, after each evaluation."""
    mixtures, y = read_plate(NOW)
    earlier, told = read_plate(EARLIER)
    ours, theirs = list(mixtures[0]), list(earlier[0])
    space = space_of(way, ours, [e for e in theirs if e not in ours])
    designs: list[Design] = [space.from_json({"mix": m}) for m in mixtures]
    problem = Problem(space, (Objective("overpotential", "minimize", "V"),))
    taught: list[Design] = []
    values = np.empty(0)
    if way in ("shared", "elements"):
        rows = [
            i
            for i, mixture in enumerate(earlier)
            if way == "elements" or sum(mixture[e] for e in theirs if e in ours) > 1 - 1e-6
        ]
        rows = sorted(np.random.default_rng([seed, 1]).permutation(rows)[:MOST].tolist())
        taught = [
            space.from_json({"mix": {e: a for e, a in earlier[i].items() if a}}) for i in rows
        ]
        values = told[rows]
    picked = np.random.default_rng([seed, 0]).permutation(len(designs))[:FIRST].tolist()
    left, place = set(range(len(designs))) - set(picked), {id(d): i for i, d in enumerate(designs)}
    warm = None
    while len(picked) < budget:
        n = min(BATCH, budget - len(picked))
        outcomes = np.concatenate([y[picked], values])[:, None]
        history = History(
            [*(designs[i] for i in picked), *taught],
            outcomes,
            np.full(outcomes.shape, np.nan),
            np.zeros(len(outcomes), dtype=bool),
            source=np.repeat([0, 1], [len(picked), len(taught)]),
        )
        among = [designs[i] for i in sorted(left)]
        proposal = propose(problem, history, n, seed, warm, among=among)
        warm = proposal.warm_start or warm
        chosen = [place[id(c.design)] for c in proposal.candidates]
        picked += chosen
        left -= set(chosen)
    top = y <= np.quantile(y, TOP)
    got = y[picked]
    return np.minimum.accumulate(got).tolist(), (np.cumsum(top[picked]) / top.sum()).tolist()


def one(task: tuple[str, int, int]) -> tuple[tuple[str, int, int], Any, float]:
    """A replay and its seconds."""
    began = time.perf_counter()
    return task, replay(*task), time.perf_counter() - began


def interval(values: np.ndarray) -> dict[str, float]:
    """Mean, and half of its 95 % interval."""
    return {
        "mean": float(values.mean()),
        "half": float(1.96 * values.std(ddof=1) / np.sqrt(len(values))),
    }


def main() -> None:
    """Replay, print and write."""
    parser = argparse.ArgumentParser(description="Transfer from an earlier campaign.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    ways = arguments.ways.split(",")
    tasks = [(way, seed, arguments.budget) for seed in range(arguments.seeds) for way in ways]
    best: dict[str, list[list[float]]] = {way: [] for way in ways}
    top: dict[str, list[list[float]]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    with ProcessPoolExecutor(arguments.workers) as pool:
        for (way, seed, _), (found, share), took in pool.map(one, tasks):
            best[way].append(found)
            top[way].append(share)
            seconds[way] += took
            print(f"{way} {seed}: {found[-1]:.4f} V, {share[-1]:.1%}, {took:.0f} s", flush=True)
    _, y = read_plate(NOW)
    told: dict[str, Any] = {}
    marks = sorted({min(n, arguments.budget) for n in (10, 20, arguments.budget)})
    for way in ways:
        regret = (np.array(best[way]) - y.min()) * 1e3
        told[way] = {
            "regret_mV": {str(n): interval(regret[:, n - 1]) for n in marks},
            "top_share": interval(np.array(top[way])[:, -1]),
            "seconds": seconds[way],
        }
        without = {"shared": "alone", "elements": "elements alone"}.get(way)
        if without in ways:  # the mean over the replay, seed by seed; above zero, it helps
            base = (np.array(best[without]) - y.min()) * 1e3
            told[way]["helps_mV"] = interval(base.mean(1) - regret.mean(1))
        print(way, json.dumps(told[way]))
    text = {"seeds": arguments.seeds, "budget": arguments.budget, "first": FIRST, "batch": BATCH,
            "earlier": EARLIER, "now": NOW, "ways": told}  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
