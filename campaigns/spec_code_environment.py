"""What the evaluators of a spec name of code: functions, makers and processes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns.errors import did_you_mean, quoted
from campaigns.spec_workflows import Aiida, Jobflow, Workflow

if TYPE_CHECKING:
    from campaigns.spec_checks import Complaint

Loc = tuple[str | int, ...]


def complaint(loc: Loc, what: str, hint: str | None = None) -> Complaint:
    """A complaint about a place in a spec."""
    from campaigns.spec_checks import Complaint

    return Complaint(loc, what, hint)


def exists(path: str) -> bool:
    """Whether there is such a file or folder; no text is too odd to be asked for."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def check_function(function: str, loc: Loc) -> Iterator[Complaint]:
    """Whether a text names a function, and its file is there. Nothing is imported."""
    file, colon, name = function.rpartition(":")
    if not (file and colon and name.isidentifier()):
        hint = "module:function, or file.py:function"
        yield complaint(loc, f"{quoted(function)} names no function", hint)
    elif file.endswith(".py") and not exists(file):
        yield complaint(loc, f"there is no file {quoted(file, 200)}")


def check_workflow(one: Workflow, loc: Loc) -> Iterator[Complaint]:
    """Whether what runs a workflow is installed, and what it names may be there."""
    from loop.evaluators.aiida import AiidaEvaluator
    from loop.evaluators.jobflow import JobflowEvaluator

    runs = JobflowEvaluator if isinstance(one, Jobflow) else AiidaEvaluator
    if not runs.installed():
        yield complaint((*loc, "with"), *runs.absent())
    elif isinstance(one, Jobflow):
        yield from check_function(one.maker, (*loc, "maker"))
    elif isinstance(one, Aiida):
        yield from _check_process(one.process, (*loc, "process"))


def _check_process(process: str, loc: Loc) -> Iterator[Complaint]:
    from loop.evaluators.aiida import GROUPS

    group, _, name = process.rpartition(":")
    if group not in GROUPS:
        yield from check_function(process, loc)
        return
    known = sorted({point.name for point in metadata.entry_points(group=group)})
    if name not in known:
        yield complaint(loc, f"{group} has no {quoted(name)}", did_you_mean(name, known))
