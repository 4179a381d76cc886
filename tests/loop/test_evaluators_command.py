"""The evaluator `command`: files in, a program, numbers out; and what data cannot make it do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure

from loop.evaluators import EvaluationFailed, EvaluatorError, make_evaluator
from loop.evaluators.base import Evaluation
from loop.executor import LocalPool

PROGRAM = """
import json, sys, pathlib
text = pathlib.Path("input.txt").read_text()
x = float(text.split("=")[1].split()[0])
print("step 1: energy = 9.0 eV")
print(f"step 2: energy = {x:.3f} eV")
print("error = 2.5D-01", sys.argv[1:])
if x < 0:
    sys.exit("the furnace is broken")
if x > 90:
    print("ATOMS OVERLAP at", x)
if x > 80:
    sys.exit(7)
pathlib.Path("out.json").write_text(json.dumps({"a/b": [{"k": x * 2}]}))
pathlib.Path("out.csv").write_text(f"n,s\\n1,1\\n2,{x * 3}\\n")
"""
OUTPUTS = {
    "energy": {"regex": r"energy = (\S+)", "unit": "eV", "sem": r"error = (\S+)"},
    "modulus": {"file": "out.json", "pointer": "/a~1b/0/k", "unit": "GPa"},
    "strength": {"file": "out.csv", "column": "s", "unit": "MPa"},
}


def config(folder: Path, **more: Any) -> dict[str, Any]:
    (folder / "run.py").write_text(PROGRAM)
    (folder / "input.j2").write_text("x = {{ x }}\n{% if word %}word {{ word }}{% endif %}\n")
    return {
        "with": "command",
        "command": [sys.executable, str(folder / "run.py"), "{{ word }}", "-t={{ word }}"],
        "inputs": {"input.txt": str(folder / "input.j2")},
        "outputs": OUTPUTS,
        "infeasible": ["ATOMS OVERLAP.*"],
        "infeasible_status": [7],
        "keep": ["out.json", "input.txt"],
    } | more


def run(folder: Path, x: float, word: str = "soft", **more: Any) -> Evaluation:
    evaluator = make_evaluator(config(folder, **more))
    return evaluator.evaluate({"x": x, "word": word}, list(OUTPUTS), 3)


def test_a_program_answers(tmp_path: Path) -> None:
    found = run(tmp_path, 1.5)
    values = {name: (m.mean, m.sem, m.unit) for name, m in found.measurements.items()}
    assert values == {
        "energy": (1.5, 0.25, "eV"),
        "modulus": (3.0, None, "GPa"),
        "strength": (4.5, None, "MPa"),
    }
    assert found.artifacts["input.txt"] == "x = 1.5\nword soft\n"
    assert "step 2" in found.artifacts["stdout.txt"]
    assert json.loads(found.artifacts["out.json"]) == {"a/b": [{"k": 3.0}]}


@pytest.mark.parametrize(
    ("x", "said", "infeasible"),
    [
        (-1.0, "ended with status 1: the furnace is broken", False),
        (85.0, "ended with status 7", True),
        (95.0, "the command says: ATOMS OVERLAP at 95.0", True),
    ],
)
def test_how_it_fails(tmp_path: Path, x: float, said: str, infeasible: bool) -> None:
    with pytest.raises(EvaluationFailed, match=said) as told:
        run(tmp_path, x)
    assert told.value.infeasible is infeasible


def test_data_reach_a_program_as_values_only(tmp_path: Path) -> None:
    wild = "$(touch hacked); `x` && {{ 7 * 7 }} | rm -rf *"
    found = run(tmp_path, 1.0, wild)
    assert wild in found.artifacts["stdout.txt"]
    assert found.artifacts["input.txt"].endswith(f"word {wild}\n")
    for word, said in (("a\nshell rm", "control character"), ("--output=/etc/x", "as an option")):
        with pytest.raises(EvaluationFailed, match=said):
            run(tmp_path, 1.0, word)
    template = "{{ x.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(EvaluatorError, match="SecurityError"):
        run(tmp_path, 1.0, command=[sys.executable, template])
    link = {"energy": {"file": "out.txt", "regex": "(.*)", "unit": "eV"}}
    steal = [sys.executable, "-c", "import os; os.symlink('/etc/passwd', 'out.txt')"]
    evaluator = make_evaluator(config(tmp_path, command=steal, outputs=link))
    with pytest.raises(EvaluationFailed, match="leads out of the working folder"):
        evaluator.evaluate({"x": 1.0, "word": "a"}, ["energy"], 0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"command": ["no-such-program"]}, "no program no-such-program"),
        ({"command": "run it"}, "no list of arguments"),
        ({"command": ["true", "{{ x"]}, "is no template"),
        ({"inputs": {"../up": "x"}}, "no name of a file in the working folder"),
        ({"outputs": {"y": {"regex": "(", "unit": "eV"}}}, "is no pattern"),
        ({"outputs": {"y": {"regex": "a"}}}, "has no unit"),
        ({"outputs": {"y": {"regex": "a", "column": "b", "unit": "eV"}}}, "needs one of"),
        ({"outputs": {"y": {"pointer": "a", "unit": "eV"}}}, "begins with /"),
        ({"shell": True}, "does not know shell"),
    ],
)
def test_what_is_refused_at_once(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(EvaluatorError, match=said):
        make_evaluator(config(tmp_path, **more))


def test_a_crystal_and_the_limits_of_a_pool(tmp_path: Path) -> None:
    crystal = Structure(Lattice.cubic(3.0), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3])
    design = {"crystal": {"cif": crystal.to(fmt="cif")}, "wait": 0}
    told = {
        "with": "command",
        "command": [
            sys.executable,
            "-c",
            "import sys, time, os; time.sleep(float(sys.argv[3])); print(open(sys.argv[1]).read());"
            "print('sites', len(open(sys.argv[2]).readlines()) - 8, 'MATLOOP_KEY' in os.environ)",
            "{{ crystal.cif }}",
            "{{ crystal.poscar }}",
            "{{ wait }}",
        ],
        "outputs": {"sites": {"regex": r"sites (\d+) False", "unit": "atom"}},
    }
    with LocalPool(told, 2, 12.0, 4 << 30, tmp_path) as pool:
        pool.submit("short", {"design": design, "metrics": ["sites"], "seed": 0})
        pool.submit("long", {"design": design | {"wait": 60}, "metrics": ["sites"], "seed": 0})
        ended = {}
        while pool.running():
            ended |= {outcome.key: outcome for outcome in pool.wait(20.0)}
    assert ended["short"].evaluation is not None, ended["short"].failure
    assert ended["short"].evaluation.measurements["sites"].mean == 2
    assert ended["long"].kind == "timeout"
