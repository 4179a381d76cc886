"""Which features matter, by the surrogate, whatever kind it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.explain import predicted

if TYPE_CHECKING:
    from surrogates import Surrogate


@dataclass(frozen=True)
class Importance:
    """How much each group of features moves one metric.

    Attributes:
        shares: by group, largest first; together 1. Empty where the surrogate predicts the same of
            all designs.
        totals: by group, the total-effect index itself: the share of the prediction's variance
            that would be left if all other features were known. Features that act together count
            it each, so that these may add up to more than 1.
        samples: designs that it was worked out from.
    """

    shares: dict[str, float]
    totals: dict[str, float]
    samples: int

    def as_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return asdict(self)


def feature_groups(names: Sequence[str]) -> dict[str, list[int]]:
    """Columns that belong together.

    Those of one choice are its group (`gas=air`, `gas=argon`), with the descriptors of its values
    (`gas.viscosity`), which say the same in other words. Any other column is a group by itself.
    """
    choices = {name.partition("=")[0] for name in names if "=" in name}
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        stem = name.partition("=")[0]
        group = stem.rpartition(".")[0]
        groups.setdefault(group if group in choices else stem, []).append(column)
    return groups


def importances(
    surrogate: Surrogate,
    sample: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    *,
    seed: int = 0,
    repeats: int = 2,
) -> dict[str, Importance]:
    """Total effects of groups of features on the posterior mean of every metric.

    A group's columns are exchanged between designs, all others stay: half the mean squared change
    of the prediction, over its variance, is the total effect ([Jansen1999]_). Features that go
    together in the sample are torn apart by this, so that what two of them say in common may be
    credited to either.

    Args:
        surrogate: any.
        sample: n x f features of designs from the whole space.
        groups: by name, the columns that belong together.
        seed: of the exchanges.
        repeats: exchanges a group.

    .. [Jansen1999] M. Jansen, Analysis of variance designs for model output. Computer Physics
       Communications 117, 1999.
    """
    sample = np.asarray(sample, dtype=np.float64)
    n, m = len(sample), len(surrogate.metrics)
    if n < 2:
        return {metric: Importance({}, {}, n) for metric in surrogate.metrics}
    base, _ = predicted(surrogate, sample)
    variance = base.var(axis=0)
    floor = (1e-6 * np.asarray(surrogate.scales.detach().cpu(), dtype=np.float64)) ** 2
    rng = np.random.default_rng(seed)
    # every design gets another's values: a rotation of a random order leaves none its own
    order = [rng.permutation(n) for _ in range(repeats)]
    partners = []
    for shuffled in order:
        partner = np.empty(n, dtype=np.int64)
        partner[shuffled] = np.roll(shuffled, 1)
        partners.append(partner)
    totals = np.zeros((len(groups), m))
    for g, columns in enumerate(groups.values()):
        for partner in partners:
            changed = sample.copy()
            changed[:, list(columns)] = sample[partner][:, list(columns)]
            mean, _ = predicted(surrogate, changed)
            totals[g] += 0.5 * ((mean - base) ** 2).mean(axis=0) / repeats
    found = {}
    for j, metric in enumerate(surrogate.metrics):
        if variance[j] <= floor[j] or totals[:, j].sum() <= 0:
            found[metric] = Importance({}, {}, n)
            continue
        names = sorted(zip(groups, totals[:, j], strict=True), key=lambda item: -item[1])
        everything = float(totals[:, j].sum())
        found[metric] = Importance(
            {name: float(t) / everything for name, t in names},
            {name: float(t / variance[j]) for name, t in names},
            n,
        )
    return found
