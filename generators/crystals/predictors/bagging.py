"""Training the positive-unlabelled classifiers; see `synthesizability`."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Element, Structure
from torch import Tensor

from generators.crystals.dataset import is_held_out, read_table
from generators.crystals.predictors.matgl_network import NetworkPredictor
from generators.crystals.predictors.network import LARGEST_NUMBER
from generators.crystals.predictors.synthesizability import describe, votes
from generators.crystals.predictors.weights import hash_of_files, read_recipe
from generators.crystals.substitution import alike
from generators.files import write_weights

PASSES = 0.5


@dataclass(frozen=True)
class Examples:
    """n crystals: what is seen of each (n x f), its file, whether positive, whether held out."""

    seen: np.ndarray
    source: np.ndarray
    positive: np.ndarray
    held_out: np.ndarray


def read_examples(recipe: Mapping[str, Any], folder: Path, network: NetworkPredictor) -> Examples:
    """The rows of a recipe's files; unlabelled ones of a positive formula are left out.

    Raises:
        FileNotFoundError: A file is absent.
    """
    structures: list[Structure] = []
    formulas, source, positive = [], [], []
    for told in recipe["sources"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on the style of a CIF
            rows = [s for s, _ in read_table(folder / told["file"])]
        kept = [s for s in rows if len(s) <= recipe["max_atoms"]]
        structures += kept
        formulas += [s.composition.reduced_formula for s in kept]
        source += [told["file"]] * len(kept)
        positive += [told["positive"]] * len(kept)
        if told.get("substituted"):
            virtual = substituted(kept, told["substituted"], recipe["seed"])
            structures += virtual
            formulas += [s.composition.reduced_formula for s in virtual]
            source += [f"{told['file']}, elements replaced"] * len(virtual)
            positive += [False] * len(virtual)
    made = {f for f, p in zip(formulas, positive, strict=True) if p}
    seen = describe(structures, network)
    wanted = np.isfinite(seen).all(1) & np.array(
        [p or f not in made for f, p in zip(formulas, positive, strict=True)]
    )
    held = [is_held_out(f, recipe["held_out"]) for f in formulas]
    of_each = (np.array(values)[wanted] for values in (source, positive, held))
    return Examples(seen[wanted], *of_each)


def substituted(structures: Sequence[Structure], each: int, seed: int) -> list[Structure]:
    """Crystals in which one element or more is replaced by a chemically similar one.

    The volume follows the cubes of the atoms' radii.

    Args:
        structures: Of which they are made.
        each: How many are tried of each; one whose elements come out equal or unchanged is left.
        seed: Of draws.
    """
    rng = np.random.default_rng(seed)
    table = alike()
    radius = {
        e.symbol: float(e.atomic_radius or e.atomic_radius_calculated or 1.5)
        for e in (Element.from_Z(z) for z in range(1, LARGEST_NUMBER + 1))
    }
    made = []
    for structure in [s for s in structures for _ in range(each)]:
        old = [e.Z for e in structure.composition.elements]
        if max(old) > LARGEST_NUMBER:
            continue
        new = [int(rng.choice(len(table), p=table[z])) for z in old]
        if len(set(new)) < len(old) or new == old:
            continue
        symbols: dict[Any, Any] = {
            Element.from_Z(a).symbol: Element.from_Z(b).symbol
            for a, b in zip(old, new, strict=True)
        }
        one = structure.copy()
        one.replace_species(symbols)
        sizes = [sum(radius[x.specie.symbol] ** 3 for x in s) for s in (structure, one)]
        made.append(one.scale_lattice(structure.volume * sizes[1] / sizes[0]))
    return made


def train_bags(plan: Mapping[str, Any], examples: Examples, seed: int) -> dict[str, Tensor]:
    """Fit all classifiers at once, each to its own draw of positive and of unlabelled crystals.

    Args:
        plan: `bags`, `hidden`, `steps`, `batch`, `learning_rate`, `weight_decay`.
        examples: Held-out ones are left out.
        seed: Of draws and weights.

    Returns:
        The state of `votes`.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    trained = ~examples.held_out
    ones = np.flatnonzero(trained & examples.positive)
    others = np.flatnonzero(trained & ~examples.positive)
    mean, scale = examples.seen[trained].mean(0), examples.seen[trained].std(0) + 1e-6
    x = torch.as_tensor((examples.seen - mean) / scale, dtype=torch.float32)
    bags, width, hidden = plan["bags"], x.shape[1], plan["hidden"]
    # Half of the unlabelled, so that the other half of the classifiers never saw a given one.
    draws = np.stack([rng.choice(others, len(others) // 2, replace=False) for _ in range(bags)])
    made = np.stack([rng.choice(ones, len(ones)) for _ in range(bags)])
    state = {
        "first": torch.randn(bags, width, hidden) / width**0.5,
        "bias": torch.zeros(bags, 1, hidden),
        "last": torch.randn(bags, hidden, 1) / hidden**0.5,
        "shift": torch.zeros(bags, 1),
    }
    for value in state.values():
        value.requires_grad_()
    optimizer = torch.optim.AdamW(
        state.values(), plan["learning_rate"], weight_decay=plan["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan["learning_rate"], total_steps=plan["steps"] + 1
    )
    truth = torch.tensor([1.0, 0.0]).repeat_interleave(plan["batch"])
    rows = np.arange(bags)[:, None]
    for _ in range(plan["steps"]):
        index = np.hstack(
            [d[rows, rng.integers(d.shape[1], size=(bags, plan["batch"]))] for d in (made, draws)]
        )
        logits = votes(state, x[torch.as_tensor(index)])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, truth.expand(bags, -1), reduction="none"
        )
        optimizer.zero_grad()
        loss.mean(1).sum().backward()
        optimizer.step()
        schedule.step()
    told = {key: value.detach() for key, value in state.items()}
    scaling = {"mean": torch.as_tensor(mean).float(), "scale": torch.as_tensor(scale).float()}
    return told | scaling


def train_synthesizability(recipe_path: Path, data: Path, out: Path) -> Path:
    """Train by a recipe; write `OUT.safetensors` and its card, with figures on held-out rows.

    The network `matgl.safetensors` lies beside OUT.

    Raises:
        FileNotFoundError: The recipe or a file of it is absent.
        PredictorError: The network is.
    """
    recipe = read_recipe(recipe_path)
    network = NetworkPredictor.load(out.with_name("matgl.safetensors"))
    examples = read_examples(recipe, data, network)
    started = time.monotonic()
    state = train_bags(recipe["training"], examples, recipe["seed"])
    trained = ~examples.held_out
    card = {
        "name": recipe["name"],
        "description": recipe["description"],
        "kind": "positive-unlabelled bagging",
        "licence": "MIT; data as told under data",
        "citation": "Mordelet and Vert 2014; Jang 2020; trained here",
        "properties": {"synthesizability": "dimensionless"},
        "recipe": recipe,
        "network_sha256": network.card["weights_sha256"],
        "minutes": round((time.monotonic() - started) / 60, 2),
        "data": {
            "sha256": hash_of_files([data / source["file"] for source in recipe["sources"]]),
            "positive": int((trained & examples.positive).sum()),
            "unlabelled": int((trained & ~examples.positive).sum()),
            "held_out_positive": int((~trained & examples.positive).sum()),
            "sources": recipe["sources"],
        },
        "trained_with": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "matgl", "pymatgen")},
        },
        "metrics": measure(state, examples),
    }
    write_weights(out, state, card)
    return out


@torch.no_grad()
def measure(state: Mapping[str, Tensor], examples: Examples) -> dict[str, Any]:
    """Share of held-out crystals that pass, by file, and how well the two kinds are told apart."""
    held = np.flatnonzero(examples.held_out)
    x = torch.as_tensor(examples.seen[held], dtype=torch.float32)
    scores = votes(state, (x - state["mean"]) / state["scale"]).sigmoid().mean(0).numpy()
    positive = examples.positive[held]
    order = (scores[positive][:, None] > scores[~positive][None]).mean()
    passing = {
        str(file): {
            "crystals": int((at := examples.source[held] == file).sum()),
            "pass": float((scores[at] >= PASSES).mean()),
        }
        for file in np.unique(examples.source[held])
    }
    return {
        "threshold": PASSES,
        "recall": float((scores[positive] >= PASSES).mean()),
        "unlabelled_pass": float((scores[~positive] >= PASSES).mean()),
        "auc_positive_over_unlabelled": float(order),
        "held_out_by_file": passing,
    }
