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


def cache_folder() -> Path:
    """The folder of the user's cache: MATLOOP_CACHE, or matloop in the system's cache."""
    given = os.environ.get("MATLOOP_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "matloop"
