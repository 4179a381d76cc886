"""Campaigns at several fidelities, from the spec to results that come back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from campaigns.campaign import Campaign
from campaigns.errors import InputErrors, UsageError
from campaigns.export import to_csv
from campaigns.export_ax import ax_snapshot
from campaigns.handout import TABLE, hand_out, prepare
from campaigns.spec import Spec, load_spec

SPEC = """
campaign: levels
space:
  x: {range: [0, 1]}
  y: {range: [0, 1]}
objectives:
  gap: {goal: maximize, unit: eV}
fidelities: {theory: {cost: 1}, lab: {cost: 10}}
evaluate: {with: lab}
budget: {trials: 60, batch: 4}
"""
MESH = """
campaign: meshes
space:
  x: {range: [0, 1]}
  mesh: {range: [1, 10], fidelity: {target: 10, cost: [1, 20]}}
objectives:
  gap: {goal: maximize, unit: eV}
evaluate: {with: python, function: "measure.py:measure", workers: 2, time_limit: 60 s}
budget: {cost: 130, batch: 2}
"""
NAMED = """
def measure(design, seed, fidelity):
    x, y = design["x"], design["y"]
    truth = 1 - (x - 0.6) ** 2 - (y - 0.3) ** 2
    return {"gap": truth if fidelity == "lab" else 3 + 2 * truth}
"""
MESHED = """
def measure(design, seed):
    return {"gap": 1 - (design["x"] - 0.6) ** 2 - 0.05 * (10 - design["mesh"])}
"""


def gap(design: dict[str, float], fidelity: str) -> float:
    truth = 1 - (design["x"] - 0.6) ** 2 - (design["y"] - 0.3) ** 2
    return truth if fidelity == "lab" else 3 + 2 * truth


@pytest.fixture
def write(tmp_path):
    def write(text: str, function: str = "") -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        (tmp_path / "measure.py").write_text(function)
        return path

    return write


@pytest.fixture
def db(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'matloop.db'}"


def told(path: Path) -> str:
    with pytest.raises(InputErrors) as error:
        load_spec(path)
    return str(error.value)


# The spec


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{theory: {cost: 1}, lab: {cost: 10}}", "{lab: {cost: 10}}", "a single fidelity"),
        ("{cost: 1}", "{cost: 10}", "it is of no use"),
        ("{cost: 1}", "{cost: 0}", "above zero"),
        ("{cost: 1}", "{cost: cheap}", "cheap"),
        ("{cost: 1}", "{cost: 2 min}", "plain number"),
        ("{cost: 1}, lab: {cost: 10}", "{cost: 1 kg}, lab: {cost: 10 h}", "one kind"),
        ("{cost: 1}", "{cost: 1, target: true}", "it is of no use"),
        ("lab: {cost: 10}", "lab: {cost: 10, traget: true}", "traget"),
        ("trials: 60", "cost: 9", "does not pay for one"),
        ("trials: 60", "cost: 9 h", "plain number"),
        ("y: {range", "fidelity: {range", "column in results files"),
        ("y: {range: [0, 1]}", "y: {range: [0, 1], fidelity: {target: 1, cost: [1, 9]}}",
         "have names already"),
        ("{with: lab}\n", "{with: lab}\nacquisition: evolution\n", "no surrogate"),
    ],
)  # fmt: skip
def test_fidelities_that_make_no_sense(write, old: str, new: str, words: str) -> None:
    assert old in SPEC
    assert words in told(write(SPEC.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("target: 10", "target: 11", "not from 1 to 10"),
        ("cost: [1, 20]", "cost: [15, 20]", "half as much"),
        ("cost: [1, 20]", "cost: [1, 2 h]", "plain number"),
        ("cost: [1, 20]", "cost: 3", "a list was wanted"),
        ("x: {range: [0, 1]}", "x: {range: [0, 1], fidelity: {target: 1, cost: [1, 9]}}",
         "is a fidelity already"),
        ("{range: [1, 10],", "{range: [1, 10], fixed: 3,", "needs no other"),
        ("cost: 130", "cost: 19", "does not pay for one"),
    ],
)  # fmt: skip
def test_fidelity_axes_that_make_no_sense(write, old: str, new: str, words: str) -> None:
    assert old in MESH
    assert words in told(write(MESH.replace(old, new), MESHED))


def test_a_cost_needs_fidelities(write) -> None:
    text = SPEC.replace("fidelities: {theory: {cost: 1}, lab: {cost: 10}}\n", "")
    assert "what an evaluation costs" in told(write(text.replace("trials: 60", "cost: 100")))


def test_a_potential_has_one_fidelity(write) -> None:
    text = SPEC.replace("  x: {range: [0, 1]}\n", "  c: {latent: crystals}\n").replace(
        "{with: lab}", "{with: potential}"
    )
    assert "a potential has no fidelity" in told(write(text.replace("gap", "density")))


def test_costs_have_one_unit_and_the_target_may_be_named(write) -> None:
    text = SPEC.replace(
        "{cost: 1}, lab: {cost: 10}", "{cost: 2 h, target: true}, quick: {cost: 30 min}"
    )
    spec = load_spec(write(text.replace("trials: 60", "cost: 1 day")))
    assert (spec.cost_unit, spec.cost_budget) == ("h", pytest.approx(24.0))
    found = spec.loop_fidelities
    assert found is not None
    assert [(f.label, f.cost) for f in found.members] == [
        ("theory", pytest.approx(2.0)),
        ("quick", pytest.approx(0.5)),
    ]
    again = Spec.model_validate_json(spec.model_dump_json())
    assert again == spec


def test_a_spec_without_fidelities_is_as_before(write) -> None:
    spec = load_spec(write(SPEC.replace("fidelities: {theory: {cost: 1}, lab: {cost: 10}}\n", "")))
    assert spec.loop_fidelities is None
    assert spec.goals().fidelities is None


# A laboratory


@pytest.fixture
def lab(write, db) -> Campaign:
    return Campaign.create(write(SPEC), db=db)


def answered(campaign: Campaign, folder: Path, trials: list[dict[str, Any]], **change: str) -> Path:
    """A table that was handed out, filled in."""
    file = hand_out(campaign.spec, trials, prepare(folder)).table
    with file.open() as text:
        rows = list(csv.DictReader(text))
    for row in rows:
        design = {axis: float(row[f"{axis} (dimensionless)"]) for axis in ("x", "y")}
        row["gap (eV)"] = str(gap(design, row["fidelity"]))
        row.update(change)
    with file.open("w", newline="") as text:
        lines = csv.DictWriter(text, rows[0])
        lines.writeheader()
        lines.writerows(rows)
    return file


def test_a_laboratory_is_told_the_fidelity_and_tells_it_back(lab, tmp_path) -> None:
    for batch in range(5):
        trials = lab.propose()
        assert all(t["fidelity"] in ("theory", "lab") for t in trials)
        table = answered(lab, tmp_path / f"batch{batch}", trials)
        assert table.name == TABLE
        assert table.read_text().startswith("trial,fidelity,")
        summary = lab.ingest(table)
        assert summary.completed == [t["trial"] for t in trials]
    seen = lab.observations()
    trials = lab.trials()
    assert list(seen["fidelity"]) == list(trials["fidelity"])
    assert {"theory", "lab"} <= set(seen["fidelity"])
    # Theory's values are larger, and count for nothing.
    of_lab = trials[trials["fidelity"] == "lab"]
    status = lab.status()
    assert status["best"]["gap"]["value"] == of_lab["gap"].max() <= 1.0
    assert set(status["front"]) <= set(of_lab.index)
    assert list(lab.front().index) == status["front"]
    spent = sum({"theory": 1.0, "lab": 10.0}[f] for f in trials["fidelity"])
    assert status["cost"] == {"spent": spent, "budget": None, "unit": None}
    json.dumps(status, allow_nan=False)
    text = to_csv(lab, tmp_path / "out.csv").read_text()
    assert text.startswith("trial,status,fidelity,")
    assert "gap_at_theory" in json.dumps(ax_snapshot(lab))
    assert lab.explain()["learnt"]


def test_a_trial_may_be_measured_at_another_fidelity_than_proposed(lab, tmp_path) -> None:
    trials = lab.propose()
    assert {t["fidelity"] for t in trials} == {"theory"}
    lab.ingest(answered(lab, tmp_path / "a", trials, fidelity="lab"))
    assert set(lab.trials()["fidelity"]) == {"lab"}
    assert {e["kind"] for e in lab.events()} >= {"trial_fidelity"}
    assert lab.status()["best"]
    # Once it is measured it stays: another fidelity is another trial.
    with pytest.raises(InputErrors, match="it was measured at lab"):
        lab.ingest(answered(lab, tmp_path / "b", lab_trials(lab), fidelity="theory"))


def lab_trials(campaign: Campaign) -> list[dict[str, Any]]:
    return [campaign.trial(int(index)) for index in campaign.trials().index]


@pytest.mark.parametrize(("name", "words"), [("theorie", "did you mean"), ("dft", "no fidelity")])
def test_an_unknown_fidelity_in_a_results_file(lab, tmp_path, name: str, words: str) -> None:
    trials = lab.propose(1)
    with pytest.raises(InputErrors) as error:
        lab.ingest(answered(lab, tmp_path / "a", trials, fidelity=name))
    assert words in str(error.value)


def test_a_file_without_the_column_is_of_the_trials_fidelity(lab, tmp_path) -> None:
    lab.propose(1)
    file = tmp_path / "r.csv"
    file.write_text("trial,gap\n0,2.5\n")
    lab.ingest(file)
    assert list(lab.observations()["fidelity"]) == ["theory"]


def test_the_column_means_nothing_without_fidelities(write, db, tmp_path) -> None:
    text = SPEC.replace("fidelities: {theory: {cost: 1}, lab: {cost: 10}}\n", "")
    campaign = Campaign.create(write(text), db=db)
    trials = campaign.propose(1)
    assert trials[0]["fidelity"] is None
    file = tmp_path / "r.csv"
    file.write_text("trial,gap,fidelity\n0,2.5,theory\n")
    with pytest.raises(InputErrors, match="unknown column"):
        campaign.ingest(file)
    assert campaign.status()["cost"] is None


# Functions


def test_a_function_takes_the_fidelity_and_the_cost_budget_ends_it(write, db) -> None:
    text = SPEC.replace("{with: lab}", '{with: python, function: "measure.py:measure"}')
    path = write(text.replace("trials: 60", "cost: 70"), NAMED)
    campaign = Campaign.create(path, db=db)
    ended = campaign.run()
    assert ended["reason"] == "budget"
    assert 60.0 < ended["cost"]["spent"] <= 70.0
    trials = campaign.trials()
    assert (trials["status"] == "completed").all()
    theory = trials[trials["fidelity"] == "theory"]
    assert len(theory) >= 3
    assert (theory["gap"] > 2.0).all()
    assert ended["best"]["gap"]["value"] <= 1.0
    left = f"{70 - ended['cost']['spent']:g}"
    with pytest.raises(
        UsageError, match=f"the cost budget of 70 is spent: the {left} that is left"
    ):
        campaign.propose()


def test_a_function_that_takes_no_fidelity_is_refused_before_any_trial(write, db) -> None:
    text = SPEC.replace("{with: lab}", '{with: python, function: "measure.py:measure"}')
    campaign = Campaign.create(write(text, MESHED), db=db)
    with pytest.raises(UsageError, match="a seed and a fidelity"):
        campaign.run()
    assert not (campaign.trials()["status"] == "completed").any()


def test_an_axis_of_fidelities(write, db) -> None:
    campaign = Campaign.create(write(MESH, MESHED), db=db)
    ended = campaign.run()
    assert ended["reason"] == "budget"
    assert ended["cost"]["spent"] <= 130.0
    meshes = [d["mesh"] for d in campaign.trials()["design"]]
    assert 10.0 in meshes
    assert min(meshes) < 10.0
    best = campaign.trial(ended["best"]["gap"]["trial"])
    assert best["design"]["mesh"] == 10.0
    assert all(campaign.trial(i)["design"]["mesh"] == 10.0 for i in ended["front"])
