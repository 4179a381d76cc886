"""What a pretrained graph network sees in a crystal, for a surrogate to learn from.

A potential that was trained on a million crystals keeps, before its last layers, a vector of each
crystal in which similar ones are near each other. CHGNet's ([Deng2023]_) has 64 numbers, of which a
few directions hold nearly all: its principal components over crystals drawn from the generator.

.. [Deng2023] B. Deng et al., CHGNet as a pretrained universal neural network potential for
   charge-informed atomistic modelling. Nature Machine Intelligence 5, 2023.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from generators.crystals.identity import identity

if TYPE_CHECKING:
    from chgnet.model.model import CHGNet
    from pymatgen.core import Structure

    from generators.base import Generator

CHGNET_FILES = {
    "0.3.0": "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
    "r2scan": "pretrained/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
}
"""Weights that the chgnet package carries, by version, from its folder on."""

_BATCH = 64
_CACHED = 20_000
_DRAWN = 256  # crystals that the principal components come from


class ChgnetEmbedding:
    """The first principal components of CHGNet's crystal vectors, each of unit spread.

    Args:
        generator: Of crystals; its prior tells which directions matter.
        columns: How many components.
        device: Where the network runs.
    """

    def __init__(self, generator: Generator, columns: int = 6, device: str = "cpu") -> None:
        self.feature_names = tuple(f"chgnet_{i + 1}" for i in range(columns))
        self._device = device
        self._seen: OrderedDict[bytes, np.ndarray] = OrderedDict()
        drawn = [s for s in generator.sample(_DRAWN, seed=0) if s is not None]
        vectors = self._vectors(drawn)
        self._mean = vectors.mean(axis=0)
        _, sizes, directions = np.linalg.svd(vectors - self._mean, full_matrices=False)
        spread = sizes[:columns] / np.sqrt(max(1, len(drawn) - 1))
        # The sign of a component is chance: fix it, so that it is the same on every machine.
        largest = np.abs(directions).argmax(axis=1)[:columns]
        signs = np.sign(directions[np.arange(columns), largest])
        self._basis = (directions[:columns] * signs[:, None] / spread[:, None]).T

    def features(self, designs: Sequence[Structure]) -> np.ndarray:
        """Components of n crystals: n x columns, without a unit."""
        if not designs:
            return np.zeros((0, len(self.feature_names)))
        found = (self._vectors(designs) - self._mean) @ self._basis
        # The last digits of single precision hang on which crystals share a batch.
        rounded: np.ndarray = np.round(found, 4)
        return rounded

    def _vectors(self, designs: Sequence[Structure]) -> np.ndarray:
        keys = [identity(structure) for structure in designs]
        new = [i for i, key in enumerate(keys) if key not in self._seen]
        vectors = dict(zip(new, self._run([designs[i] for i in new]), strict=True))
        for i in new:
            self._seen[keys[i]] = vectors[i]
        rows = np.array([self._seen[key] for key in keys])
        while len(self._seen) > _CACHED:
            self._seen.popitem(last=False)
        return rows

    def _run(self, designs: Sequence[Structure]) -> list[np.ndarray]:
        if not designs:
            return []
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
            told: Any = _chgnet(self._device).predict_structure(
                list(designs), task="e", return_crystal_feas=True, batch_size=_BATCH
            )
        told = [told] if isinstance(told, dict) else told
        # CHGNet adds up its atoms' vectors: their mean is the same for every cell of a crystal.
        return [
            np.asarray(one["crystal_fea"], dtype=np.float64) / len(design)
            for one, design in zip(told, designs, strict=True)
        ]


@lru_cache(maxsize=2)
def _chgnet(device: str) -> CHGNet:
    network = load_chgnet(CHGNET_FILES["0.3.0"]).to(device)
    # A design may be a gas of atoms; that it has no messages is what its vector then says.
    network.graph_converter.set_isolated_atom_response("ignore")
    return network


def load_chgnet(file: str) -> CHGNet:
    """One of `CHGNET_FILES`, read without unpickling; `CHGNet.load` would unpickle it."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch.jit of an old dependency
        import chgnet
        import torch
        from chgnet.model.model import CHGNet

        path = Path(chgnet.__file__).parent / file
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]  # noqa: TID251
        # `mlp_out_bias` as CHGNet.load has it for these weights.
        return CHGNet.from_dict(state, mlp_out_bias=False, version=file.split("/")[1])
