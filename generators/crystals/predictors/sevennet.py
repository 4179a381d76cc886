"""SevenNet's energies of many crystals as they stand; its weights come with the package `sevenn`.

Park et al., J. Chem. Theory Comput. 20, 4857 (2024); trained on the Materials Project's relaxations
(MPtrj), so its energies are PBE and PBE+U without corrections. The package keeps its weights in
pickles: only a file of the very hash that was tried is opened.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from generators.crystals.predictors.base import PredictorError

if TYPE_CHECKING:
    import torch
    from pymatgen.core import Structure

SEVENNET_FILES = {
    "0": (
        "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
    ),
    "0-22May2024": (
        "SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
        "5d389fafd512e6ae2830d74d0b66ffc49a55d3832653ff8e7bf7f1343013c1d1",
    ),
    "l3i5": (
        "SevenNet_l3i5/checkpoint_l3i5.pth",
        "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
    ),
}
"""Name to the file in the package and its hash (sevenn 0.13)."""

_BATCH = 8  # crystals: more are slower on a CPU


def sevennet_file(version: str = "0") -> Path:
    """The file of weights; reads nothing of it. Raises `PredictorError` without the package."""
    found = importlib.util.find_spec("sevenn")
    if found is None or found.origin is None:
        raise PredictorError("SevenNet is not installed", "pip install 'matloop[sevennet]'")
    return Path(found.origin).parent / "pretrained_potentials" / SEVENNET_FILES[version][0]


def sevennet_calculator(version: str = "0", device: torch.device | str = "cpu") -> Any:
    """ASE's calculator of a version.

    Raises:
        PredictorError: The package is absent, or its weights are others than those that were tried.
    """
    path = sevennet_file(version)
    if hashlib.sha256(path.read_bytes()).hexdigest() != SEVENNET_FILES[version][1]:
        raise PredictorError(
            f"the weights of sevennet:{version} in the installed sevenn are others than those that"
            " were tried",
            "they are pickles, so they are not opened; install sevenn 0.13",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of e3nn and torch, while they are imported
        module = importlib.import_module("sevenn.calculator")
        return module.SevenNetCalculator(str(path), device=str(device))


def energies(
    structures: Sequence[Structure],
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Energies (eV/atom) of n crystals as they stand: n; NaN for an element that it does not know.

    Without forces, and several crystals at a time: a fifth of the time of ASE's calculator.

    Args:
        structures: n crystals.
        device: Where it runs.

    Raises:
        PredictorError: As `sevennet_calculator`.
    """
    import torch
    from pymatgen.io.ase import AseAtomsAdaptor

    calculator = sevennet_calculator(device=device)
    keys = importlib.import_module("sevenn._keys")
    graphs = importlib.import_module("sevenn.atom_graph_data").AtomGraphData
    read = importlib.import_module("sevenn.train.dataload").unlabeled_atoms_to_graph
    batch = importlib.import_module("torch_geometric.data").Batch
    network = calculator.model
    network.delete_module_by_key("force_output")
    network.set_is_batch_data(True)
    found = np.full(len(structures), np.nan)
    known = set(calculator.type_map)
    able = [i for i, s in enumerate(structures) if {site.specie.Z for site in s} <= known]
    able.sort(key=lambda i: len(structures[i]))  # a batch of like sizes wastes nothing
    for start in range(0, len(able), _BATCH):
        part = able[start : start + _BATCH]
        atoms = [AseAtomsAdaptor.get_atoms(structures[i]) for i in part]
        data = [graphs.from_numpy_dict(read(a, calculator.cutoff, with_shift=False)) for a in atoms]
        with torch.no_grad():
            told = network(batch.from_data_list(data).to(device))[keys.PRED_TOTAL_ENERGY]
        found[part] = told.double().cpu().numpy() / [len(a) for a in atoms]
    return found
