"""How like the crystals that were made a crystal is: positive-unlabelled bagging.

Nobody publishes the crystals that could not be made, so that there are positive examples (found in
nature or synthesized) and others of which nothing is known. Each of many classifiers learns to tell
the positive ones from a random draw of the others, taken for negative ([Mordelet2014]_); the mean
of their votes, 0 to 1, is what [Jang2020]_ calls the crystal-likeness score. At 0.5 and above a
crystal passes. It is no probability: how many of the unlabelled could be made is not known.

.. [Mordelet2014] F. Mordelet and J.-P. Vert, A bagging SVM to learn from positive and unlabeled
   examples. Pattern Recognition Letters 37, 201, 2014.
.. [Jang2020] J. Jang et al., Structure-based synthesizability prediction of crystals using
   partially supervised learning. Journal of the American Chemical Society 142, 18836, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Structure
from torch import Tensor

from generators.crystals.predictors.base import Predictor, PredictorError
from generators.crystals.predictors.matgl_network import NetworkPredictor
from generators.crystals.predictors.weights import read_weights
from generators.crystals.tokens import MAX_Z, element_table

State = Mapping[str, Tensor]


def describe(structures: Sequence[Structure], network: NetworkPredictor) -> np.ndarray:
    """What the classifiers see of n crystals, n x f; NaN rows where the network cannot tell.

    Mean, spread, least and largest of the elements' chemistry, how many there are and the entropy
    of their shares; the volume an atom; and the network's vector of the crystal.
    """
    rows = np.full((len(structures), 4 * element_table().shape[1] + 3), np.nan)
    for i, structure in enumerate(structures):
        if not structure.is_ordered:
            continue
        numbers = [getattr(site.specie, "Z", 0) for site in structure]
        if min(numbers) > 0 and max(numbers) <= MAX_Z:
            rows[i] = _composition(np.array(numbers), structure.volume / len(structure))
    return np.hstack([rows, network.vectors(structures)])


def _composition(numbers: np.ndarray, volume: float) -> np.ndarray:
    """Numbers of the elements (by atom) and of the volume an atom (angstrom^3)."""
    table = element_table()[numbers]
    _, counts = np.unique(numbers, return_counts=True)
    share = counts / counts.sum()
    entropy = -(share * np.log(share)).sum()
    statistics = [table.mean(0), table.std(0), table.min(0), table.max(0)]
    return np.concatenate([*statistics, [len(counts), entropy, np.log(volume)]])


def votes(state: State, x: Tensor) -> Tensor:
    """What t classifiers say of n crystals, as logits: t x n.

    Args:
        state: Their weights: `first` t x f x h, `bias` t x 1 x h, `last` t x h x 1, `shift` t x 1.
        x: n x f, or t x n x f where each sees its own.
    """
    hidden = torch.nn.functional.silu(x @ state["first"] + state["bias"])
    return (hidden @ state["last"])[..., 0] + state["shift"]


class SynthesizabilityPredictor(Predictor):
    """The mean vote of the classifiers; see the module.

    Args:
        state: See `votes`, with `mean` and `scale` (f) of what they see.
        card: Its card.
        network: Whose vectors they see.
        device: Where they run.
    """

    name = "synthesizability"

    def __init__(
        self,
        state: State,
        card: Mapping[str, Any],
        network: NetworkPredictor,
        device: torch.device | str = "cpu",
    ) -> None:
        self.card = dict(card)
        self.properties = {"synthesizability": "dimensionless"}
        self._state = {key: value.to(device) for key, value in state.items()}
        self._network, self._device = network, torch.device(device)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> SynthesizabilityPredictor:
        """Read weights, card, and the network beside them.

        Raises:
            PredictorError: A file is absent or changed, or the network is another than that whose
                vectors the classifiers learnt from.
        """
        state, card = read_weights(path)
        network = NetworkPredictor.load(path.with_name("matgl.safetensors"), device)
        if network.card["weights_sha256"] != card["network_sha256"]:
            raise PredictorError(
                f"{path} was trained on the vectors of another network than {network.name} is now",
                "train it again: python benchmarks/predictors.py train",
            )
        return cls(state, card, network, device)

    @torch.no_grad()
    def predict(self, structures: Sequence[Structure]) -> np.ndarray:
        """Scores of n crystals, n x 1; NaN for one with an element that is not known."""
        seen = torch.as_tensor(describe(structures, self._network), dtype=torch.float32)
        x = (seen.to(self._device) - self._state["mean"]) / self._state["scale"]
        scores: np.ndarray = votes(self._state, x).sigmoid().mean(0).double().cpu().numpy()
        return scores[:, None]
