"""Crystals from a person's CIF file: one ordered crystal of a sane size, or one clear error.

The size is found out before anything is built. A CIF of two kilobytes can stand for ten thousand
sites, which takes minutes to unfold: each site is repeated by each symmetry operation.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.errors import InputErrors, Problem
from campaigns.text_file import read_text

if TYPE_CHECKING:
    from pymatgen.core import Structure

MOST_BYTES = 2**20
MOST_SITES = 2000

_SITES = ("_atom_site_fract_x", "_atom_site_Cartn_x", "_atom_site_label", "_atom_site_type_symbol")


def read_cif(path: str | Path, max_sites: int = MOST_SITES) -> Structure:
    """Read the one crystal of a CIF file.

    Args:
        path: The file.
        max_sites: Largest number of sites that it may stand for, in the cell it gives.

    Raises:
        InputErrors: It cannot be read, holds no ordered crystal, or is too large.
    """
    return parse_cif(read_text(Path(path), MOST_BYTES), str(path), max_sites)


def parse_cif(text: str, where: str, max_sites: int = MOST_SITES) -> Structure:
    """The same for text that is at hand; `where` is what errors name. Raises `InputErrors`."""
    from pymatgen.io.cif import CifFile, CifParser

    from generators.crystals.identity import flaw

    with warnings.catch_warnings():
        # pymatgen tells of every rounding and every missing key by a warning; only failure counts.
        warnings.simplefilter("ignore")
        try:
            parser = CifParser.from_str(text)
            every = CifFile.from_str(text).data.values()
            blocks = [block for block in every if any(name in block.data for name in _SITES)]
            operations = [len(parser.get_symops(block)) for block in blocks]
        # The parser raises whatever it stumbles over: each means that this is no CIF.
        except Exception as error:
            raise _refuse(where, f"the file cannot be read as CIF: {_line(error)}") from error
        if len(blocks) != 1:
            what = f"the file holds {len(blocks) or 'no'} crystal" + "s" * (len(blocks) > 1)
            raise _refuse(where, what, "one file holds one crystal")
        sites = max(_length(blocks[0].data.get(name)) for name in _SITES)
        total = sites * operations[0]
        if total > max_sites:
            raise _refuse(
                where,
                f"the file stands for up to {total:,} sites ({sites} by {operations[0]} symmetry "
                f"operations): more than {max_sites:,}",
                "write its primitive cell, with all atoms and without symmetry (P1)",
            )
        try:
            (structure,) = parser.parse_structures(primitive=False)
        except Exception as error:
            raise _refuse(
                where, f"the file holds no crystal that can be built: {_line(error)}"
            ) from error
    if not structure.is_ordered:
        raise _refuse(
            where, "the crystal has partly occupied sites", "only ordered crystals are taken"
        )
    if why := flaw(structure):
        raise _refuse(where, f"the file holds no crystal: {why}")
    return structure


def _length(value: Any) -> int:
    if value is None:
        return 0
    return len(value) if isinstance(value, list) else 1


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _refuse(where: str, what: str, hint: str | None = None) -> InputErrors:
    return InputErrors([Problem(where, what, hint)])
