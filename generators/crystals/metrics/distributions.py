"""How samples are spread, compared with the crystals of a data set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.spatial.distance import cdist

from generators.crystals.metrics.figures import Figure, distance, share, wasserstein
from generators.crystals.metrics.fingerprints import (
    composition_fingerprints,
    structure_fingerprints,
)


@cache
def data_sets() -> dict[str, Any]:
    """What the field fixed for each data set: cut-offs of coverage, percentiles of a property."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "coverage.json").read_text())
    return found


def guess_data_set(structures: Sequence[Structure]) -> str:
    """`carbon24`, `perov5` or `mp20`: whose settings fit these crystals."""
    if structures and all(set(s.symbol_set) == {"C"} for s in structures):
        return "carbon24"
    if structures and all(len(s) == 5 for s in structures):
        return "perov5"
    return "mp20"


def coverage_figures(
    samples: Sequence[Structure | None],
    reference: Sequence[Structure],
    data_set: str,
    workers: int,
) -> dict[str, Figure]:
    """COV-R and COV-P of Xie et al. (2022), after Xu et al. (2021).

    Recall is the share of reference crystals to which some sample is near by the structure
    fingerprint and some sample (perhaps another: so their code) by the composition fingerprint;
    precision the share of samples near to some reference crystal. A sample without a fingerprint
    counts against precision.
    """
    cutoffs = data_sets()["cutoffs"][data_set]
    real = [s for s in samples if s is not None]
    ours, theirs = structure_fingerprints(real, workers), structure_fingerprints(reference, workers)
    our_kinds = composition_fingerprints([s.composition for s in real])
    their_kinds = composition_fingerprints([s.composition for s in reference])
    good, known = ~np.isnan(ours).any(1), ~np.isnan(theirs).any(1)
    if not good.any() or not known.any():
        return {"coverage_recall": share([]), "coverage_precision": share([])}
    shapes = cdist(ours[good], theirs[known])
    kinds = cdist(our_kinds[good], their_kinds[known])
    near, alike = shapes <= cutoffs["structure"], kinds <= cutoffs["composition"]
    recall = near.any(0) & alike.any(0)
    precision = near.any(1) & alike.any(1)
    missing = [False] * (len(samples) - int(good.sum()))
    note = (
        f"cut-offs of {data_set}: structure {cutoffs['structure']}, "
        f"composition {cutoffs['composition']:g}"
    )
    return {
        "coverage_recall": share(recall.tolist(), note),
        "coverage_precision": share(precision.tolist() + missing, note),
    }


def distance_figures(
    samples: Sequence[Structure],
    reference: Sequence[Structure],
    energies: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> dict[str, Figure]:
    """Wasserstein distances of density, number of elements and energy; distance of the elements.

    Args:
        samples: Valid samples.
        reference: Crystals of the data set.
        energies: Formation energies (eV/atom) of both, predicted by one model.
    """
    figures = {
        "density_distance": wasserstein(
            [s.density for s in samples], [s.density for s in reference], "g/cm^3"
        ),
        "element_count_distance": wasserstein(
            [len(s.composition) for s in samples], [len(s.composition) for s in reference], ""
        ),
        "element_distance": _elements(samples, reference),
    }
    if energies is not None:
        figures["formation_energy_distance"] = wasserstein(
            *energies, "eV/atom", "both predicted by the generator's own head"
        )
    return figures


def _elements(samples: Sequence[Structure], reference: Sequence[Structure]) -> Figure:
    """Total variation of the elements' shares: 0 the same, 1 no element in common."""
    symbols = sorted({e for s in [*samples, *reference] for e in s.symbol_set})
    place = {e: i for i, e in enumerate(symbols)}

    def table(structures: Sequence[Structure]) -> NDArray[np.float64]:
        rows = np.zeros((len(structures), len(symbols)))
        for i, s in enumerate(structures):
            for e, n in Counter(site.specie.symbol for site in s).items():
                rows[i, place[e]] = n / len(s)
        return rows

    def apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(np.abs(a.mean(0) - b.mean(0)).sum() / 2)

    note = "total variation of the elements' shares"
    return distance(apart, table(samples), table(reference), "", note)
