"""Crystals by DFT beside what the literature has: `python benchmarks/dft_known.py`.

Magnesia's formation energy by GPAW, and the bulk moduli of zinc-blende BN and SiC by GPAW and,
where `--pseudopotentials FOLDER` has them, by Quantum ESPRESSO. Some minutes; energies of the
elements are computed once and kept.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from loop.evaluators import make_evaluator

RESULTS = Path(__file__).parent / "results" / "dft_known.json"
CASES = {
    "MgO": ("rocksalt", ["Mg", "O"], ["formation_energy", "bulk_modulus", "volume_per_atom"]),
    "BN": ("zincblende", ["B", "N"], ["bulk_modulus", "volume_per_atom"]),
    "SiC": ("zincblende", ["Si", "C"], ["bulk_modulus", "volume_per_atom"]),
}


def calculated(name: str, code: str, **more: Any) -> dict[str, Any]:
    """A case by a code: metrics, versions and seconds."""
    prototype, elements, metrics = CASES[name]
    crystal = {"prototype": prototype, "elements": elements}
    config = {"with": "dft", "code": code, "preset": "fast", "crystal": crystal, **more}
    began = time.perf_counter()
    found = make_evaluator(config).evaluate({}, metrics, 0)
    return {
        "crystal": name,
        "code": code,
        **{metric: round(m.mean, 5) for metric, m in found.measurements.items()},
        "elements": found.provenance.get("elements"),
        "packages": found.provenance["packages"],
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Calculate what is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pseudopotentials", help="folder of PBE UPF files of B, C, N and Si")
    given = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in CASES:
        for code in ("gpaw", "espresso"):
            more = {"pseudopotentials": given.pseudopotentials} if code == "espresso" else {}
            if any((row["crystal"], row["code"]) == (name, code) for row in rows):
                continue
            if code == "espresso" and (given.pseudopotentials is None or name == "MgO"):
                continue
            rows.append(calculated(name, code, **more))
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print(json.dumps(rows[-1]))


if __name__ == "__main__":
    main()
