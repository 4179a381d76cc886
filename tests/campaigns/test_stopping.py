"""Stop rules of real campaigns: they end it, or pause and ask, and an answer is kept."""

from __future__ import annotations

import json
import signal
import sys

import pytest
from sqlalchemy import select

from campaigns import Campaign
from campaigns.cli import main
from campaigns.errors import UsageError
from campaigns.facts import read_facts
from campaigns.results_file import Reading
from campaigns.runner import Interrupted
from campaigns.store.models import Trial

UNITS = {"hardness": "GPa", "cost": "dimensionless", "serial": "dimensionless"}
ALWAYS = "target_met: {hardness: 1 MPa}"
NEVER = "target_met: {hardness: 1000 GPa}"


def kinds(campaign):
    return [event["kind"] for event in campaign.events()]


def told(campaign, kind):
    return [event["payload"] for event in campaign.events() if event["kind"] == kind]


def answer(campaign, trial, hardness, cost=1.0):
    values = {"hardness": hardness, "cost": cost, "serial": 1.0}
    campaign.ingest(
        [
            Reading(
                trial=trial, metric=metric, mean=mean, sem=None, unit=UNITS[metric],
                status="completed", reason=None, row=trial + 2,
            )
            for metric, mean in values.items()
        ]
    )  # fmt: skip


def expect(campaign, gains):
    """Say what trials were expected to gain, as a proposal does."""
    with campaign.store.write() as session:
        for index, gain in gains.items():
            row = session.scalars(select(Trial).where(Trial.index == index)).one()
            notes = {**row.provenance.get("notes", {}), "expected_gain": gain}
            row.provenance = {**row.provenance, "notes": notes}


def test_a_target_that_is_met_ends_it(toy):
    campaign = Campaign.create(toy.write(trials=9, batch=1, workers=1, stop=ALWAYS), toy.db)
    result = campaign.run()
    assert result["reason"] == "target_met"
    assert result["message"].startswith("trial 0 meets the target: hardness ")
    assert result["counted"] < 9
    assert result["question"] is None
    # the verdict is found again from the store, as often as it is asked for
    again = Campaign.open("toy", toy.db).run()
    assert (again["reason"], again["message"]) == (result["reason"], result["message"])
    (first, second) = told(campaign, "run_ended")
    assert first["verdicts"] == second["verdicts"]
    assert first["verdicts"][0]["data"]["targets"] == {"hardness": 0.001}
    assert "run_paused" not in kinds(campaign)


def test_a_target_that_is_not_met_leaves_the_budget(toy):
    campaign = Campaign.create(toy.write(trials=3, batch=1, stop=NEVER), toy.db)
    assert campaign.run()["reason"] == "budget"


def test_it_pauses_asks_and_goes_on_when_it_is_told_to(toy, database):
    spec = toy.write(lab=True, trials=8, batch=1, stop=f"{ALWAYS}, then: ask")
    campaign = Campaign.create(spec, database)
    campaign.run()
    answer(campaign, 0, 50.0)
    paused = campaign.run()
    assert paused["reason"] == "paused"
    asked = paused["question"]
    assert asked["question"].endswith("go on all the same?")
    assert "--go-on" in asked["answer"]
    assert campaign.status()["question"] == asked
    assert kinds(campaign)[-2:] == ["run_paused", "run_ended"]
    # without an answer it stays as it is, whoever asks
    with Campaign.open("toy", database) as other:
        assert other.run()["reason"] == "paused"
        went_on = other.run(go_on=True)
    assert went_on["reason"] == "lab"
    assert went_on["question"] is None
    assert told(campaign, "run_resumed")[0]["rules"] == ["target_met"]
    # the rule is heard again only on something better that came after the answer
    answer(campaign, 1, 40.0, cost=2.0)
    assert campaign.run()["reason"] == "lab"
    answer(campaign, 2, 60.0)
    assert campaign.run()["message"].startswith("trial 2 meets the target")


def test_an_answer_overrules_only_what_was_told(toy):
    spec = toy.write(lab=True, trials=8, batch=1, stop=f"{ALWAYS}, then: ask")
    campaign = Campaign.create(spec, toy.db)
    events = []
    campaign.run(go_on=True, on_event=lambda event: events.append(event["kind"]))
    assert "nothing_to_overrule" in events
    answer(campaign, 0, 50.0)
    # nobody was told of this verdict yet: so it is told, and not overruled
    assert campaign.run(go_on=True)["reason"] == "paused"
    assert campaign.run(go_on=True)["reason"] == "lab"
    # the same command again, as after a kill
    assert campaign.run(go_on=True)["reason"] == "lab"
    assert len(told(campaign, "run_resumed")) == 1


def test_an_answer_survives_an_interruption(toy):
    spec = toy.write(trials=6, batch=1, workers=1, stop=f"{ALWAYS}, then: ask")
    campaign = Campaign.create(spec, toy.db)
    assert campaign.run()["reason"] == "paused"

    def interrupt(event):
        if event["kind"] == "run_resumed":
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        campaign.run(go_on=True, on_event=interrupt)
    before = len(campaign.trials())
    with Campaign.open("toy", toy.db) as other:
        result = other.run()
    assert result["counted"] > before
    assert len(told(campaign, "run_resumed")) == 1


def test_a_stall_is_asked_again_only_after_as_many_new_trials(toy):
    spec = toy.write(lab=True, trials=20, batch=2, stop="stalled_after: 1, then: ask")
    campaign = Campaign.create(spec, toy.db)
    campaign.run()
    for trial, hardness in enumerate([90.0, 10.0]):
        answer(campaign, trial, hardness, cost=100 - hardness)
    campaign.run()
    for trial in (2, 3):
        answer(campaign, trial, 5.0, cost=99.0)
    assert campaign.run()["reason"] == "paused"
    assert campaign.run(go_on=True)["reason"] == "lab"
    answer(campaign, 4, 5.0, cost=99.0)
    assert campaign.run()["reason"] == "lab"
    answer(campaign, 5, 5.0, cost=99.0)
    campaign.run()
    assert campaign.run()["reason"] == "paused"


def test_nothing_worth_having_is_expected(toy):
    stop = "no_gain: {below: 0.05, patience: 2}"
    campaign = Campaign.create(toy.write(lab=True, trials=20, batch=1, stop=stop), toy.db)
    for trial, gain in enumerate([0.5, 0.04, 0.01]):
        assert campaign.run()["reason"] == "lab"
        expect(campaign, {trial: gain})
        answer(campaign, trial, 10.0 + trial)
    result = campaign.run()
    assert result["reason"] == "no_gain"
    assert "the last 2 batches were expected to gain 4 % of the spread" in result["message"]
    assert campaign.run(go_on=True)["reason"] == "lab"


def test_it_does_not_ask_what_the_budget_has_answered(toy):
    spec = toy.write(trials=1, batch=1, stop=f"{ALWAYS}, then: ask")
    campaign = Campaign.create(spec, toy.db)
    assert campaign.run()["reason"] == "target_met"
    assert "run_paused" not in kinds(campaign)


def asking(toy, more="", **settings):
    """A spec whose budget asks."""
    path = toy.write(**settings)
    path.write_text(path.read_text().replace("budget: {", "budget: {then: ask, " + more))
    return path


def test_a_budget_that_is_spent_asks_for_as_much_again(toy):
    campaign = Campaign.create(asking(toy, trials=3, batch=2), toy.db)
    for counted in (3, 6, 9):
        result = campaign.run(go_on=counted > 3)
        assert (result["reason"], result["counted"], result["budget"]) == (
            "paused", counted, counted,
        )  # fmt: skip
        assert result["question"]["question"] == (
            f"the budget of {counted} trials is spent: go on with 3 more?"
        )
        assert campaign.run()["reason"] == "paused"  # without an answer it stays as it is
    assert read_facts(campaign).granted == 9
    with pytest.raises(UsageError, match="the budget of 9 trials is spent") as error:
        campaign.propose(1)
    assert "--go-on" in error.value.hint
    # what else changes in the budget takes nothing back
    same = Campaign.create_or_open(asking(toy, trials=3, batch=3), toy.db)
    assert same.status()["budget"] == 9
    # another budget in the spec is an answer too, and counts once
    again = Campaign.create_or_open(asking(toy, trials=10, batch=2), toy.db)
    assert (again.status()["budget"], again.status()["question"]) == (10, None)
    assert again.run(go_on=True)["counted"] == 10  # and nothing was granted beyond it
    assert again.status()["question"]["question"].startswith("the budget of 10 trials is spent")
    named = again.run(budget=11)  # who names a budget has answered
    assert (named["reason"], named["counted"]) == ("budget", 11)
    assert again.run()["question"]["question"] == (
        "the budget of 10 trials is spent: go on with 10 more?"
    )
    assert again.run(go_on=True)["counted"] == 21
    ended = Campaign.create_or_open(toy.write(trials=11, batch=2), toy.db).run()
    assert (ended["reason"], ended["question"]) == ("budget", None)


def test_a_budget_does_not_ask_while_trials_wait(toy):
    campaign = Campaign.create(asking(toy, lab=True, trials=2, batch=2), toy.db)
    assert campaign.run()["reason"] == "lab"
    answer(campaign, 0, 50.0)
    assert campaign.run()["reason"] == "lab"
    answer(campaign, 1, 50.0)
    assert campaign.run()["reason"] == "paused"
    assert campaign.run(go_on=True)["reason"] == "lab"
    assert campaign.status()["counts"]["candidate"] == 2


def test_a_rule_that_ends_it_ends_it_though_the_budget_asks(toy):
    spec = asking(toy, trials=1, batch=1, stop=ALWAYS)
    campaign = Campaign.create(spec, toy.db)
    result = campaign.run()
    assert (result["reason"], result["question"]) == ("target_met", None)


# On the command line


@pytest.fixture
def paused(toy, monkeypatch, capsys):
    monkeypatch.chdir(toy.folder)
    toy.write(trials=4, batch=1, workers=1, stop=f"{ALWAYS}, then: ask")
    assert main(["run", "toy.yaml"]) == 0
    return capsys.readouterr().out


def test_a_pause_says_how_to_go_on(paused, capsys):
    assert "paused: trial 0 meets the target" in paused
    assert "next: matloop run toy --go-on" in paused
    assert main(["status", "toy"]) == 0
    assert "go on all the same?" in capsys.readouterr().out
    assert main(["run", "toy", "--go-on", "--json"]) == 0
    told = capsys.readouterr()
    data = json.loads(told.out)["data"]
    assert data["reason"] in ("paused", "budget", "target_met")
    assert data["counted"] > 1
    assert "goes on, though trial 0 meets the target" in told.err


@pytest.mark.parametrize(("said", "counted"), [("y\n", 2), ("n\n", 1), ("\n", 1), ("", 1)])
def test_a_person_at_a_terminal_is_asked(toy, monkeypatch, capsys, said, counted):
    """Standard input is a terminal; what is typed comes line by line."""
    monkeypatch.chdir(toy.folder)
    toy.write(trials=8, batch=1, workers=1, stop=f"{ALWAYS}, then: ask")
    lines = iter([said] if said else [])
    asked = []

    def type_in(prompt):
        asked.append(prompt)
        try:
            return next(lines).rstrip("\n")
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", type_in)
    monkeypatch.setenv("TERM", "dumb")
    assert main(["run", "toy.yaml"]) == 0
    assert asked[0].endswith("go on all the same? [y/N] ")
    capsys.readouterr()
    assert Campaign.open("toy", toy.db).status()["counted"] >= counted


def test_a_program_is_not_asked(toy, monkeypatch, capsys):
    monkeypatch.chdir(toy.folder)
    toy.write(trials=4, batch=1, workers=1, stop=f"{ALWAYS}, then: ask")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main(["run", "toy.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["reason"] == "paused"
