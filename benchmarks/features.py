"""What a surrogate learns from few results, by what it sees of a crystal.

The generator's summary alone, or beside it the latent vector, or CHGNet's embedding of the crystal.

For held-out crystals only, whose properties the generator's heads never saw: R2 of a Gaussian
process fitted to n results and asked for the others, median over random choices of the n.

    python benchmarks/features.py --data ../shared/data/crystals
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from generators import load_generator
from generators.crystals.dataset import is_held_out, read_table
from generators.crystals.embedding import ChgnetEmbedding
from generators.crystals.wyckoff import UndescribableError
from surrogates import fit_surrogate

TABLES = {
    "bulk modulus (GPa)": ("mp_elasticity/elasticity.json.gz", "bulk_modulus_vrh"),
    "formation energy (eV/atom)": ("mp20_binary_ternary/val.csv.gz", "formation_energy_per_atom"),
}


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/crystals"))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/features.json")
    arguments = parser.parse_args()
    generator = load_generator("crystals")
    share = generator.card["recipe"]["held_out"]
    chgnet = ChgnetEmbedding(generator)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, (file, column) in TABLES.items():
        structures, values = [], []
        for structure, row in read_table(arguments.data / file):
            value = float(row[column])
            if not is_held_out(structure.composition.reduced_formula, share) or abs(value) > 600:
                continue
            try:
                generator.crystal(structure)
            except UndescribableError:
                continue
            structures.append(structure)
            values.append(value)
        y = torch.tensor(values, dtype=torch.float64)
        short = generator.features(structures)
        seen = torch.as_tensor(chgnet.features(structures))
        views = {
            "features": short,
            "features and latent": torch.cat([short, generator.encode(structures)], 1),
            "features and chgnet": torch.cat([short, seen], 1),
        }
        found[name] = {}
        for n in (8, 12, 24, 40):
            row = {
                label: float(np.median([learnt(x, y, n, s) for s in range(arguments.repeats)]))
                for label, x in views.items()
            }
            found[name][str(n)] = row
            print(f"{name}, {n} results: " + ", ".join(f"{k} R2 {v:.2f}" for k, v in row.items()))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


def learnt(x: torch.Tensor, y: torch.Tensor, n: int, seed: int, asked: int = 120) -> float:
    """R2 on some of the others of a Gaussian process that saw n results, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(y))
    known, others = order[:n], order[n : n + asked]
    surrogate = fit_surrogate(x[known], y[known][:, None], metrics=["y"], seed=seed)
    mean, _ = surrogate.posterior(x[others])
    return float(1 - ((mean[:, 0] - y[others]) ** 2).mean() / y[others].var(unbiased=False))


if __name__ == "__main__":
    main()
