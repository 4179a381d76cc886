"""Reading tables of crystals, describing them by symmetry in parallel, and splitting them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from generators.crystals.described import describe_all
from generators.crystals.identity import identity
from generators.crystals.wyckoff import UndescribableError, WyckoffCrystal


@dataclass(frozen=True)
class Row:
    """One crystal of a data set.

    Attributes:
        source: The file it comes from.
        crystal: Its symmetric description.
        properties: What is known of it, by the name of the head that predicts it.
        held_out: Whether it is kept from training.
        structure: As it stands in the file.
    """

    source: str
    crystal: WyckoffCrystal
    properties: Mapping[str, float]
    held_out: bool
    structure: Structure


@dataclass(frozen=True)
class Dataset:
    """Rows, how many could not be used, and the hash of the files."""

    rows: tuple[Row, ...]
    skipped: Mapping[str, int]
    sha256: str


_TOLD = 5  # rows of a file that hold no crystal, told one by one
_PLAIN_COLUMNS = (
    "_atom_site_type_symbol",
    "_atom_site_label",
    "_atom_site_symmetry_multiplicity",
    "_atom_site_fract_x",
    "_atom_site_fract_y",
    "_atom_site_fract_z",
)


def parse_cif(text: str) -> Structure:
    """A structure from a CIF; the plain P1 files that pymatgen writes are read directly.

    Raises:
        ValueError: The text is no CIF of an ordered crystal.
    """
    head, mark, sites = text.partition("_atom_site_occupancy\n")
    columns = tuple(re.findall(r"_atom_site_\w+", head))
    plain = (
        mark and columns == _PLAIN_COLUMNS and re.search(r"_symmetry_Int_Tables_number\s+1\s", head)
    )
    if not plain:
        return Structure.from_str(text, fmt="cif")
    cell = [
        float(re.search(rf"_cell_{name}\s+([\d.]+)", head).group(1))  # type: ignore[union-attr]
        for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    ]
    rows = [line.split() for line in sites.strip().splitlines() if line.strip()]
    if any(len(r) != 7 or float(r[6]) != 1 for r in rows):
        return Structure.from_str(text, fmt="cif")
    species = [re.sub(r"[\d+-]+$", "", r[0]) for r in rows]
    return Structure(
        Lattice.from_parameters(*cell), species, [[float(v) for v in r[3:6]] for r in rows]
    )


def read_table(
    path: Path, refused: Callable[[str, str], None] | None = None
) -> Iterator[tuple[Structure, dict[str, Any]]]:
    """Structures and their other columns from a `.csv`, `.csv.gz`, `.json.gz` or zip of CIFs.

    Args:
        path: The file.
        refused: Called with the name of a row that holds no crystal and why, and the rest goes on;
            without it such a row is an error.

    Raises:
        ValueError: The file's kind is not known, or a row holds no crystal.
    """
    for name, crystal, row in cells(path):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pymatgen tells of each rounding; failures count
                structure = structure_of(crystal)
        except Exception as error:  # of a file from anywhere pymatgen raises whatever it meets
            if refused is None:
                raise ValueError(f"{path}: {name}: {error}") from error
            refused(name, f"{type(error).__name__}: {error}")
            continue
        yield structure, row


def cells(path: Path) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Of each row of a table its name, its crystal as it stands, and its other columns.

    The crystal is the text of a CIF, its bytes in a zip, or a structure as data; `structure_of`
    reads it.

    Raises:
        ValueError: The file's kind is not known, or it has no column `cif`.
    """
    if path.name.endswith((".csv", ".csv.gz")):
        csv.field_size_limit(2**30)
        plain = path.suffix == ".csv"
        with path.open("rt", newline="") if plain else gzip.open(path, "rt", newline="") as handle:
            table = csv.DictReader(handle)
            if "cif" not in (table.fieldnames or ()):
                raise ValueError(f"{path}: there is no column `cif`")
            for number, row in enumerate(table, 1):
                yield f"row {number}", row.pop("cif") or "", row
    elif path.name.endswith(".json.gz"):
        with gzip.open(path, "rt") as handle:
            data = json.load(handle)
        if isinstance(data, dict):
            data = [dict(zip(data["columns"], row, strict=True)) for row in data["data"]]
        for number, row in enumerate(data, 1):
            yield f"row {number}", row.pop("structure", None), row
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".cif")):
                yield name, archive.read(name), {"name": name}
    else:
        raise ValueError(f"{path}: not a .csv, .csv.gz, .json.gz or .zip of CIFs")


def structure_of(crystal: Any) -> Structure:
    """A structure from what a cell holds. Raises whatever pymatgen does of what is none."""
    if isinstance(crystal, bytes):
        crystal = crystal.decode()
    return parse_cif(crystal) if isinstance(crystal, str) else Structure.from_dict(crystal)


def _readable(path: Path) -> tuple[list[tuple[Structure, dict[str, Any]]], list[str]]:
    """The rows of a table, and which hold no crystal and why."""
    broken: list[str] = []
    table = list(read_table(path, lambda name, why: broken.append(f"{name}: {why}")))
    return table, broken


def is_held_out(key: str, share: float) -> bool:
    """Whether a row is kept from training, by the hash of its key (a formula, or file and row)."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def _use(
    structures: Sequence[Structure], max_atoms: int, workers: int
) -> list[WyckoffCrystal | str]:
    """Descriptions of structures, or why one is of no use to a generator."""
    small = [i for i, s in enumerate(structures) if len(s) <= 4 * max_atoms]
    found: list[WyckoffCrystal | str] = ["too many atoms"] * len(structures)
    described = describe_all([structures[i] for i in small], workers)
    for i, crystal in zip(small, described, strict=True):
        if isinstance(crystal, UndescribableError):
            found[i] = str(crystal)
        elif crystal.atoms <= max_atoms:
            found[i] = crystal
    return found


def known_numbers(source: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
    """What a row tells of its source's heads: logarithms taken, outliers left out."""
    found = {}
    for head, column in source["properties"].items():
        try:
            value = float(row[column])
        except (TypeError, ValueError):
            continue  # not measured for this row
        low, high = source.get("range", {}).get(head, (-np.inf, np.inf))
        if not low <= value <= high:
            continue
        found[head] = float(np.log(value)) if head in source.get("logarithm", ()) else value
    return found


def load_dataset(
    recipe: Mapping[str, Any],
    folder: Path,
    workers: int = 2,
    note: Callable[[str], None] = lambda _: None,
) -> Dataset:
    """All crystals of a recipe, described by symmetry, each once where rows repeat it exactly.

    Args:
        recipe: A training recipe, as `generators/recipes/crystals.yaml`.
        folder: Where its files are.
        workers: Processes that describe crystals.
        note: Called with a line on rows that are left out: of each file, the first that hold no
            crystal, and how many others why.

    Raises:
        FileNotFoundError: A file of the recipe is absent.
    """
    paths = [folder / source["file"] for source in recipe["sources"]]
    missing = [str(p) for p in paths if not p.is_file()]
    if missing:
        raise FileNotFoundError(f"data files absent: {', '.join(missing)}")
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    sha256 = digest.hexdigest()
    rows: list[Row] = []
    skipped: dict[str, int] = {}
    for source, path in zip(recipe["sources"], paths, strict=True):
        table, broken = _readable(path)
        for line in broken[:_TOLD]:
            note(f"left out {source['file']}, {line}")
        if broken:
            skipped[f"{source['file']}: no crystal"] = len(broken)
        used = _use([structure for structure, _ in table], recipe["max_atoms"], workers)
        seen: set[tuple[Any, ...]] = set()
        for number, ((structure, columns), result) in enumerate(zip(table, used, strict=True)):
            known = known_numbers(source, columns)
            same = (identity(structure), *sorted(known.items()))
            if same in seen:
                result = "there already, number by number"
            seen.add(same)
            if isinstance(result, str):
                reason = f"{source['file']}: {result}"
                skipped[reason] = skipped.get(reason, 0) + 1
                continue
            key = structure.composition.reduced_formula
            if source.get("split_by") == "row":
                key = f"{source['file']}:{number}"
            held_out = is_held_out(key, recipe["held_out"])
            rows.append(Row(source["file"], result, known, held_out, structure))
    for reason, count in skipped.items():
        note(f"left out {count} of {reason}")
    return Dataset(tuple(rows), skipped, sha256)
