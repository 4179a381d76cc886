"""How many DFT runs a cheap potential saves: the stiffest binary by GPAW, asked of CHGNet as well.

The space is every binary of six elements and three in rock salt and in zinc blende. Each bulk
modulus is asked of CHGNet (seconds) and of GPAW (PBE, preset `fast`; half a minute of one core).
`--make-table` makes those runs for real, appends each to `results/dft_binaries.csv` as it ends, and
goes on where it was stopped. Without it, campaigns are run on that table.

    python benchmarks/dft_fidelity.py --make-table
    python benchmarks/dft_fidelity.py --seeds 10
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

LATTICES = ("rocksalt", "zincblende")
CATIONS = ("B", "Al", "Si", "Ti", "Mg", "Zr")
ANIONS = ("C", "N", "O")
CRYSTAL = {"prototype": "lattice", "elements": ["cation", "anion"]}
EVALUATORS: dict[str, dict[str, Any]] = {
    "chgnet": {"with": "potential", "model": "chgnet", "crystal": CRYSTAL},
    "gpaw": {"with": "dft", "code": "gpaw", "preset": "fast", "crystal": CRYSTAL},
}
METRICS = {
    "chgnet": ("bulk_modulus", "volume_per_atom"),
    "gpaw": ("bulk_modulus", "volume_per_atom", "energy"),
}
COLUMNS = (
    "lattice", "cation", "anion", "fidelity", "bulk_modulus (GPa)",
    "volume_per_atom (angstrom^3/atom)", "energy (eV/atom)", "failure", "seconds", "settings",
)  # fmt: skip
TABLE = Path(__file__).parent / "results" / "dft_binaries.csv"
RESULTS = Path(__file__).parent / "results" / "dft_fidelity.json"
# Seconds of one core, about.
COSTS = {"chgnet": 1.0, "gpaw": 20.0}


def rows_of(path: Path) -> list[dict[str, str]]:
    """The table so far; a row that a killed run left half-written is not there."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["settings"]]


def make_table(path: Path, time_limit: float) -> None:
    """Run what the table lacks, each trial in a child process with limits."""
    from loop.executor import LocalPool

    done = {tuple(row[c] for c in COLUMNS[:4]) for row in rows_of(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for fidelity, config in EVALUATORS.items():
        designs = [
            (lattice, cation, anion)
            for cation, anion, lattice in itertools.product(CATIONS, ANIONS, LATTICES)
            if (lattice, cation, anion, fidelity) not in done
        ]
        if not designs:
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            LocalPool(config, 1, time_limit, 4 << 30, Path(folder)) as pool,
        ):
            pool.check(METRICS[fidelity])
            for design in designs:
                named = dict(zip(COLUMNS[:3], design, strict=True))
                payload = {"design": named, "metrics": list(METRICS[fidelity]), "seed": 0}
                pool.submit("-".join(design), payload)
                while not (outcomes := pool.wait(60.0)):
                    pass
                append(path, named | {"fidelity": fidelity}, outcomes[0])


def append(path: Path, named: dict[str, str], outcome: Any) -> None:
    """Write one row."""
    row: dict[str, Any] = dict(named)
    found = outcome.evaluation
    if found is None:
        row |= {"failure": f"{outcome.kind}: {outcome.failure}", "settings": "-"}
    else:
        for column in COLUMNS[4:7]:
            measured = found.measurements.get(column.partition(" ")[0])
            row[column] = "" if measured is None else f"{measured.mean:.6g}"
        told = found.provenance
        row["seconds"] = f"{found.seconds:.1f}"
        if told["evaluator"] == "dft":
            a, s, k = told["accuracy"], told["settings"], told["kpoints"]
            row["settings"] = (
                f"GPAW {told['packages']['gpaw']} PBE; {a['cutoff']:g} eV; {k[0]}x{k[1]}x{k[2]} "
                f"k-points; {s['eos_points']} volumes to {s['eos_strain']:.0%} strain"
            )
        else:
            row["settings"] = told["model"]
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
    print({k: v for k, v in row.items() if v}, file=sys.stderr, flush=True)


def complete(rows: list[dict[str, str]]) -> tuple[list[str], list[dict[str, str]]]:
    """The cations of which the table has every binary at both fidelities, and their rows."""
    wanted = len(LATTICES) * len(ANIONS) * len(EVALUATORS)
    cations = [c for c in CATIONS if sum(row["cation"] == c for row in rows) >= wanted]
    return cations, [row for row in rows if row["cation"] in cations]


def spec_of(name: str, cations: list[str], table: Path, cheap: bool, best: float) -> dict[str, Any]:
    """A campaign for the stiffest binary, answered by the table; it ends when that is found."""
    spec: dict[str, Any] = {
        "campaign": name,
        "space": {
            "lattice": {"choice": list(LATTICES)},
            "cation": {"choice": cations, "descriptors": "elements"},
            "anion": {"choice": list(ANIONS), "descriptors": "elements"},
        },
        "objectives": {"bulk_modulus": {"goal": "maximize", "unit": "GPa"}},
        "evaluate": {"with": "table", "table": str(table), "workers": 1},
        "budget": {"trials": 4 * len(cations) * len(LATTICES) * len(ANIONS), "batch": 1},
        "stop": {"target_met": {"bulk_modulus": best - 1e-3}},
    }
    if cheap:
        spec["fidelities"] = {"chgnet": {"cost": COSTS["chgnet"]}, "gpaw": {"cost": COSTS["gpaw"]}}
    return spec


def campaign(
    rows: list[dict[str, str]], cations: list[str], cheap: bool, seed: int
) -> dict[str, Any]:
    """GPAW and CHGNet runs of one campaign until the stiffest binary by GPAW is known."""
    from campaigns import Campaign
    from campaigns.spec import Spec

    by_gpaw = [row for row in rows if row["fidelity"] == "gpaw"]
    best = max(float(row[COLUMNS[4]]) for row in by_gpaw if row[COLUMNS[4]])
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows if cheap else by_gpaw)
        spec = Spec.model_validate(
            spec_of("stiffest", cations, table, cheap, best) | {"seed": seed}
        )
        made = Campaign.create(spec, db=f"sqlite:///{folder}/matloop.db")
        made.run()
        trials = made.trials()
    asked = trials[trials["status"].isin(["completed", "failed", "infeasible"])]
    dear = asked if not cheap else asked[asked["fidelity"] == "gpaw"]
    return {
        "seed": seed, "gpaw": len(dear), "chgnet": len(asked) - len(dear),
        "found": bool((dear["bulk_modulus"] >= best - 1e-3).any()),
    }  # fmt: skip


def compare(path: Path, seeds: int, out: Path) -> None:
    """Run campaigns with and without CHGNet, print and write."""
    cations, rows = complete(rows_of(path))
    if not cations:
        raise SystemExit(f"{path} has no cation with all its binaries: --make-table first")
    by_gpaw = {
        tuple(row[c] for c in COLUMNS[:3]): float(row[COLUMNS[4]])
        for row in rows
        if row["fidelity"] == "gpaw" and row[COLUMNS[4]]
    }
    stiffest = max(by_gpaw, key=by_gpaw.__getitem__)
    told: dict[str, Any] = {
        "cations": cations,
        "binaries": len(LATTICES) * len(ANIONS) * len(cations),
        "stiffest": [*stiffest, by_gpaw[stiffest]],
        "costs": COSTS,
        "campaigns": {},
    }
    for way in ("with CHGNet", "GPAW alone"):
        runs = []
        for seed in range(seeds):
            runs.append(campaign(rows, cations, way == "with CHGNet", seed))
            print(way, runs[-1], file=sys.stderr, flush=True)
        median = statistics.median(run["gpaw"] for run in runs)
        told["campaigns"][way] = {"median_gpaw_runs": median, "runs": runs}
    alone, both = (told["campaigns"][w]["median_gpaw_runs"] for w in ("GPAW alone", "with CHGNet"))
    told["times_fewer"] = round(alone / both, 2)
    print(f"{told['binaries']} binaries, the stiffest is {' '.join(stiffest)}")
    print(f"GPAW runs until it is found (median of {seeds}): alone {alone:g}, with CHGNet {both:g}")
    out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Make the table, or run campaigns on it."""
    parser = argparse.ArgumentParser(description="A potential as the cheap fidelity of DFT.")
    parser.add_argument("--make-table", action="store_true", help="run what the table lacks")
    parser.add_argument("--time-limit", type=float, default=1800.0, help="seconds a run may take")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.make_table:
        make_table(arguments.table, arguments.time_limit)
    else:
        compare(arguments.table, arguments.seeds, arguments.out)


if __name__ == "__main__":
    main()
