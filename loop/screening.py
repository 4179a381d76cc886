"""Which designs may be proposed: cheap rules that need no surrogate, and a reason for each refusal.

Rules of geometry and chemistry apply to crystals (`pymatgen.core.Structure`); every other value
passes.

Geometry is stricter than the 0.5 A and 0.1 A^3 that generative models are usually judged by, which
a relaxation cannot always repair: two atoms, periodic images included, stay apart by at least 0.6
times the sum of their covalent radii (Cordero 2008), and a crystal has between 3 and 150 A^3 an
atom. In 2,100 crystals and perovskites of the Materials Project, Castelli and Carbon-24 the
smallest ratio is 0.69 and the volumes run from 5.4 to 72 A^3, so the rule costs nothing real.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pymatgen.core import Composition, Structure

from loop.predicted import broken
from loop.problem import ScreenRules
from loop.space import Design, DesignSpace

MIN_CONTACT = 0.6  # of the sum of covalent radii
MIN_DISTANCE = 0.5  # angstrom, whatever the radii
VOLUME_PER_ATOM = (3.0, 150.0)  # cubic angstrom

OXIDATION_STATES = "icsd24"
"""The set of oxidation states that charge neutrality is judged by, recorded with every proposal.

smact's default is a filtered set that changes with its version; naming one keeps verdicts still.
"""


@dataclass(frozen=True)
class Refusal:
    """Why a design may not be proposed: the rule, and what broke it in one line."""

    rule: str
    detail: str


@lru_cache(maxsize=65536)
def charge_neutral(formula: str) -> bool:
    """Whether oxidation states can balance a composition, by smact's rule [Davies2019]_.

    A single element and an alloy of metals pass; an element takes one oxidation state at a time, so
    compounds that need two (Fe3O4) do not.

    .. [Davies2019] D. W. Davies et al., SMACT: Semiconducting Materials by Analogy and Chemical
       Theory. Journal of Open Source Software 4, 1361, 2019.
    """
    from smact.screening import smact_validity  # seconds to import, and only needed where asked for

    return bool(smact_validity(Composition(formula), oxidation_states_set=OXIDATION_STATES))


def check_geometry(crystal: Structure) -> Refusal | None:
    """Refuse atoms that overlap and volumes that no crystal has."""
    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius

    volume = crystal.volume / len(crystal)
    if not VOLUME_PER_ATOM[0] <= volume <= VOLUME_PER_ATOM[1]:
        return Refusal("volume", f"{volume:.3g} A^3 an atom")
    symbols = [site.specie.symbol for site in crystal]
    radii = np.array([CovalentRadius.radius.get(s, 1.5) for s in symbols])
    reach = max(2.0 * MIN_CONTACT * radii.max(), MIN_DISTANCE)
    first, second, _, distance = crystal.get_neighbor_list(reach)
    allowed = np.maximum(MIN_CONTACT * (radii[first] + radii[second]), MIN_DISTANCE)
    close = np.flatnonzero(distance < allowed)
    if len(close):
        i = close[np.argmin(distance[close])]
        pair = f"{symbols[first[i]]}-{symbols[second[i]]}"
        return Refusal("too close", f"{pair} {distance[i]:.2f} A apart")
    return None


def check_crystal(crystal: Structure, rules: ScreenRules) -> Refusal | None:
    """Refuse a crystal that breaks a rule; None where it may be proposed. Cheapest rules first."""
    if rules.max_atoms is not None and len(crystal) > rules.max_atoms:
        return Refusal("too many atoms", f"{len(crystal)} atoms")
    elements = {e.symbol for e in crystal.composition.elements}
    forbidden = elements & set(rules.exclude)
    if rules.include is not None:
        forbidden |= elements - set(rules.include)
    if forbidden:
        return Refusal("element not allowed", ", ".join(sorted(forbidden)))
    formula = crystal.composition.reduced_formula
    if rules.charge_neutral and not charge_neutral(formula):
        return Refusal("not charge-neutral", formula)
    return check_geometry(crystal)


def check_design(design: Design, rules: ScreenRules) -> Refusal | None:
    """Refuse a design with a value that breaks a rule."""
    for value in design.values():
        if isinstance(value, Structure):
            refusal = check_crystal(value, rules)
            if refusal is not None:
                return refusal
    return None


class Seen:
    """Designs that need not be proposed again: observed, failed, pending or already chosen.

    Only designs that share a cheap key (for crystals the reduced formula) are compared in earnest.
    """

    def __init__(self, space: DesignSpace, designs: Sequence[Design] = ()) -> None:
        self._space = space
        self._by_key: dict[Hashable, list[Design]] = {}
        for design in designs:
            self.add(design)

    def add(self, design: Design) -> None:
        """Remember a design."""
        self._by_key.setdefault(self._space.key(design), []).append(design)

    def check(self, design: Design) -> Refusal | None:
        """Refuse a design that is the same as a remembered one."""
        for other in self._by_key.get(self._space.key(design), ()):
            if self._space.same(design, other):
                return Refusal("seen before", "")
        return None


def screen(designs: Sequence[Design | None], rules: ScreenRules) -> tuple[list[int], Counter[str]]:
    """Keep the designs that exist and break no rule.

    Args:
        designs: n designs; None where decoding failed.
        rules: the problem's.

    Returns:
        Positions of those kept, and how many were refused by each rule.
    """
    kept: list[int] = []
    refused: Counter[str] = Counter()
    for i, design in enumerate(designs):
        refusal = Refusal("did not decode", "") if design is None else check_design(design, rules)
        if refusal is None:
            kept.append(i)
        else:
            refused[refusal.rule] += 1
    return (_predicted(designs, kept, rules, refused) if rules.predicted else kept), refused


def screen_in(
    designs: Sequence[Design | None], space: DesignSpace, rules: ScreenRules
) -> tuple[list[int], Counter[str]]:
    """As `screen`, with what only the space can tell of a design."""
    kept, refused = screen(designs, rules)
    why = space.refusals([design for i in kept if (design := designs[i]) is not None])
    refused.update(reason for reason in why if reason is not None)
    kept = [i for i, reason in zip(kept, why, strict=True) if reason is None]
    if not rules.steady:
        return kept, refused
    told = space.steady([design for i in kept if (design := designs[i]) is not None])
    steady = [i for i, fine in zip(kept, told, strict=True) if fine]
    if len(steady) < len(kept):
        refused["not steady"] += len(kept) - len(steady)
    return steady, refused


def _predicted(
    designs: Sequence[Design | None], kept: list[int], rules: ScreenRules, refused: Counter[str]
) -> list[int]:
    """Keep those whose crystals predictors find right; all at once, for batches are fast."""
    owners = [
        (i, value)
        for i in kept
        for value in (designs[i] or {}).values()
        if isinstance(value, Structure)
    ]
    wrong: dict[int, str] = {}
    answers = broken([crystal for _, crystal in owners], rules.predicted)
    for (i, _), answer in zip(owners, answers, strict=True):
        if answer is not None:
            wrong.setdefault(i, answer[0])
    refused.update(wrong.values())
    return [i for i in kept if i not in wrong]
