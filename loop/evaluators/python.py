"""Answers a trial with the user's own Python function.

    evaluate: {with: python, function: "mylab.furnace:measure", metrics: {hardness: HV}}

The function takes the design and a seed and returns numbers: `measure(design, seed) ->
{"hardness": 210.0}` or `{"hardness": (210.0, 4.0)}` with a standard error. A design is a dict, axis
name to value; a crystal comes as a `pymatgen.core.Structure`. Where the campaign has fidelities,
it takes the name of one too: `measure(design, seed, fidelity)`. Any exception it raises fails the
trial, with its text as the reason.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import numbers
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loop.evaluators.base import (
    Evaluation,
    EvaluationFailed,
    Evaluator,
    EvaluatorError,
    Measurement,
    one_line,
    read_cif,
)

_HINT = 'write `function: "package.module:name"` or `function: "file.py:name"`'


class PythonEvaluator(Evaluator):
    """Evaluator `python`.

    Args:
        config: `function` (`package.module:name`, or `file.py:name` relative to the working folder)
            and `metrics` (name to unit).

    Raises:
        EvaluatorError: If the configuration is incomplete or names no such file. The function
            itself is imported at the first use.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        unknown = sorted(set(config) - {"with", "function", "metrics"})
        if unknown:
            raise EvaluatorError(f"evaluate: python does not know {', '.join(unknown)}", _HINT)
        target = config.get("function")
        if not isinstance(target, str) or not all(target.rpartition(":")[::2]):
            raise EvaluatorError(f"function {target!r} names no function", _HINT)
        self.module, _, self.name = target.rpartition(":")
        if self.module.endswith(".py") and not Path(self.module).expanduser().is_file():
            raise EvaluatorError(f"there is no file {self.module}", f"seen from {Path.cwd()}")
        units = config.get("metrics")
        if not isinstance(units, Mapping) or not units:
            raise EvaluatorError(
                "evaluate: python needs the metrics of the function and their units",
                "for example `metrics: {hardness: HV}`",
            )
        self._units = {str(name): str(unit) for name, unit in units.items()}
        self._function: Callable[..., Mapping[str, Any]] | None = None
        self._fidelity: dict[str, str] = {}  # the argument

    def metrics(self) -> dict[str, str]:
        """Return the metrics and units of the configuration."""
        return dict(self._units)

    @property
    def function(self) -> Callable[..., Mapping[str, Any]]:
        """The user's function, imported.

        Raises:
            EvaluatorError: If it cannot be imported, or does not take a design and a seed.
        """
        if self._function is None:
            self._function = self._load()
        return self._function

    def at(self, fidelity: str) -> PythonEvaluator:
        """The function, asked at a fidelity.

        Raises:
            EvaluatorError: It cannot be imported, or takes no fidelity.
        """
        made = copy.copy(self)
        made._function, made._fidelity = None, {"fidelity": fidelity}
        _ = made.function
        return made

    def check(self, metrics: Sequence[str]) -> None:
        """Import the function.

        Raises:
            EvaluatorError: If it cannot be imported, or a metric is not one of its own.
        """
        super().check(metrics)
        _ = self.function

    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Call the function.

        Raises:
            EvaluationFailed: If it raises, or returns anything but numbers for `metrics`.
            EvaluatorError: If there is no such function.
        """
        self.check_metrics(metrics)
        function = self.function
        started = time.perf_counter()
        values = {
            axis: read_cif(value["cif"]) if isinstance(value, Mapping) and "cif" in value else value
            for axis, value in design.items()
        }
        try:
            answer = function(values, seed, **self._fidelity)
        except (EvaluationFailed, MemoryError):
            raise
        # Whatever the user's code raises, an exit too, is about this design, and is the reason.
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            raise EvaluationFailed(one_line(error)) from error
        seconds = time.perf_counter() - started
        if not isinstance(answer, Mapping):
            raise EvaluationFailed(
                f"{self.module}:{self.name} returned {type(answer).__name__}, not a dict of numbers"
            )
        measurements = {name: self._measurement(name, answer) for name in metrics}
        return Evaluation(
            measurements,
            seconds=seconds,
            provenance={"evaluator": "python", "function": f"{self.module}:{self.name}"},
        )

    def _measurement(self, name: str, answer: Mapping[str, Any]) -> Measurement:
        if name not in answer:
            raise EvaluationFailed(
                f"{self.module}:{self.name} returned no {name} (only {', '.join(map(str, answer))})"
            )
        value = answer[name]
        mean, sem = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, None)
        for number in (mean, sem):
            if number is not None and not _is_number(number):
                raise EvaluationFailed(f"{name} is {value!r}, neither a number nor (mean, sem)")
        if mean is None:
            raise EvaluationFailed(f"{name} is None")
        return Measurement(float(mean), None if sem is None else float(sem), self._units[name])

    def _load(self) -> Callable[..., Mapping[str, Any]]:
        try:
            module = (
                import_file(Path(self.module).expanduser().resolve())
                if self.module.endswith(".py")
                else importlib.import_module(self.module)
            )
        # Importing runs the user's module, which may raise anything.
        except Exception as error:
            traceback.print_exc()
            raise EvaluatorError(
                f"cannot import {self.module}: {one_line(error)}", _HINT
            ) from error
        function = getattr(module, self.name, None)
        if not callable(function):
            raise EvaluatorError(f"{self.module} has no function {self.name}", _HINT)
        try:
            inspect.signature(function).bind({}, 0, **self._fidelity)
        except TypeError as error:
            also = ", fidelity" if self._fidelity else ""
            wanted = "a design, a seed and a fidelity" if also else "a design and a seed"
            raise EvaluatorError(
                f"{self.module}:{self.name} must take {wanted} ({error})",
                f"def {self.name}(design, seed{also}): ...",
            ) from error
        return function


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, numbers.Real):
        return True
    # numpy and torch scalars are numbers to a person; arrays are not.
    return getattr(value, "ndim", None) == 0 and hasattr(value, "__float__")


def import_file(path: Path) -> Any:
    """Import a file under a name of its own, so that it shadows no module."""
    name = f"_matloop_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # The file may import its neighbours, as it would if it were run.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec.loader.exec_module(module)
    return module
