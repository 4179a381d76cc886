"""Training the property network on tables of crystals, and measuring it on held-out rows."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Structure

from generators.crystals.dataset import is_held_out, known_numbers, read_table
from generators.crystals.predictors.graphs import Graph, collate, crystal_graph
from generators.crystals.predictors.network import LARGEST_NUMBER, PropertyNetwork
from generators.crystals.predictors.weights import hash_of_files, read_recipe
from generators.files import write_weights


@dataclass(frozen=True)
class Examples:
    """Crystals with what is known of them.

    Attributes:
        structures: n crystals.
        known: n x p values of the heads, NaN where not known.
        held_out: which are kept from training.
    """

    structures: list[Structure]
    known: np.ndarray
    held_out: np.ndarray


def head_names(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """What the network is trained on, in order."""
    return tuple(head for source in recipe["sources"] for head in source["properties"])


def read_examples(recipe: Mapping[str, Any], folder: Path) -> Examples:
    """The rows of a recipe's files that are small enough and of elements that are known.

    Raises:
        FileNotFoundError: A file is absent.
    """
    heads = head_names(recipe)
    structures, known, held = [], [], []
    for source in recipe["sources"]:
        for structure, columns in read_table(folder / source["file"]):
            numbers = known_numbers(source, columns)
            largest = max(site.specie.Z for site in structure)
            if not numbers or len(structure) > recipe["max_atoms"] or largest > LARGEST_NUMBER:
                continue
            structures.append(structure)
            known.append([numbers.get(head, np.nan) for head in heads])
            formula = structure.composition.reduced_formula
            held.append(is_held_out(formula, recipe["held_out"]))
    return Examples(structures, np.array(known), np.array(held))


def train_network(
    recipe: Mapping[str, Any],
    graphs: Sequence[Graph],
    known: np.ndarray,
    on_epoch: Callable[[int, float], None] | None = None,
) -> tuple[PropertyNetwork, np.ndarray, np.ndarray]:
    """Fit the network to n crystals of which p properties are known, NaN where not.

    Returns:
        The network, and mean and scale (p each) by which its outputs are standardised.
    """
    plan = recipe["training"]
    torch.manual_seed(recipe["seed"])
    source = torch.Generator().manual_seed(recipe["seed"])
    mean, scale = np.nanmean(known, 0), np.nanstd(known, 0)
    targets = torch.tensor((known - mean) / scale, dtype=torch.float32)
    network = PropertyNetwork(known.shape[1], recipe["network"])
    optimizer = torch.optim.AdamW(
        network.parameters(), plan["learning_rate"], weight_decay=plan["weight_decay"]
    )
    steps = plan["epochs"] * math.ceil(len(graphs) / plan["batch"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan["learning_rate"], total_steps=steps + 1, pct_start=0.1
    )
    for epoch in range(plan["epochs"]):
        total = 0.0
        for index in torch.randperm(len(graphs), generator=source).split(plan["batch"]):
            y = targets[index]
            found, _ = network(collate([graphs[i] for i in index.tolist()]))
            has = ~torch.isnan(y)
            loss = torch.nn.functional.smooth_l1_loss(found[has], y[has], beta=0.2)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(index) / len(graphs)
        if on_epoch is not None:
            on_epoch(epoch + 1, total)
    return network.eval(), mean, scale


def train_predictor(
    recipe_path: Path,
    data: Path,
    out: Path,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Path:
    """Train by a recipe; write `OUT.safetensors` and its card, with figures on held-out rows.

    Raises:
        FileNotFoundError: The recipe or a file of it is absent.
    """
    from generators.crystals.predictors.matgl_network import NetworkPredictor

    recipe = read_recipe(recipe_path)
    examples = read_examples(recipe, data)
    started = time.monotonic()
    trained = np.flatnonzero(~examples.held_out)
    structures, known = [examples.structures[i] for i in trained], examples.known[trained]
    taught: dict[str, Any] = {}
    if "distilled" in recipe:
        from generators.crystals.predictors.distilling import distilled

        column = head_names(recipe).index("formation_energy")
        has = np.flatnonzero(np.isfinite(known[:, column]))
        crystals, energy, taught["distilled"] = distilled(
            recipe["distilled"], [structures[i] for i in has], known[has, column]
        )
        more = np.full((len(crystals), known.shape[1]), np.nan)
        more[:, column] = energy
        structures, known = structures + crystals, np.vstack([known, more])
    cutoff = recipe["network"]["cutoff"]
    graphs = [crystal_graph(structure, cutoff) for structure in structures]
    network, mean, scale = train_network(recipe, graphs, known, on_epoch)
    card = {
        "name": recipe["name"],
        "description": recipe["description"],
        "kind": "megnet",
        "licence": "MIT; data as told under data",
        "citation": "MEGNet (Chen 2019) of matgl (Ko 2025), trained here"
        + (", by SevenNet (Park 2024) too" if taught else ""),
        "properties": {name: told["unit"] for name, told in recipe["properties"].items()},
        "recipe": recipe,
        "heads": list(head_names(recipe)),
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "elements": sorted({site.specie.Z for structure in structures for site in structure}),
        "data": {
            "sha256": hash_of_files([data / source["file"] for source in recipe["sources"]]),
            "rows": len(trained),
            "held_out_rows": int(examples.held_out.sum()),
            "sources": [
                {k: s[k] for k in ("file", "licence", "citation")} for s in recipe["sources"]
            ],
            **taught,
        },
        "trained_with": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "matgl", "pymatgen")},
        },
        "metrics": {},
    }
    write_weights(out, network.state_dict(), card)
    held = np.flatnonzero(examples.held_out)
    card["metrics"] = measure(
        NetworkPredictor.load(out), [examples.structures[i] for i in held], examples.known[held]
    )
    write_weights(out, network.state_dict(), card)
    return out


def measure(
    predictor: Any, structures: Sequence[Structure], known: np.ndarray
) -> dict[str, dict[str, float]]:
    """Error of each head on n crystals of which p heads are known; moduli as logarithms."""
    found = predictor.heads(structures)
    figures = {}
    for head, ours, true in zip(predictor.card["heads"], found.T, known.T, strict=True):
        has = np.isfinite(true) & np.isfinite(ours)
        if has.sum() > 2:
            error = ours[has] - true[has]
            figures[head] = {
                "crystals": int(has.sum()),
                "mae": float(np.abs(error).mean()),
                "r2": float(1 - (error**2).mean() / true[has].var()),
            }
    return figures
