"""Whether samples could be crystals at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pymatgen.core import Composition, Structure

from generators.base import Generator
from generators.crystals.generator import is_valid
from generators.crystals.metrics.figures import Figure, share

FIELD_SET, OTHER_SET = "smact14", "icsd24"
"""smact's table of oxidation states that published figures rest on, and its newest."""


def composition_validity(formulas: Iterable[str], table: str = FIELD_SET) -> dict[str, bool]:
    """Which formulas smact finds charge-neutral with the anion more electronegative.

    Elements and alloys of metals alone are valid; what holds an element of which smact has no data,
    such as Og, is not. smact's other settings are its defaults.

    Args:
        formulas: Reduced formulas.
        table: Which of smact's tables of oxidation states.
    """
    return {f: _neutral(Composition(f), table) for f in set(formulas)}


def _neutral(composition: Composition, table: str) -> bool:
    from smact.screening import smact_validity

    try:
        return bool(smact_validity(composition, oxidation_states_set=table))
    except KeyError:  # of the heaviest elements smact has no data at all
        return False


def both_valid(structures: Sequence[Structure]) -> list[bool]:
    """Whether structure and composition are valid, as Xie et al. (2022) ask of a crystal."""
    valid = composition_validity(s.composition.reduced_formula for s in structures)
    return [is_valid(s) and valid[s.composition.reduced_formula] for s in structures]


def validity_figures(samples: Sequence[Structure | None]) -> dict[str, Figure]:
    """Shares of `n` samples with a valid structure and a valid composition; None is neither.

    A structure is valid where no two atoms are closer than 0.5 A and the volume is over 0.1 A^3; a
    composition by `composition_validity`.
    """
    formulas = [s.composition.reduced_formula if s is not None else None for s in samples]
    figures = {"structure_valid": share([s is not None and is_valid(s) for s in samples])}
    for key, table in (
        ("composition_valid", FIELD_SET),
        (f"composition_valid_{OTHER_SET}", OTHER_SET),
    ):
        valid = composition_validity((f for f in formulas if f is not None), table)
        hits = [f is not None and valid[f] for f in formulas]
        figures[key] = share(hits, f"smact's oxidation states {table}")
    return figures


def evaluate_prior(generator: Generator, n: int = 1000, seed: int = 0) -> dict[str, Any]:
    """What a model card tells of the prior: validity of every draw and of what `sample` returns.

    Returns:
        `draws_valid`: share of latent draws that decode to a valid structure; `sample_valid`: share
        of `sample`'s structures that are valid; `charge_neutral`: share of those that smact finds
        neutral with its oxidation states `icsd24`; `distinct_formulas`: share of different
        formulas.
    """
    draws = generator.decode(generator.prior(n, seed), seed)
    sampled = [s for s in generator.sample(n, seed) if s is not None]
    formulas = [s.composition.reduced_formula for s in sampled]
    neutral = composition_validity(formulas, OTHER_SET)
    return {
        "samples": n,
        "draws_valid": sum(d is not None for d in draws) / n,
        "sample_valid": sum(is_valid(s) for s in sampled) / n,
        "charge_neutral": float(np.mean([neutral[f] for f in formulas])) if formulas else 0.0,
        "distinct_formulas": len(set(formulas)) / max(1, len(formulas)),
    }
