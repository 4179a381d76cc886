"""What of a crystal comes back from its latent vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from generators.base import EncodeError, Generator
from generators.crystals.metrics.figures import Figure, average, share, wilson
from generators.crystals.metrics.validity import composition_validity
from generators.crystals.parallel import spread


def _rms(pair: tuple[Structure, Structure | None]) -> float | None:
    """RMS distance (normalised, as StructureMatcher's) of two structures, None without a match."""
    truth, guess = pair
    if guess is None or guess.composition.reduced_formula != truth.composition.reduced_formula:
        return None
    found = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3).get_rms_dist(guess, truth)
    return None if found is None else float(found[0])


def reconstruct(
    generator: Generator, structures: Sequence[Structure], workers: int = 2
) -> tuple[list[Structure | None], list[float | None], int]:
    """Encode and decode structures, and match what comes back.

    The matcher's settings (stol 0.5, angle_tol 10, ltol 0.3) are those of Xie et al. (2022).

    Returns:
        What was decoded of each structure, its normalised RMS distance where it matches, and how
        many structures could be encoded at all.
    """
    places = []
    for i, structure in enumerate(structures):
        try:
            generator.embed([structure])
        except EncodeError:
            continue
        places.append(i)
    decoded: list[Structure | None] = [None] * len(structures)
    if places:
        again = generator.decode(generator.encode([structures[i] for i in places]))
        for i, design in zip(places, again, strict=True):
            decoded[i] = design
    rms = spread(_rms, zip(structures, decoded, strict=True), workers, chunk=16)
    return decoded, rms, len(places)


def evaluate_reconstruction(
    generator: Generator, structures: Sequence[Structure], workers: int = 2
) -> dict[str, Any]:
    """What a model card tells of reconstruction; see `reconstruct`.

    What cannot be encoded counts as not matched.

    Returns:
        Counts, the match rate with its 95 % Wilson interval, and the mean normalised RMS distance.
    """
    decoded, found, encoded = reconstruct(generator, structures, workers)
    rms = [r for r in found if r is not None]
    n = len(structures)
    return {
        "crystals": n,
        "encoded": encoded,
        "decoded_valid": sum(d is not None for d in decoded),
        "match_rate": len(rms) / n if n else None,
        "match_rate_95": list(wilson(len(rms), n)),
        "rms": float(np.mean(rms)) if rms else None,
    }


def reconstruction_figures(
    generator: Generator, structures: Sequence[Structure], workers: int
) -> dict[str, Figure]:
    """Match rate, the stricter one of Xie et al. (2022), and RMSE.

    Their code matches a crystal only where smact finds the prediction's composition valid, which
    the data's own compositions are not all: nobody can reach 100 %. Both are given.
    """
    decoded, rms, encoded = reconstruct(generator, structures, workers)
    valid = composition_validity([d.composition.reduced_formula for d in decoded if d is not None])
    gated = [
        r is not None and d is not None and valid[d.composition.reduced_formula]
        for d, r in zip(decoded, rms, strict=True)
    ]
    lost = len(structures) - encoded
    note = f"{lost} could not be encoded and count as not matched" if lost else ""
    matched = share([r is not None for r in rms], note)
    return {
        "match_rate": matched,
        "match_rate_composition_valid": share(
            gated, "matches whose composition is valid (smact14)"
        ),
        "match_rms": average(
            [r for r in rms if r is not None], "(V/N)^(1/3)", "mean over what matches"
        ),
    }
