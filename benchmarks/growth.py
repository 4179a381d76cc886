"""Seconds to refit and propose as a campaign grows, and how well the surrogate then predicts.

    python benchmarks/growth.py                 # 50 to 5,000 outcomes; draws docs/growth.svg
    python benchmarks/growth.py --quick

A space of 16 ranges; four designs are proposed. *Fresh* chooses the surrogate anew; *warm* goes on
from the proposal before, four outcomes ago. R2 is on 2,000 designs that were held out. The outcomes
have noise of a tenth of their spread. Processor seconds of one thread, median of the repeats.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from functions import Function, history

from loop.proposal import propose
from surrogates import fit_surrogate

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "growth.json"
D = 16
CASES = {"one objective": Function("ackley", D), "two objectives": Function("dtlz2", D)}


def measured(function: Function, n: int, seed: int) -> dict[str, Any]:
    """One size, once."""
    rng = np.random.default_rng([n, seed])
    held = function.draw(2000, 1)
    truth, X = function(held), function.draw(n + 4, 10 + seed)
    Y = function(X)
    Y += 0.1 * truth.std(axis=0) * rng.standard_normal(Y.shape)
    told: dict[str, Any] = {}
    warm: dict[str, Any] | None = None
    for what, count in (("fresh", n), ("warm", n + 4)):
        before = history(function.problem, X[:count], Y[:count])
        cpu = time.process_time()
        answer = propose(function.problem, before, 4, seed, warm)
        told[what] = time.process_time() - cpu
        warm = answer.warm_start
    told["models"] = [r["model"] for r in (answer.surrogate_report or {}).values()]
    bounds = np.stack([np.zeros(D), np.ones(D)])
    cpu = time.process_time()
    surrogate = fit_surrogate(X[:n], Y[:n], bounds=bounds)
    told["fit"] = time.process_time() - cpu
    mean, _ = surrogate.posterior(held)
    error = ((mean.numpy() - truth) ** 2).mean(axis=0)
    told["r2"] = [1.0 - float(e) for e in error / truth.var(axis=0)]
    return told


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Exponent of the growth beyond 1,000: 1 = in proportion, less = slower than that."""
    last = [(n, s) for n, s in zip(sizes, seconds, strict=True) if n >= 1000]
    if len(last) < 2:
        return math.nan
    (a, s), (b, t) = last[0], last[-1]
    return math.log(t / s) / math.log(b / a)


def draw(told: dict[str, Any], file: Path) -> None:
    """The curves, on logarithmic scales."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9})
    figure, axes = pyplot.subplots(figsize=(5.2, 3.2), layout="constrained")
    colours = {"one objective": "#2563a8", "two objectives": "#b5541c"}
    for case, rows in told.items():
        sizes = sorted(int(n) for n in rows)
        for what, style in (("fresh", "-o"), ("warm", "--s")):
            y = [rows[str(n)][what] for n in sizes]
            axes.plot(sizes, y, style, color=colours[case], ms=4, lw=1.3, label=f"{case}, {what}")
    last = np.array([1000, 5000])
    start = max(rows["1000"]["fresh"] for rows in told.values()) * 1.6
    axes.plot(last, start * last / 1000, ":", color="#777777", lw=1.2, label="in proportion")
    axes.set(xscale="log", yscale="log", xlabel="outcomes", ylabel="processor seconds a proposal")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.25, which="both", lw=0.5)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Measure, print, draw and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="50,200,1000,5000")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="50 and 200, once, not kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "growth.svg")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [50, 200] if arguments.quick else [int(n) for n in arguments.sizes.split(",")]
    repeats = 1 if arguments.quick else arguments.repeats
    told: dict[str, dict[str, Any]] = {}
    measured(CASES["one objective"], 20, 0)  # what is loaded at first use is not counted
    for case, function in CASES.items():
        told[case] = {}
        for n in sizes:
            rows = [measured(function, n, seed) for seed in range(repeats)]
            told[case][str(n)] = {
                "fresh": float(np.median([r["fresh"] for r in rows])),
                "warm": float(np.median([r["warm"] for r in rows])),
                "fit": float(np.median([r["fit"] for r in rows])),
                "r2": np.median([r["r2"] for r in rows], axis=0).tolist(),
                "rows": rows,
            }
            shown = {k: v for k, v in told[case][str(n)].items() if k != "rows"}
            print(case, n, json.dumps(shown), rows[-1]["models"], flush=True)
        for what in ("fresh", "warm"):
            seconds = [told[case][str(n)][what] for n in sizes]
            print(f"{case}, {what}: exponent {slope(sizes, seconds):.2f} beyond 1,000")
    if not arguments.quick:
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(json.dumps(told, indent=1) + "\n")
        draw(told, arguments.figure)


if __name__ == "__main__":
    main()
