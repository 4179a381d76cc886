"""The shipped generators by the metrics of the field, on rows that training never saw.

    python benchmarks/generation.py --data ../shared/data/crystals      # resumable; half an hour

One call of `matloop generators evaluate` for each data set and group of metrics. What was measured
is kept in `benchmarks/results/generation.json`, and not measured again for the same version.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

SETS = {
    "perov5": "perov5/val.csv.gz",
    "mp20": "mp20_binary_ternary/val.csv.gz",
    "carbon24": "carbon24/val.csv.gz",
}
GROUPS = (
    "reconstruction",
    "validity",
    "coverage",
    "distances",
    "novelty",
    "review",
    "optimisation",
    "stability",
)
# Where the reference holds the chemical systems of what is drawn at all.
STABILITY = ("mp20",)


def main() -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/crystals"))
    parser.add_argument("--generators", nargs="*", default=["crystals"])
    parser.add_argument("--sets", nargs="*", default=["perov5", "mp20"], choices=list(SETS))
    parser.add_argument("--groups", nargs="*", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results/generation.json"
    )
    arguments = parser.parse_args()
    kept: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name in arguments.generators:
        card = _matloop("generators", "show", name)
        for data_set in arguments.sets:
            for group in arguments.groups:
                if group == "stability" and data_set not in STABILITY:
                    continue
                entry = kept.setdefault(name, {}).setdefault(data_set, {})
                if entry.get(group, {}).get("version") == card["version"]:
                    continue
                print(f"{name}, {data_set}: {group}", flush=True)
                found = _matloop(
                    "generators", "evaluate", name, "--data", arguments.data / SETS[data_set],
                    "--held-out", "--only", group, "--workers", arguments.workers,
                )  # fmt: skip
                entry[group] = {
                    "version": card["version"],
                    "seconds": found["seconds"].get(group),
                    "figures": {
                        key: {k: figure[k] for k in ("value", "low", "high", "n", "unit", "note")}
                        for key, figure in found["figures"].items()
                    },
                    "unmeasured": found["unmeasured"],
                }
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(json.dumps(kept, indent=1) + "\n")
    for name, sets in kept.items():
        for data_set, groups in sets.items():
            for group in groups.values():
                for key, f in group["figures"].items():
                    ends = "" if f["low"] is None else f" ({f['low']:.4g} to {f['high']:.4g})"
                    value = "none" if f["value"] is None else f"{f['value']:.4g}"
                    print(f"{name}  {data_set:8}  {key:30} {value}{ends}, n {f['n']}")


def _matloop(*words: object) -> dict[str, Any]:
    command = [Path(sys.executable).parent / "matloop", *map(str, words), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)["data"]
    return found


if __name__ == "__main__":
    main()
