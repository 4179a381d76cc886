"""Trust regions in many dimensions: the loop with and without them, from the same first points.

    python benchmarks/trust_regions.py --seeds 8

Three functions to minimise, 100 evaluations, q = 4, 12 first points: Ackley in 20 dimensions (all
matter), Hartmann-6 hidden in 32 dimensions (six matter), and log(1 + Rosenbrock) in 20 (a curved
valley). Prints the best value found, mean and standard error over the seeds, and the mean of the
difference.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from loop import DesignSpace, History, Objective, Problem, ProposalSettings, RangeAxis, propose

Function = Callable[[np.ndarray], float]


def ackley(rng: np.random.Generator) -> Function:
    at = rng.uniform(0.2, 0.8, 20)

    def value(x: np.ndarray) -> float:
        z = 10.0 * (x - at)
        waves = np.exp(np.cos(2 * np.pi * z).mean())
        return float(-20 * np.exp(-0.2 * np.sqrt((z**2).mean())) - waves + 20 + np.e)

    return value


def hartmann(rng: np.random.Generator) -> Function:
    A = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14],
                  [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])  # fmt: skip
    P = 1e-4 * np.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                         [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]])  # fmt: skip  # noqa: E501
    alpha, matter = np.array([1.0, 1.2, 3.0, 3.2]), rng.permutation(32)[:6]
    return lambda x: float(-(alpha * np.exp(-(A * (x[matter] - P) ** 2).sum(1))).sum())


def rosenbrock(rng: np.random.Generator) -> Function:
    def value(x: np.ndarray) -> float:
        z = -2.0 + 4.0 * x
        return float(np.log10(1 + (100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum()))

    return value


FUNCTIONS = {
    "ackley-20": (20, ackley),
    "hartmann6-32": (32, hartmann),
    "rosenbrock-20": (20, rosenbrock),
}


def best_of(name: str, regions: int, seed: int, evaluations: int) -> float:
    d, make = FUNCTIONS[name]
    function = make(np.random.default_rng(99 + seed))
    space = DesignSpace(tuple(RangeAxis(f"x{i}", 0.0, 1.0) for i in range(d)))
    problem = Problem(space, (Objective("f", "minimize", ""),))
    designs = [design for design in space.sample(12, seed) if design is not None]
    y = [function(np.array(list(design.values()))) for design in designs]
    warm = None
    while len(designs) < evaluations:
        column = np.array(y)[:, None]
        past = History(designs, column, np.full_like(column, np.nan), np.zeros(len(y), dtype=bool))
        found = propose(problem, past, 4, seed, warm, ProposalSettings(regions=regions))
        warm = found.warm_start
        designs += [c.design for c in found.candidates]
        y += [function(np.array(list(c.design.values()))) for c in found.candidates]
    return min(y)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=8)
    options.add_argument("--evaluations", type=int, default=100)
    options.add_argument("--only", help="names, with commas between")
    given = options.parse_args()
    default = ProposalSettings().regions
    print(f"{'function':15} {'without':>16} {'with':>16} {'difference':>18}  better")
    for name in given.only.split(",") if given.only else FUNCTIONS:
        pairs = np.array([
            [best_of(name, regions, seed, given.evaluations) for regions in (0, default)]
            for seed in range(given.seeds)
        ])  # fmt: skip
        more = pairs[:, 1] - pairs[:, 0]
        columns = [
            f"{v.mean():.3f} ± {v.std(ddof=1) / len(v) ** 0.5:.3f}" for v in (*pairs.T, more)
        ]
        print(f"{name:15} {columns[0]:>16} {columns[1]:>16} {columns[2]:>18}  "
              f"{int((more < 0).sum())} of {len(more)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
