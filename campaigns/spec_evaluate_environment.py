"""What the evaluators of a spec name outside it: programs, data sets, models, tables, functions."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.errors import did_you_mean, quoted
from campaigns.spec_axes import ChoiceAxis, CompositionAxis, LatentAxis, PoolAxis
from campaigns.spec_code_environment import (
    Loc,
    check_function,
    check_workflow,
    complaint,
    exists,
)
from campaigns.spec_evaluate import evaluators
from campaigns.spec_evaluators import (
    Command,
    Crystal,
    Dft,
    Potential,
    Python,
    Squeezed,
    Table,
)
from campaigns.spec_workflows import Workflow

if TYPE_CHECKING:
    from campaigns.spec_checks import Complaint, Draft

_CHGNET = ("chgnet", "chgnet:0.3.0", "chgnet:r2scan")
_SEVENNET = ("sevennet", "sevennet:0", "sevennet:0-22May2024", "sevennet:l3i5")


def evaluate_with_absolute(data: Any, absolute: Callable[[Any], Any], folder: Path) -> Any:
    """The part `evaluate` with its paths made absolute, from the spec's folder."""
    if not isinstance(data, dict):
        return data
    if "with" not in data:
        return {name: evaluate_with_absolute(one, absolute, folder) for name, one in data.items()}

    def path(text: Any) -> Any:
        if isinstance(text, str) and text:
            return str((folder / Path(text).expanduser()).resolve())
        return text

    data = dict(data)
    if data["with"] == "each" and isinstance(data.get("each"), dict):
        data["each"] = evaluate_with_absolute(data["each"], absolute, folder)
    for key in ("model", "prerelax"):
        if key in data:
            data[key] = absolute(data[key])
    for key in ("table", "pseudopotentials", "entries"):
        if key in data:
            data[key] = path(data[key])
    if isinstance(data.get("command"), list):
        data["command"] = [absolute(word) for word in data["command"]]
    if isinstance(data.get("inputs"), dict):
        data["inputs"] = {name: path(template) for name, template in data["inputs"].items()}
    for key in ("function", "maker", "process"):
        if isinstance(data.get(key), str):
            data[key] = _function_path(data[key], folder)
    calculator = data.get("calculator")
    if isinstance(calculator, dict) and isinstance(calculator.get("import"), str):
        data["calculator"] = {**calculator, "import": _function_path(calculator["import"], folder)}
    return data


def _function_path(function: str, folder: Path) -> str:
    file, colon, name = function.rpartition(":")
    if not file.endswith(".py"):
        return function
    return f"{(folder / Path(file).expanduser()).resolve()}{colon}{name}"


def check_evaluators(draft: Draft) -> Iterator[Complaint]:
    """What the evaluators name and is not there."""
    for place, one in evaluators(draft.evaluate):
        loc: Loc = ("evaluate", *place)
        if isinstance(one, Squeezed | Workflow) and one.crystal is not None:
            yield from _check_crystal(one.crystal, draft, (*loc, "crystal"))
        if isinstance(one, Potential):
            yield from _check_potential(one, loc)
        elif isinstance(one, Dft):
            yield from _check_dft(one, draft, loc)
        elif isinstance(one, Command):
            yield from _check_command(one, loc)
        elif isinstance(one, Table):
            yield from _check_table(one, draft, place, loc)
        elif isinstance(one, Python):
            yield from check_function(one.function, (*loc, "function"))
        elif isinstance(one, Workflow):
            yield from check_workflow(one, loc)


def _check_crystal(crystal: Crystal, draft: Draft, loc: Loc) -> Iterator[Complaint]:
    """Whether every value of the axes that a crystal is made of makes one."""
    from campaigns.elements import SYMBOLS
    from loop.evaluators.prototypes import PROTOTYPES

    numbers = set()
    for name in _values(crystal.prototype, draft):
        if name not in PROTOTYPES:
            what = f"{quoted(name)} is no prototype, and no axis"
            yield complaint((*loc, "prototype"), what, did_you_mean(name, PROTOTYPES))
        else:
            numbers.add(PROTOTYPES[name][0])
    if numbers and numbers != {len(crystal.elements)}:
        what = f"{len(crystal.elements)} elements, and the prototypes take {sorted(numbers)}"
        yield complaint((*loc, "elements"), what, "one element for each kind of place")
    for name in _elements(crystal, draft):
        if name not in SYMBOLS:
            what = f"{quoted(name)} is no element, and no axis"
            known = [*draft.axes, *SYMBOLS]
            yield complaint((*loc, "elements"), what, did_you_mean(name, known))


def _values(name: str, draft: Draft) -> list[str]:
    """What a name of `crystal` may stand for: the values of a choice, or itself."""
    axis = draft.axes.get(name)
    if isinstance(axis, ChoiceAxis):
        return [str(value) for value in axis.choice]
    return [] if axis is not None or name in draft.unread else [name]


def _elements(crystal: Crystal, draft: Draft) -> list[str]:
    return [value for name in crystal.elements for value in _values(name, draft)]


def _check_dft(one: Dft, draft: Draft, loc: Loc) -> Iterator[Complaint]:
    if one.code == "espresso":
        program = (one.command or ("pw.x",))[0]
        if shutil.which(program) is None:
            what = f"there is no program {quoted(program, 200)}"
            yield complaint((*loc, "code"), what, "install Quantum ESPRESSO, or say command: [...]")
        if one.pseudopotentials is None:
            what = "pseudopotentials is missing: the folder of Quantum ESPRESSO's UPF files"
            yield complaint(loc, what)
        elif not Path(one.pseudopotentials).is_dir():
            what = f"there is no folder {quoted(one.pseudopotentials, 200)}"
            yield complaint((*loc, "pseudopotentials"), what)
    else:
        for key in ("command", "pseudopotentials"):
            if getattr(one, key) is not None:
                yield complaint((*loc, key), f"GPAW takes no {key}", "code: espresso does")
        yield from _check_gpaw(one, draft, loc)
    if one.prerelax not in (None, "none"):
        yield from _check_model(str(one.prerelax), (*loc, "prerelax"))


def _check_gpaw(one: Dft, draft: Draft, loc: Loc) -> Iterator[Complaint]:
    if importlib.util.find_spec("gpaw") is None:
        hint = "pip install 'matloop[dft]'; docs/evaluators.md says what it needs to be built"
        yield complaint((*loc, "code"), "GPAW is not installed", hint)
        return
    known = gpaw_elements()
    if not known:
        hint = "pip install gpaw-data, or set GPAW_SETUP_PATH"
        yield complaint((*loc, "code"), "GPAW has no PBE data sets here", hint)
        return
    if one.crystal is not None:
        for name in dict.fromkeys(_elements(one.crystal, draft)):
            if re.fullmatch("[A-Z][a-z]?", name) and name not in known:
                what = f"GPAW has no data set of {name}"
                yield complaint((*loc, "crystal", "elements"), what, "remove it from the axis")
    elif draft.screen is not None and draft.screen.elements.include:
        for name in draft.screen.elements.include:
            if name not in known:
                what = f"GPAW has no data set of {name}"
                yield complaint(("screen", "elements", "include"), what, "remove it")


def gpaw_elements() -> frozenset[str]:
    """The elements that GPAW has PBE data sets of; imports neither it nor them."""
    folders = [Path(p) for p in os.environ.get("GPAW_SETUP_PATH", "").split(os.pathsep) if p]
    found = importlib.util.find_spec("gpaw_data")
    places = found.submodule_search_locations if found else None
    folders += [Path(place) / "setups" for place in places or ()]
    files = (path.name for folder in folders for path in folder.glob("*.PBE*"))
    return frozenset(m[1] for f in files if (m := re.fullmatch(r"([A-Z][a-z]?)\.PBE(\.gz)?", f)))


def _check_command(one: Command, loc: Loc) -> Iterator[Complaint]:
    from loop.evaluators import EvaluatorError, make_evaluator

    program = one.command[0]
    if shutil.which(program) is None:
        there = exists(program)
        what = "may not be executed" if there else "is no program"
        hint = "chmod +x" if there else "a path from the spec's folder, or a name on the PATH"
        yield complaint((*loc, "command"), f"{quoted(program, 200)} {what}", hint)
        return
    for name, template in one.inputs.items():
        if not exists(template):
            what = f"there is no template {quoted(template, 200)}"
            yield complaint((*loc, "inputs", name), what)
            return
    try:
        make_evaluator(one.model_dump(mode="json", include=_COMMAND_KEYS, exclude_none=True))
    except EvaluatorError as error:
        yield complaint(loc, error.what, error.hint)


_COMMAND_KEYS = {
    "with_", "command", "inputs", "outputs", "failed", "infeasible", "infeasible_status", "keep"
}  # fmt: skip


def _check_table(one: Table, draft: Draft, place: tuple[str, ...], loc: Loc) -> Iterator[Complaint]:
    """Whether a table has a column of every axis and metric, and rows of the fidelity."""
    from loop.evaluators import EvaluatorError
    from loop.evaluators.table import TableEvaluator, has_column

    loc = (*loc, "table")
    if not exists(one.table):
        yield complaint(loc, f"there is no table {quoted(one.table, 200)}")
        return
    try:
        units = draft.metric_units
        table = TableEvaluator({"table": one.table, "metrics": units | one.metrics})
        columns = table.columns
        named = [*(draft.fidelities or {})]
        for fidelity in place or named:
            if place and "fidelity" not in columns:
                continue  # a table of its own
            table.at(fidelity)
    except EvaluatorError as error:
        yield complaint(loc, error.what, error.hint)
        return
    for name, axis in draft.axes.items():
        if isinstance(axis, LatentAxis):
            what = f"{name} is the latent space of a generator: a table cannot hold its designs"
            yield complaint(loc, what, "ranges, choices, compositions and pools can be")
            continue
        parts = [name]
        if isinstance(axis, CompositionAxis):
            parts = [f"{name}.{ingredient}" for ingredient in axis.composition]
        elif isinstance(axis, PoolAxis):
            parts = [f"{name}.{column}" for column in axis.columns or ()]
        for part in parts:
            if not has_column(part, columns):
                hint = did_you_mean(part, columns)
                yield complaint(loc, f"the table has no column {part}", hint)
    for metric in units:
        if metric not in columns:
            what = f"the table has no column {metric}"
            yield complaint(loc, what, did_you_mean(metric, columns))


def _check_potential(one: Potential, loc: Loc) -> Iterator[Complaint]:
    if one.calculator is None:
        yield from _check_model(one.model or "chgnet", (*loc, "model"))
    else:
        yield from check_function(one.calculator.import_, (*loc, "calculator", "import"))
        if one.model is not None:
            yield complaint((*loc, "model"), "there is a calculator already", "remove one of them")
    if one.entries is not None and not exists(one.entries):
        what = f"there is no table {quoted(one.entries, 200)}"
        yield complaint((*loc, "entries"), what)


def _check_model(model: str, loc: Loc) -> Iterator[Complaint]:
    from campaigns.spec_environment import is_path

    if is_path(model):
        if not exists(model):
            yield complaint(loc, f"there is no model at {quoted(model, 200)}")
    elif model in _SEVENNET:
        if importlib.util.find_spec("sevenn") is None:
            yield complaint(loc, "SevenNet is not installed", "pip install 'matloop[sevennet]'")
    elif model not in _CHGNET and "/" not in model:
        # Any other name may be a model on a hub, except one that is all but one of these.
        hint = did_you_mean(model, (*_CHGNET, *_SEVENNET))
        if model.lower().startswith(("chgnet", "sevennet")) or (
            len(model) < 9 and hint and "mean" in hint
        ):
            yield complaint(loc, f"there is no potential {quoted(model)}", hint)
