"""What evaluators that run a workflow have in common: `jobflow` and `aiida`.

Something is named by `package.module:name` or `file.py:name` and told `arguments`; it is given the
crystal, or the whole design where it has none, and is run here, in this process, in an empty
folder. What it leaves is one JSON text, out of which pointers take the numbers.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import tempfile
import time
import traceback
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from loop.evaluators.base import (
    Evaluation,
    EvaluationFailed,
    Evaluator,
    EvaluatorError,
    Measurement,
    one_line,
    read_cif,
)
from loop.evaluators.command_outputs import by_pointer
from loop.evaluators.prototypes import check_recipe, crystal_for
from loop.evaluators.python import import_file

_MOST = 2_000_000


class WorkflowEvaluator(Evaluator):
    """Base of the evaluators that run a workflow.

    Args:
        config: What `key` says, `outputs` (metric to `pointer`, `unit` and, where there is one,
            `sem`, a pointer to its standard error), and optional `arguments` and `crystal` (see
            `prototypes`); `options` are an evaluator's own.

    Raises:
        EvaluatorError: If the configuration is incomplete. Nothing is imported before the first
            use.
    """

    kind: ClassVar[str]
    """Its name in a spec."""
    key: ClassVar[str]
    """The key that names what is run."""
    options: ClassVar[tuple[str, ...]] = ()
    hint: ClassVar[str]
    module_needed: ClassVar[str]
    extra: ClassVar[str]
    """The extra of ours that brings `module_needed`."""
    packages: ClassVar[tuple[str, ...]]
    """Distributions whose versions are kept with a trial."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        known = {"with", self.key, "arguments", "outputs", "crystal", *self.options}
        if unknown := sorted(set(config) - known):
            what = f"evaluate: {self.kind} does not know {', '.join(unknown)}"
            raise EvaluatorError(what, self.hint)
        target = config.get(self.key)
        if not isinstance(target, str) or not all(target.rpartition(":")[::2]):
            raise EvaluatorError(f"{self.key} {target!r} names no {self.key}", self.hint)
        self.target = target
        self.module, _, self.name = target.rpartition(":")
        self.arguments = dict(config.get("arguments") or {})
        self.outputs = dict(config.get("outputs") or {})
        if not self.outputs:
            hint = "outputs: {energy: {pointer: /energy_per_atom, unit: eV/atom}}"
            raise EvaluatorError(f"evaluate: {self.kind} needs outputs", hint)
        for metric, told in self.outputs.items():
            pointers = [told.get("pointer"), *([told["sem"]] if told.get("sem") else [])]
            if not all(isinstance(p, str) and p[:1] in ("", "/") for p in pointers):
                raise EvaluatorError(f"the output {metric} needs a pointer, as /energy_per_atom")
            if not isinstance(told.get("unit"), str):
                raise EvaluatorError(f"the output {metric} has no unit")
        self.crystal = config.get("crystal")
        if self.crystal is not None:
            check_recipe(self.crystal)

    @abstractmethod
    def load(self) -> Any:
        """Import what is named, and test what can be tested without a design.

        Raises:
            EvaluatorError: Every trial would fail.
        """

    @abstractmethod
    def run(self, loaded: Any, given: Any, folder: str) -> tuple[str, dict[str, Any]]:
        """Run it.

        Args:
            loaded: What `load` returned.
            given: A `pymatgen.core.Structure`, or a dict of a design's values.
            folder: An empty folder, which is the working folder.

        Returns:
            What it left as JSON, and provenance of its own.

        Raises:
            EvaluationFailed: This design has no answer; so does any other exception.
        """

    def metrics(self) -> dict[str, str]:
        """Return the metrics and units of the configuration."""
        return {metric: told["unit"] for metric, told in self.outputs.items()}

    def check(self, metrics: Sequence[str]) -> None:
        """Load what is named.

        Raises:
            EvaluatorError: It cannot be, or a metric is not one of its own.
        """
        super().check(metrics)
        self._load()

    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Run the workflow; `seed` plays no part.

        Raises:
            EvaluationFailed: It failed, or a number is not in its output.
            EvaluatorError: There is nothing of that name.
        """
        self.check_metrics(metrics)
        loaded = self._load()
        started = time.perf_counter()
        try:
            with _empty_folder(self.kind) as folder:
                output, provenance = self.run(loaded, self._given(design), folder)
        except (EvaluationFailed, EvaluatorError, MemoryError):
            raise
        except Exception as error:  # whatever a workflow raises is about this design
            traceback.print_exc()
            raise EvaluationFailed(one_line(error)) from error
        return Evaluation(
            {name: self._measurement(name, output) for name in metrics},
            {"output.json": output} if len(output) < _MOST else {},
            seconds=time.perf_counter() - started,
            provenance={
                "evaluator": self.kind,
                self.key: self.target,
                "arguments": self.arguments,
                "packages": _versions(self.packages),
                **provenance,
            },
        )

    @classmethod
    def installed(cls) -> bool:
        """Whether what runs the workflow is there; it is not imported."""
        return importlib.util.find_spec(cls.module_needed) is not None

    @classmethod
    def absent(cls) -> tuple[str, str]:
        """What is said where it is not, and the hint."""
        return f"{cls.module_needed} is not installed", f"pip install 'matloop[{cls.extra}]'"

    def imported(self) -> Any:
        """What `module:name` is.

        Raises:
            Exception: Whatever importing it raises.
        """
        module = (
            import_file(Path(self.module).expanduser().resolve())
            if self.module.endswith(".py")
            else importlib.import_module(self.module)
        )
        return getattr(module, self.name)

    def _load(self) -> Any:
        if not self.installed():
            raise EvaluatorError(*self.absent())
        return self.load()

    def _given(self, design: Mapping[str, Any]) -> Any:
        """The crystal where a design is one, else the design."""
        crystals = [v for v in design.values() if isinstance(v, Mapping) and "cif" in v]
        if self.crystal is not None or len(crystals) == len(design) == 1:
            return crystal_for(design, self.crystal)
        return {
            axis: read_cif(value["cif"]) if isinstance(value, Mapping) and "cif" in value else value
            for axis, value in design.items()
        }

    def _measurement(self, name: str, output: str) -> Measurement:
        told = self.outputs[name]
        try:
            mean = by_pointer(output, told["pointer"])
            sem = by_pointer(output, told["sem"]) if told.get("sem") else None
        except (ValueError, LookupError, TypeError) as error:
            raise EvaluationFailed(
                f"{name}: the output has no number at {told['pointer']} ({one_line(error)})"
            ) from error
        return Measurement(mean, sem, told["unit"])


@contextlib.contextmanager
def _empty_folder(kind: str) -> Iterator[str]:
    """A working folder of its own: codes write where they stand."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix=f"matloop-{kind}-") as folder:
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(here)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
