"""One key for one structure, to remember by it what was computed; and whether it is one at all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure


def flaw(structure: Structure) -> str | None:
    """Why nothing of ours can take a structure, in a line; None where nothing speaks against it."""
    from pymatgen.core import DummySpecies

    unknown = [e.symbol for e in structure.composition.elements if isinstance(e, DummySpecies)]
    if unknown:
        return f"{', '.join(unknown)}: no element"
    if not structure.is_ordered:
        return "it is disordered; give one ordered structure"
    # files of diffusion models hold such, and pymatgen reads them as numbers
    if not (
        np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()
    ):
        return "its cell or coordinates hold what is no finite number"
    return None


def identity(structure: Structure) -> bytes:
    """32 hexadecimal characters of the exact numbers and elements of an ordered structure.

    A structure that is changed in place has another.
    """
    digest = hashlib.blake2b(
        np.ascontiguousarray(structure.lattice.matrix).tobytes(), digest_size=16
    )
    digest.update(np.ascontiguousarray(structure.frac_coords).tobytes())
    digest.update(",".join(s.species_string for s in structure).encode())
    return digest.hexdigest().encode()
