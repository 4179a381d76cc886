"""What can a design be? Latent spaces that encode, decode and sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from generators.base import EncodeError, Generator

if TYPE_CHECKING:
    import torch

__all__ = ["EncodeError", "Generator", "generator_names", "load_generator"]

WEIGHTS = Path(__file__).parent / "weights"


def generator_names() -> list[str]:
    """Names of the generators that ship with matloop."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load_generator(name_or_path: str | Path, device: torch.device | str = "cpu") -> Generator:
    """A generator by its name, or by the path of its `.safetensors` file.

    Args:
        name_or_path: One of `generator_names`, or a path; its card is the `.json` beside it.
        device: Where its network runs.

    Raises:
        FileNotFoundError: There is no such generator.
        ValueError: The weights do not belong to their card.
    """
    from generators.crystals.generator import CrystalGenerator

    path = Path(name_or_path)
    if str(name_or_path) in generator_names():
        path = WEIGHTS / f"{name_or_path}.safetensors"
    elif path.suffix != ".safetensors":
        raise FileNotFoundError(
            f"there is no generator {str(name_or_path)!r}; shipped are "
            f"{', '.join(generator_names()) or 'none'}, or give the path of a .safetensors file"
        )
    return CrystalGenerator.load(path, device)
