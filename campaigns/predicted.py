"""Bounds on what predictors say of crystals, as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from campaigns.bounds import BoundError, parse_bounds
from campaigns.spec_resolve import bound_value

if TYPE_CHECKING:
    from loop.problem import PredictedBound

FORM = "as in formation_energy <= 0 eV/atom, or chgnet.formation_energy <= 0 eV/atom"


def predicted_bounds(text: str) -> tuple[PredictedBound, ...]:
    """The bounds of one text, in the predictors' units; loads no predictor.

    Args:
        text: `PROPERTY <= NUMBER UNIT`, or `PREDICTOR.PROPERTY >= ...` where one of several
            predictors of the property is meant.

    Raises:
        BoundError: It cannot be read, nothing predicts the property, or the unit does not fit.
    """
    from generators.crystals.predictors import PredictorError, find_property
    from loop.problem import PredictedBound

    found = []
    stated = parse_bounds(text)
    if not stated:
        raise BoundError("it bounds no property", FORM)
    for bound in stated:
        try:
            predictor, metric, unit = find_property(bound.name)
        except PredictorError as error:
            raise BoundError(str(error), error.hint) from error
        value = bound_value(bound, unit, said=False)
        found.append(PredictedBound(bound.name, predictor, metric, bound.op, value, unit))
    return tuple(found)


def all_bounds(texts: Sequence[str]) -> tuple[PredictedBound, ...]:
    """The bounds of several texts.

    Raises:
        BoundError: As `predicted_bounds`; or no number meets two of them.
    """
    bounds = tuple(bound for text in texts for bound in predicted_bounds(text))
    for low in (b for b in bounds if b.op == ">="):
        for high in (b for b in bounds if b.op == "<="):
            same = (low.predictor, low.metric) == (high.predictor, high.metric)
            if same and low.bound > high.bound:
                raise BoundError(
                    f"no {low.metric} is both at least {low.bound:g} and at most {high.bound:g}"
                    f" {low.unit}",
                    "loosen one of the two",
                )
    return bounds
