"""What predictors say of designs, as a rule of the screen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from generators.crystals.predictors import (
    Predictor,
    load_predictor,
    predictor_card,
    predictor_names,
)
from generators.crystals.predictors.memory import RowMemory
from loop.problem import PredictedBound

if TYPE_CHECKING:
    from loop.evaluators.models import PropertyModel


class ForeignModel(Predictor):
    """A matgl model that somebody else trained, one property of each crystal.

    Args:
        model: As the evaluators load it: it gave known figures for a few known compounds.
    """

    def __init__(self, model: PropertyModel) -> None:
        self._model = model
        self.name = model.name
        self.properties = {model.metric: model.unit}
        self.card = {"name": model.name, "self_test": model.self_test}

    def predict(self, structures: Sequence[Structure]) -> np.ndarray:
        """The property of n crystals, n x 1."""
        return np.array([[self._model.predict(s)] for s in structures]).reshape(-1, 1)


def load_any(name: str) -> Predictor:
    """A predictor by its name, or a matgl model by its folder or its name on the hub.

    Raises:
        PredictorError: A predictor cannot be had.
        EvaluatorError: A model cannot be found or loaded, is a potential, or is wrong about known
            compounds.
    """
    if name in predictor_names():
        return load_predictor(name)
    from loop.evaluators.base import EvaluatorError
    from loop.evaluators.models import PropertyModel, load_model

    model = load_model(name)
    if not isinstance(model, PropertyModel):
        raise EvaluatorError(f"{name} is a potential, not a model of a property")
    return ForeignModel(model)


@cache
def _memory(predictor: str) -> RowMemory:
    """What a predictor said in this process: a search meets the same crystals again and again."""
    loaded = load_predictor(predictor)
    return RowMemory(loaded.predict, len(loaded.properties))


def predictions(structures: Sequence[Structure], bounds: Sequence[PredictedBound]) -> np.ndarray:
    """What is bounded, of n crystals: n x bounds, in the units of the bounds; NaN where unknown.

    Raises:
        PredictorError: A predictor cannot be had.
    """
    columns = []
    for bound in bounds:
        names = list(load_predictor(bound.predictor).properties)
        columns.append(_memory(bound.predictor)(structures)[:, names.index(bound.metric)])
    return np.stack(columns, axis=1) if columns else np.zeros((len(structures), 0))


def broken(
    structures: Sequence[Structure], bounds: Sequence[PredictedBound]
) -> list[tuple[str, str] | None]:
    """The first bound that each of n crystals breaks: its rule and the figure; None = none.

    A crystal of which a predictor can tell nothing breaks the bound.
    """
    found: list[tuple[str, str] | None] = []
    for row in predictions(structures, bounds):
        first = None
        for value, bound in zip(row, bounds, strict=True):
            met = value <= bound.bound if bound.op == "<=" else value >= bound.bound
            if not met:
                figure = f"{value:.3g} {bound.unit}" if np.isfinite(value) else "not known"
                first = f"predicted {bound.name}", f"{figure}, not {bound.op} {bound.bound:g}"
                break
        found.append(first)
    return found


def told(bounds: Sequence[PredictedBound]) -> list[str]:
    """What a proposal says of the predictors that it was screened by, a line each."""
    cards = {bound.predictor: predictor_card(bound.predictor) for bound in bounds}
    return [
        f"screened by the predictor {name}"
        + (f" of weights {card['weights_sha256'][:12]}" if "weights_sha256" in card else "")
        for name, card in cards.items()
    ]
