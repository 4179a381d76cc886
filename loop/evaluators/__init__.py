"""Evaluators: whatever answers a trial. All but a lab need no person."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from loop.evaluators.base import (
    Evaluation,
    EvaluationFailed,
    Evaluator,
    EvaluatorError,
    Measurement,
    check_evaluation,
)

__all__ = [
    "Evaluation",
    "EvaluationFailed",
    "Evaluator",
    "EvaluatorError",
    "Measurement",
    "check_evaluation",
    "is_automatic",
    "make_evaluator",
]

_AUTOMATIC = {
    "potential": ("loop.evaluators.potential", "PotentialEvaluator"),
    "dft": ("loop.evaluators.dft", "DFTEvaluator"),
    "command": ("loop.evaluators.command", "CommandEvaluator"),
    "table": ("loop.evaluators.table", "TableEvaluator"),
    "python": ("loop.evaluators.python", "PythonEvaluator"),
    "jobflow": ("loop.evaluators.jobflow", "JobflowEvaluator"),
    "aiida": ("loop.evaluators.aiida", "AiidaEvaluator"),
    "each": ("loop.evaluators.each", "EachEvaluator"),
}
_BY_PEOPLE = ("lab",)


def is_automatic(config: Mapping[str, Any]) -> bool:
    """Tell whether `evaluate` is answered without a person.

    Raises:
        EvaluatorError: If there is no evaluator of that name.
    """
    kind = config.get("with")
    if kind not in (*_AUTOMATIC, *_BY_PEOPLE):
        raise EvaluatorError(
            f"there is no evaluator {kind!r}",
            f"`with` is one of {', '.join((*_AUTOMATIC, *_BY_PEOPLE))}",
        )
    return kind in _AUTOMATIC


def make_evaluator(config: Mapping[str, Any]) -> Evaluator:
    """Return the evaluator that `evaluate` of a spec describes.

    Cheap: models and user code are loaded at the first use.

    Args:
        config: `with` names the evaluator; the rest is its own, as in `{"with": "potential",
            "model": "chgnet"}`.

    Raises:
        EvaluatorError: If it describes none, or one that a person answers.
    """
    if not is_automatic(config):
        raise EvaluatorError(
            "`with: lab` means that a person answers, so there is nothing to run",
            "`matloop propose` writes what to measure, `matloop ingest` takes the results in",
        )
    module, name = _AUTOMATIC[str(config["with"])]
    evaluator: Evaluator = getattr(importlib.import_module(module), name)(config)
    return evaluator
