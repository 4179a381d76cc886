"""Flows of jobflow: a small Maker, and atomate2's with a potential."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loop.evaluators import EvaluationFailed, EvaluatorError, make_evaluator

pytest.importorskip("jobflow", reason="JOBFLOW NOT TESTED: not installed")
# jobflow's run_locally warns of what it calls
pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")

MAKER = """
from dataclasses import dataclass

from jobflow import Flow, Maker, job


@job
def squared(x, by):
    if x < 0:
        raise ValueError("it melted")
    open("here.txt", "w").close()
    return {"values": [by * x**2], "density": None}


@job
def doubled(told):
    return {"result": {"energy": 2 * told["values"][0]}, "sd": 0.5}


@dataclass
class Twice(Maker):
    name: str = "twice"
    by: float = 1.0

    def make(self, design):
        first = squared(design["x"], self.by)
        second = doubled(first.output)
        return Flow([first, second], output={"all": second.output, "first": first.output})
"""
OUTPUTS = {
    "energy": {"pointer": "/all/result/energy", "sem": "/all/sd", "unit": "eV"},
    "value": {"pointer": "/first/values/0", "unit": "eV"},
    "density": {"pointer": "/first/density", "unit": "g/cm^3"},
}


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "flows.py").write_text(MAKER)
    maker = f"{tmp_path / 'flows.py'}:Twice"
    return {"with": "jobflow", "maker": maker, "arguments": {"by": 3.0}, "outputs": OUTPUTS}


def test_a_flow_of_two_jobs_answers(config, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    evaluator = make_evaluator(config)
    evaluator.check(["energy", "value"])
    found = evaluator.evaluate({"x": 2.0}, ["energy", "value"], 0)
    energy, value = found.measurements["energy"], found.measurements["value"]
    assert (energy.mean, energy.sem, energy.unit, value.mean) == (24.0, 0.5, "eV", 12.0)
    assert '"sd": 0.5' in found.artifacts["output.json"]
    assert set(found.provenance["packages"]) >= {"jobflow"}
    assert not (tmp_path / "here.txt").exists()  # a flow has a folder of its own
    with pytest.raises(EvaluationFailed, match="it melted"):
        evaluator.evaluate({"x": -1.0}, ["energy"], 0)
    with pytest.raises(EvaluationFailed, match="no number at /first/density"):
        evaluator.evaluate({"x": 1.0}, ["density"], 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"maker": "flows"}, "names no maker"),
        ({"maker": "no_such_module:Maker"}, "cannot make"),
        ({"arguments": {"of": 1}}, "cannot make"),
        ({"maker": "pathlib:Path", "arguments": {}}, "no method `make`"),
        ({"outputs": {}}, "needs outputs"),
        ({"outputs": {"e": {"pointer": "energy", "unit": "eV"}}}, "needs a pointer"),
        ({"colour": "red"}, "does not know colour"),
    ],
)
def test_what_is_refused(config, change, says) -> None:
    with pytest.raises(EvaluatorError, match=says):
        make_evaluator(config | change).check([])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a hundred packages
def test_atomate2_relaxes_a_crystal_with_a_potential() -> None:
    pytest.importorskip("atomate2", reason="ATOMATE2 NOT TESTED: not installed")
    crystal = {"prototype": "rocksalt", "elements": ["Mg", "O"]}
    flow = {
        "with": "jobflow",
        "maker": "atomate2.forcefields.jobs:ForceFieldRelaxMaker",
        "arguments": {"force_field_name": "CHGNet", "relax_kwargs": {"fmax": 0.05}},
        "outputs": {"energy": {"pointer": "/output/energy_per_atom", "unit": "eV/atom"}},
        "crystal": crystal,
    }
    ours = {"with": "potential", "model": "chgnet", "crystal": crystal}
    by_flow, by_us = (
        make_evaluator(config).evaluate({}, ["energy"], 0).measurements["energy"]
        for config in (flow, ours)
    )
    assert by_flow.mean == pytest.approx(by_us.mean, abs=5e-3)
    assert by_flow.unit == by_us.unit
