"""The part `evaluate`: every evaluator, one for each fidelity, and what validation finds."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from campaigns.campaign import Campaign
from campaigns.errors import InputErrors
from campaigns.spec import Spec, load_spec
from campaigns.spec_evaluate import runs_code
from campaigns.spec_evaluators import DFT_METRICS

BINARIES = """
campaign: binaries
space:
  lattice: {choice: [rocksalt, zincblende]}
  cation: {choice: [Mg, Ti], descriptors: elements}
  anion: {choice: [N, O]}
objectives: {bulk_modulus: {goal: maximize, unit: GPa}}
fidelities: {cheap: {cost: 1}, dear: {cost: 5}}
evaluate: {with: table, table: t.csv}
budget: {trials: 20, batch: 2}
"""
MAKES = "crystal: {prototype: lattice, elements: [cation, anion]}"


@pytest.fixture
def read(tmp_path: Path):
    rows = ["lattice,cation,anion,fidelity,bulk_modulus (GPa),failure"]
    for k, lattice in enumerate(("rocksalt", "zincblende")):
        for cation, size in (("Mg", 100), ("Ti", 200)):
            for anion, more in (("N", 30), ("O", 0)):
                value = size + more - 40 * k
                rows.append(f"{lattice},{cation},{anion},cheap,{0.9 * value},")
                gone = (lattice, cation, anion) == ("zincblende", "Mg", "O")
                rows.append(f"{lattice},{cation},{anion},dear,{'' if gone else value},")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "run.j2").write_text("{{ cation }}")

    def read(evaluate: str, text: str = BINARIES) -> Spec:
        path = tmp_path / "spec.yaml"
        path.write_text(text.replace("{with: table, table: t.csv}", evaluate))
        return load_spec(path)

    return read


def test_a_campaign_answered_by_a_table(read, tmp_path: Path) -> None:
    spec = read("{with: table, table: t.csv}")
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    made = Campaign.create(spec, db=f"sqlite:///{tmp_path / 'm.db'}")
    made.run(budget=12)
    trials = made.trials()
    assert set(trials["fidelity"]) == {"cheap", "dear"}
    dear = trials[trials["fidelity"] == "dear"]
    assert dear["bulk_modulus"].max() == 230.0
    assert set(trials["status"]) <= {"completed", "failed"}


def test_an_evaluator_for_each_fidelity(read, tmp_path: Path) -> None:
    each = f"{{cheap: {{with: potential, {MAKES}}}, dear: {{with: lab}}}}"
    spec = read(each)
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    config = spec.evaluator_config()
    assert config["each"]["cheap"]["model"] == "chgnet"
    assert config["each"]["dear"] == {"with": "lab"}
    # With a table in the potential's place: a run goes on until a batch waits for the laboratory.
    spec = read("{cheap: {with: table, table: t.csv}, dear: {with: lab}}")
    made = Campaign.create(spec, db=f"sqlite:///{tmp_path / 'm.db'}")
    assert made.run()["reason"] == "lab"
    trials = made.trials()
    assert set(trials[trials["fidelity"] == "cheap"]["status"]) == {"completed"}
    waiting = trials[trials["fidelity"] == "dear"]
    assert set(waiting["status"]) == {"candidate"}
    assert len(waiting) >= 2


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ("{with: table, table: none.csv}", "there is no table"),
        ("{cheap: {with: lab}}", "nobody is named who answers at the fidelity 'dear'"),
        ("{cheap: {with: lab}, deer: {with: lab}}", "there is no fidelity 'deer'"),
        ("{cheap: {with: dft, preset: quick}, dear: {with: lab}}", "'fast', 'standard'"),
        ("{cheap: {with: potential}, dear: {with: lab}}", "no crystal for the evaluator"),
        (f"{{with: potential, model: sevennett, {MAKES}}}", "no potential 'sevennett'"),
        (f"{{with: dft, code: vasp, {MAKES}}}", "'gpaw' or 'espresso'"),
        (f"{{with: dft, {MAKES.replace('cation', 'kation')}}}", "'kation' is no element"),
        (f"{{with: dft, {MAKES.replace('cation', 'Po')}}}", "no data set of Po|not installed"),
        (f"{{with: dft, {MAKES.replace('lattice', 'bcc')}}}", "the prototypes take"),
        (f"{{with: dft, code: espresso, command: [nope.x], {MAKES}}}", "no program 'nope.x'"),
        ("{with: command, command: [nope], outputs: {y: {regex: a, unit: K}}}", "is no program"),
        (
            "{with: command, command: [ls], inputs: {a: no.j2}, "
            "outputs: {bulk_modulus: {regex: a, unit: GPa}}}",
            "there is no template",
        ),
        (
            "{with: command, command: [ls], outputs: {bulk_modulus: {regex: '(', unit: GPa}}}",
            "is no pattern",
        ),
    ],
)
def test_what_validation_finds(read, evaluate: str, said: str) -> None:
    with pytest.raises(InputErrors, match=said):
        read(evaluate)


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ("aiida.workflows:core.arithmetic.multiply_ad", "did you mean.*multiply_add"),
        ("none.py:chain", "there is no file .*none.py"),
        ("processes.py", "names no function"),
    ],
)
def test_a_process_of_aiida_in_a_spec(read, process: str, said: str) -> None:
    output = "outputs: {bulk_modulus: {pointer: /result, unit: GPa}}"
    said = said if find_spec("aiida") is not None else "aiida is not installed"
    with pytest.raises(InputErrors, match=f"(?is){said}"):
        read(f"{{with: aiida, process: '{process}', {output}}}")


def test_a_table_lacks_a_column(read, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("lattice,cation,fidelity,y\nrocksalt,Mg,cheap,1\n")
    with pytest.raises(InputErrors, match="no row of the fidelity 'dear'"):
        read("{with: table, table: t.csv}")
    (tmp_path / "t.csv").write_text("lattice,cation,y\nrocksalt,Mg,1\n")
    both = "{cheap: {with: table, table: t.csv}, dear: {with: lab}}"
    with pytest.raises(InputErrors, match=r"(?s)no column anion.*no column bulk_modulus"):
        read(both)


def test_a_command_in_a_spec(read) -> None:
    spec = read(
        f"{{with: command, command: [{sys.executable}, ./run.j2, -c], inputs: {{in: run.j2}}, "
        "outputs: {bulk_modulus: {regex: a, unit: GPa}}}"
    )
    config = spec.evaluator_config()
    assert Path(config["command"][1]).is_absolute()
    assert config["command"][2] == "-c"
    assert Path(config["inputs"]["in"]).is_file()


def test_what_names_code() -> None:
    code = [
        {"with": "python"}, {"with": "command"}, {"with": "table"}, {"with": "new"}, {},
        {"with": "jobflow"}, {"with": "aiida"},
        {"with": "potential", "calculator": {"import": "os:system"}},
        {"with": "dft", "code": "espresso", "command": ["rm"]},
        {"with": "each", "each": {"a": {"with": "lab"}, "b": {"with": "python"}}},
        {"with": "each"}, {"with": "each", "each": {"a": "x"}},
    ]  # fmt: skip
    assert all(map(runs_code, code))
    harmless = [
        {"with": "lab"}, {"with": "potential", "model": "chgnet"}, {"with": "dft"},
        {"with": "each", "each": {"a": {"with": "lab"}, "b": {"with": "dft"}}},
    ]  # fmt: skip
    assert not any(map(runs_code, harmless))


def test_metrics_of_dft_are_those_it_answers() -> None:
    from loop.evaluators.dft import METRICS

    assert METRICS == DFT_METRICS
