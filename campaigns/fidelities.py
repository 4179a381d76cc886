"""Trials at fidelities: which count for the front, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from campaigns import records
from campaigns.spec_changes import completed
from campaigns.store.models import Trial

if TYPE_CHECKING:
    import numpy as np

    from campaigns.spec import Spec
    from loop.fidelities import Fidelity, Left


HISTORY: Final = "history"
"""How a trial is said to be chosen that was measured before the campaign heard of it."""


def budgeted(trial: Trial) -> bool:
    """Whether a trial is paid for by the campaign's budget."""
    return trial.status != "abandoned" and trial.provenance.get("method") != HISTORY


def source_of(spec: Spec, trial: Trial) -> int:
    """The source number of a trial's fidelity; one that names none is at the target."""
    found = spec.loop_fidelities
    if found is not None and trial.fidelity is not None:
        for fidelity in found.members:
            if fidelity.label == trial.fidelity:
                return fidelity.source
    return 0


def fidelity_of(spec: Spec, trial: Trial) -> Fidelity | None:
    """A trial's fidelity; None where the campaign has none."""
    found = spec.loop_fidelities
    if found is None:
        return None
    return found.of_design(completed(spec, trial.design), source_of(spec, trial))


def counting(spec: Spec, trials: Sequence[Trial]) -> list[bool]:
    """Which trials are of what is sought, and count for front, incumbent and stop rules."""
    found = spec.loop_fidelities
    if found is None:
        return [True] * len(trials)
    return [found.is_target(completed(spec, t.design), source_of(spec, t)) for t in trials]


def outcomes_that_count(spec: Spec, trials: Sequence[Trial], metrics: Sequence[str]) -> np.ndarray:
    """What was measured of n trials, n x m; nan = not known, or not of what is sought."""
    means, _ = records.outcomes(trials, metrics)
    means[[not counts for counts in counting(spec, trials)]] = float("nan")
    return means


def spent(spec: Spec, trials: Sequence[Trial]) -> float | None:
    """What the budgeted trials cost, or will; None where nothing is said of costs."""
    if spec.loop_fidelities is None:
        return None
    found = [fidelity_of(spec, t) for t in trials if budgeted(t)]
    return sum(f.cost for f in found if f is not None)


def left(spec: Spec, trials: Sequence[Trial], budget: int, cost_budget: float | None) -> Left:
    """What a budget of trials, and one of costs, leaves."""
    from loop.fidelities import Left

    cost = None
    if cost_budget is not None:
        cost = cost_budget - (spent(spec, trials) or 0.0)
    return Left(budget - sum(map(budgeted, trials)), cost)


def pays(spec: Spec, rest: Left) -> bool:
    """Whether what is left pays for one more evaluation of what is sought."""
    found = spec.loop_fidelities
    if found is None or rest.cost is None:
        return True
    return found.target.cost <= rest.cost * (1.0 + 1e-9)


def cost_status(spec: Spec, trials: Sequence[Trial], budget: float | None) -> dict[str, Any] | None:
    """Spent, budget (None = not limited) and unit; None where nothing is said of costs."""
    cost = spent(spec, trials)
    if cost is None:
        return None
    return {"spent": cost, "budget": budget, "unit": spec.cost_unit}
