"""SevenNet, whose weights come with the package `sevenn`.

Park et al., J. Chem. Theory Comput. 20, 4857 (2024); trained on the Materials Project's relaxations
(MPtrj), so its energies are PBE and PBE+U without corrections. The package keeps its weights in
pickles: only a file of the very hash that was tried is opened.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from pathlib import Path

from loop.evaluators.base import EvaluatorError
from loop.evaluators.models import (
    Potential,
    package_versions,
    quiet_imports,
    quiet_use,
    recall,
    remember,
    self_test_potential,
    sha256_of,
)

# Name to the file in the package and its hash (sevenn 0.13).
FILES = {
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


def is_sevennet(model: str) -> bool:
    """Tell whether `model` names a potential whose weights come with the sevenn package."""
    return model == "sevennet" or model.startswith("sevennet:")


def check_sevennet(model: str) -> Path:
    """Return the file of weights; reads nothing of it.

    Raises:
        EvaluatorError: There is no such version, or the package is not installed.
    """
    version = model.partition(":")[2] or "0"
    if version not in FILES:
        known = ", ".join(f"sevennet:{name}" for name in FILES)
        raise EvaluatorError(f"there is no potential {model!r}", f"the sevenn package has {known}")
    found = importlib.util.find_spec("sevenn")
    if found is None or found.origin is None:
        raise EvaluatorError("SevenNet is not installed", "pip install 'matloop[sevennet]'")
    return Path(found.origin).parent / "pretrained_potentials" / FILES[version][0]


def load_sevennet(model: str) -> Potential:
    """Load a SevenNet and test it.

    Raises:
        EvaluatorError: It is not there, its weights are others than those that were tried, or it
            gives wrong figures.
    """
    path = check_sevennet(model)
    version = model.partition(":")[2] or "0"
    weights = sha256_of(path)
    if weights != FILES[version][1]:
        raise EvaluatorError(
            f"the weights of {model} in the installed sevenn are others than those that were tried",
            "they are pickles, so they are not opened; install sevenn 0.13",
        )
    with quiet_imports(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of e3nn and torch, while they are imported
        module = importlib.import_module("sevenn.calculator")
        calculator = module.SevenNetCalculator(str(path), device="cpu")
    from ase.data import chemical_symbols

    elements = frozenset(chemical_symbols[int(z)] for z in calculator.type_map)
    packages = package_versions("sevenn", "matcalc", "ase", "torch", "pymatgen")
    name = f"sevennet:{version}"
    report = recall(weights, packages)
    if report is None:
        with quiet_use():
            report = self_test_potential(calculator, elements, name)
        remember(weights, packages, report)
    return Potential(
        name=name,
        weights_sha256=weights,
        calculator=calculator,
        elements=elements,
        # One crystal an element, where MP-PBE has up to 62: minutes less for each.
        reference_set="MatPES-PBE",
        packages=packages,
        self_test=report,
    )
