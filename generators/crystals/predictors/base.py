"""What every predictor can do: crystals to numbers, and a card that tells how far they are off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure


class PredictorError(ValueError):
    """A predictor that cannot be had: what is wrong, and in `hint` what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


class Predictor(ABC):
    """Properties of crystals, without an evaluation.

    Attributes:
        name: The name it is loaded by.
        properties: Units of what it predicts, by name, in the order of the columns.
        card: Licence, citation, data, and measured errors.
    """

    name: str
    properties: Mapping[str, str]
    card: Mapping[str, Any]

    @abstractmethod
    def predict(self, structures: Sequence[Structure]) -> np.ndarray:
        """Properties of n crystals: n x p, NaN where one cannot be told."""
