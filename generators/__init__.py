"""What can a design be? Latent spaces that encode, decode and sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from generators.base import EncodeError, Generator

if TYPE_CHECKING:
    import torch

__all__ = ["EncodeError", "Generator", "generator_names", "load_generator", "trained_names"]

WEIGHTS = Path(__file__).parent / "weights"


def trained_names() -> list[str]:
    """Names of the trained generators that ship with matloop."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def generator_names() -> list[str]:
    """Names of the generators that ship with matloop, those that do not learn among them."""
    from generators.crystals.baselines.recipe import baseline_names

    return sorted([*trained_names(), *baseline_names()])


def load_generator(name_or_path: str | Path, device: torch.device | str = "cpu") -> Generator:
    """A generator by its name, or by the path of its weights or recipe.

    Args:
        name_or_path: One of `generator_names`; or the path of a `.safetensors` file, its card the
            `.json` beside it; or that of the `.yaml` recipe of one that does not learn.
        device: Where its network runs.

    Raises:
        FileNotFoundError: There is no such generator, or a file of it is absent.
        ValueError: The weights do not belong to their card, or a recipe is wrong.
    """
    from generators.crystals.baselines.load import load_baseline
    from generators.crystals.baselines.recipe import is_recipe
    from generators.crystals.generator import CrystalGenerator

    path = Path(name_or_path)
    if str(name_or_path) in trained_names():
        path = WEIGHTS / f"{name_or_path}.safetensors"
    elif is_recipe(name_or_path):
        return load_baseline(name_or_path, device)
    elif path.suffix != ".safetensors":
        raise FileNotFoundError(
            f"there is no generator {str(name_or_path)!r}; shipped are "
            f"{', '.join(generator_names()) or 'none'}, or give the path of a .safetensors file or"
            " of a .yaml recipe"
        )
    return CrystalGenerator.load(path, device)
