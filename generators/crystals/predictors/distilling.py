"""What a potential says of crystals that no data base holds, for a small network to learn.

Networks that were trained on relaxed crystals near the hull hold any crystal to be such a one: of
those that a generator draws and an optimiser picks, they foretell energies that are electronvolts
too low. A potential is right about most of them, at fifty times the cost. So crystals are drawn,
as a search would, and the network learns the potential's energies beside the measured ones; to
learn from a large network's answers is distillation ([Matin2025]_).

The potential's energies count from elements' energies that are fitted, by least squares, so that it
agrees with the measured formation energies of training rows.

.. [Matin2025] S. Matin et al., Teacher-student training improves accuracy and efficiency of machine
   learning interatomic potentials. arXiv:2502.05379, 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pymatgen.core import Structure

from generators.crystals.predictors.network import LARGEST_NUMBER
from generators.crystals.predictors.sevennet import energies

LOWEST = -6.0  # eV/atom: no crystal is below; a potential that says so is lost
_RIDGE = 0.01  # atoms of an element: one that hardly occurs tells little


def composition(structures: Sequence[Structure]) -> np.ndarray:
    """Shares of the elements of n crystals, n x (largest number + 1)."""
    shares = np.zeros((len(structures), LARGEST_NUMBER + 1))
    for row, structure in zip(shares, structures, strict=True):
        for site in structure:
            row[site.specie.Z] += 1.0 / len(structure)
    return shares


def element_energies(
    structures: Sequence[Structure], potential: np.ndarray, measured: np.ndarray
) -> np.ndarray:
    """Energies of the elements (eV/atom) by atomic number, NaN where none of n crystals has it.

    Args:
        structures: n crystals.
        potential: n energies by the potential, eV/atom.
        measured: n formation energies, eV/atom.
    """
    shares, has = composition(structures), np.isfinite(potential) & np.isfinite(measured)
    seen = shares[has].any(0)
    x = shares[has][:, seen]
    y = (potential - measured)[has]
    found = np.full(shares.shape[1], np.nan)
    found[seen] = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ y)
    return found


def drawn(generator: Any, n: int, seed: int) -> list[Structure]:
    """About n crystals as a search meets them.

    A third is drawn from the prior; a third lies between two of these; a third is what is found
    on the way down (and up) the gradient of one of the generator's property heads.
    """
    from generators.crystals.grounding import on_the_way

    source = torch.Generator().manual_seed(seed)
    z = generator.prior(n, seed).float()
    a, b = z[: n // 3], z[n // 3 : 2 * (n // 3)]
    mixed = torch.lerp(a, b, torch.rand(len(a), 1, generator=source))
    network = generator.network
    moved = on_the_way(network.predict, z[2 * (n // 3) :], len(network.properties), source)
    return [s for s in generator.decode(torch.cat([a, mixed, moved])) if s is not None]


def _formation(
    structures: Sequence[Structure], potential: np.ndarray, elements: np.ndarray
) -> np.ndarray:
    """Formation energies (eV/atom) of n crystals; NaN with an element of which none is known."""
    shares = composition(structures)
    # an element of unknown energy, nan, must not count where a crystal has none of it
    return potential - np.where(shares > 0, shares * elements, 0.0).sum(1)


def distilled(
    plan: Mapping[str, Any],
    structures: Sequence[Structure],
    measured: np.ndarray,
) -> tuple[list[Structure], np.ndarray, dict[str, Any]]:
    """Crystals that a generator draws and their formation energies by a potential.

    Args:
        plan: `generator`, `draws`, `seed`, `rows` (measured ones that the potential is fitted to)
            and `highest` (eV/atom, where energies are cut off).
        structures: Measured crystals, of which training may know.
        measured: Their formation energies, eV/atom.

    Returns:
        m crystals, m energies (eV/atom), and what a card tells of them.

    Raises:
        PredictorError: The potential cannot be had.
    """
    from generators import load_generator

    rows = np.random.default_rng(plan["seed"]).permutation(len(structures))[: plan["rows"]]
    some = [structures[i] for i in rows]
    generator = load_generator(plan["generator"])
    crystals = drawn(generator, plan["draws"], plan["seed"])
    of_rows, of_crystals = np.split(energies([*some, *crystals]), [len(some)])
    elements = element_energies(some, of_rows, measured[rows])
    off = _formation(some, of_rows, elements) - measured[rows]
    formation = _formation(crystals, of_crystals, elements)
    kept = np.flatnonzero(formation > LOWEST)
    card = {
        "potential": "sevennet:0",
        "licence": "MIT (package sevenn)",
        "citation": "Park et al., Journal of Chemical Theory and Computation 20, 4857, 2024",
        "generator": f"{generator.name} {generator.version}",
        "crystals": len(kept),
        "median_eV_per_atom": float(np.median(formation[kept])),
        "above_zero": float((formation[kept] > 0).mean()),
        "fit_to_rows_mae": float(np.nanmean(np.abs(off))),
    }
    return [crystals[i] for i in kept], np.minimum(formation[kept], plan["highest"]), card
