"""Answers a trial with a program: input files from templates, a command, numbers out of its files.

    evaluate:
      with: command
      command: [./simulate, --in, input.txt]
      inputs: {input.txt: input.txt.j2}
      outputs: {strength: {file: out.json, pointer: /strength, unit: MPa}}

Each trial has a working folder of its own, where the command runs: the input files, `design.json`,
and of each crystal `AXIS.cif` and `AXIS.poscar`. A template is Jinja2's (sandboxed) and knows the
design by the names of its axes. The command is a list of arguments, which may be templates too; no
shell reads it. Values come from data: one of text with a control character, or one that would begin
an argument with a dash, is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loop.evaluators.base import (
    Evaluation,
    EvaluationFailed,
    Evaluator,
    EvaluatorError,
    Measurement,
    one_line,
    read_cif,
)
from loop.evaluators.command_outputs import (
    STDERR,
    STDOUT,
    Output,
    check_name,
    compile_pattern,
    read_text,
)

_KEYS = {
    "with",
    "command",
    "inputs",
    "outputs",
    "infeasible",
    "failed",
    "infeasible_status",
    "keep",
}
_KEPT_CHARACTERS = 200_000
_JINJA = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
)


class CommandEvaluator(Evaluator):
    """Evaluator `command`.

    Args:
        config: `command` (arguments), `outputs` (metric to `Output`), and optional: `inputs` (name
            of a file to path of its template), `failed` and `infeasible` (patterns that tell so in
            what was printed), `infeasible_status` (exit statuses), `keep` (files for artifacts).

    Raises:
        EvaluatorError: On an unknown key, a program or template that is not there, a pattern or a
            template that is none.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        if unknown := sorted(set(config) - _KEYS):
            raise EvaluatorError(f"evaluate: command does not know {', '.join(unknown)}")
        words = config.get("command")
        if not isinstance(words, Sequence) or isinstance(words, str) or not words:
            raise EvaluatorError("command is no list of arguments", "command: [./run, input.txt]")
        if not all(isinstance(word, str) for word in words):
            raise EvaluatorError("command is no list of texts", "put numbers in quotes")
        self.program = find_program(words[0])
        self._arguments = [(word, _template(word, f"the argument {word!r}")) for word in words[1:]]
        self._words = list(words)
        self._inputs = {
            check_name(name): _template(_template_text(path), f"the template {path}")
            for name, path in (config.get("inputs") or {}).items()
        }
        outputs = config.get("outputs")
        if not isinstance(outputs, Mapping) or not outputs:
            raise EvaluatorError(
                "command has no outputs", "outputs: {metric: {regex: ..., unit: ...}}"
            )
        self._outputs = {str(name): Output.of(str(name), one) for name, one in outputs.items()}
        self._signs = [
            (compile_pattern(text, kind), kind == "infeasible")
            for kind in ("infeasible", "failed")
            for text in config.get(kind) or ()
        ]
        self._infeasible_status = set(config.get("infeasible_status") or ())
        self._keep = [check_name(name) for name in config.get("keep") or ()]

    def metrics(self) -> dict[str, str]:
        """Return the metrics and units of the outputs."""
        return {name: output.unit for name, output in self._outputs.items()}

    def evaluate(self, design: Mapping[str, Any], metrics: Sequence[str], seed: int) -> Evaluation:
        """Run the command on a design.

        Raises:
            EvaluationFailed: It ends with another status than 0, tells that it failed, or leaves no
                number; infeasible where the configuration says so.
            EvaluatorError: On an unknown metric, or a template that names no axis.
        """
        self.check_metrics(metrics)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="matloop-command-") as name:
            folder = Path(name)
            values = self._write(folder, design, seed)
            arguments = [_argument(*one, values) for one in self._arguments]
            code = self._run(folder, arguments)
            self._judge(folder, code)
            measurements = {}
            for metric in metrics:
                value, sem = self._outputs[metric].read(folder)
                measurements[metric] = Measurement(value, sem, self._outputs[metric].unit)
            artifacts = {
                kept: text[-_KEPT_CHARACTERS:]
                for kept in dict.fromkeys([*self._keep, STDOUT, STDERR])
                if (text := read_text(folder, kept))
            }
        return Evaluation(
            measurements,
            artifacts,
            seconds=time.perf_counter() - started,
            provenance={"evaluator": "command", "command": self._words, "arguments": arguments},
        )

    def _write(self, folder: Path, design: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Write the input files; return what templates know."""
        values: dict[str, Any] = {"seed": seed}
        for axis, value in design.items():
            if isinstance(value, Mapping) and "cif" in value:
                files = {"cif": f"{axis}.cif", "poscar": f"{axis}.poscar"}
                (folder / files["cif"]).write_text(value["cif"], "utf-8")
                read_cif(value["cif"]).to(filename=str(folder / files["poscar"]), fmt="poscar")
                values[axis] = files
            else:
                _check_value(axis, value)
                values[axis] = value
        (folder / "design.json").write_text(json.dumps({"design": design, "seed": seed}), "utf-8")
        for name, template in self._inputs.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_render(template, values), "utf-8")
        return values

    def _run(self, folder: Path, arguments: Sequence[str]) -> int:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MATLOOP_")}
        try:
            with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
                # The same process group as the trial: whoever kills that at its limit kills this.
                return subprocess.run(
                    [self.program, *arguments],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    check=False,
                ).returncode
        except OSError as error:
            raise EvaluatorError(f"{self.program} cannot be run: {error.strerror}") from error

    def _judge(self, folder: Path, code: int) -> None:
        """Raise where status or words tell that it failed."""
        printed = "".join(read_text(folder, name) or "" for name in (STDOUT, STDERR))
        for pattern, infeasible in self._signs:
            if found := pattern.search(printed):
                told = " ".join(found[0].split())[:200]
                raise EvaluationFailed(f"the command says: {told}", infeasible)
        if code in self._infeasible_status:
            raise EvaluationFailed(f"the command ended with status {code}", infeasible=True)
        if code != 0:
            lines = [line.strip() for line in printed.splitlines() if line.strip()]
            last = f": {lines[-1][:200]}" if lines else ""
            how = f"signal {-code}" if code < 0 else f"status {code}"
            raise EvaluationFailed(f"the command ended with {how}{last}")


def find_program(word: str) -> str:
    """Return the path of a program: as it is given, or on the PATH.

    Raises:
        EvaluatorError: There is none, or it may not be run.
    """
    found = shutil.which(os.path.expanduser(word))
    if found is None:
        there = Path(word).expanduser().exists()
        what = f"{word} may not be executed" if there else f"there is no program {word}"
        raise EvaluatorError(
            what, "chmod +x" if there else "a path, or the name of one on the PATH"
        )
    return str(Path(found).absolute())


def _template_text(path: Any) -> str:
    try:
        return Path(str(path)).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluatorError(f"the template {path} cannot be read: {one_line(error)}") from error


def _template(text: str, where: str) -> Any:
    try:
        return _JINJA.from_string(text)
    except TemplateError as error:
        raise EvaluatorError(f"{where} is no template: {one_line(error)}") from error


def _render(template: Any, values: Mapping[str, Any]) -> str:
    try:
        return str(template.render(values))
    # A template may divide by zero or add a text to a number: whatever it raises is its own.
    except Exception as error:
        raise EvaluatorError(
            f"a template cannot be filled: {one_line(error)}", f"it knows {', '.join(values)}"
        ) from error


def _argument(word: str, template: Any, values: Mapping[str, Any]) -> str:
    """An argument; a value that makes an option of one that was none is refused."""
    text = _render(template, values)
    if text.startswith("-") and not word.startswith("-") and not _is_number(text):
        raise EvaluationFailed(f"the argument {text!r} would be read as an option")
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_value(axis: str, value: Any) -> None:
    """Refuse texts that would write a line of their own into an input file."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            _check_value(f"{axis}.{key}", one)
    elif isinstance(value, str) and not value.isprintable():
        raise EvaluationFailed(f"{axis} has a control character, and goes into no file or argument")
