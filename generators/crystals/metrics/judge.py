"""A second opinion on a property, learnt from a data set by other means than a generator's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from generators.crystals.metrics.fingerprints import magpie, magpie_table

_SHELL = 1.25  # neighbours within this many times the closest distance
_REACH = 6.0  # Angstrom
_FOLDS = 3


def describe(structure: Structure) -> NDArray[np.float64]:
    """Magpie's numbers, the density of atoms, and which elements have which neighbours.

    The last tell A from B in a perovskite, which a composition cannot: Magpie's properties averaged
    over sites by their number of neighbours, and their mean differences between neighbours.
    """
    table = np.array([magpie_table().get(s.specie.symbol, np.full(22, np.nan)) for s in structure])
    centre, other, _, distance = structure.get_neighbor_list(_REACH)
    closest = np.full(len(structure), _REACH)
    np.minimum.at(closest, centre, distance)
    near = distance <= _SHELL * closest[centre]
    count = np.bincount(centre[near], minlength=len(structure)).astype(float)
    weight = count / max(count.sum(), 1.0)
    pairs = np.abs(table[centre[near]] - table[other[near]])
    apart = pairs.mean(0) if len(pairs) else np.zeros(22)
    reach = closest / (structure.volume / len(structure)) ** (1 / 3)
    return np.concatenate(
        [
            magpie(structure.composition),
            [
                structure.volume / len(structure),
                count.mean(),
                count.std(),
                reach.mean(),
                reach.std(),
            ],
            weight @ table,
            (reach / reach.sum()) @ table,
            apart,
        ]
    )


def trees() -> Any:
    """Gradient-boosted trees that learn a property from `describe`, not fitted yet."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(max_iter=500, learning_rate=0.08)


class Judge:
    """Gradient-boosted trees on `describe`, fitted to a data set.

    Args:
        structures: `n` crystals.
        values: `n` values of the property.
        name: Of the property.
        seed: Of the folds.

    Attributes:
        about: What it is and how well it predicts what it did not see, for a person.
    """

    def __init__(
        self,
        structures: Sequence[Structure],
        values: NDArray[np.float64],
        name: str,
        seed: int = 0,
    ) -> None:
        from sklearn.model_selection import KFold, cross_val_predict

        self._model = trees()
        x = self._describe(structures)
        folds = KFold(_FOLDS, shuffle=True, random_state=seed)
        seen = cross_val_predict(self._model, x, values, cv=folds)
        error = float(np.abs(seen - values).mean())
        r2 = float(1 - ((seen - values) ** 2).mean() / values.var())
        self.about = (
            f"boosted trees on {len(values):,} rows (error of {name} on unseen folds "
            f"{error:.3g}, R2 {r2:.2f})"
        )
        self._model.fit(x, values)
        self._kinds = {s.composition.anonymized_formula for s in structures}

    def knows(self, structure: Structure) -> bool:
        """Whether a crystal has a stoichiometry that the data have: trees do not extrapolate."""
        return structure.composition.anonymized_formula in self._kinds

    def predict(self, structures: Sequence[Structure]) -> NDArray[np.float64]:
        """Values of `n` crystals."""
        return np.asarray(self._model.predict(self._describe(structures)))

    @staticmethod
    def _describe(structures: Sequence[Structure]) -> NDArray[np.float64]:
        return np.array([describe(s) for s in structures])
