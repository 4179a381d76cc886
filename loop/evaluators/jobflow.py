"""Answers a trial with a jobflow flow: atomate2's workflows, or a Maker of the user's own.

    evaluate:
      with: jobflow
      maker: atomate2.forcefields.jobs:ForceFieldRelaxMaker
      arguments: {force_field_name: CHGNet, relax_cell: true}
      outputs: {energy: {pointer: /energy_per_atom, unit: eV/atom}}

The maker is made with `arguments` and its `make` is given the crystal, or the whole design where it
has none. The flow runs here, in this process, in an empty folder (`jobflow.run_locally`), with
stores in memory: no database is needed. What its output (of the flow, else of its last job) says is
read by JSON pointers. Rosen et al., JOSS 9(93), 5995 (2024); Ganose et al., Digital Discovery 4,
1944 (2025).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
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
from loop.evaluators.command_outputs import by_pointer
from loop.evaluators.prototypes import check_recipe, crystal_for
from loop.evaluators.python import import_file

_HINT = "write `maker: package.module:Maker` or `maker: file.py:Maker`"
_PACKAGES = ("jobflow", "atomate2")
_MOST = 2_000_000


class JobflowEvaluator(Evaluator):
    """Evaluator `jobflow`.

    Args:
        config: `maker`, `outputs` (metric to `pointer`, `unit` and, where there is one, `sem`, a
            pointer to its standard error), and optional `arguments` (of the maker) and `crystal`
            (see `prototypes`).

    Raises:
        EvaluatorError: If the configuration is incomplete. The maker is imported at the first use.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        known = {"with", "maker", "arguments", "outputs", "crystal"}
        if unknown := sorted(set(config) - known):
            raise EvaluatorError(f"evaluate: jobflow does not know {', '.join(unknown)}", _HINT)
        target = config.get("maker")
        if not isinstance(target, str) or not all(target.rpartition(":")[::2]):
            raise EvaluatorError(f"maker {target!r} names no maker", _HINT)
        self.module, _, self.name = target.rpartition(":")
        self.arguments = dict(config.get("arguments") or {})
        self.outputs = dict(config.get("outputs") or {})
        if not self.outputs:
            hint = "outputs: {energy: {pointer: /energy_per_atom, unit: eV/atom}}"
            raise EvaluatorError("evaluate: jobflow needs outputs", hint)
        for metric, told in self.outputs.items():
            pointers = [told.get("pointer"), *([told["sem"]] if told.get("sem") else [])]
            if not all(isinstance(p, str) and p[:1] in ("", "/") for p in pointers):
                raise EvaluatorError(f"the output {metric} needs a pointer, as /energy_per_atom")
            if not isinstance(told.get("unit"), str):
                raise EvaluatorError(f"the output {metric} has no unit")
        self.crystal = config.get("crystal")
        if self.crystal is not None:
            check_recipe(self.crystal)

    def metrics(self) -> dict[str, str]:
        """Return the metrics and units of the configuration."""
        return {metric: told["unit"] for metric, told in self.outputs.items()}

    def check(self, metrics: Sequence[str]) -> None:
        """Import the maker, and make it.

        Raises:
            EvaluatorError: It cannot be, or a metric is not one of its own.
        """
        super().check(metrics)
        self._maker()

    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Run the flow; `seed` plays no part.

        Raises:
            EvaluationFailed: A job failed, or a number is not in its output.
            EvaluatorError: There is no such maker.
        """
        self.check_metrics(metrics)
        maker = self._maker()
        started = time.perf_counter()
        try:
            with _empty_folder() as folder:
                output = _run(maker, self._given(design), folder)
        except (EvaluationFailed, EvaluatorError, MemoryError):
            raise
        except Exception as error:  # whatever a flow raises is about this design
            traceback.print_exc()
            raise EvaluationFailed(one_line(error)) from error
        return Evaluation(
            {name: self._measurement(name, output) for name in metrics},
            {"output.json": output} if len(output) < _MOST else {},
            seconds=time.perf_counter() - started,
            provenance={
                "evaluator": "jobflow",
                "maker": f"{self.module}:{self.name}",
                "arguments": self.arguments,
                "packages": _versions(),
            },
        )

    def _given(self, design: Mapping[str, Any]) -> Any:
        """What `make` takes: the crystal where the design has one, else the design."""
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
                f"{name}: the flow's output has no number at {told['pointer']} ({one_line(error)})"
            ) from error
        return Measurement(mean, sem, told["unit"])

    def _maker(self) -> Any:
        if importlib.util.find_spec("jobflow") is None:
            raise EvaluatorError("jobflow is not installed", "pip install 'matloop[workflows]'")
        try:
            module = (
                import_file(Path(self.module).expanduser().resolve())
                if self.module.endswith(".py")
                else importlib.import_module(self.module)
            )
            maker = getattr(module, self.name)(**self.arguments)
        except Exception as error:  # importing and making it is the user's code
            traceback.print_exc()
            raise EvaluatorError(
                f"cannot make {self.module}:{self.name}: {one_line(error)}", _HINT
            ) from error
        if not callable(getattr(maker, "make", None)):
            raise EvaluatorError(f"{self.module}:{self.name} has no method `make`", _HINT)
        return maker


def _run(maker: Any, given: Any, folder: str) -> str:
    """Run what a maker makes, and return its output as JSON."""
    from jobflow.core.flow import Flow
    from jobflow.core.reference import find_and_resolve_references
    from jobflow.core.store import JobStore
    from jobflow.managers.local import run_locally
    from maggma.stores import MemoryStore
    from monty.json import jsanitize

    flow = maker.make(given)
    # atomate2 puts large outputs into a store of their own, called `data`
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    with contextlib.redirect_stdout(sys.stderr):
        run_locally(
            flow, store=store, root_dir=folder, create_folders=True, log=False,
            ensure_success=True, raise_immediately=True,
        )  # fmt: skip
    output = getattr(flow, "output", None)
    if isinstance(flow, Flow) and output is None:
        output = flow.jobs[-1].output
    told = find_and_resolve_references(output, store)
    return json.dumps(jsanitize(told, strict=True, enum_values=True, recursive_msonable=True))


@contextlib.contextmanager
def _empty_folder() -> Iterator[str]:
    """A working folder of its own: codes write where they stand."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="matloop-jobflow-") as folder:
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(here)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
