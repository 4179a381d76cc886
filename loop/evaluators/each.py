"""An evaluator for each fidelity: a potential, DFT and a laboratory in one campaign.

`{"with": "each", "each": {"potential": {"with": "potential"}, "dft": {"with": "dft"}}}`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from loop.evaluators.base import Evaluation, Evaluator, EvaluatorError


class EachEvaluator(Evaluator):
    """Evaluator `each`: asked only `at` a fidelity.

    Args:
        config: `each`, fidelity to the configuration of its evaluator.

    Raises:
        EvaluatorError: If one of them is wrong; the fidelity is named.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        each = config.get("each")
        if set(config) - {"with", "each"} or not isinstance(each, Mapping) or not each:
            raise EvaluatorError("`each` maps every fidelity to its evaluator")
        self._configs = {str(name): dict(one) for name, one in each.items()}
        _ = self._automatic

    @cached_property
    def _automatic(self) -> dict[str, Evaluator]:
        from loop.evaluators import is_automatic, make_evaluator

        made = {}
        for name, config in self._configs.items():
            try:
                if is_automatic(config):
                    made[name] = make_evaluator(config)
            except EvaluatorError as error:
                raise EvaluatorError(f"at {name}: {error.what}", error.hint) from error
        return made

    def at(self, fidelity: str) -> Evaluator:
        """The evaluator of a fidelity.

        Raises:
            EvaluatorError: It has none, or a person answers.
        """
        if fidelity not in self._configs:
            known = ", ".join(self._configs)
            raise EvaluatorError(f"no evaluator of the fidelity {fidelity!r}", f"one of {known}")
        if fidelity not in self._automatic:
            raise EvaluatorError(f"at {fidelity} a person answers, so there is nothing to run")
        return self._automatic[fidelity]

    def prepare(self) -> None:
        """Prepare all of them. Raises `EvaluatorError`."""
        for evaluator in self._automatic.values():
            evaluator.prepare()

    def metrics(self) -> dict[str, str]:
        """Return what all of them answer, in the unit of the first."""
        first, *others = [evaluator.metrics() for evaluator in self._automatic.values()]
        return {name: unit for name, unit in first.items() if all(name in o for o in others)}

    def check(self, metrics: Sequence[str]) -> None:
        """Check all of them. Raises `EvaluatorError`."""
        for name, evaluator in self._automatic.items():
            try:
                evaluator.check(metrics)
            except EvaluatorError as error:
                raise EvaluatorError(f"at {name}: {error.what}", error.hint) from error

    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Refuse: without a fidelity nobody knows whom to ask.

        Raises:
            EvaluatorError: Always.
        """
        raise EvaluatorError("a trial without a fidelity: it is not known which evaluator to ask")
