"""Files of trained predictors: weights as safetensors, a card beside them, the recipe in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from safetensors.torch import load
from torch import Tensor

from generators.crystals.predictors.base import PredictorError


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe of training.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not one.
    """
    recipe = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    if not isinstance(recipe, dict) or not {"name", "sources", "held_out", "seed"} <= set(recipe):
        raise ValueError(f"{path} is no recipe: it needs name, sources, held_out and seed")
    return recipe


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and card.

    Raises:
        PredictorError: One is absent, or they do not belong together.
    """
    files = path, path.with_suffix(".json")
    for file in files:
        if not file.is_file():
            raise PredictorError(f"predictor file absent: {file}", "install matloop again")
    content, card = files[0].read_bytes(), json.loads(files[1].read_text(encoding="utf-8"))
    digest = hashlib.sha256(content).hexdigest()
    if digest != card["weights_sha256"]:
        raise PredictorError(
            f"{path}: its SHA-256 {digest[:12]} is not that of its card,"
            f" {card['weights_sha256'][:12]}; the file was changed or cut short",
            "copy both files again, or train it again",
        )
    return load(content), card


def hash_of_files(paths: Sequence[Path]) -> str:
    """SHA-256 of files one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
