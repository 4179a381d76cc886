"""Files that are either as before or complete."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_NEEDED = (
    "name", "weights_sha256", "properties", "property_mean", "property_scale", "elements",
    "atomic_volumes",
)  # fmt: skip
_NEEDED_OF_RECIPE = ("network", "max_atoms")


def replace_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is at any instant the former one or the new one, complete.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_weights(path: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write `NAME.safetensors`, and beside it `NAME.json`: the card with the weights' SHA-256.

    Each file is at any instant the former one or the new one, complete.

    Raises:
        OSError: They cannot be written.
    """
    # Late: who only writes a file needs no torch, which takes seconds to import.
    from safetensors.torch import save

    content = save({key: value.detach().cpu().contiguous() for key, value in state.items()})
    full = {**card, "weights_sha256": hashlib.sha256(content).hexdigest()}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, content)
    replace_whole(path.with_suffix(".json"), (json.dumps(full, indent=1) + "\n").encode())


def read_card(weights: Path) -> dict[str, Any]:
    """The card `NAME.json` beside weights, which are those that it tells of; no weight is loaded.

    Raises:
        FileNotFoundError: One of the two is absent.
        ValueError: It is no card, it lacks what a generator needs, or the weights are others.
    """
    path = weights.with_suffix(".json")
    for one in (weights, path):
        if not one.is_file():
            raise FileNotFoundError(f"generator file absent: {one}")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no model card: {error}") from error
    if not isinstance(card, dict) or not isinstance(card.get("recipe"), dict):
        raise ValueError(f"{path} is no model card: it has no recipe")
    lacking = [k for k in _NEEDED if k not in card]
    lacking += [f"recipe.{k}" for k in _NEEDED_OF_RECIPE if k not in card["recipe"]]
    if lacking:
        what = f"{path} lacks {', '.join(lacking)}"
        raise ValueError(f"{what}: it is the card of another version of matloop, or was changed")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != card["weights_sha256"]:
        raise ValueError(
            f"{weights}: its SHA-256 {digest[:12]} is not that of its card, "
            f"{str(card['weights_sha256'])[:12]}; the file was changed or cut short"
        )
    return card


def version_of(card: Mapping[str, Any]) -> str:
    """A trained generator's version by its card: the hash of its weights and recipe."""
    recipe = json.dumps(card["recipe"], sort_keys=True)
    return hashlib.sha256((card["weights_sha256"] + recipe).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """The folder of the user's cache: MATLOOP_CACHE, or matloop in the system's cache."""
    given = os.environ.get("MATLOOP_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "matloop"
