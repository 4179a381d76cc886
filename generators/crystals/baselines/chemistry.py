"""Which elements may stand where: ions alike by data mining, and charges that balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from pymatgen.core import Composition, Element, Species

from generators.crystals.baselines.choices import Choices
from generators.crystals.substitution import alike, mined
from generators.crystals.symmetry import Array

STAYS = 0.5  # how likely an element of an alloy stays, where no mined table says


@dataclass(frozen=True)
class Options:
    """Ions that may take a place, elements that are alike side by side.

    Attributes:
        z: `k` atomic numbers.
        charge: `k` oxidation states.
        weight: `k` weights.
        old: Atomic number of what stands there; 0 for nothing.
    """

    z: tuple[int, ...]
    charge: tuple[int, ...]
    weight: tuple[float, ...]
    old: int = 0


def _ordered(rows: Sequence[tuple[int, int, float]], old: int = 0) -> Options:
    """Options by Mendeleev number (Pettifor 1984), then charge."""
    kept = sorted((r for r in rows if r[2] > 0), key=lambda r: (_mendeleev(r[0]), r[0], r[1]))
    z, charge, weight = zip(*kept, strict=True) if kept else ((), (), ())
    return Options(z, charge, weight, old)


@cache
def _mendeleev(z: int) -> float:
    return float(Element.from_Z(z).mendeleev_no or z)


def charges(composition: Composition) -> dict[int, int] | None:
    """Oxidation states by atomic number, the likeliest that balance; None for an alloy."""
    if all(e.is_metal for e in composition.elements):
        return None
    guesses = composition.oxi_state_guesses(max_sites=-1)
    for guess in guesses[:5]:
        # a mean over several states is no ion of the table
        if all(float(q).is_integer() for q in guess.values()) and any(guess.values()):
            return {Element(symbol).Z: int(q) for symbol, q in guess.items()}
    return None


def substitutes(
    elements: Sequence[int], known: dict[int, int] | None, allowed: frozenset[int], least: float
) -> list[Options]:
    """For each element of a parent, what may replace it.

    Ions are weighed by the conditional probability of the mined table; where one is not in the
    table, or there are no ions, elements of alike chemistry replace each other.

    Args:
        elements: Atomic numbers.
        known: Their oxidation states, None for none.
        allowed: Atomic numbers that may stand anywhere.
        least: Substitutes rarer than this are left out; the table is noise below about 0.002.
    """
    found = []
    for z in elements:
        charge = 0 if known is None else known[z]
        rows = None if known is None else mined(z, charge)
        if rows is None:
            similar = [(k, charge, float(p)) for k, p in enumerate(alike()[z]) if k]
            similar[z - 1] = (z, charge, STAYS / (1 - STAYS))
            rows = tuple(similar)
        kept = [r for r in rows if r[0] == z or (r[0] in allowed and r[2] >= least)]
        found.append(_ordered(kept, z))
    return found


def _charge(ion: Species) -> int:
    return int(ion.oxi_state or 0)


@lru_cache(maxsize=8)
def any_ion(allowed: frozenset[int]) -> Options:
    """Every allowed element, each as likely, in the oxidation states that the ICSD has it in.

    The states and how often each occurs are smact's of the ICSD, 2024 (Davies 2019).
    """
    from smact.utils.oxidation import ICSD24OxStatesFilter

    table = ICSD24OxStatesFilter().get_species_occurrences_df(sort_by_occurrences=False)
    rows: list[tuple[int, int, float]] = []
    seen = zip(table["species"], table["results_count"], strict=True)
    counts = [(Species.from_str(str(name)), float(count)) for name, count in seen]
    for z in sorted(allowed):
        mine = [(_charge(ion), n) for ion, n in counts if z == ion.Z]
        total = sum(n for _, n in mine)
        # a state of one compound in a hundred is a rare finding or an error of assignment
        rows += [(z, q, n / total) for q, n in mine if n >= 0.01 * total]
    return _ordered(rows)


@lru_cache(maxsize=8)
def any_element(allowed: frozenset[int]) -> Options:
    """Every allowed element, each as likely, without a charge."""
    return _ordered([(z, 0, 1.0) for z in allowed])


class Balance:
    """Draws one ion for each place so that charges balance and no element comes twice.

    A combination is as likely as the product of its weights, among those that balance: what the
    places to come can still make up for is counted before a place is filled.

    Args:
        options: What may take each of `k` places.
        counts: How many atoms each place has.
        changed: Whether at least one place must be filled by another element than it had.
    """

    def __init__(
        self, options: Sequence[Options], counts: Sequence[int], changed: bool = False
    ) -> None:
        self.options, self.counts, self.changed = options, counts, changed
        ahead: list[dict[int, float]] = [{0: 1.0}]
        for option, n in zip(options[::-1], counts[::-1], strict=True):
            here: dict[int, float] = {}
            for q, w in zip(option.charge, option.weight, strict=True):
                for rest, weight in ahead[-1].items():
                    here[rest - n * q] = here.get(rest - n * q, 0.0) + w * weight
            ahead.append(here)
        self._ahead = ahead[::-1]  # before place i: charge so far -> weight of what can follow

    def _weights(self, place: int, charge: int, used: Sequence[int]) -> Array:
        option, n = self.options[place], self.counts[place]
        follow = self._ahead[place + 1]
        weights = np.array(
            [
                0.0 if z in used else w * follow.get(charge + n * q, 0.0)
                for z, q, w in zip(option.z, option.charge, option.weight, strict=True)
            ]
        )
        last = place == len(self.options) - 1
        if (
            self.changed
            and last
            and all(o.old == u for o, u in zip(self.options, used, strict=False))
        ):
            weights[np.array(option.z) == option.old] = 0.0
        return weights

    def read(self, choices: Choices, first: int) -> tuple[int, ...]:
        """Atomic numbers of the `k` places, from the numbers of a latent vector.

        Args:
            choices: Read from here.
            first: The number of the first place.

        Raises:
            ValueError: Nothing is left for a place.
        """
        used: list[int] = []
        charge = 0
        for place, option in enumerate(self.options):
            i = choices.pick(first + place, self._weights(place, charge, used))
            used.append(option.z[i])
            charge += self.counts[place] * option.charge[i]
        return tuple(used)

    def write(self, choices: Choices, first: int, elements: Sequence[int]) -> None:
        """The numbers that give these elements; of several sets of charges, by the likeliest.

        Raises:
            ValueError: No set of charges gives them.
        """
        paths: dict[int, tuple[float, list[int]]] = {0: (1.0, [])}
        for place, option in enumerate(self.options):
            longer: dict[int, tuple[float, list[int]]] = {}
            for charge, (weight, path) in paths.items():
                for i, (z, q, w) in enumerate(
                    zip(option.z, option.charge, option.weight, strict=True)
                ):
                    total = charge + self.counts[place] * q
                    if z == elements[place] and weight * w > longer.get(total, (0.0, []))[0]:
                        longer[total] = (weight * w, [*path, i])
            paths = longer
        if 0 not in paths:
            names = " ".join(Element.from_Z(z).symbol for z in elements)
            raise ValueError(
                f"the elements {names} are not among the substitutes, or do not balance"
            )
        charge = 0
        for place, i in enumerate(paths[0][1]):
            weights = self._weights(place, charge, elements[:place])
            choices.pick(first + place, weights, i)
            charge += self.counts[place] * self.options[place].charge[i]
