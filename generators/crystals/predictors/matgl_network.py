"""The network that was trained here, as a predictor and as an embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Structure

from generators.crystals.predictors.base import Predictor
from generators.crystals.predictors.graphs import collate, crystal_graph
from generators.crystals.predictors.network import PropertyNetwork
from generators.crystals.predictors.weights import read_weights

_BATCH = 128


class NetworkPredictor(Predictor):
    """MEGNet of matgl on formation energy, band gap and moduli; see `network`.

    Args:
        network: In evaluation mode.
        card: Its card.
        device: Where the network runs.
    """

    def __init__(
        self, network: PropertyNetwork, card: Mapping[str, Any], device: torch.device | str = "cpu"
    ) -> None:
        self.network = network.to(device).eval()
        self.card, self.name = dict(card), card["name"]
        self.device = torch.device(device)
        self._offered = card["recipe"]["properties"]
        self.properties = {name: told["unit"] for name, told in self._offered.items()}
        self._elements = frozenset(card["elements"])
        self.version = hashlib.sha256(card["weights_sha256"].encode()).hexdigest()[:16]

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> NetworkPredictor:
        """Read `NAME.safetensors` and its card. Raises `PredictorError`."""
        state, card = read_weights(path)
        network = PropertyNetwork(len(card["heads"]), card["recipe"]["network"])
        network.load_state_dict(state)
        return cls(network, card, device)

    def predict(self, structures: Sequence[Structure]) -> np.ndarray:
        """Properties of n crystals, n x p; NaN for one with an element that it never saw."""
        heads = dict(zip(self.card["heads"], self.heads(structures).T, strict=True))
        columns = []
        for told in self._offered.values():
            values = heads[told["head"]]
            if told["head"].startswith("log_"):
                values = np.exp(values)
            columns.append(np.maximum(values, told.get("least", -np.inf)))
        return np.stack(columns, axis=1)

    def heads(self, structures: Sequence[Structure]) -> np.ndarray:
        """What every head gives of n crystals, logarithms and all: n x heads."""
        standard, _ = self._run(structures)
        values: np.ndarray = standard * np.array(self.card["scale"]) + np.array(self.card["mean"])
        return values

    def vectors(self, structures: Sequence[Structure]) -> np.ndarray:
        """What the heads read of n crystals: n x 64."""
        return self._run(structures)[1]

    @torch.no_grad()
    def _run(self, structures: Sequence[Structure]) -> tuple[np.ndarray, np.ndarray]:
        """Standardised properties and vectors; NaN rows where an element is not known."""
        vectors = np.full((len(structures), self.network.heads.in_features), np.nan)
        standard = np.full((len(structures), self.network.heads.out_features), np.nan)
        able = [i for i, s in enumerate(structures) if self._knows(s)]
        cutoff = self.card["recipe"]["network"]["cutoff"]
        for start in range(0, len(able), _BATCH):
            part = able[start : start + _BATCH]
            graphs = [crystal_graph(structures[i], cutoff) for i in part]
            found = self.network(collate(graphs, self.device))
            standard[part], vectors[part] = (x.double().cpu().numpy() for x in found)
        return standard, vectors

    def _knows(self, structure: Structure) -> bool:
        return (
            structure.is_ordered
            and {getattr(s.specie, "Z", 0) for s in structure} <= self._elements
        )
