"""Known crystals with other elements: substitution by similarity, enumeration of prototypes.

Substitution replaces each element of a parent by one that replaces it in known crystals
([Hautier2011]_), prototypes take every allowed element in every place. In both, charges balance
where the parent has ions, and the volume is scaled by those of the atoms.

.. [Hautier2011] G. Hautier et al., Data Mined Ionic Substitutions for the Discovery of New
   Compounds. Inorganic Chemistry 50, 2011.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import permutations

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Element, Structure

from generators.crystals.baselines.base import Baseline, apart
from generators.crystals.baselines.chemistry import (
    Balance,
    any_element,
    any_ion,
    charges,
    substitutes,
)
from generators.crystals.baselines.choices import Choices
from generators.crystals.baselines.parents import Parent, load_parents, primitive, told
from generators.crystals.baselines.recipe import Prototypes, Recipe, Substitution, Templates
from generators.crystals.generator import CrystalGenerator
from generators.crystals.symmetry import Array


class TemplateGenerator(Baseline):
    """Parents whose elements are replaced.

    The first number of a latent vector chooses the parent, the others the elements in the place of
    its own, the most electropositive first.
    """

    def __init__(self, recipe: Recipe, trained: CrystalGenerator) -> None:
        super().__init__(recipe, trained)
        settings = recipe.settings
        assert isinstance(settings, Templates)
        self.parents, self.refused = load_parents(
            recipe, settings.parents, self.max_atoms, settings.distinct
        )
        self.card["data"] |= {"parents": len(self.parents), "refused": told(self.refused)}
        self._balances: dict[int, Balance] = {}
        self._matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)

    @abstractmethod
    def balance(self, parent: Parent) -> Balance:
        """What may stand in the places of a parent."""

    def _balance(self, row: int) -> Balance:
        if row not in self._balances:
            self._balances[row] = self.balance(self.parents[row])
        return self._balances[row]

    def draw(self, z: Array) -> Structure | None:
        """A parent with other elements; None where none balance."""
        choices = Choices(z)
        row = choices.pick(0, np.ones(len(self.parents)))
        try:
            elements = self._balance(row).read(choices, 1)
        except ValueError:  # no allowed elements balance in this parent: no crystal
            return None
        return self.parents[row].with_elements(elements, self.volumes)

    def read(self, structure: Structure) -> Array:
        """The parent that a crystal has the structure of, and its elements."""
        if not structure.is_ordered:
            raise ValueError("it is disordered; give one ordered structure")
        made = primitive("the crystal", structure)
        if not isinstance(made, Parent):
            raise ValueError(made.reason)
        why = f"it has the structure of no parent of {self.name}"
        for row, parent in enumerate(self.parents):
            if parent.key != made.key:
                continue
            for elements in _assignments(parent, made):
                moved = parent.with_elements(elements, self.volumes)
                if not self._matcher.fit(moved, structure):
                    continue
                choices = Choices(size=self.dim)
                choices.pick(0, np.ones(len(self.parents)), row)
                try:
                    self._balance(row).write(choices, 1, elements)
                except ValueError as error:
                    why = f"of the parent {parent.name}, {error}"
                    continue
                return choices.z
        raise ValueError(why)


def _assignments(parent: Parent, other: Parent) -> Iterator[tuple[int, ...]]:
    """Elements of another crystal in the order of a parent's, wherever the counts agree."""
    counts = dict(zip(other.elements, other.counts, strict=True))
    for elements in permutations(other.elements):
        if tuple(counts[z] for z in elements) == parent.counts:
            yield elements


class SubstitutionGenerator(TemplateGenerator):
    """Elements of known crystals replaced by similar ones, at least one of them."""

    def balance(self, parent: Parent) -> Balance:
        """Similar ions, or for an alloy similar elements."""
        settings = self.recipe.settings
        assert isinstance(settings, Substitution)
        known = charges(parent.structure.composition)
        options = substitutes(parent.elements, known, self.allowed, settings.least)
        return Balance(options, parent.counts, changed=True)


class PrototypeGenerator(TemplateGenerator):
    """Every allowed element in every place of a prototype, where oxidation states balance.

    Compositions pass smact's test besides: where charges balance, the cations are the less
    electronegative elements (Davies 2019). Of one element there are all.
    """

    def __init__(self, recipe: Recipe, trained: CrystalGenerator) -> None:
        super().__init__(recipe, trained)
        assert isinstance(recipe.settings, Prototypes)
        self._plausible: dict[str, bool] = {}

    def balance(self, parent: Parent) -> Balance:
        """Every ion of every allowed element."""
        ions = any_ion(self.allowed) if len(parent.elements) > 1 else any_element(self.allowed)
        return Balance([ions] * len(parent.elements), parent.counts)

    def draw(self, z: Array) -> Structure | None:
        """A prototype with chosen elements; None where smact thinks them implausible."""
        made = super().draw(z)
        return made if made is not None and self._accepts(made.composition) else None

    def _accepts(self, composition: Composition) -> bool:
        formula = composition.reduced_formula
        if formula not in self._plausible:
            from smact.screening import smact_validity

            self._plausible[formula] = bool(
                smact_validity(Composition(formula), oxidation_states_set="icsd24")
            )
        return self._plausible[formula]

    def enumerate(self) -> Iterator[Structure]:
        """Every crystal of this generator, prototype by prototype, each once.

        Their number grows with the power of the places: name few elements.
        """
        symbols = sorted(self.allowed, key=lambda z: float(Element.from_Z(z).mendeleev_no or z))
        for row, parent in enumerate(self.parents):
            for elements in permutations(symbols, len(parent.elements)):
                try:
                    self._balance(row).write(Choices(size=self.dim), 1, elements)
                except ValueError:  # charges do not balance
                    continue
                made = parent.with_elements(elements, self.volumes)
                whole = apart(made, self.recipe.settings.contact)
                if whole is not None and self._accepts(whole.composition):
                    yield whole
