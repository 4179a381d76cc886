"""What do we try next? Design spaces, goals, proposals, evaluation and stopping.

Stateless: everything here is a function of what it is given. What has been done is kept elsewhere.
Importing this package loads nothing: proposing needs torch, and judging outcomes does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loop.axes.pool_table import PoolError, PoolTable, open_pool
    from loop.front import (
        best_so_far,
        hypervolume,
        hypervolume_trace,
        pareto_mask,
        reference_point,
    )
    from loop.problem import Objective, OutcomeConstraint, Problem, ScreenRules
    from loop.proposal import Candidate, History, Proposal, ProposalSettings, propose
    from loop.space import (
        Axis,
        ChoiceAxis,
        CompositionAxis,
        Descriptors,
        Design,
        DesignSpace,
        LatentAxis,
        LinearConstraint,
        PoolAxis,
        RangeAxis,
    )
    from loop.stopping import StopRules, Verdict, judge, stalled

_HOMES = {
    "front": ("best_so_far", "hypervolume", "hypervolume_trace", "pareto_mask", "reference_point"),
    "problem": ("Objective", "OutcomeConstraint", "Problem", "ScreenRules"),
    "proposal": ("Candidate", "History", "Proposal", "ProposalSettings", "propose"),
    "axes.pool_table": ("PoolError", "PoolTable", "open_pool"),
    "space": (
        "Axis",
        "ChoiceAxis",
        "CompositionAxis",
        "Descriptors",
        "Design",
        "DesignSpace",
        "LatentAxis",
        "LinearConstraint",
        "PoolAxis",
        "RangeAxis",
    ),
    "stopping": ("StopRules", "Verdict", "judge", "stalled"),
}

__all__ = [
    "Axis",
    "Candidate",
    "ChoiceAxis",
    "CompositionAxis",
    "Descriptors",
    "Design",
    "DesignSpace",
    "History",
    "LatentAxis",
    "LinearConstraint",
    "Objective",
    "OutcomeConstraint",
    "PoolAxis",
    "PoolError",
    "PoolTable",
    "Problem",
    "Proposal",
    "ProposalSettings",
    "RangeAxis",
    "ScreenRules",
    "StopRules",
    "Verdict",
    "best_so_far",
    "hypervolume",
    "hypervolume_trace",
    "judge",
    "open_pool",
    "pareto_mask",
    "propose",
    "reference_point",
    "stalled",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"loop.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
