"""Answers a trial with a process of AiiDA: a plugin's workflow or calculation, or one's own.

    evaluate:
      with: aiida
      process: aiida.workflows:quantumespresso.pw.relax
      profile: mine
      arguments: {code: pw@localhost, protocol: fast}
      outputs: {energy: {pointer: /output_parameters/energy, unit: eV}}

`process` is an entry point, a process (a class or a process function) in a module or a file, or a
function there: `function(given, **arguments)` returns a ProcessBuilder. A process is given
`arguments` and the design as its inputs, by its own `get_builder_from_protocol` where it has one; a
value is put under its axis' name, a crystal that is the whole design under `structure`.

The process runs here, in this process, without AiiDA's daemon; it and all that it calls are kept
in the profile, and the trial's provenance names its node. Huber et al., Scientific Data 7, 300
(2020).
"""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Mapping
from typing import Any

from loop.evaluators.base import EvaluationFailed, EvaluatorError, one_line
from loop.evaluators.workflow import WorkflowEvaluator

GROUPS = ("aiida.workflows", "aiida.calculations")
"""Entry points that name a process."""

_MOST_NUMBERS = 10_000


class AiidaEvaluator(WorkflowEvaluator):
    """Evaluator `aiida`.

    Args:
        config: `process`, what every workflow is told, and optional `profile` (else AiiDA's default
            one) and `infeasible_status` (exit statuses that say that such a design cannot be).

    Raises:
        EvaluatorError: If the configuration is incomplete.
    """

    kind = "aiida"
    key = "process"
    options = ("profile", "infeasible_status")
    hint = "write `process: aiida.workflows:NAME`, `package.module:name` or `file.py:name`"
    module_needed = "aiida"
    extra = "aiida"
    packages = ("aiida-core",)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.profile: str | None = config.get("profile")
        self.infeasible = frozenset(config.get("infeasible_status") or ())

    def load(self) -> Any:
        """Load the profile and the process, and test its inputs and outputs as far as they go.

        Raises:
            EvaluatorError: There is no such profile, process, input, code or output.
        """
        self._load_profile()
        try:
            target = self._target()
        except Exception as error:  # importing it is the user's code
            traceback.print_exc()
            what = f"cannot load the process {self.target}: {one_line(error)}"
            raise EvaluatorError(what, _known(self.module) or self.hint) from error
        if not callable(target):
            raise EvaluatorError(f"{self.target} is neither a process nor a function", self.hint)
        process = _process_class(target)
        try:
            if process is None:
                inspect.signature(target).bind({}, **self.arguments)
            elif protocol := getattr(process, "get_builder_from_protocol", None):
                inspect.signature(protocol).bind_partial(**self.arguments)
            else:
                _filled(process, self.arguments)
        except Exception as error:  # of any type: ports validate by functions of a plugin's
            raise EvaluatorError(f"{self.target} and `arguments`: {one_line(error)}") from error
        if process is not None:
            for metric, told in self.outputs.items():
                _check_output(process.spec().outputs, metric, told["pointer"])
        return target

    def run(self, loaded: Any, given: Any, folder: str) -> tuple[str, dict[str, Any]]:
        """Run the process, and return its outputs as JSON.

        Raises:
            EvaluationFailed: It ended with another exit status than 0, or excepted.
            EvaluatorError: A function returned no builder.
        """
        from aiida.common.links import LinkType
        from aiida.engine import ProcessBuilder
        from aiida.engine.utils import loop_scope
        from aiida.manage import get_manager

        builder = self._builder(loaded, given)
        if not isinstance(builder, ProcessBuilder):
            kind = type(builder).__name__
            raise EvaluatorError(f"{self.target} returned {kind}, not a ProcessBuilder", self.hint)
        # Not `run_get_node`: it takes SIGTERM for itself, and its try to end the job first (2.9.4)
        # leaves a process that failed or hangs. So a trial that a scheduler ends is lost, as any.
        runner = get_manager().create_runner(communicator=None)
        process = runner.instantiate_process(builder)
        node = process.node
        ended = f"AiiDA's {node.process_label} <{node.pk}> ended"
        try:
            with loop_scope(runner.loop):
                process.execute()
        except Exception as error:
            traceback.print_exc()
            raise EvaluationFailed(f"{ended} with {one_line(error)}") from error
        if not node.is_finished_ok:
            reason = " ".join(str(node.exit_message or node.process_state.value).split())
            what = f"{ended} with exit status {node.exit_status}: {reason}"
            raise EvaluationFailed(what[:300], infeasible=node.exit_status in self.infeasible)
        found = {"profile": get_manager().get_profile().name, "pk": node.pk, "uuid": node.uuid}
        outputs = node.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN))
        return json.dumps(_plain(outputs.nested()), default=str), found

    def _load_profile(self) -> None:
        from aiida import load_profile
        from aiida.manage import get_manager

        try:
            load_profile(self.profile)
            get_manager().get_profile_storage()
        # Configuration, storage and its driver each have exceptions of their own.
        except Exception as error:
            name = f"the profile {self.profile!r}" if self.profile else "a default profile"
            what = f"AiiDA has not {name} ready: {one_line(error)}"
            hint = "`verdi profile list` names those there are, `verdi presto` makes one"
            raise EvaluatorError(what, hint) from error

    def _target(self) -> Any:
        if self.module not in GROUPS:
            return self.imported()
        from aiida.plugins.entry_point import load_entry_point

        return load_entry_point(self.module, self.name)

    def _builder(self, target: Any, given: Any) -> Any:
        from aiida.orm import StructureData
        from pymatgen.core import Structure

        process = _process_class(target)
        if process is None:
            return target(given, **self.arguments)
        values = {"structure": given} if isinstance(given, Structure) else given
        inputs = self.arguments | {
            name: StructureData(pymatgen=value) if isinstance(value, Structure) else value
            for name, value in values.items()
        }
        if protocol := getattr(process, "get_builder_from_protocol", None):
            return protocol(**inputs)
        return _filled(process, inputs)


def _process_class(target: Any) -> Any:
    """The process that a target is, None where it is a plain function."""
    from aiida.engine import Process, is_process_function

    if is_process_function(target):  # a calcfunction or workfunction
        return target.process_class
    return target if isinstance(target, type) and issubclass(target, Process) else None


def _known(group: str) -> str | None:
    """What entry points there are."""
    if group not in GROUPS:
        return None
    from aiida.plugins.entry_point import get_entry_point_names

    return f"{group} has {', '.join(get_entry_point_names(group))}"


def _filled(process: Any, inputs: Mapping[str, Any]) -> Any:
    """A builder with inputs, of which plain values become nodes, and labels codes."""
    from aiida.engine import ProcessBuilder

    builder = ProcessBuilder(process)
    builder._merge(_with_codes(process.spec().inputs, inputs))
    return builder


def _with_codes(ports: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    from aiida.orm import AbstractCode, load_code

    made = {}
    for name, value in values.items():
        port = ports.get(name) if isinstance(ports, Mapping) else None
        types = getattr(port, "valid_type", None) or ()
        types = types if isinstance(types, tuple) else (types,)
        if isinstance(value, Mapping):
            value = _with_codes(port, value)
        elif isinstance(value, str) and any(issubclass(one, AbstractCode) for one in types):
            value = load_code(value)
        made[name] = value
    return made


def _check_output(ports: Any, metric: str, pointer: str) -> None:
    """Refuse a pointer to an output that a process does not have."""
    for part in pointer.split("/")[1:]:
        if not hasattr(ports, "dynamic"):  # within a node, of which nothing is known yet
            return
        if part not in ports:
            if ports.dynamic:
                return
            what = f"the output {metric}: the process has no output {part!r}"
            raise EvaluatorError(what, f"it has {', '.join(ports)}")
        ports = ports[part]


def _plain(value: Any) -> Any:
    """What nodes hold, as JSON."""
    from aiida import orm

    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, orm.Dict):
        return value.get_dict()
    if isinstance(value, orm.List):
        return value.get_list()
    if isinstance(value, orm.ArrayData):
        arrays = {name: value.get_array(name) for name in value.get_arraynames()}
        return {n: array.tolist() for n, array in arrays.items() if array.size <= _MOST_NUMBERS}
    attributes = value.base.attributes.all
    return attributes["value"] if isinstance(value, orm.BaseType) else attributes
