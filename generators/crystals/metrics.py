"""How good a latent space of crystals is, on crystals that it never saw."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Any

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from generators.base import EncodeError
from generators.crystals.generator import CrystalGenerator, is_valid


def _rms(pair: tuple[Structure, Structure | None]) -> float | None:
    """RMS distance (normalised, as StructureMatcher's) of two structures, None without a match."""
    truth, guess = pair
    if guess is None or guess.composition.reduced_formula != truth.composition.reduced_formula:
        return None
    found = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3).get_rms_dist(guess, truth)
    return None if found is None else float(found[0])


def evaluate_reconstruction(
    generator: CrystalGenerator, structures: Sequence[Structure], workers: int = 2
) -> dict[str, Any]:
    """Encode and decode structures, and match what comes back.

    The matcher's settings (stol 0.5, angle_tol 10, ltol 0.3) are those of Xie et al. (2022). What
    cannot be encoded counts as not matched.

    Returns:
        Counts, the match rate with its 95 % Wilson interval, and the mean normalised RMS distance.
    """
    encodable = []
    for structure in structures:
        try:
            generator.encode([structure])
        except EncodeError:
            continue
        encodable.append(structure)
    decoded = generator.decode(generator.encode(encodable))
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        found = pool.map(_rms, list(zip(encodable, decoded, strict=True)), chunksize=16)
    rms = [r for r in found if r is not None]
    n = len(structures)
    low, high = wilson(len(rms), n)
    return {
        "crystals": n,
        "encoded": len(encodable),
        "decoded_valid": sum(d is not None for d in decoded),
        "match_rate": len(rms) / n if n else None,
        "match_rate_95": [low, high],
        "rms": float(np.mean(rms)) if rms else None,
    }


def evaluate_prior(generator: CrystalGenerator, n: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Validity of prior samples, both of every draw and of what `sample` returns.

    Returns:
        `draws_valid`: share of latent draws that decode to a valid structure; `sample_valid`: share
        of `sample`'s structures that are valid; `charge_neutral`: share of those that smact finds
        neutral with its oxidation states `icsd24`; `distinct_formulas`: share of different
        formulas.
    """
    from smact.screening import smact_validity

    draws = generator.decode(generator.prior(n, seed), seed)
    sampled = [s for s in generator.sample(n, seed) if s is not None]
    formulas = [s.composition.reduced_formula for s in sampled]
    neutral = {f: bool(smact_validity(f, oxidation_states_set="icsd24")) for f in set(formulas)}
    return {
        "samples": n,
        "draws_valid": sum(d is not None for d in draws) / n,
        "sample_valid": sum(is_valid(s) for s in sampled) / n,
        "charge_neutral": float(np.mean([neutral[f] for f in formulas])) if formulas else 0.0,
        "distinct_formulas": len(set(formulas)) / max(1, len(formulas)),
    }


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    z, p = 1.959964, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
