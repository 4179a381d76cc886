"""Evaluators: whatever answers a trial. `potential` and `python` need no person, a lab does."""

from __future__ import annotations

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

_AUTOMATIC = ("potential", "python")
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
        config: `{"with": "potential", "model": "chgnet", ...}` or `{"with": "python", "function":
            "package.module:name", "metrics": {name: unit}}`.

    Raises:
        EvaluatorError: If it describes none, or one that a person answers.
    """
    if not is_automatic(config):
        raise EvaluatorError(
            "`with: lab` means that a person answers, so there is nothing to run",
            "`matloop propose` writes what to measure, `matloop ingest` takes the results in",
        )
    if config["with"] == "potential":
        from loop.evaluators.potential import PotentialEvaluator

        return PotentialEvaluator(config)
    from loop.evaluators.python import PythonEvaluator

    return PythonEvaluator(config)
