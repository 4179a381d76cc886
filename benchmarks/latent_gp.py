"""How well a property can be told from latent vectors alone, by a Gaussian process on 500 of them.

500 training rows of MP-20's binaries and ternaries are encoded, and the formation energies of the
held-out ones foretold: R2 for several choices of the rows, by what `encode` gives and by what
`embed` gives. BoTorch's `SingleTaskGP` with its defaults.

    python benchmarks/latent_gp.py --data ../shared/data/crystals      # ten minutes of a core
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize
from gpytorch.mlls import ExactMarginalLogLikelihood
from pymatgen.core import Structure
from torch import Tensor

from generators import load_generator
from generators.crystals.dataset import is_held_out, read_table
from generators.crystals.wyckoff import UndescribableError

FILE, COLUMN, ROWS = "mp20_binary_ternary/val.csv.gz", "formation_energy_per_atom", 500


def main() -> None:
    """Print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/crystals"))
    parser.add_argument("--generator", default="crystals")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results/latent_gp.json"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = load_generator(arguments.generator)
    share = generator.card["recipe"]["held_out"]
    known: list[tuple[Structure, float]] = []
    unseen: list[tuple[Structure, float]] = []
    for structure, row in read_table(arguments.data / FILE):
        try:
            generator.crystal(structure)
        except UndescribableError:
            continue
        held = is_held_out(structure.composition.reduced_formula, share)
        (unseen if held else known).append((structure, float(row[COLUMN])))
    truth = np.array([y for _, y in unseen])
    found: dict[str, list[float]] = {"encode": [], "embed": []}
    views = {"encode": generator.encode, "embed": generator.embed}
    asked = {name: view([s for s, _ in unseen]) for name, view in views.items()}
    for seed in range(arguments.seeds):
        chosen = np.random.default_rng(seed).permutation(len(known))[:ROWS]
        rows = [known[int(i)] for i in chosen]
        y = torch.tensor([[v] for _, v in rows], dtype=torch.float64)
        for name, view in views.items():
            said = _foretold(view([s for s, _ in rows]), y, asked[name])
            r2 = 1 - ((said - truth) ** 2).mean() / truth.var()
            found[name].append(round(float(r2), 4))
            print(f"rows {seed}, {name}: R2 {r2:.3f}", flush=True)
    kept = {"version": generator.version, "rows": ROWS, "asked": len(truth), "r2": found}
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(kept, indent=1) + "\n")


def _foretold(x: Tensor, y: Tensor, at: Tensor) -> np.ndarray:
    """Means at `m x d`, of a process fitted to `n x d` and `n x 1`: `m`."""
    model = SingleTaskGP(x, y, input_transform=Normalize(x.shape[1]))
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    with torch.no_grad():
        return np.asarray(model.posterior(at).mean[:, 0])


if __name__ == "__main__":
    main()
