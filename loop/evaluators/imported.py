"""Any ASE calculator, named by a spec: `calculator: {import: "module:callable"}`.

The callable takes nothing and returns a calculator with energy, forces and stress. A spec is its
author's own program and may name code, as with a Python function; what comes over a network may not
(`campaigns.spec_evaluate.runs_code`).
"""

from __future__ import annotations

import hashlib
import importlib
import traceback
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from loop.evaluators.base import EvaluatorError, one_line
from loop.evaluators.models import Potential, package_versions, self_test_potential, sha256_of
from loop.evaluators.python import import_file

_HINT = 'as in calculator: {import: "ase.calculators.emt:EMT", elements: [Al, Cu]}'


def check_imported(config: Any) -> tuple[str, frozenset[str]]:
    """Return what is imported, and the elements that it knows (none = all).

    Raises:
        EvaluatorError: It is described wrongly, or its file is not there.
    """
    if not isinstance(config, Mapping) or set(config) - {"import", "elements"}:
        raise EvaluatorError(
            "`calculator` names what is imported, and the elements it knows", _HINT
        )
    target = config.get("import")
    if not isinstance(target, str) or not all(target.rpartition(":")[::2]):
        raise EvaluatorError(f"calculator: {target!r} names no callable", _HINT)
    file = target.rpartition(":")[0]
    if file.endswith(".py") and not Path(file).expanduser().is_file():
        raise EvaluatorError(f"there is no file {file}", f"seen from {Path.cwd()}")
    return target, frozenset(config.get("elements") or ())


@cache
def load_imported(target: str, elements: frozenset[str]) -> Potential:
    """Import and call it; where elements are named, known compounds of them are tested.

    Raises:
        EvaluatorError: It cannot be imported, or makes no calculator with a stress.
    """
    from ase.data import chemical_symbols

    module_name, _, name = target.rpartition(":")
    try:
        if module_name.endswith(".py"):
            path = Path(module_name).expanduser().resolve()
            module, version = import_file(path), sha256_of(path)
        else:
            module, version = importlib.import_module(module_name), _version(module_name)
        calculator = getattr(module, name)()
    # The user's module may raise anything.
    except Exception as error:
        traceback.print_exc()
        raise EvaluatorError(f"{target} gives no calculator: {one_line(error)}", _HINT) from error
    given = getattr(calculator, "implemented_properties", ())
    if lacking := [p for p in ("energy", "forces", "stress") if p not in given]:
        raise EvaluatorError(f"the calculator of {target} gives no {', '.join(lacking)}", _HINT)
    tested = self_test_potential(calculator, elements, target) if elements else {}
    return Potential(
        name=target,
        weights_sha256=hashlib.sha256(f"{target}|{version}".encode()).hexdigest(),
        calculator=calculator,
        elements=elements or frozenset(chemical_symbols[1:104]),
        reference_set="MatPES-PBE",
        packages=package_versions("matcalc", "ase", "pymatgen") | {module_name: version},
        self_test=tested,
    )


def _version(module_name: str) -> str:
    owners = metadata.packages_distributions().get(module_name.partition(".")[0], [])
    return metadata.version(owners[0]) if owners else "unknown"
