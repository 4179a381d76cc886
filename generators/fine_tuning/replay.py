"""What keeps a generator from forgetting: its training data, or what it remembers of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from generators.crystals.tokens import Tokens, tokenize
from generators.crystals.wyckoff import UndescribableError, WyckoffCrystal
from generators.fine_tuning.recipe import FineTuneError, Recipe

if TYPE_CHECKING:
    from generators.crystals.generator import CrystalGenerator


@dataclass(frozen=True)
class Replay:
    """Designs that stand for what was learnt before.

    Attributes:
        tokens: `n` crystals.
        properties: What the property heads should say of them, standardised, `n x p`.
        told: In words, where they are from.
    """

    tokens: Tokens
    properties: Tensor
    told: str


def replay(generator: CrystalGenerator, recipe: Recipe) -> Replay | None:
    """Rows of the training data where the recipe names their folder, else pseudo-replay.

    Pseudo-replay (Robins 1995; with a generator, Shin et al. 2017) has the parent decode draws from
    its prior; what the heads should say of them is what the parent's heads say.

    Raises:
        FineTuneError: The data are absent, or are not those of the generator.
    """
    if not recipe.replay:
        return None
    if recipe.data is not None:
        return _rows(generator, recipe, Path(recipe.data))
    crystals = remembered(generator.without_adapter(), recipe.replay_rows, recipe.seed + 1)
    tokens = tokenize(crystals, generator.volumes)
    return Replay(tokens, distilled(generator, tokens), f"{len(crystals)} draws of the parent")


def remembered(generator: CrystalGenerator, n: int, seed: int) -> list[WyckoffCrystal]:
    """Descriptions of `n` draws from a generator's prior, or of fewer where too many are invalid.

    Raises:
        FineTuneError: None was valid.
    """
    found: list[WyckoffCrystal] = []
    for structure in generator.sample(n, seed=seed):
        if structure is None:
            continue
        try:
            found.append(generator.crystal(structure))
        except UndescribableError:
            continue  # a draw whose symmetry is not as it was decoded, such as too many orbits
    if not found:
        raise FineTuneError(f"{generator.name} draws nothing that it could be reminded by")
    return found


@torch.no_grad()
def distilled(generator: CrystalGenerator, tokens: Tokens) -> Tensor:
    """What the property heads say of crystals, standardised, `n x p`."""
    z = generator.latent(tokens).to(generator.device, torch.float32)
    return generator.network.predict(z).float().cpu()


def _rows(generator: CrystalGenerator, recipe: Recipe, folder: Path) -> Replay:
    from generators.crystals.dataset import load_dataset

    try:
        rows = load_dataset(generator.card["recipe"], folder).rows
    except (OSError, ValueError) as error:
        raise FineTuneError(
            f"the training data of {generator.name} cannot be read: {error}; without a folder, "
            "draws of the generator stand for them"
        ) from error
    known = set(generator.card["elements"])
    usable = [r for r in rows if not r.held_out and set(r.crystal.elements) <= known]
    if not usable:
        raise FineTuneError(f"{folder} has no training rows of {generator.name}")
    order = np.random.default_rng(recipe.seed).permutation(len(usable))[: recipe.replay_rows]
    chosen = [usable[i] for i in order]
    tokens = tokenize([r.crystal for r in chosen], generator.volumes)
    names = generator.network.properties
    known_values = np.array([[r.properties.get(name, np.nan) for name in names] for r in chosen])
    scaled = (known_values - generator.card["property_mean"]) / generator.card["property_scale"]
    measured = torch.tensor(scaled, dtype=torch.float32)
    guessed = distilled(generator, tokens)
    told = f"{len(chosen)} of {len(usable)} rows of the training data"
    return Replay(tokens, torch.where(torch.isnan(measured), guessed, measured), told)
