"""Processes of AiiDA in a profile of their own: ASE's EMT in a work chain, and jobs of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import GPa
from scipy.optimize import minimize_scalar

from loop.evaluators import EvaluationFailed, EvaluatorError, make_evaluator
from loop.executor import LocalPool

pytestmark = [
    pytest.mark.skipif(find_spec("aiida") is None, reason="AIIDA NOT TESTED: not installed"),
    pytest.mark.filterwarnings("ignore"),  # of AiiDA and what it stands on
]

PROCESSES = """
import numpy as np
from aiida.engine import ProcessBuilder, WorkChain, calcfunction
from aiida.orm import Bool, Dict, StructureData
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa


@calcfunction
def relax(structure):
    atoms = structure.get_ase()
    atoms.calc = EMT()
    BFGS(FrechetCellFilter(atoms), logfile="relax.log").run(fmax=1e-4)
    return StructureData(ase=atoms)


@calcfunction
def squeeze(structure):
    atoms = structure.get_ase()
    atoms.calc = EMT()
    cell, volumes, energies = atoms.cell.copy(), [], []
    for strain in np.linspace(-0.02, 0.02, 9):
        atoms.set_cell(cell * (1 + strain), scale_atoms=True)
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    inside = 0 < int(np.argmin(energies)) < len(energies) - 1
    modulus = EquationOfState(volumes, energies, "birchmurnaghan").fit()[2] / GPa
    return Dict({"bulk_modulus": modulus if inside else None, "energies": energies})


class Stiffness(WorkChain):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("structure", valid_type=StructureData)
        spec.input("relaxed", valid_type=Bool, default=lambda: Bool(False))
        spec.output("squeezed", valid_type=Dict)
        spec.output_namespace("crystal", valid_type=StructureData, dynamic=True)
        spec.outline(cls.relax, cls.squeeze)
        spec.exit_code(410, "ERROR_NO_MINIMUM", "no energy minimum within the volumes")

    def relax(self):
        given = self.inputs.structure
        self.ctx.structure = given if self.inputs.relaxed else relax(given)
        self.out("crystal.last", self.ctx.structure)

    def squeeze(self):
        found = squeeze(self.ctx.structure)
        if found["bulk_modulus"] is None:
            return self.exit_codes.ERROR_NO_MINIMUM
        self.out("squeezed", found)


def builder(structure, relaxed=False):
    made = ProcessBuilder(Stiffness)
    made.structure, made.relaxed = StructureData(pymatgen=structure), relaxed
    return made


def no_builder(structure):
    return 1
"""
STIFF = {"stiffness": {"pointer": "/squeezed/bulk_modulus", "unit": "GPa"}}
FCC = {"crystal": {"prototype": "fcc", "elements": ["metal"]}}
ADD = "aiida.calculations:core.arithmetic.add"
SUM = {"total": {"pointer": "/sum", "unit": "1"}}


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory):
    """The name of a new profile, with a code `bash@localhost`; no daemon and no service runs."""
    with pytest.MonkeyPatch.context() as patch:
        # read when AiiDA is first imported
        patch.setenv("AIIDA_PATH", str(tmp_path_factory.mktemp("aiida")))
        verdi = str(Path(sys.executable).with_name("verdi"))
        for words in (
            "presto -n --use-zeromq -p tests",
            "code create core.code.installed -n -Y localhost -L bash -X /bin/bash",
        ):
            command = [verdi, *words.split()]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        yield "tests"


@pytest.fixture
def file(profile: str, tmp_path: Path) -> str:
    (tmp_path / "processes.py").write_text(PROCESSES)
    return str(tmp_path / "processes.py")


def _bulk_modulus_of_copper() -> float:
    """By ASE's EMT from the curvature of the energy over the lattice constant, in GPa."""

    def energy(a: float) -> float:
        atoms = bulk("Cu", "fcc", a=a)
        atoms.calc = EMT()
        return float(atoms.get_potential_energy())

    a, h = minimize_scalar(energy, bounds=(3.4, 3.8), method="bounded").x, 0.01
    curvature = (energy(a + h) - 2 * energy(a) + energy(a - h)) / h**2
    return float(4 * curvature / (9 * a) / GPa)


def config_of(process: str, outputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"with": "aiida", "process": process, "profile": "tests", "outputs": outputs, **more}


def test_a_work_chain_answers_and_stays_in_the_profile(file, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    evaluator = make_evaluator(config_of(f"{file}:Stiffness", STIFF, **FCC))
    evaluator.check(["stiffness"])
    found = evaluator.evaluate({"metal": "Cu"}, ["stiffness"], 0)
    stiffness = found.measurements["stiffness"]
    assert stiffness.mean == pytest.approx(_bulk_modulus_of_copper(), rel=0.02)
    assert stiffness.unit == "GPa"
    assert not (tmp_path / "relax.log").exists()  # a process has a folder of its own

    from aiida.orm import load_node

    node = load_node(found.provenance["uuid"])
    assert node.is_finished_ok
    assert [one.process_label for one in node.called] == ["relax", "squeeze"]
    assert (node.pk, "tests") == (found.provenance["pk"], found.provenance["profile"])
    assert '"energies": [' in found.artifacts["output.json"]
    assert '"last": {"cell"' in found.artifacts["output.json"]


@pytest.mark.parametrize("process", ["Stiffness", "builder"])
def test_exit_statuses_and_exceptions_are_reasons(file, process) -> None:
    config = config_of(f"{file}:{process}", STIFF, **FCC, arguments={"relaxed": True})
    with pytest.raises(EvaluationFailed, match="status 410: no energy minimum within") as failed:
        make_evaluator(config).evaluate({"metal": "Cu"}, ["stiffness"], 0)  # 3 % too long
    assert not failed.value.infeasible
    evaluator = make_evaluator(config | {"infeasible_status": [410]})
    with pytest.raises(EvaluationFailed, match="status 410") as failed:
        evaluator.evaluate({"metal": "Cu"}, ["stiffness"], 0)
    assert failed.value.infeasible
    with pytest.raises(EvaluationFailed, match=r"Stiffness <\d+> ended with .*EMT.*Fe"):
        make_evaluator(config).evaluate({"metal": "Fe"}, ["stiffness"], 0)


def test_a_job_and_a_function_take_the_axes_as_inputs(file) -> None:
    arguments = {"code": "bash@localhost", "y": 40}
    job = make_evaluator(config_of(ADD, SUM, arguments=arguments))
    job.check(["total"])
    assert job.evaluate({"x": 2}, ["total"], 0).measurements["total"].mean == 42.0
    with pytest.raises(EvaluationFailed, match=r"ArithmeticAddCalculation <\d+> .* status 410"):
        job.evaluate({"x": -50}, ["total"], 0)
    with pytest.raises(EvaluationFailed, match="Unknown builder parameter: z"):
        job.evaluate({"z": 1}, ["total"], 0)
    outputs = {"e": {"pointer": "/result/energies/4", "unit": "eV"}}
    function = make_evaluator(config_of(f"{file}:squeeze", outputs, **FCC))
    function.check(["e"])
    assert -1 < function.evaluate({"metal": "Cu"}, ["e"], 0).measurements["e"].mean < 1
    with pytest.raises(EvaluationFailed, match=r"squeeze <\d+> ended with .*Fe"):
        function.evaluate({"metal": "Fe"}, ["e"], 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"profile": "other"}, "not the profile 'other' ready.*verdi profile list"),
        ({"process": "processes"}, "names no process"),
        ({"process": "no_such_module:Chain"}, "cannot load"),
        ({"process": "aiida.workflows:core.none"}, "aiida.workflows has .*core.arithmetic"),
        ({"process": "os:sep"}, "neither a process nor a function"),
        ({"arguments": {"code": "none@localhost"}}, "none@localhost"),
        ({"arguments": {"colour": 1}}, "Unknown builder parameter: colour"),
        ({"outputs": {"e": {"pointer": "/summ", "unit": "1"}}}, "no output 'summ'.*it has .*sum"),
        ({"colour": "red"}, "does not know colour"),
    ],
)
def test_what_is_refused_before_a_trial(profile, change, says) -> None:
    with pytest.raises(EvaluatorError, match=says):
        make_evaluator(config_of(ADD, SUM) | change).check([])


def test_a_function_that_returns_no_builder(file) -> None:
    config = config_of(f"{file}:no_builder", STIFF, **FCC)
    with pytest.raises(EvaluatorError, match="returned int, not a ProcessBuilder"):
        make_evaluator(config).evaluate({"metal": "Cu"}, ["stiffness"], 0)
    with pytest.raises(EvaluatorError, match="unexpected keyword argument 'colour'"):
        make_evaluator(config | {"arguments": {"colour": 1}}).check([])


def test_trials_side_by_side_and_one_that_is_ended_from_outside(profile, tmp_path) -> None:
    arguments = {"code": "bash@localhost", "y": 1, "metadata": {"options": {"sleep": 2}}}
    config = config_of(ADD, SUM, arguments=arguments)
    with LocalPool(config, 3, 120.0, 4 << 30, tmp_path / "quick") as pool:
        pool.check(["total"])
        for x in range(6):
            pool.submit(f"t-{x}", {"design": {"x": x}, "metrics": ["total"], "seed": 0})
        ended = {}
        while pool.running():
            ended |= {one.key: one for one in pool.wait(60.0)}
    assert {one.failure for one in ended.values()} == {None}
    totals = [ended[f"t-{x}"].evaluation.measurements["total"].mean for x in range(6)]
    assert totals == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]

    arguments["metadata"]["options"]["sleep"] = 300
    with LocalPool(config, 1, 120.0, 4 << 30, tmp_path / "slow") as pool:
        pool.submit("slow", {"design": {"x": 1}, "metrics": ["total"], "seed": 0})
        sleep = _wait_for_sleep()
        (trial,) = (one for one in psutil.Process(pool._server.pid).children())
        os.kill(trial.pid, signal.SIGTERM)  # as a scheduler does that ends a job
        (outcome,) = pool.wait(30.0)
    sleep.kill()
    assert outcome.kind == "lost"


def _wait_for_sleep() -> psutil.Process:
    for _ in range(300):
        for process in psutil.process_iter(["cmdline"]):
            if process.info["cmdline"] == ["sleep", "300"]:
                return process
        time.sleep(0.2)
    raise AssertionError("the job did not start")
