"""CHGNet as a predictor: formation energy and magnetic moments of a crystal as it stands.

The crystal is not relaxed. Energies of the elements come with the card: those that the evaluator
`potential` counts from.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pymatgen.core import Structure

from generators.crystals.embedding import CHGNET_FILES, load_chgnet
from generators.crystals.predictors.base import Predictor

_BATCH = 64


class ChgnetPredictor(Predictor):
    """CHGNet 0.3.0 (Deng 2023).

    Args:
        card: Its card, with `element_energies` (eV/atom).
        device: Where the network runs.
    """

    name = "chgnet"

    def __init__(self, card: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        self.card = dict(card)
        self.properties = {"formation_energy": "eV/atom", "magnetic_moment": "bohr_magneton/atom"}
        self._energies: dict[str, float] = card["element_energies"]
        self._network = load_chgnet(CHGNET_FILES["0.3.0"]).to(device)
        # A gas of atoms has energies too, of each atom alone.
        self._network.graph_converter.set_isolated_atom_response("ignore")

    def predict(self, structures: Sequence[Structure]) -> np.ndarray:
        """Properties of n crystals, n x 2; NaN for one with an element that has no reference.

        The moment is the mean of the atoms' absolute ones, which CHGNet gives without a sign.
        """
        found = np.full((len(structures), 2), np.nan)
        able = [
            i
            for i, s in enumerate(structures)
            if s.is_ordered and {x.specie.symbol for x in s} <= self._energies.keys()
        ]
        if not able:
            return found
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
            told: Any = self._network.predict_structure(
                [structures[i] for i in able], task="em", batch_size=_BATCH
            )
        for i, one in zip(able, [told] if isinstance(told, dict) else told, strict=True):
            elements = [self._energies[site.specie.symbol] for site in structures[i]]
            found[i] = float(one["e"]) - np.mean(elements), float(np.abs(one["m"]).mean())
        return found
