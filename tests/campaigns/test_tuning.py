"""A campaign whose generator learns from its results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import pytest

from campaigns import Campaign, tuning
from campaigns.cli_tuning import read_aim
from campaigns.errors import InputErrors, MatloopError, UsageError
from campaigns.results_file import Reading
from campaigns.spec import load_spec
from campaigns.spec_tuning import METHODS, FineTune, TuneFloor
from campaigns.tuning_words import kept, tuned
from generators import fine_tuning, load_generator
from generators.fine_tuning import Aim, Floor, process

SPEC = """
campaign: dense
space:
  crystal: {latent: perovskites}
objectives:
  density: {goal: maximize, unit: g/cm^3}
constraints: [volume <= 30 angstrom^3]
evaluate: {with: lab}
acquisition: evolution
budget: {trials: 40, batch: 10}
fine_tune: {every: %d, method: adapter, steps: 300, device: cpu, time_limit: %s, floor: {unique: 0}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return tmp_path / "dense.yaml"


def answered(campaign: Campaign, n: int) -> list[int]:
    """Propose, and answer all but the last, which fails; the numbers of the trials."""
    generator = load_generator("perovskites")
    new = [t["trial"] for t in campaign.propose(n)]
    readings = []
    for row, index in enumerate(new, 1):
        design = campaign.trial(index)["design"]["crystal"]
        structure = generator.from_json(design)
        told = {"sem": None, "reason": None, "row": row, "source": "test", "cif": None}
        if index == new[-1]:
            readings.append(Reading(index, "", None, unit="", status="failed", **told))
            continue
        of = {"density": (float(structure.density), "g/cm^3"),
              "volume": (structure.volume / len(structure), "angstrom^3")}  # fmt: skip
        for metric, (mean, unit) in of.items():
            readings.append(Reading(index, metric, mean, unit=unit, status="completed", **told))
    campaign.ingest(readings)
    return new


def told(campaign: Campaign, kind: str) -> list[dict]:
    return [e["payload"] for e in campaign.events() if e["kind"] == kind]


@pytest.mark.slow
def test_the_generator_learns_and_the_campaign_goes_on(spec: Path, monkeypatch) -> None:
    db = f"sqlite:///{spec.with_suffix('.db')}"
    base = load_generator("perovskites").version
    spec.write_text(SPEC % (9, "1 s"))
    campaign = Campaign.create(spec, db)
    answered(campaign, 10)

    # a limit that cannot be held: told, and the parent stays
    campaign.propose(1)
    (event,) = told(campaign, tuning.KEPT)
    assert event["how"] == "failed"
    assert event["learnt_at"] == 9
    assert "its limit" in kept(event)
    assert campaign.problem.space.axes[0].generator.version == base
    campaign.propose(1)
    assert len(told(campaign, tuning.KEPT)) == 1  # not again before there are more results

    # the limit may change; what is killed on the way goes on
    spec.write_text(SPEC % (5, "10 min"))
    campaign = Campaign.create_or_open(spec, db)
    answered(campaign, 6)
    run_job = process.run_job

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "run_job", killed)
    with pytest.raises(KeyboardInterrupt):
        campaign.propose(2)
    begun = process.read_job(tuning.folder(campaign) / "job-crystal")
    assert begun is not None
    monkeypatch.setattr(process, "run_job", run_job)
    (new, *_) = campaign.propose(2)
    (event,) = told(campaign, tuning.TUNED)
    assert event["parent"] == base != event["version"]
    assert event["learned_from"]["failed"] == 2
    assert event["version"] in tuned(event)
    assert new["provenance"]["generators"]["crystal"] == {
        "name": "perovskites", "version": event["version"], "from": base,
    }  # fmt: skip
    assert [(g["version"], g["parent"]) for g in campaign.generators()] == [
        (base, None), (event["version"], base),
    ]  # fmt: skip
    assert not (tuning.folder(campaign) / "job-crystal").exists()

    # whoever opens the campaign next has the version; without its file they are told
    campaign = Campaign.open("dense", db)
    assert campaign.problem.space.axes[0].generator.version == event["version"]
    file = tuning.folder(campaign) / event["file"]
    shutil.move(file, file.with_suffix(".away"))
    with pytest.raises(MatloopError, match="is absent") as caught:
        _ = Campaign.open("dense", db).problem
    assert "put the file and its card back" in (caught.value.hint or "")
    spec.write_text((SPEC % (5, "10 min")).replace("fine_tune", "# "))
    assert Campaign.create_or_open(spec, db).problem.space.axes[0].generator.version == base


def test_what_a_campaign_seeks_is_what_is_learnt(spec: Path) -> None:
    spec.write_text(
        (SPEC % (20, "10 min")).replace(
            "goal: maximize", "goal: {target: 5, within: 1}, threshold: 3"
        )
    )
    assert tuning.aims(load_spec(spec).goals()) == [
        Aim("density", "target", 5.0),
        Aim("volume", "at_most", 30.0),
    ]


def test_the_spec_and_the_generators_agree() -> None:
    assert fine_tuning.METHODS == METHODS
    assert get_args(FineTune.model_fields["method"].annotation) == METHODS
    assert Floor(**TuneFloor().model_dump()) == Floor()


def test_there_must_be_a_generator(tmp_path: Path) -> None:
    path = tmp_path / "no.yaml"
    path.write_text((SPEC % (20, "10 min")).replace("{latent: perovskites}", "{range: [0, 1]}"))
    with pytest.raises(InputErrors) as caught:
        load_spec(path)
    assert any("no generator to fine-tune" in p.what for p in caught.value.problems)


def test_aims_are_read_from_words() -> None:
    assert read_aim("minimise  energy") == Aim("energy", "minimize")
    assert read_aim("target gap 1.4") == Aim("gap", "target", 1.4)
    assert read_aim("hull <= -1e-2") == Aim("hull", "at_most", -0.01)
    with pytest.raises(UsageError, match="what is sought"):
        read_aim("the best")
