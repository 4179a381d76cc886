"""Crystals of a file, row by row: one that cannot be read is told of, and the rest goes on."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from generators.crystals.dataset import cells, is_held_out, structure_of
from generators.crystals.identity import flaw, identity

MOST_ATOMS = 250


@dataclass(frozen=True)
class Row:
    """A crystal of a file.

    Attributes:
        number: Its row, from 0.
        structure: Ordered.
        columns: What else the file says of it.
    """

    number: int
    structure: Structure
    columns: Mapping[str, Any]


def read_rows(path: Path, limit: int | None = None) -> tuple[list[Row], list[str]]:
    """The crystals of a table, and what is wrong with the others.

    Args:
        path: A `.csv` or `.csv.gz` with a column `cif`, a `.json.gz` with structures, or a zip of
            CIFs.
        limit: Rows to read from the start.

    Returns:
        The rows, and a line for each that holds no ordered crystal of up to 250 atoms, or one that
        a row before it holds.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is of another kind.
    """
    rows, problems = [], []
    seen: dict[tuple[bytes, str], str] = {}
    for number, (name, crystal, columns) in enumerate(cells(path)):
        if limit is not None and number >= limit:
            break
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # remarks on the style of a CIF
                if isinstance(crystal, bytes):  # in a remark of a CIF any letter may stand
                    crystal = io.TextIOWrapper(io.BytesIO(crystal), errors="replace").read()
                found = structure_of(crystal)
            check(found)
            same = identity(found), repr({k: v for k, v in columns.items() if k != "name"})
            if (first := seen.setdefault(same, name)) != name:
                raise ValueError(f"the same as {first}, number by number: counted once")
        # pymatgen's parsers raise whatever they stumble over.
        except Exception as error:
            where = f"{path.name}{'/' if path.suffix == '.zip' else ', '}{name}"
            problems.append(
                f"{where}: {' '.join(str(error).split())[:160] or type(error).__name__}"
            )
            continue
        rows.append(Row(number, found, columns))
    return rows, problems


def check(structure: Structure) -> None:
    """Raise ValueError for a crystal that no metric can take."""
    if not structure.is_ordered:
        raise ValueError("the crystal has partly occupied sites: only ordered crystals are taken")
    if len(structure) > MOST_ATOMS:
        raise ValueError(f"the cell has {len(structure)} atoms: up to {MOST_ATOMS} are taken")
    if why := flaw(structure):
        raise ValueError(why)
    structure.remove_oxidation_states()


def held_out(rows: list[Row], card: Mapping[str, Any], path: Path) -> list[Row]:
    """The rows that a generator's card says it never saw.

    A card's recipe splits by the hash of the formula, or, where a source says so, of file and row.
    """
    share = float(card["recipe"]["held_out"])
    for source in card["recipe"].get("sources", ()):
        if path.as_posix().endswith(source["file"]) and source.get("split_by") == "row":
            return [r for r in rows if is_held_out(f"{source['file']}:{r.number}", share)]
    return [r for r in rows if is_held_out(r.structure.composition.reduced_formula, share)]


def columns_of(card: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Which columns of a file the heads of a generator predict, by the name of the head.

    As the source of this name in the card's recipe says; of another file, as any source says.
    """
    sources = (card.get("recipe") or {}).get("sources", ())
    own = [s for s in sources if path.as_posix().endswith(s["file"])]
    found: dict[str, str] = {}
    for source in own or sources:
        for head, column in source.get("properties", {}).items():
            if head not in source.get("logarithm", ()):
                found.setdefault(head, column)
    return found
