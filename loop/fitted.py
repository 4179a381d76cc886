"""The surrogate of a problem: that which chooses, which explains and which classifies is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loop.calibration import widening
from loop.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from surrogates import Surrogate


def bounds_of(problem: Problem, *around: np.ndarray) -> Tensor:
    """Bounds that map features to the unit cube: 2 x f.

    Args:
        problem: whose features they are.
        around: each a number of designs x f features: of those that were tried, and of others
            within reach.
    """
    from surrogates import feature_bounds

    # Codes of a latent space have tails; those of other axes end where the axis ends.
    return feature_bounds(np.vstack(around), tail=0.0 if problem.space.direct else 0.02)


def fitted(
    problem: Problem,
    X: np.ndarray,
    outcomes: np.ndarray,
    sem: np.ndarray,
    *,
    bounds: Tensor,
    seed: int,
    source: np.ndarray | None = None,
    errors: np.ndarray | None = None,
    warm_start: dict[str, Any] | None = None,
    max_iter: int = 75,
) -> Surrogate:
    """Fit what was observed of a problem's metrics.

    Args:
        problem: the goals.
        X: n x f features of the designs as they were made.
        outcomes: n x m in the order of `problem.metrics`, in their units; nan = not measured.
        sem: n x m standard errors in the same units; nan = unknown.
        bounds: 2 x f, see `bounds_of`.
        seed: of the fit.
        source: n numbers, 0 = what is sought; None = all 0.
        errors: r x m errors of what was foretold before its result (`History.errors`), of the
            results that count; intervals are widened by them. None = there are none.
        warm_start: `Surrogate.state()` of an earlier fit.
        max_iter: cap on L-BFGS iterations.

    Raises:
        ValueError: as `fit_surrogate` does.
    """
    from surrogates import fit_surrogate

    surrogate = fit_surrogate(
        X,
        outcomes,
        sem,
        metrics=problem.metrics,
        seed=seed,
        warm_start=warm_start,
        max_iter=max_iter,
        bounds=bounds,
        guides=guides(problem),
        groups=problem.space.feature_groups,
        source=source,
    )
    if errors is not None:
        for j, model in enumerate(surrogate.models):
            model.inflation = widening(errors[:, j], model.inflation)
    return surrogate


def guides(problem: Problem) -> list[int | None]:
    """For each metric the feature named `predicted_METRIC`, by which a generator foretells it."""
    units = {c.metric: c.unit for c in problem.constraints}
    units |= {o.metric: o.unit for o in problem.objectives}
    names, known = problem.space.feature_names, problem.space.feature_units

    def of(metric: str) -> int | None:
        wanted, last = _plain(units[metric]), None
        for i, name in enumerate(names):
            same = name.rsplit(".", 1)[-1] == f"predicted_{metric}"
            if same and _plain(known.get(name, wanted)) == wanted:
                last = i  # an embedding's word comes after the generator's own
        return last

    return [of(metric) for metric in problem.metrics]


def _plain(unit: str) -> str:
    """A unit without the freedom there is in writing it."""
    return unit.replace("**", "^").replace("·", "*").replace(" ", "")
