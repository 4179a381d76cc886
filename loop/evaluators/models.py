"""Interatomic potentials and property models by name: CHGNet as shipped, anything matgl by folder.

No weight is trusted for having loaded: a model that comes from outside must first give known
figures for a few known compounds (`self_test_potential`, `self_test_property`). This is not
pedantry. matgl 3 moved the aggregation of messages to the other end of an edge, and checkpoints of
matgl 2 since load without an error and give wrong energies for every compound.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from generators.crystals.embedding import CHGNET_FILES as CHGNET_FILES
from generators.crystals.embedding import load_chgnet
from loop.evaluators.base import EvaluatorError, one_line
from loop.evaluators.files import cache_folder, write_atomically

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure

MATGL_FILES = ("model.json", "model.pt", "state.pt")
# Where matgl keeps its own models; a name without an owner is looked for there.
MATGL_OWNER = "materialyze"
FIDELITIES = ("PBE", "GLLB-SC", "HSE", "SCAN")

_HUB_NAME = re.compile(r"^([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*$")
_NO_ELEMENT = frozenset({"Po", "At", "Rn", "Fr", "Ra"})


@dataclass(frozen=True)
class Potential:
    """A potential that passed its test, ready to be attached to atoms.

    Attributes:
        name: As provenance shows it, for example `chgnet:0.3.0`.
        weights_sha256: Hash of the file of weights.
        calculator: ASE calculator; energy in eV, stress in eV/A^3.
        elements: Symbols it was trained on.
        reference_set: Which of matcalc's sets of elemental crystals its energies refer to.
        packages: Name to version of what computes it.
        self_test: What was tested, and the figures; empty for weights known by their hash.
    """

    name: str
    weights_sha256: str
    calculator: Calculator
    elements: frozenset[str]
    reference_set: str
    packages: dict[str, str]
    self_test: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PropertyModel:
    """A matgl model that maps a crystal to one number.

    Attributes:
        name: The folder's or hub's name.
        weights_sha256: Hash of the file of weights.
        metric: The metric that it gives.
        unit: The metric's unit.
        predict: Crystal to number, in `unit`.
        packages: Name to version of what computes it.
        self_test: What was tested, and the figures.
    """

    name: str
    weights_sha256: str
    metric: str
    unit: str
    predict: Callable[[Structure], float]
    packages: dict[str, str]
    self_test: dict[str, Any] = field(default_factory=dict)


def is_chgnet(model: str) -> bool:
    """Tell whether `model` names a potential whose weights come with the chgnet package."""
    return model == "chgnet" or model.startswith("chgnet:")


def check_model_name(model: str) -> None:
    """Refuse a model that cannot be had, without loading it.

    Imports nothing heavy and asks no network; a name that may be on the hub passes.

    Raises:
        EvaluatorError: If CHGNet has no such version, or the folder lacks files.
    """
    from loop.evaluators.sevennet import check_sevennet, is_sevennet

    if is_chgnet(model):
        _chgnet_version(model)
    elif is_sevennet(model):
        check_sevennet(model)
    else:
        _local_matgl(model)


def load_model(
    model: str,
    *,
    metric: str | None = None,
    unit: str | None = None,
    fidelity: str = "PBE",
) -> Potential | PropertyModel:
    """Load a model and test it.

    Args:
        model: `chgnet`, `chgnet:0.3.0`, `chgnet:r2scan`, `sevennet`, `sevennet:l3i5`, the folder of
            a matgl checkpoint, or the name of one on the Hugging Face hub (`name` or `owner/name`).
        metric: For property models: the metric, where the model's name does not tell.
        unit: For property models: the unit of `metric`.
        fidelity: For multi-fidelity property models: one of `FIDELITIES`.

    Raises:
        EvaluatorError: If it cannot be found or loaded, or gives wrong figures.
    """
    from loop.evaluators.sevennet import is_sevennet, load_sevennet

    if is_chgnet(model):
        return _load_chgnet(_chgnet_version(model))
    if is_sevennet(model):
        return load_sevennet(model)
    folder = fetch_matgl(model)
    return _load_matgl(folder, model, metric=metric, unit=unit, fidelity=fidelity)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Silence what chgnet, matgl and matcalc say when imported, and keep them off the network.

    matcalc asks the Hugging Face hub for the list of matgl's models at every import, with 25 s of
    retries where there is no network; nothing here uses that list.
    """
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.filterwarnings(
                "ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning
            )
            import chgnet.model  # noqa: F401
            import matcalc  # noqa: F401
            import matgl  # noqa: F401

            yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
        # The hub's client keeps what it read when it was imported, perhaps just now.
        if constants := sys.modules.get("huggingface_hub.constants"):
            constants.HF_HUB_OFFLINE = _is_set(before)  # type: ignore[attr-defined]


def _is_set(value: str | None) -> bool:
    return (value or "").upper() in ("1", "ON", "YES", "TRUE")


@contextlib.contextmanager
def quiet_use() -> Iterator[None]:
    """Silence the known, harmless warnings of chgnet, matgl and ASE while they compute."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="logm result may be inaccurate")
        warnings.filterwarnings("ignore", message="No Pauling electronegativity for")
        # Symmetry that a relaxation keeps is a constraint, which pymatgen knows nothing of.
        warnings.filterwarnings("ignore", message="Only FixAtoms and FixCartesian is supported")
        warnings.filterwarnings(
            "ignore", message="Converting a tensor with requires_grad=True", category=UserWarning
        )
        warnings.filterwarnings(
            "ignore", message="Incompatible model version detected", category=UserWarning
        )
        warnings.filterwarnings(
            "ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning
        )
        yield


@cache
def package_versions(*names: str) -> dict[str, str]:
    """Return the installed versions of distributions, by name."""
    return {name: metadata.version(name) for name in names}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# CHGNet


def _chgnet_version(model: str) -> str:
    version = model.partition(":")[2] or "0.3.0"
    if version not in CHGNET_FILES:
        known = ", ".join(f"chgnet:{name}" for name in CHGNET_FILES)
        raise EvaluatorError(f"there is no potential {model!r}", f"the chgnet package has {known}")
    return version


def _load_chgnet(version: str) -> Potential:
    with quiet_imports():
        import chgnet
        from pymatgen.core import Element

        from loop.evaluators.chgnet_calculator import CHGNetCalculator

    path = Path(chgnet.__file__).parent / CHGNET_FILES[version]
    network = load_chgnet(CHGNET_FILES[version])
    return Potential(
        name=f"chgnet:{version}",
        weights_sha256=sha256_of(path),
        calculator=CHGNetCalculator(network),
        elements=frozenset(element.symbol for element in Element if element.Z <= 94) - _NO_ELEMENT,
        reference_set="MP-PBE" if version == "0.3.0" else "MatPES-r2SCAN",
        packages=package_versions("chgnet", "matcalc", "ase", "torch", "pymatgen"),
    )


# matgl


def _local_matgl(model: str) -> Path | None:
    """Return the folder `model` names, None if it may be a name on the hub."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        missing = [name for name in MATGL_FILES if not (folder / name).is_file()]
        if missing:
            raise EvaluatorError(
                f"the folder {folder} is no matgl checkpoint: it lacks {', '.join(missing)}",
                f"a checkpoint holds {', '.join(MATGL_FILES)}",
            )
        return folder
    if not _HUB_NAME.match(model):
        raise EvaluatorError(
            f"there is no folder {folder}",
            "give `chgnet`, the folder of a matgl checkpoint, or its name on the Hugging Face hub",
        )
    return None


def fetch_matgl(model: str) -> Path:
    """Return the folder of a matgl checkpoint, downloading it from the hub where needed.

    Raises:
        EvaluatorError: Names what was tried and why it failed.
    """
    local = _local_matgl(model)
    if local is not None:
        return local
    with quiet_imports():
        from huggingface_hub import hf_hub_download

    repository = model if "/" in model else f"{MATGL_OWNER}/{model}"
    cache_dir = Path.home() / ".cache" / "matgl"
    try:
        files = [
            hf_hub_download(repository, name, cache_dir=cache_dir, etag_timeout=5)
            for name in MATGL_FILES
        ]
    # The hub's client raises errors of four libraries (its own, httpx, OSError, ValueError).
    except Exception as error:
        offline = _is_set(os.environ.get("HF_HUB_OFFLINE"))
        raise EvaluatorError(
            f"no model {model!r}: there is no such folder here, and the Hugging Face repository "
            f"{repository} gave {one_line(error, 160)}",
            (
                "HF_HUB_OFFLINE=1 is set, so only models downloaded before can be used; "
                if offline
                else ""
            )
            + "give the path of a folder with "
            + ", ".join(MATGL_FILES)
            + ", or use `chgnet`",
        ) from error
    return Path(files[0]).parent


def _load_matgl(
    folder: Path, name: str, *, metric: str | None, unit: str | None, fidelity: str
) -> Potential | PropertyModel:
    with quiet_imports():
        import matgl
        import torch
        from matgl.apps.pes import Potential as MatglPotential
        from matgl.data import transformer
        from matgl.ext.ase import PESCalculator

    # matgl loads with weights_only, but forgets to allow its own scalers of targets, plain classes.
    scalers: list[Any] = [
        value
        for value in vars(transformer).values()
        if isinstance(value, type) and value.__module__ == transformer.__name__
    ]
    try:
        with quiet_use(), torch.serialization.safe_globals(scalers):
            network = matgl.load_model(folder)
    # matgl wraps whatever went wrong into RuntimeError or ValueError and keeps the cause.
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        cause = error.__cause__ or error
        raise EvaluatorError(
            f"matgl {metadata.version('matgl')} cannot load {name}: {one_line(cause, 200)}",
            "the checkpoint may be of an older matgl; look for a newer one",
        ) from error
    weights = sha256_of(folder / "state.pt")
    packages = package_versions("matgl", "matcalc", "ase", "torch", "pymatgen")
    short = Path(name).name or name
    if isinstance(network, MatglPotential):
        elements = frozenset(cast("Any", network.model).element_types)
        calculator = PESCalculator(potential=network, stress_unit="eV/A3", use_voigt=True)
        report = recall(weights, packages) or self_test_potential(calculator, elements, name)
        remember(weights, packages, report)
        return Potential(
            name=f"matgl:{short}",
            weights_sha256=weights,
            calculator=calculator,
            elements=elements,
            reference_set="MatPES-r2SCAN" if "r2scan" in short.lower() else "MatPES-PBE",
            packages=packages,
            self_test=report,
        )
    metric, unit = _property_of(short, metric, unit)
    predict = _predictor(network, fidelity)
    report = self_test_property(predict, metric, name)
    return PropertyModel(
        name=f"matgl:{short}",
        weights_sha256=weights,
        metric=metric,
        unit=unit,
        predict=predict,
        packages=packages,
        self_test=report,
    )


def _property_of(name: str, metric: str | None, unit: str | None) -> tuple[str, str]:
    folded = name.lower()
    known = {"eform": ("formation_energy", "eV/atom"), "bandgap": ("band_gap", "eV")}
    for part, (its_metric, its_unit) in known.items():
        if part in folded and metric in (None, its_metric):
            return its_metric, unit or its_unit
    if metric is None or unit is None:
        raise EvaluatorError(
            f"the name of the model {name} does not tell what property it predicts",
            "say `property: NAME` and `unit: UNIT` under `evaluate`",
        )
    return metric, unit


def _predictor(network: Any, fidelity: str) -> Callable[[Structure], float]:
    import torch

    inner = getattr(network, "model", network)
    state = None
    if getattr(inner, "ntypes_state", None) or getattr(
        getattr(inner, "embedding", None), "ntypes_state", None
    ):
        if fidelity not in FIDELITIES:
            raise EvaluatorError(
                f"there is no fidelity {fidelity!r}", f"one of {', '.join(FIDELITIES)}"
            )
        state = torch.tensor([FIDELITIES.index(fidelity)])

    def predict(structure: Structure) -> float:
        with quiet_use():
            answer = network.predict_structure(structure, state_attr=state)
        return float(torch.as_tensor(answer).reshape(-1)[0])

    return predict


# The numeric self-test


@dataclass(frozen=True)
class _Known:
    """A compound and the windows its figures must lie in (eV/atom; PBE, r2SCAN and experiment)."""

    formula: str
    formation_energy: tuple[float, float]
    band_gap: tuple[float, float]

    @property
    def structure(self) -> Structure:
        from pymatgen.core import Lattice, Structure

        kind, length = {
            "MgO": ("Fm-3m", 4.23),
            "NaCl": ("Fm-3m", 5.66),
            "SiC": ("F-43m", 4.37),
            "TiN": ("Fm-3m", 4.24),
            "AlN": ("F-43m", 4.39),
        }[self.formula]
        symbols = re.findall("[A-Z][a-z]?", self.formula)
        second = [0.5, 0.5, 0.5] if kind == "Fm-3m" else [0.25, 0.25, 0.25]
        conventional = Structure.from_spacegroup(
            kind, Lattice.cubic(length), symbols, [[0, 0, 0], second]
        )
        return conventional.get_primitive_structure()


# Windows around Materials Project PBE with and without corrections, r2SCAN and experiment
# (formation energies: MgO -2.7 to -3.1, NaCl -1.8 to -2.1, SiC -0.2 to -0.3, TiN -1.7 to -1.9,
# zincblende AlN -1.3 to -1.6 eV/atom). The nitrides tell a wrong model most clearly: checkpoints of
# matgl 2 under matgl 4 are 1 eV/atom off there, while rock salts may come out half right.
_KNOWN = (
    _Known("MgO", (-3.6, -2.2), (3.0, 9.0)),
    _Known("NaCl", (-2.5, -1.4), (3.5, 9.5)),
    _Known("SiC", (-0.7, 0.2), (0.8, 3.5)),
    _Known("TiN", (-2.4, -1.3), (-0.2, 0.5)),
    _Known("AlN", (-2.0, -0.9), (2.5, 6.5)),
)


def elemental_crystals(reference_set: str) -> dict[str, list[Structure]]:
    """Return matcalc's elemental crystals.

    Args:
        reference_set: `MP-PBE`, `MatPES-PBE` or `MatPES-r2SCAN`.
    """
    with quiet_imports():
        from matcalc import EnergeticsCalc
    table = EnergeticsCalc(
        cast("Any", None), elemental_refs=cast("Any", reference_set)
    ).elemental_refs
    return {
        symbol: entry["structure"] if isinstance(entry["structure"], list) else [entry["structure"]]
        for symbol, entry in table.items()
    }


def self_test_potential(
    calculator: Calculator, elements: frozenset[str], name: str
) -> dict[str, Any]:
    """Refuse a potential that is wrong about known compounds.

    Formation energies from energies at known geometries (not relaxed), and each compound's energy
    must rise when its lattice is stretched or squeezed by 5 %.

    Returns:
        The figures, for provenance.

    Raises:
        EvaluatorError: Names the compound, the figure and the window.
    """
    from pymatgen.io.ase import AseAtomsAdaptor

    def energy(structure: Structure) -> float:
        atoms = AseAtomsAdaptor.get_atoms(structure)
        atoms.calc = calculator
        with quiet_use():
            return float(atoms.get_potential_energy()) / len(atoms)

    crystals = elemental_crystals("MatPES-PBE")
    figures: dict[str, float] = {}
    for known in _KNOWN:
        structure = known.structure
        symbols = {element.symbol for element in structure.composition}
        if not symbols <= elements:
            continue
        whole = energy(structure)
        formation = whole - sum(
            energy(crystals[element.symbol][0]) * amount / len(structure)
            for element, amount in structure.composition.items()
        )
        low, high = known.formation_energy
        if not low <= formation <= high:
            raise EvaluatorError(
                f"the potential {name} loads but fails its self-test: formation energy of "
                f"{known.formula} {formation:.2f} eV/atom, which must lie between {low} and {high}",
                "the checkpoint does not fit the installed matgl (one of matgl 2 loads under 4 "
                "and is wrong); use `chgnet` or a checkpoint of this version",
            )
        for factor in (0.95, 1.05):
            strained = structure.copy()
            strained.scale_lattice(structure.volume * factor**3)
            if energy(strained) <= whole:
                raise EvaluatorError(
                    f"the potential {name} loads but fails its self-test: the energy of "
                    f"{known.formula} falls when its lattice is scaled by {factor}",
                    "use `chgnet` or a checkpoint made for the installed matgl",
                )
        figures[known.formula] = round(formation, 4)
    return {"quantity": "formation energy, eV/atom", "figures": figures}


def self_test_property(
    predict: Callable[[Structure], float], metric: str, name: str
) -> dict[str, Any]:
    """Refuse a property model that is wrong about known compounds.

    Returns:
        The figures, for provenance; without figures where no test is known for the metric.

    Raises:
        EvaluatorError: Names the compound, the figure and the window.
    """
    if metric not in ("formation_energy", "band_gap"):
        return {"quantity": metric, "figures": {}}
    figures = {}
    for known in _KNOWN:
        value = predict(known.structure)
        low, high = known.formation_energy if metric == "formation_energy" else known.band_gap
        if not low <= value <= high:
            raise EvaluatorError(
                f"the model {name} loads but fails its self-test: {metric} of {known.formula} is "
                f"{value:.2f}, which must lie between {low} and {high}",
                "the checkpoint does not fit the installed matgl (one of matgl 2 loads under 4 "
                "and is wrong); use a checkpoint of this version",
            )
        figures[known.formula] = round(value, 4)
    return {"quantity": metric, "figures": figures}


# What is remembered between processes


def _test_record(weights: str, packages: dict[str, str]) -> Path:
    versions = "-".join(
        f"{name}{packages[name]}" for name in ("matgl", "sevenn", "torch") if name in packages
    )
    return cache_folder() / "potentials" / weights[:16] / f"self-test-{versions}.json"


def recall(weights: str, packages: dict[str, str]) -> dict[str, Any] | None:
    """What the self-test of these weights said on this machine; None where it was never made."""
    path = _test_record(weights, packages)
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None  # never tested here, or a torn record: test (again)
    return record


def remember(weights: str, packages: dict[str, str], report: dict[str, Any]) -> None:
    """Keep what the self-test of these weights said."""
    path = _test_record(weights, packages)
    if path.exists():
        return
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(report))
