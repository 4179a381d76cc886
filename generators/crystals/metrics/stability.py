"""How far samples are from rest, and from the hull of what is known.

What energies come from is the caller's: a potential that relaxes. `generators` knows none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Structure

from generators.crystals.metrics.figures import Figure, average, share
from generators.crystals.metrics.novelty import unique_and_novel
from generators.crystals.parallel import cached, spread

STABLE = 0.1  # eV/atom above the hull, as Zeni et al. (2025)
_WIDEST = 0.5  # what counts as the RMSD of crystals that do not match, in (V/N)^(1/3)


@dataclass(frozen=True)
class Relaxed:
    """A crystal at rest.

    Attributes:
        structure: Its cell and atoms.
        energy: Of its cell, in eV.
    """

    structure: Structure
    energy: float


class Potential(Protocol):
    """Energies of crystals; must survive a fork."""

    name: str

    def relax(self, structure: Structure) -> Relaxed | None:
        """Relax cell and atoms; None where that fails or does not converge."""

    def energy(self, structure: Structure) -> float:
        """Energy of the cell as it is, eV; nan where there is none."""

    def references(self, symbols: Iterable[str]) -> dict[str, float]:
        """Energies of elements (eV/atom); those without one are left out."""


def rmsd(start: Structure, end: Structure) -> tuple[float, bool]:
    """RMS displacement (A) of atoms between two structures, after Zeni et al. (2025).

    StructureMatcher's normalised distance (ltol 0.5, stol 0.5, angle_tol 10, unscaled) times
    (V/N)^(1/3) of the end; its limit where the two do not match.

    Returns:
        The displacement, and whether the two match.
    """
    matcher = StructureMatcher(ltol=0.5, stol=_WIDEST, angle_tol=10, scale=False)
    found = matcher.get_rms_dist(start, end)
    normalised = _WIDEST if found is None else float(found[0])
    return float(normalised * (end.volume / len(end)) ** (1 / 3)), found is not None


def stability_figures(
    samples: Sequence[Structure | None],
    known: Sequence[Structure],
    potential: Potential,
    workers: int,
) -> dict[str, Figure]:
    """RMSD to the relaxed structure, and the share that is stable, unique and novel.

    The hull is of what `known` holds in each sample's chemical system, as given and not relaxed
    again, and of the elements, all by the one potential. A hull of few crystals lies too high, so
    that more samples seem stable than are.

    Args:
        samples: `n` samples; None is not stable.
        known: Crystals that make the hull, and that a novel sample must not match.
        potential: Gives every energy.
        workers: Processes.
    """
    real = [s for s in samples if s is not None]
    ended = spread(potential.relax, real, workers, chunk=1)
    rest = [(s, r) for s, r in zip(real, ended, strict=True) if r is not None]
    lost = [False] * (len(samples) - len(rest))
    above, compounds = _above_hull([r for _, r in rest], known, potential, workers)
    unique, novel = unique_and_novel([r.structure for _, r in rest], known, workers)
    stable = [bool(e <= STABLE) for e in above]  # nan is not
    sun = [s and u and n for s, u, n in zip(stable, unique, novel, strict=True)]
    middle = int(np.median(compounds)) if len(compounds) else 0
    entries = (
        f"hull by {potential.name} of the elements and of {len(known):,} known crystals as given, "
        f"of which a sample's chemical system holds {middle} compounds in the median"
    )
    moves = [rmsd(s, r.structure) for s, r in rest]
    apart = sum(not same for _, same in moves)
    moved = [length for length, _ in moves]
    about = (
        f"of what converges, to rest by {potential.name}; {apart} turned into other structures and "
        "count as the matcher's limit"
    )
    figures = {
        "relaxation_converged": share([True] * len(rest) + lost, potential.name),
        "rmsd_median": average(moved, "A", about, median=True),
        "rmsd_mean": average(moved, "A", about),
        "stable": share(stable + lost, f"<= {STABLE} eV/atom above the {entries}"),
        "on_hull": share([bool(e <= 0) for e in above] + lost, f"on or below the {entries}"),
    }
    if known:
        figures["sun"] = share(sun + lost, "stable, unique and novel")
    return figures


def _above_hull(
    rest: Sequence[Relaxed], known: Sequence[Structure], potential: Potential, workers: int
) -> tuple[NDArray[np.float64], list[int]]:
    """Energies above the hull (eV/atom), nan where an element has no reference.

    And how many known compounds each hull has.
    """
    systems: dict[frozenset[str], list[int]] = defaultdict(list)
    for i, one in enumerate(rest):
        systems[frozenset(one.structure.symbol_set)].append(i)
    # Only crystals whose elements some sample has bear on a hull.
    near = [k for k in known if any(set(k.symbol_set) <= system for system in systems)]
    name = "".join(c if c.isalnum() else "-" for c in potential.name)
    energies = cached(
        f"energy-1-{name}", lambda s: np.array([potential.energy(s)]), near, 1, workers
    )[:, 0]
    by_system: dict[frozenset[str], list[PDEntry]] = defaultdict(list)
    for crystal, energy in zip(near, energies, strict=True):
        if np.isfinite(energy):
            entry = PDEntry(crystal.composition, energy)
            by_system[frozenset(crystal.symbol_set)].append(entry)
    above = np.full(len(rest), np.nan)
    compounds = [0] * len(rest)
    for system, places in systems.items():
        references = potential.references(system)
        if set(references) != system:
            continue
        entries = [PDEntry(Composition(e), v) for e, v in references.items()]
        inside = [e for inner, some in by_system.items() if inner <= system for e in some]
        hull = PhaseDiagram(entries + inside)
        for i in places:
            entry = PDEntry(rest[i].structure.composition, rest[i].energy)
            above[i] = hull.get_e_above_hull(entry, allow_negative=True)
            compounds[i] = sum(not e.is_element for e in inside)
    return above, compounds
