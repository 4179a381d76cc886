"""Learning from earlier campaigns and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from campaigns import transfer
from campaigns.campaign import Campaign
from campaigns.errors import InputErrors, MatloopError, UsageError
from campaigns.spec import load_spec
from campaigns.transfer import with_earlier

FIRST = """
campaign: first
space:
  temperature: {range: [300, 900], unit: K}
  alloy: {composition: [Fe, Co, Ni], total: 100, unit: percent}
objectives:
  hardness: {goal: maximize, unit: GPa}
evaluate: {with: lab}
budget: {trials: 100}
"""
SECOND = """
campaign: second
space:
  temperature: {range: [0, 500], unit: degC}
  alloy: {composition: [Co, Ni, Cr]}
objectives:
  hardness: {goal: maximize, unit: MPa}
  cost: {goal: minimize, unit: dimensionless}
evaluate: {with: lab}
learn_from: [first]
"""


@pytest.fixture
def db(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'matloop.db'}"


@pytest.fixture
def make(tmp_path, db):
    def make(text: str) -> Campaign:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return Campaign.create(load_spec(path), db=db)

    return make


def fill(campaign: Campaign, alloys: list[dict[str, float]]) -> None:
    """Give a campaign results, of designs of ours."""
    from campaigns.store.models import Observation, Trial

    with campaign.store.write() as session:
        for i, alloy in enumerate(alloys):
            trial = Trial(
                campaign_id=campaign._row.id, index=i, status="completed", attempt=1,
                design={"temperature": 400.0 + i, "alloy": alloy}, provenance={"name": f"a{i}"},
            )  # fmt: skip
            trial.observations.append(
                Observation(metric="hardness", mean=5.0 + i, sem=0.5, unit="GPa", source="test")
            )
            session.add(trial)


ALLOYS = [
    {"Fe": 0.0, "Co": 30.0, "Ni": 70.0},
    {"Fe": 0.0, "Co": 60.0, "Ni": 40.0},
    {"Fe": 10.0, "Co": 50.0, "Ni": 40.0},
]


def test_results_are_translated_and_the_rest_is_left_out(make) -> None:
    fill(make(FIRST), ALLOYS)
    second = make(SECOND)
    history, _, _ = second._history()
    history, notes = with_earlier(second, history)
    assert history.source is not None
    assert history.source.tolist() == [1, 1]
    assert [d["temperature"] for d in history.designs] == pytest.approx([126.85, 127.85])
    assert history.designs[0]["alloy"] == pytest.approx({"Co": 0.3, "Ni": 0.7, "Cr": 0.0})
    assert history.outcomes[:, 0] == pytest.approx([5000.0, 6000.0])
    assert np.isnan(history.outcomes[:, 1]).all()
    assert history.sem[0, 0] == pytest.approx(500.0)
    assert any("left out 1 of 3" in note and "Fe" in note for note in notes)
    assert any("learns from 2 results of first" in note for note in notes)
    assert any("source 1" in note for note in notes)
    assert history.source_names == {1: "first"}


def test_they_count_for_nothing_but_the_surrogate(make, tmp_path) -> None:
    fill(make(FIRST), ALLOYS)
    second = make(SECOND)
    trials = second.propose(2)
    assert [t["trial"] for t in trials] == [0, 1]
    status = second.status()
    assert (status["counted"], status["best"], status["front"]) == (2, {}, [])
    told = [e for e in second.events() if e["kind"] == "trials_proposed"]
    assert any("learns from" in note for note in told[-1]["payload"]["notes"])
    file = tmp_path / "r.csv"
    for batch in range(4):
        rows = [f"{t['trial']},{100 + t['trial']},{1 + t['trial']}" for t in trials]
        file.write_text("\n".join(["trial,hardness,cost", *rows]) + "\n")
        second.ingest(file)
        trials = second.propose(2)
        assert len(trials) == 2, batch
    told = [e for e in second.events() if e["kind"] == "trials_proposed"]
    notes = told[-1]["payload"]["notes"]
    assert any("hardness: first goes with what is sought (correlation 0." in n for n in notes)
    report = second.fits()[-1]["report"]
    assert report["hardness"]["n"] == 10  # eight of its own and two of the other campaign
    assert report["cost"]["n"] == 8
    assert second.status()["best"]["hardness"]["value"] == 107.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("learn_from: [first]", "learn_from: [frist]"), "did you mean"),
        (("hardness: {goal: maximize, unit: MPa}", "hardness: {goal: maximize, unit: K}"), "no K"),
        (("hardness: {goal: maximize, unit: MPa}\n ", ""), "none of this campaign's metrics"),
        (("[Co, Ni, Cr]", "[Al, Cr]"), "no design of first fits"),
        (("temperature:", "pressure:"), "no design of first fits"),
    ],
)
def test_what_cannot_be_learnt_from(make, change: tuple[str, str], words: str) -> None:
    fill(make(FIRST), ALLOYS)
    assert change[0] in SECOND
    second = make(SECOND.replace(*change))
    with pytest.raises(MatloopError) as error:
        second.propose(1)
    assert words in f"{error.value}"
    assert len(second.trials()) == 0


def test_a_campaign_without_results_is_noted(make) -> None:
    make(FIRST)
    second = make(SECOND)
    _, notes = with_earlier(second, second._history()[0])
    assert notes == ["first has no results yet to learn from"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("[second]", "the campaign itself"),
        ("[first, first]", "twice"),
        ("[3]", "name of a campaign"),
        ("[{table: none.csv}]", "there is no table"),
        ("[{tabel: none.csv}]", "tabel"),
    ],
)
def test_a_list_that_makes_no_sense(tmp_path, what: str, words: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SECOND.replace("learn_from: [first]", f"learn_from: {what}"))
    with pytest.raises(InputErrors) as error:
        load_spec(path)
    assert words in str(error.value)


def test_a_table(make, tmp_path: Path) -> None:
    rows = ["temperature (K),Co,Ni,Cr,hardness (GPa),cost"]
    rows += [f"{300 + i},0.2,0.3,0.5,{i},1" for i in range(4)]
    rows += ["300,0.2,0.3,0.1,5,1"]
    (tmp_path / "earlier.csv").write_text("\n".join(rows) + "\n")
    second = make(SECOND.replace("[first]", "[{table: earlier.csv}]"))
    history, notes = with_earlier(second, second._history()[0])
    assert history.outcomes[:, 0] == pytest.approx([0.0, 1000.0, 2000.0, 3000.0])
    assert any("left out 1 rows" in note for note in notes)
    (tmp_path / "earlier.csv").write_text("\n".join(rows[:-1]) + "\n")
    _, notes = with_earlier(second, second._history()[0])
    assert len(notes) == 1
    (tmp_path / "earlier.csv").unlink()
    with pytest.raises((UsageError, InputErrors)):
        second.propose(1)


def test_of_many_results_some_are_taken(make, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "MOST", 2)
    fill(make(FIRST), ALLOYS[:2] * 3)
    second = make(SECOND)
    history, notes = with_earlier(second, second._history()[0])
    again, _ = with_earlier(second, second._history()[0])
    assert len(history.designs) == 2
    assert history.designs == again.designs
    assert any("2 of 6 results" in note for note in notes)


def test_two_campaigns_are_two_sources(make) -> None:
    fill(make(FIRST), ALLOYS)
    fill(make(FIRST.replace("campaign: first", "campaign: other")), ALLOYS[:1])
    second = make(SECOND.replace("[first]", "[first, other]"))
    history, _ = with_earlier(second, second._history()[0])
    assert history.source is not None
    assert history.source.tolist() == [1, 1, 2]
