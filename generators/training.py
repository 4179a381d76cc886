"""Training and evaluating generators from recipes and files."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from generators.crystals.dataset import Dataset, Row
    from generators.crystals.generator import CrystalGenerator
    from generators.crystals.prior import FittedPrior
    from generators.crystals.training import Trained

RECIPES = Path(__file__).parent / "recipes"
PRIOR_SAMPLES = 1000


def load_recipe(name_or_path: str | Path) -> dict[str, Any]:
    """A training recipe by its name among the shipped ones, or by its path.

    Raises:
        FileNotFoundError: There is no such recipe.
        ValueError: The file is not a recipe.
    """
    path = RECIPES / f"{name_or_path}.yaml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise FileNotFoundError(f"there is no recipe {str(name_or_path)!r}; shipped: {shipped}")
    recipe = YAML(typ="safe", pure=True).load(path.read_text())
    wanted = {"name", "max_atoms", "held_out", "seed", "network", "training", "sources"}
    if not isinstance(recipe, dict) or not wanted <= set(recipe):
        raise ValueError(f"{path} is no recipe: it needs the keys {', '.join(sorted(wanted))}")
    _check_network(path, recipe["network"])
    if recipe["network"].get("settler") and "settling" not in recipe["training"]:
        raise ValueError(f"{path}: its network has a `settler`, but its training no `settling`")
    return recipe


def _check_network(path: Path, network: Any) -> None:
    """Refuse sizes that no network can have, before hours of training."""
    from dataclasses import asdict

    from generators.crystals.network import Size

    known = asdict(Size())
    if not isinstance(network, dict):
        raise ValueError(f"{path}: `network` must name sizes, as `latent: 48`")
    for name, value in network.items():
        if name not in known:
            raise ValueError(f"{path}: `network` has no `{name}`, only {', '.join(known)}")
        wanted = type(known[name])
        if type(value) is not wanted or value < 0:
            word = "yes or no" if wanted is bool else "a whole number, 0 or more"
            raise ValueError(f"{path}: `network: {{{name}: {value}}}` must be {word}")


def check_device(device: str) -> None:
    """Whether there is a device to train on. Raises `ValueError` with what torch says of it."""
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises both where one is absent
        raise ValueError(str(error).splitlines()[0]) from error


def train_generator(
    recipe: str | Path,
    data: Path,
    out: Path,
    device: str = "cpu",
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    workers: int = 2,
    note: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a generator and write its weights and card.

    Args:
        recipe: Name or path of a recipe.
        data: Folder that holds the files of the recipe.
        out: Path of the `.safetensors` file; the card goes beside it.
        device: Where to train.
        on_epoch: Called with the epoch and its mean losses.
        workers: Processes that read and match crystals.
        note: Called with lines on rows that are left out.

    Returns:
        The path of the weights.

    Raises:
        FileNotFoundError: The recipe or a file of it is absent.
        ValueError: The recipe is not one.
    """
    from generators.crystals.dataset import load_dataset
    from generators.crystals.prior_training import fit_prior
    from generators.crystals.training import train

    plan = load_recipe(recipe)
    dataset = load_dataset(plan, data, workers, note)
    rows = [row for row in dataset.rows if not row.held_out]
    trained = train(plan, rows, device, on_epoch)
    prior = fit_prior(trained, plan, rows, device, on_epoch) if "prior" in plan else None
    write(trained, plan, dataset, out, workers, prior)
    return out


def refit_prior(
    weights: Path,
    data: Path,
    out: Path,
    recipe: str | Path | None = None,
    device: str = "cpu",
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    workers: int = 2,
) -> Path:
    """Fit the learnt prior of a trained generator, and write both as another version.

    Args:
        weights: The generator's `.safetensors` file; it stays as it is.
        data: Folder that holds the files of its recipe.
        out: Path of the `.safetensors` file to write; the card goes beside it.
        recipe: Name or path of the recipe whose part `prior` is taken; else the generator's own,
            or that of the shipped recipe `crystals`.
        device: Where to train.
        on_epoch: Called with every 500 steps and their mean loss.
        workers: Processes that read and match crystals.

    Returns:
        The path of the weights.

    Raises:
        FileNotFoundError: A file is absent.
        ValueError: The recipe has no part `prior`, or the weights are not those of their card.
    """
    import numpy as np

    from generators.crystals.dataset import load_dataset
    from generators.crystals.generator import CrystalGenerator
    from generators.crystals.prior_training import fit_prior
    from generators.crystals.training import Trained

    generator = CrystalGenerator.load(weights, device)
    plan = dict(generator.card["recipe"])
    if recipe is not None or "prior" not in plan:
        given = load_recipe(recipe or "crystals")
        if "prior" not in given:
            raise ValueError(f"the recipe {recipe} has no part `prior`")
        plan["prior"] = given["prior"]
    dataset = load_dataset(plan, data, workers)
    trained = Trained(
        generator.network, generator.volumes, np.array(generator.card["property_mean"]),
        np.array(generator.card["property_scale"]), tuple(generator.card["elements"]),
        generator.card["minutes"],
    )  # fmt: skip
    rows = [row for row in dataset.rows if not row.held_out]
    prior = fit_prior(trained, plan, rows, device, on_epoch)
    card = {**generator.card, "recipe": plan}
    if generator.learnt_prior is not None or weights.resolve() != out.resolve():
        card["parent"] = generator.version
    from generators.crystals.metrics import evaluate_prior

    with tempfile.TemporaryDirectory(prefix="matloop-") as place:
        draft = Path(place) / out.name
        prior = _calibrated(trained, card, prior, dataset, draft)
        made = CrystalGenerator.load(draft)
        card["metrics"] = {**card["metrics"], "prior": evaluate_prior(made, PRIOR_SAMPLES)}
    CrystalGenerator.save(trained, card, out, prior=prior)
    return out


def _calibrated(
    trained: Trained, card: dict[str, Any], prior: FittedPrior, dataset: Dataset, out: Path
) -> FittedPrior:
    """Write a generator, and calibrate how well it knows latent vectors by what was written."""
    from dataclasses import replace

    from generators.crystals.familiarity import calibrate
    from generators.crystals.generator import CrystalGenerator
    from generators.crystals.tokens import tokenize

    CrystalGenerator.save(trained, card, out, prior=prior)
    generator = CrystalGenerator.load(out)
    known = set(generator.card["elements"])
    held = [
        row.crystal for row in dataset.rows if row.held_out and set(row.crystal.elements) <= known
    ]
    found = calibrate(generator, generator.latent(tokenize(held, generator.volumes)))
    return replace(prior, told={**prior.told, "familiarity": found})


def write(
    trained: Trained,
    recipe: dict[str, Any],
    dataset: Dataset,
    out: Path,
    workers: int = 2,
    prior: FittedPrior | None = None,
) -> None:
    """Write weights and card, with the metrics of what was written, half precision and all."""
    from generators.crystals.generator import CrystalGenerator

    held = [row for row in dataset.rows if row.held_out]
    card: dict[str, Any] = {
        "name": recipe["name"],
        "description": recipe.get("description", ""),
        "kind": "crystals",
        "parent": None,
        "recipe": recipe,
        "data": {
            "sha256": dataset.sha256,
            "rows": len(dataset.rows) - len(held),
            "held_out_rows": len(held),
            "skipped": dict(dataset.skipped),
            "sources": [
                {k: s[k] for k in ("file", "licence", "citation")} for s in recipe["sources"]
            ],
        },
        "trained_with": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "pymatgen", "moyopy")},
        },
        "metrics": {},
    }
    # measured as it will be written; whoever is killed meanwhile leaves no version without metrics
    with tempfile.TemporaryDirectory(prefix="matloop-") as place:
        draft = Path(place) / out.name
        if prior is not None:
            prior = _calibrated(trained, card, prior, dataset, draft)
        CrystalGenerator.save(trained, card, draft, prior=prior)
        card["metrics"] = measure(CrystalGenerator.load(draft), held, workers)
    CrystalGenerator.save(trained, card, out, prior=prior)


def measure(generator: CrystalGenerator, held: Sequence[Row], workers: int = 2) -> dict[str, Any]:
    """Metrics of a generator on held-out rows: reconstruction by source, prior, property heads."""
    import numpy as np

    from generators.crystals.metrics import evaluate_prior, evaluate_reconstruction

    sources = sorted({row.source for row in held})
    by_source = {
        source: evaluate_reconstruction(
            generator, [r.structure for r in held if r.source == source], workers
        )
        for source in sources
    }
    everything = evaluate_reconstruction(generator, [r.structure for r in held], workers)
    # an element that only held-out rows have is beyond the heads, and a miss above
    held = [r for r in held if set(r.crystal.elements) <= set(generator.card["elements"])]
    predicted = generator.predict([r.structure for r in held])
    heads = {}
    for name, values in predicted.items():
        known = np.array([r.properties.get(name, np.nan) for r in held])
        has = ~np.isnan(known)
        if has.sum() > 2:
            error = values[has] - known[has]
            heads[name] = {
                "crystals": int(has.sum()),
                "mae": float(np.abs(error).mean()),
                "r2": float(1 - (error**2).mean() / known[has].var()),
            }
    return {
        "held_out": everything,
        "held_out_by_source": by_source,
        "prior": evaluate_prior(generator, PRIOR_SAMPLES),
        "property_heads": heads,
    }
