"""`matloop explain`, and the why of candidates, on a real campaign."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from campaigns import Campaign
from campaigns.cli import main
from campaigns.errors import MatloopError, UsageError
from campaigns.store.models import Trial
from loop.explain import Explanation, Nearest


@pytest.fixture
def campaign(toy, monkeypatch):
    """Ten trials of the toy campaign, those far right failed, and nothing waits."""
    monkeypatch.chdir(toy.folder)
    made = Campaign.create(toy.write(trials=20, batch=5, melts_above=0.9), toy.db)
    made.run(budget=10)
    return made


def told(campaign, trial, why):
    """Store an explanation with a trial, as a proposal does."""
    with campaign.store.write() as session:
        row = session.scalars(select(Trial).where(Trial.index == trial)).one()
        notes = {**row.provenance.get("notes", {}), "why": why and why.as_dict()}
        row.provenance = {**row.provenance, "notes": notes}


def why_of(campaign, near):
    name = campaign.trial(near)["name"]
    return Explanation(
        "exploration",
        uncertainty_share=0.9,
        nearest=Nearest(near, name, 0.1, 0.2, {"hardness": 4.0}),
        sentences=("Expected much.", f"The nearest design tried is {name}."),
    )


def test_a_trial(campaign):
    told(campaign, 7, why_of(campaign, 3))
    found = campaign.explain(7)
    assert list(found) == ["campaign", "trials"]
    (trial,) = found["trials"]
    assert trial["why"]["kind"] == "exploration"
    assert trial["why"]["nearest"]["trial"] == 3
    assert trial["text"] == (
        f"Expected much. The nearest design tried is {campaign.trial(3)['name']} [trial 3]."
    )
    # one drawn before there was a model has its reason too
    (first,) = campaign.explain(0)["trials"]
    assert first["why"]["kind"] == "blind"
    # without one, what is known is said
    told(campaign, 0, None)
    (first,) = campaign.explain(0)["trials"]
    assert first["why"] is None
    assert first["text"] == "Drawn blindly from the prior: there was no model to ask."
    with pytest.raises(UsageError, match="no trial 99"):
        campaign.explain(99)


def test_the_last_proposals_or_those_that_wait(campaign):
    found = campaign.explain()
    assert [t["trial"] for t in found["trials"]] == [5, 6, 7, 8, 9]
    campaign.propose(2)
    found = campaign.explain()
    assert [t["trial"] for t in found["trials"]] == [10, 11]
    assert {lesson["topic"] for lesson in found["learnt"]} >= {"best", "model", "constraint"}
    assert any("(trial " in lesson["sentence"] for lesson in found["learnt"])
    assert set(found["importances"]) == {"hardness", "cost", "serial"}
    assert sum(found["importances"]["cost"]["shares"].values()) == pytest.approx(1.0)
    json.dumps(found, allow_nan=False)


def test_nothing_is_changed_and_the_same_said_again(campaign):
    before = campaign.events()[-1]["id"]
    assert campaign.explain() == campaign.explain()
    assert campaign.events()[-1]["id"] == before


def test_a_campaign_without_a_trial(toy):
    found = Campaign.create(toy.write(), toy.db).explain()
    assert found["trials"] == []
    assert found["learnt"] == []
    assert found["notes"] == ["no model yet: a metric has fewer than two results"]


def test_a_design_that_cannot_be_read(campaign):
    with campaign.store.write() as session:
        session.scalars(select(Trial).where(Trial.index == 2)).one().design = {"x": "high", "y": 0}
    with pytest.raises(MatloopError, match="cannot be read"):
        campaign.explain()
    assert campaign.explain(3)["trials"]


def test_the_command(campaign, capsys):
    told(campaign, 9, why_of(campaign, 3))
    assert main(["explain", "toy"]) == 0
    out = capsys.readouterr().out
    assert "trial 9, " in out
    assert "  Expected much. The nearest design tried is " in out
    assert "what the campaign has learnt\n  - " in out
    assert "what matters, as a share" in out
    assert main(["explain", "toy.yaml", "--trial", "9", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "explain"
    assert document["data"]["trials"][0]["why"]["uncertainty_share"] == 0.9
    assert main(["explain", "toy", "--trial", "99"]) == 2
    assert "there is no trial 99" in capsys.readouterr().err
    failed = campaign.trials().query("status == 'failed'").index
    if len(failed):
        assert main(["explain", "toy", "--trial", str(failed[0])]) == 0
        assert "It failed: " in capsys.readouterr().out


def test_candidates_come_with_their_why(campaign, capsys):
    assert main(["propose", "toy", "-n", "2"]) == 0
    assert "\nwhy 10" in capsys.readouterr().out
    told(campaign, 10, why_of(campaign, 3))
    assert main(["propose", "toy", "--waiting"]) == 0
    assert "why 10: Expected much." in capsys.readouterr().out
