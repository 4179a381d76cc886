"""One key for one structure, to remember by it what was computed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure


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
