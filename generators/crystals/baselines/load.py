"""Baselines by the name or path of their recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from generators.crystals.baselines.recipe import features_name, read_recipe

if TYPE_CHECKING:
    import torch

    from generators.crystals.baselines.base import Baseline


def load_baseline(name_or_path: str | Path, device: torch.device | str = "cpu") -> Baseline:
    """A generator that does not learn.

    Args:
        name_or_path: Of its recipe.
        device: Where the network of its features runs.

    Raises:
        FileNotFoundError: There is no such recipe, or a file that it names is absent.
        ValueError: The recipe is wrong, or nothing can be drawn by it.
    """
    from generators import load_generator
    from generators.crystals.baselines import symmetric, templates
    from generators.crystals.external import ExternalGenerator
    from generators.crystals.generator import CrystalGenerator

    recipe = read_recipe(name_or_path)
    trained = load_generator(features_name(recipe), device)
    if not isinstance(trained, CrystalGenerator):
        raise ValueError(
            f"the recipe {recipe.name} takes features of {trained.name}, which was not trained:"
            " name a trained generator"
        )
    kinds: dict[str, type[Baseline]] = {
        "substitution": templates.SubstitutionGenerator,
        "prototypes": templates.PrototypeGenerator,
        "random": symmetric.RandomGenerator,
        "genetic": symmetric.GeneticGenerator,
        "external": ExternalGenerator,
    }
    return kinds[recipe.kind](recipe, trained)
