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
import json
import sys
import traceback
from typing import Any

from loop.evaluators.base import EvaluatorError, one_line
from loop.evaluators.workflow import WorkflowEvaluator


class JobflowEvaluator(WorkflowEvaluator):
    """Evaluator `jobflow`: `maker`, and what every workflow is told."""

    kind = "jobflow"
    key = "maker"
    hint = "write `maker: package.module:Maker` or `maker: file.py:Maker`"
    module_needed = "jobflow"
    extra = "workflows"
    packages = ("jobflow", "atomate2")

    def load(self) -> Any:
        """Import the maker, and make it.

        Raises:
            EvaluatorError: It cannot be.
        """
        try:
            maker = self.imported()(**self.arguments)
        except Exception as error:  # importing and making it is the user's code
            traceback.print_exc()
            raise EvaluatorError(
                f"cannot make {self.target}: {one_line(error)}", self.hint
            ) from error
        if not callable(getattr(maker, "make", None)):
            raise EvaluatorError(f"{self.target} has no method `make`", self.hint)
        return maker

    def run(self, loaded: Any, given: Any, folder: str) -> tuple[str, dict[str, Any]]:
        """Run what a maker makes, and return its output as JSON."""
        from jobflow.core.flow import Flow
        from jobflow.core.reference import find_and_resolve_references
        from jobflow.core.store import JobStore
        from jobflow.managers.local import run_locally
        from maggma.stores import MemoryStore
        from monty.json import jsanitize

        flow = loaded.make(given)
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
        plain = jsanitize(told, strict=True, enum_values=True, recursive_msonable=True)
        return json.dumps(plain), {}
