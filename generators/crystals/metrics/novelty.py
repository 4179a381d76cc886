"""How many samples differ from each other, and from what is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from generators.crystals.metrics.figures import Figure, share
from generators.crystals.parallel import spread

_Job = tuple[list[Structure], list[Structure]]


def _of_one_formula(job: _Job) -> tuple[list[bool], list[bool]]:
    """Which samples of one formula are the first of their kind, and which match nothing known."""
    samples, known = job
    matcher = StructureMatcher()
    kinds: list[Structure] = []
    unique = []
    for sample in samples:
        first = not any(matcher.fit(sample, kind) for kind in kinds)
        unique.append(first)
        if first:
            kinds.append(sample)
    novel = [not any(matcher.fit(sample, one) for one in known) for sample in samples]
    return unique, novel


def unique_and_novel(
    samples: Sequence[Structure], known: Sequence[Structure], workers: int
) -> tuple[list[bool], list[bool]]:
    """Whether each sample is the first of its kind, and whether no known crystal matches it.

    By StructureMatcher with pymatgen's defaults (ltol 0.2, stol 0.3, angle_tol 5, primitive cells,
    scaled), as the ordered matcher of Zeni et al. (2025).

    Returns:
        Two lists as long as `samples`.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        places[sample.composition.reduced_formula].append(i)
    by_formula: dict[str, list[Structure]] = defaultdict(list)
    for one in known:
        formula = one.composition.reduced_formula
        if formula in places:
            by_formula[formula].append(one)
    jobs: list[_Job] = [([samples[i] for i in at], by_formula[f]) for f, at in places.items()]
    unique, novel = [True] * len(samples), [True] * len(samples)
    for at, found in zip(places.values(), spread(_of_one_formula, jobs, workers), strict=True):
        for i, first, new in zip(at, *found, strict=True):
            unique[i], novel[i] = first, new
    return unique, novel


def novelty_figures(
    samples: Sequence[Structure], known: Sequence[Structure], against: str, workers: int
) -> dict[str, Figure]:
    """Shares of samples that are unique, novel, and both; `against` says what `known` is."""
    unique, novel = unique_and_novel(samples, known, workers)
    figures = {"unique": share(unique)}
    if known:
        note = f"against {len(known):,} crystals of {against}"
        figures["novel"] = share(novel, note)
        figures["unique_and_novel"] = share(
            [u and n for u, n in zip(unique, novel, strict=True)], note
        )
    return figures
