"""How few evaluations matloop needs on public tables, against Ax, BayBE, a forest and chance.

Every method has its defaults, the same first points, the same batch and the same budget. Each
replay is kept under the work folder, so an interrupted benchmark goes on where it was. What the
file of results has of other tables stays in it.

    python benchmarks/sample_efficiency.py --seeds 20            # all tables; days on two cores
    python benchmarks/sample_efficiency.py --seeds 2 --budget 25 --only autoam,concrete
    python benchmarks/sample_efficiency.py --seeds 20 --again matloop    # the loop has changed
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tables import TABLES, prepare

from campaigns.backtest import Backtest, Done, Options
from campaigns.backtest_page import write_page
from campaigns.backtest_report import summary, without_curves
from campaigns.spec import load_spec
from campaigns.strict import plain

PV_LAB = ("crossed_barrel", "agnp", "autoam", "p3ht", "perovskite")
"""The five tables of Liang et al., npj Comput. Mater. 7, 188 (2021)."""

RESULTS = Path(__file__).parent / "results" / "sample_efficiency.json"


def run_table(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Backtest one table; its summary without curves, which are in the work folder."""
    spec_file, table = prepare(name, arguments.work)
    spec = load_spec(spec_file)
    options = Options(
        seeds=arguments.seeds,
        initial=arguments.initial,
        batch=arguments.batch or spec.budget.batch,
        budget=arguments.budget or spec.budget.trials,
    )
    folder = arguments.work / f"backtest-{name}"
    backtest = Backtest(spec, table, arguments.against, options, folder)

    def listen(done: Done, count: int, of: int) -> None:
        told = done.error or f"{done.seconds:.0f} s"
        print(f"{name} {count}/{of}: {done.task.method} seed {done.task.seed}: {told}", flush=True)

    found = plain(summary(backtest, backtest.run(arguments.workers, listen, arguments.again)))
    write_page(folder / "backtest.html", found)
    (folder / "summary.json").write_text(json.dumps(found), encoding="utf-8")
    return without_curves(found)


def accelerations(found: Mapping[str, Any], method: str, names: Iterable[str]) -> dict[str, Any]:
    """Geometric mean, over single-objective tables, of the acceleration at Top 50 %.

    A table on which the level was not reached counts with the largest factor that it can still
    have, and is named in `not_reached`; the mean is then `at_most` and not known.
    """
    factors, missed = [], []
    for name in names:
        told = found.get(name, {}).get("methods", {}).get(method)
        if told is None or "regret" not in told["figures"]:
            continue
        factor = told["figures"]["acceleration"]["value"]
        if factor is None:
            table = found[name]["table"]
            factor = table["acceleration_level"] * table["designs"] / told["evaluations"]
            missed.append(name)
        factors.append(factor)
    mean = math.exp(sum(map(math.log, factors)) / len(factors)) if factors else None
    known = None if missed else mean
    return {
        "tables": len(factors), "geometric_mean": known, "at_most": mean, "not_reached": missed
    }  # fmt: skip


def main() -> None:
    """Run what is not done, then write the summary."""
    parser = argparse.ArgumentParser(description="Sample efficiency on public tables.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", type=_names, default=list(TABLES), help="tables")
    parser.add_argument("--against", type=_names, default=["random", "forest", "ax", "baybe"])
    parser.add_argument("--again", type=_names, default=[], help="methods to replay again")
    parser.add_argument("--initial", type=int, default=5)
    parser.add_argument("--batch", type=int, help="default: that of each spec, 4")
    parser.add_argument("--budget", type=int, help="default: that of each table")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("backtests"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    known = json.loads(arguments.out.read_text())["tables"] if arguments.out.exists() else {}
    found = known | {name: run_table(name, arguments) for name in arguments.only}
    methods = list(dict.fromkeys(m for told in found.values() for m in told["methods"]))
    overall = {
        method: {
            "all": accelerations(found, method, found),
            "pv_lab": accelerations(found, method, PV_LAB),
        }
        for method in methods
    }
    for method, told in overall.items():
        print(method, told)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"seeds": arguments.seeds, "overall": overall, "tables": found}, indent=1)
    arguments.out.write_text(text + "\n", encoding="utf-8")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
