"""SevenNet as an evaluator's potential; where its weights come from tells `predictors.sevennet`."""

from __future__ import annotations

from pathlib import Path

from generators.crystals.predictors.base import PredictorError
from generators.crystals.predictors.sevennet import (
    SEVENNET_FILES,
    sevennet_calculator,
    sevennet_file,
)
from loop.evaluators.base import EvaluatorError
from loop.evaluators.models import (
    Potential,
    package_versions,
    quiet_imports,
    quiet_use,
    recall,
    remember,
    self_test_potential,
)


def is_sevennet(model: str) -> bool:
    """Tell whether `model` names a potential whose weights come with the sevenn package."""
    return model == "sevennet" or model.startswith("sevennet:")


def _version(model: str) -> str:
    return model.partition(":")[2] or "0"


def check_sevennet(model: str) -> Path:
    """Return the file of weights; reads nothing of it.

    Raises:
        EvaluatorError: There is no such version, or the package is not installed.
    """
    if _version(model) not in SEVENNET_FILES:
        known = ", ".join(f"sevennet:{name}" for name in SEVENNET_FILES)
        raise EvaluatorError(f"there is no potential {model!r}", f"the sevenn package has {known}")
    try:
        return sevennet_file(_version(model))
    except PredictorError as error:
        raise EvaluatorError(str(error), error.hint) from error


def load_sevennet(model: str) -> Potential:
    """Load a SevenNet and test it.

    Raises:
        EvaluatorError: It is not there, its weights are others than those that were tried, or it
            gives wrong figures.
    """
    check_sevennet(model)
    version = _version(model)
    try:
        with quiet_imports():
            calculator = sevennet_calculator(version)
    except PredictorError as error:
        raise EvaluatorError(str(error), error.hint) from error
    from ase.data import chemical_symbols

    weights = SEVENNET_FILES[version][1]  # as the loader has checked
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
