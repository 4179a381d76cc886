"""The recipe of a generator that does not learn, read without loading what it needs."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

RECIPES = Path(__file__).parents[2] / "recipes" / "baselines"
WEIGHTS = Path(__file__).parents[2] / "weights"
AFLOW = "aflow"
"""Parents that need no file: the AFLOW prototypes (Mehl 2017), as pymatgen packages them."""

_FORMAT = 1
"""Counts up when one recipe comes to mean other designs."""

_NO_RULES = (
    "parents", "folder", "command", "count", "seed", "conditions", "at_least", "time_limit",
)  # fmt: skip
"""Settings that are not in the version: the files that they name or make are."""

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def _duration(value: Any) -> Any:
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h)\s*", value)
        if isinstance(value, str)
        else None
    )
    if found is None:
        raise ValueError("a time with its unit is wanted, such as 10 min or 2 h")
    return float(found[1]) * _SECONDS[found[2]]


class Settings(BaseModel):
    """What every kind has.

    Attributes:
        features: Name or path of the trained generator whose `features` a surrogate sees.
        elements: Symbols of the elements that may be used; None = all that `features` knows.
        exclude: Symbols of those that may not.
        max_atoms: In the primitive cell.
        contact: Least distance of two atoms, as a share of the sum of their covalent radii.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    description: str = ""
    features: str = "crystals"
    elements: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    max_atoms: Annotated[int, Field(ge=1)] = 20
    contact: Annotated[float, Field(ge=0, le=1)] = 0.6

    @property
    def dim(self) -> int:
        """Latent dimensions."""
        raise NotImplementedError


class Templates(Settings):
    """Parents whose elements are replaced.

    Attributes:
        parents: `aflow`, or a file or folder of crystals.
        distinct: Most different elements of a parent.
    """

    parents: str = AFLOW
    distinct: Annotated[int, Field(ge=1, le=12)] = 5

    @property
    def dim(self) -> int:
        """One number for the parent, one for each element."""
        return 1 + self.distinct


class Substitution(Templates):
    """Elements replaced by similar ones.

    Attributes:
        least: Substitutes with a smaller conditional probability are left out.
    """

    kind: Literal["substitution"]
    least: Annotated[float, Field(ge=0, le=1)] = 0.002


class Prototypes(Templates):
    """Every allowed element in every place."""

    kind: Literal["prototypes"]


class Genome(Settings):
    """Crystals as a chain of choices: group, Wyckoff positions, elements, coordinates, lattice.

    Attributes:
        orbits: Most orbits of a crystal.
        distinct: Most different elements.
        groups: Space group numbers to draw from; None = all.
    """

    orbits: Annotated[int, Field(ge=1, le=20)] = 8
    distinct: Annotated[int, Field(ge=1, le=12)] = 5
    groups: tuple[Annotated[int, Field(ge=1, le=230)], ...] | None = None

    @property
    def dim(self) -> int:
        """Group, number of orbits; five numbers an orbit; one an element; six of the lattice."""
        return 2 + 5 * self.orbits + self.distinct + 6


class Random(Genome):
    """Random symmetric crystals whose charges balance."""

    kind: Literal["random"]


class Genetic(Genome):
    """Crosses and mutants of a population.

    Attributes:
        parents: The population: `aflow`, or a file or folder of crystals.
        step: How far a mutant is from its parent, 0 to 1.
    """

    kind: Literal["genetic"]
    parents: str = AFLOW
    step: Annotated[float, Field(gt=0, le=1)] = 0.3


class External(Settings):
    """Crystals that another program wrote, or writes.

    Attributes:
        folder: Where they are, as CIFs or zips of CIFs, or a file that holds many. With a command,
            where they are kept once it has run.
        command: Program and arguments, in which {n}, {seed}, {out} and {conditions} are filled in.
        count: How many crystals the command is asked for.
        seed: What the command gets as seed.
        conditions: What the command gets as conditions.
        at_least: Fewer usable crystals than so many are an error.
        time_limit: Of one run of the command, in seconds; written with a unit.
    """

    kind: Literal["external"]
    folder: str
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    count: Annotated[int, Field(ge=1)] = 200
    seed: Annotated[int, Field(ge=0)] = 0
    conditions: dict[str, Any] = Field(default_factory=dict)
    at_least: Annotated[int, Field(ge=1)] = 1
    time_limit: Annotated[float, BeforeValidator(_duration)] = 3600.0

    @property
    def dim(self) -> int:
        """Which crystal."""
        return 1


KINDS: dict[str, type[Settings]] = {
    "substitution": Substitution,
    "prototypes": Prototypes,
    "random": Random,
    "genetic": Genetic,
    "external": External,
}


@dataclass(frozen=True)
class Recipe:
    """A recipe and where it stands.

    Attributes:
        name: Of its file, without the ending.
        kind: A key of `KINDS`.
        data: What the file says.
        settings: The same, checked, with defaults.
        folder: Paths in it start here.
    """

    name: str
    kind: str
    data: Mapping[str, Any]
    settings: Settings
    folder: Path

    def path(self, text: str) -> Path:
        """A path that the recipe names."""
        return (self.folder / Path(text).expanduser()).resolve()


def baseline_names() -> list[str]:
    """Names of the recipes that ship with matloop."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def is_recipe(name_or_path: str | Path) -> bool:
    """Whether a name or path is that of a baseline's recipe, going by its looks."""
    return str(name_or_path) in baseline_names() or str(name_or_path).endswith((".yaml", ".yml"))


def read_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by its name among the shipped ones, or by the path of its YAML file.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The file is not a recipe: what is wrong with it.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = RECIPES / f"{name_or_path}.yaml"
    if str(name_or_path) not in baseline_names():
        path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe of a generator at {path}")
    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind not in KINDS:
        raise ValueError(
            f"{path} is no recipe of a generator: its `kind` is one of {', '.join(KINDS)}"
        )
    try:
        settings = KINDS[kind].model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {where}: {first['msg']}") from error
    return Recipe(path.stem, kind, data, settings, path.resolve().parent)


def baseline_card(recipe: Recipe) -> dict[str, Any]:
    """A model card, with the version; reads the files that the recipe names, makes no crystal.

    Where a command has not written its crystals yet, the version is None.

    Raises:
        FileNotFoundError: A file that the recipe names is absent.
    """
    settings = recipe.settings
    named = recipe.settings.model_dump(mode="json", exclude={"description"})
    files = None
    for key in ("parents", "folder"):
        if key in named:
            files = AFLOW if named[key] == AFLOW else recipe.path(named[key])
    pending = isinstance(settings, External) and settings.command and not Path(str(files)).exists()
    sha256 = None
    if files is not None and not pending:
        sha256 = digest(aflow_file() if files == AFLOW else Path(files))
    features = {"name": settings.features, "version": _features_version(recipe)}
    rules = {key: value for key, value in named.items() if key not in _NO_RULES}
    told = {"format": _FORMAT, "recipe": rules, "features": features["version"], "data": sha256}
    version = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "name": recipe.name,
        "description": settings.description,
        "kind": "crystals",
        "baseline": recipe.kind,
        "version": None if pending else version,
        "parent": None,
        "dimensions": settings.dim,
        "recipe": {**named, "kind": recipe.kind},
        "features": features,
        "data": {} if files is None else {"file": str(files), "sha256": sha256},
    }


def features_name(recipe: Recipe) -> str:
    """Name or path of the trained generator that a recipe's features are of."""
    name = recipe.settings.features
    return str(recipe.path(name)) if name.endswith(".safetensors") else name


def _features_version(recipe: Recipe) -> str:
    """The version of the trained generator that features are of, by its card."""
    name = features_name(recipe)
    path = WEIGHTS / f"{name}.json"
    if name.endswith(".safetensors"):
        path = Path(name).with_suffix(".json")
    if not path.is_file():
        raise FileNotFoundError(
            f"the recipe {recipe.name} names features of {name}: no card at {path}"
        )
    card = json.loads(path.read_text(encoding="utf-8"))
    text = card["weights_sha256"] + json.dumps(card["recipe"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def aflow_file() -> Path:
    """The AFLOW prototypes that pymatgen ships.

    The file and not pymatgen's constant: that parses a bibliography too, which takes seconds.
    """
    package = importlib.util.find_spec("pymatgen.analysis.prototypes")
    if package is None or package.origin is None:
        raise FileNotFoundError("pymatgen.analysis.prototypes is not installed")
    return Path(package.origin).parent / "aflow_prototypes.json.gz"


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder.

    Raises:
        FileNotFoundError: There is neither.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    total = hashlib.sha256()
    if path.is_file():
        total.update(path.read_bytes())
    else:
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(file.relative_to(path).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()
