"""Properties of crystals without an evaluation: predictors by name.

Each has a card, `generators/weights/predictors/NAME.json`, that tells what it predicts, under which
licence, and how far it was off where that could be measured. Only the cards are read until one is
loaded.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.crystals.predictors.base import Predictor, PredictorError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Predictor",
    "PredictorError",
    "check_installed",
    "find_property",
    "load_predictor",
    "predictor_card",
    "predictor_names",
]

CARDS = Path(__file__).parents[2] / "weights" / "predictors"

_NAMES = ("matgl", "synthesizability", "chgnet", "cgcnn", "distilled")


def predictor_names() -> tuple[str, ...]:
    """Names of the predictors; of several that give a property, the first is asked for it."""
    return _NAMES


@cache
def predictor_card(name: str) -> dict[str, Any]:
    """The card of a predictor. Raises `PredictorError` where there is no such one."""
    if name not in _NAMES:
        raise PredictorError(f"there is no predictor {name!r}", f"there are {', '.join(_NAMES)}")
    card: dict[str, Any] = json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8"))
    return card


def find_property(name: str) -> tuple[str, str, str]:
    """Who predicts a property: its predictor, its name there, its unit.

    Args:
        name: `PROPERTY`, or `PREDICTOR.PROPERTY` where one of several is meant.

    Raises:
        PredictorError: There is no such property, or predictor.
    """
    wanted, _, given = name.rpartition(".")
    for predictor in [wanted] if wanted else _NAMES:
        properties = predictor_card(predictor)["properties"]
        if given in properties:
            return predictor, given, properties[given]
    asked = [wanted] if wanted else _NAMES
    known = dict.fromkeys(p for n in asked for p in predictor_card(n)["properties"])
    what = f"the predictor {wanted} does not predict" if wanted else "no predictor predicts"
    raise PredictorError(f"{what} {given}", f"predicted are {', '.join(known)}")


def check_installed(name: str) -> None:
    """Refuse a predictor whose package is absent; loads nothing.

    Raises:
        PredictorError: The package is absent, or there is no such predictor.
    """
    package = predictor_card(name).get("package")
    if package is not None and importlib.util.find_spec(package) is None:
        raise PredictorError(
            f"the predictor {name} needs the package {package}, which is not installed",
            "pip install 'matloop[predictors]', or use another predictor",
        )


@lru_cache(maxsize=8)
def load_predictor(name: str, device: torch.device | str = "cpu") -> Predictor:
    """A predictor by its name.

    Args:
        name: One of `predictor_names`.
        device: Where its networks run.

    Raises:
        PredictorError: There is no such predictor, its package or weights are absent, or it is
            wrong about a known crystal.
    """
    from generators.crystals.predictors.known import self_test

    check_installed(name)
    predictor = _load(name, predictor_card(name), device)
    self_test(predictor)
    return predictor


def _load(name: str, card: dict[str, Any], device: torch.device | str) -> Predictor:
    if name == "cgcnn":
        from generators.crystals.predictors.cgcnn import CgcnnPredictor

        return CgcnnPredictor(card, device)
    if name == "chgnet":
        from generators.crystals.predictors.chgnet import ChgnetPredictor

        return ChgnetPredictor(card, device)
    if name == "synthesizability":
        from generators.crystals.predictors.synthesizability import SynthesizabilityPredictor

        return SynthesizabilityPredictor.load(CARDS / f"{name}.safetensors", device)
    from generators.crystals.predictors.matgl_network import NetworkPredictor

    return NetworkPredictor.load(CARDS / f"{name}.safetensors", device)
