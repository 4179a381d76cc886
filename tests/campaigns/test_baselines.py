"""Campaigns whose designs come from generators that do not learn, and from other programs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from campaigns import Campaign
from campaigns.cli import main
from campaigns.errors import InputErrors
from campaigns.spec import load_spec
from generators.crystals.baselines.load import load_baseline
from loop import DesignSpace, LatentAxis, Objective, Problem
from loop.proposal import History, ProposalSettings, propose

SPEC = """
campaign: {name}
space:
  crystal: {{latent: {latent}}}
objectives:
  mass_density: {{goal: minimize, unit: g/cm^3}}
evaluate: {{with: python, function: "measure.py:measure"}}
budget: {{trials: 3, batch: 3}}
"""
MEASURE = """
def measure(design, seed):
    return {"mass_density": float(design["crystal"].density)}
"""
WRITE = """
import sys
from pathlib import Path
from pymatgen.core import Lattice, Structure
for cation, a in (("Li", 4.0), ("Na", 4.6), ("K", 5.3), ("Mg", 4.2), ("Qq", 1.0)):
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    text = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Rb", "F"], sites).to(fmt="cif")
    Path(sys.argv[1], cation + ".cif").write_text(text.replace("Rb", cation))
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("measure.py").write_text(MEASURE)
    Path("write.py").write_text(WRITE)
    command = f'[{sys.executable}, write.py, "{{out}}"]'
    Path("mine.yaml").write_text(f"kind: external\nfolder: made\ncommand: {command}\n")


@pytest.mark.parametrize("latent", ["substitution", "mine.yaml"])
def test_a_campaign_runs(latent, capsys):
    name = latent.partition(".")[0]
    Path("spec.yaml").write_text(SPEC.format(name=name, latent=latent))
    assert main(["run", "spec.yaml"]) == 0
    capsys.readouterr()
    campaign = Campaign.open(name)
    trials = campaign.trials()
    assert list(trials["status"]) == ["completed"] * 3
    (told,) = campaign.generators()
    assert told["name"] == name
    assert told["card"]["baseline"] in ("substitution", "external")
    assert campaign.problem.space.axes[0].generator.version == told["version"]


def test_a_genetic_algorithm_breeds_the_best_trials():
    generator = load_baseline("genetic")
    space = DesignSpace((LatentAxis("crystal", generator),))
    problem = Problem(space, (Objective("density", "minimize", "g/cm^3"),))
    designs = [{"crystal": s} for s in generator.sample(10, seed=0) if s is not None]
    outcomes = np.array([[d["crystal"].density] for d in designs])
    unknown = np.full_like(outcomes, np.nan)
    history = History(designs, outcomes, unknown, np.zeros(len(designs), bool))
    answers = [
        propose(problem, history, 4, 1, settings=ProposalSettings(strategy="evolution"))
        for _ in range(2)
    ]
    bred = [space.to_json(c.design) for c in answers[0].candidates]
    assert bred == [space.to_json(c.design) for c in answers[1].candidates]
    assert len(bred) == 4
    assert all(c.notes["parents"] and c.latent for c in answers[0].candidates)


@pytest.mark.parametrize(
    ("latent", "told"),
    [
        ("substitutoin", "there is no generator 'substitutoin'"),
        ("nowhere.yaml", "there is no generator at"),
        ("wrong.yaml", "its `kind` is one of"),
        ("lost.yaml", "lost.zip"),
    ],
)
def test_a_recipe_is_checked_before_anything_runs(latent, told):
    Path("wrong.yaml").write_text("kind: magic\n")
    Path("lost.yaml").write_text("kind: substitution\nparents: lost.zip\n")
    Path("spec.yaml").write_text(SPEC.format(name="c", latent=latent))
    with pytest.raises(InputErrors) as caught:
        load_spec(Path("spec.yaml"))
    assert told in str(caught.value)


def test_what_does_not_learn_cannot_be_fine_tuned():
    text = SPEC.format(name="c", latent="random") + "fine_tune: {every: 5}\n"
    Path("spec.yaml").write_text(text)
    with pytest.raises(InputErrors, match="does not learn"):
        load_spec(Path("spec.yaml"))


def test_commands_know_recipes(capsys):
    assert main(["generators", "show", "mine.yaml"]) == 0
    assert "before its command has run" in capsys.readouterr().out
    assert not Path("made").exists()
    assert main(["generators", "sample", "mine.yaml", "-n", "2", "--out", "drawn"]) == 0
    told = capsys.readouterr()
    assert "left out Qq.cif: Qq: no element" in told.out
    assert len(list(Path("drawn").glob("*.cif"))) == 2
    Path("mine.yaml").write_text("kind: external\nfolder: gone\ncommand: [no-such-program]\n")
    assert main(["generators", "sample", "mine.yaml"]) == 1
    assert "cannot be started" in capsys.readouterr().err
