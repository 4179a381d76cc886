"""What a pretrained graph network sees in a crystal, for a surrogate to learn from.

A network that was trained on many crystals keeps, before its last layers, a vector of each crystal
in which similar ones are near each other. CHGNet's ([Deng2023]_) and that of the network that was
trained here have 64 numbers, of which a few directions hold nearly all: their principal components
over crystals drawn from the generator.

.. [Deng2023] B. Deng et al., CHGNet as a pretrained universal neural network potential for
   charge-informed atomistic modelling. Nature Machine Intelligence 5, 2023.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from generators.base import EncodeError
from generators.crystals.predictors import load_predictor
from generators.crystals.predictors.memory import RowMemory

if TYPE_CHECKING:
    from chgnet.model.model import CHGNet
    from pymatgen.core import Structure

    from generators.base import Generator

CHGNET_FILES = {
    "0.3.0": "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
    "r2scan": "pretrained/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
}
"""Weights that the chgnet package carries, by version, from its folder on."""

PREDICTED = {
    "formation_energy": "distilled",
    "band_gap": "matgl",
    "bulk_modulus": "matgl",
    "shear_modulus": "matgl",
}
"""What is predicted of a crystal, and by which predictor.

Of energies, `matgl` knows those of crystals near the hull; a search meets others.
"""

_BATCH = 64
_MOST = 1000.0  # GPa, eV or eV/atom
_WIDTH = 64  # numbers in a vector
_DRAWN = 256  # crystals that the principal components come from


class PrincipalComponents:
    """The first principal components of vectors of crystals, each of unit spread.

    Args:
        generator: Of crystals; its prior tells which directions matter.
        vectors: n crystals to n vectors, NaN for one that cannot be told.
        name: Of the columns, which are numbered.
        columns: How many components.
    """

    def __init__(
        self,
        generator: Generator,
        vectors: Callable[[Sequence[Structure]], np.ndarray],
        name: str,
        columns: int,
    ) -> None:
        self.feature_names = tuple(f"{name}_{i + 1}" for i in range(columns))
        self.feature_units: Mapping[str, str] = {}
        self._name, self._vectors = name, RowMemory(vectors, _WIDTH)
        self._generator, self._columns = generator, columns

    @cached_property
    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the vectors and basis of the components; made when one is asked for first."""
        drawn = self._vectors([s for s in self._generator.sample(_DRAWN, seed=0) if s is not None])
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        mean, columns = drawn.mean(axis=0), self._columns
        _, sizes, directions = np.linalg.svd(drawn - mean, full_matrices=False)
        spread = sizes[:columns] / np.sqrt(max(1, len(drawn) - 1))
        # The sign of a component is chance: fix it, so that it is the same on every machine.
        largest = np.abs(directions).argmax(axis=1)[:columns]
        signs = np.sign(directions[np.arange(columns), largest])
        return mean, (directions[:columns] * signs[:, None] / spread[:, None]).T

    def features(self, designs: Sequence[Structure]) -> np.ndarray:
        """Components of n crystals: n x columns, without a unit.

        Raises:
            EncodeError: The network knows nothing of an element of a crystal.
        """
        found = self.components(designs)
        for i in np.flatnonzero(~np.isfinite(found).all(axis=1)):
            raise EncodeError(int(i), f"an element that {self._name} never saw")
        return found

    def components(self, designs: Sequence[Structure]) -> np.ndarray:
        """As `features`; NaN of a crystal with an element that the network does not know."""
        mean, basis = self._components
        found = (self._vectors(designs) - mean) @ basis
        # The last digits of single precision hang on which crystals share a batch.
        rounded: np.ndarray = np.round(found, 4)
        return rounded


class ChgnetEmbedding(PrincipalComponents):
    """Those of CHGNet: about 25 ms a crystal.

    Args:
        generator: Of crystals.
        columns: How many components.
        device: Where the network runs.
    """

    def __init__(self, generator: Generator, columns: int = 6, device: str = "cpu") -> None:
        def vectors(designs: Sequence[Structure]) -> np.ndarray:
            return _chgnet_vectors(designs, device)

        super().__init__(generator, vectors, "chgnet", columns)


class MatglEmbedding(PrincipalComponents):
    """Those of the predictor `matgl`: about 2 ms a crystal.

    Args:
        generator: Of crystals.
        columns: How many components.

    Raises:
        PredictorError: Its weights are absent or changed.
    """

    def __init__(self, generator: Generator, columns: int = 6) -> None:
        from generators.crystals.predictors.matgl_network import NetworkPredictor

        network = load_predictor("matgl")
        assert isinstance(network, NetworkPredictor)
        super().__init__(generator, network.vectors, "matgl", columns)


class PredictedProperties:
    """What predictors say of crystals, by which metrics are foretold: 3 ms a crystal.

    Unlike the generator's heads, which read a latent vector, they see where atoms are. Of a crystal
    with an element that one never saw, the heads speak.

    Args:
        generator: Of crystals; one that `suits`.

    Raises:
        PredictorError: Weights are absent or changed.
    """

    def __init__(self, generator: Generator) -> None:
        networks = {name: load_predictor(name) for name in dict.fromkeys(PREDICTED.values())}
        self._generator = generator
        names = list(generator.feature_names)
        self._heads = [names.index(f"predicted_{p}") for p in PREDICTED]

        def told(designs: Sequence[Structure]) -> np.ndarray:
            of = {name: network.predict(designs) for name, network in networks.items()}
            columns = [
                of[name][:, list(networks[name].properties).index(p)]
                for p, name in PREDICTED.items()
            ]
            return np.stack(columns, axis=1)

        self._rows = RowMemory(told, len(PREDICTED))
        self.feature_names = tuple(f"{name}.predicted_{p}" for p, name in PREDICTED.items())
        self.feature_units: Mapping[str, str] = {
            f"{name}.predicted_{p}": networks[name].properties[p] for p, name in PREDICTED.items()
        }

    @staticmethod
    def suits(generator: Generator) -> bool:
        """Whether a generator's heads learnt the properties that the predictor tells."""
        return {f"predicted_{p}" for p in PREDICTED} <= set(generator.feature_names)

    def features(self, designs: Sequence[Structure]) -> np.ndarray:
        """Predicted properties of n crystals, n x p, in the units of `feature_units`."""
        found = self._rows(designs)
        lost = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(lost):
            own = self._generator.features([designs[i] for i in lost.tolist()])
            found[lost] = np.asarray(own)[:, self._heads]
        # Beyond what any crystal has; a logarithm that runs away would be a feature without end.
        rounded: np.ndarray = np.round(np.clip(found, -_MOST, _MOST), 4)
        return rounded


def _chgnet_vectors(designs: Sequence[Structure], device: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
        told: Any = _chgnet(device).predict_structure(
            list(designs), task="e", return_crystal_feas=True, batch_size=_BATCH
        )
    told = [told] if isinstance(told, dict) else told
    # CHGNet adds up its atoms' vectors: their mean is the same for every cell of a crystal.
    return np.array(
        [
            np.asarray(one["crystal_fea"], dtype=np.float64) / len(design)
            for one, design in zip(told, designs, strict=True)
        ]
    )


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
