"""The campaign: propose, ingest, run, read; with the real search and real child processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

import campaigns
from campaigns import Campaign
from campaigns.campaign import NoDesign
from campaigns.errors import InputErrors, MatloopError, UsageError
from campaigns.results_file import Reading
from campaigns.runner import Interrupted
from campaigns.spec import load_spec
from campaigns.store.models import Trial
from generators.files import version_of
from loop.stopping import Verdict

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"hardness": "GPa", "cost": "dimensionless", "serial": "dimensionless"}


def reading(trial, metric="hardness", mean=1.0, sem=None, unit=None, **more):
    failed = more.get("status") == "failed"
    return Reading(
        trial=trial,
        metric="" if failed else metric,
        mean=None if failed else mean,
        sem=sem,
        unit="" if failed else unit or UNITS.get(metric, "GPa"),
        **{"status": "completed", "reason": None, "row": trial + 2} | more,
    )


def kinds(campaign):
    return [event["kind"] for event in campaign.events()]


def move(campaign, trial, status):
    with campaign.store.write() as session:
        row = session.scalars(select(Trial).where(Trial.index == trial)).one()
        row.move(status)


@pytest.fixture
def lab(toy, database):
    """A campaign that people answer, in each kind of database."""
    with Campaign.create(toy.write(lab=True, trials=20, batch=4), database) as campaign:
        yield campaign


# Importing


def test_importing_campaigns_is_light():
    code = (
        "import sys, campaigns; assert campaigns.__version__; from campaigns import Campaign\n"
        "import campaigns.runner, campaigns.store\n"
        "print([m for m in ('torch', 'ax', 'pymatgen', 'pandas', 'loop') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
    code = "import sys, campaigns; print('sqlalchemy' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False False"
    with pytest.raises(AttributeError, match="nothing_like_it"):
        campaigns.nothing_like_it  # noqa: B018


# Making and opening


def test_create_then_open(toy, database):
    path = toy.write()
    made = Campaign.create(path, database)
    opened = Campaign.open("toy", database)
    assert opened.spec == made.spec == load_spec(path)
    assert Campaign.names(database) == ["toy"]
    assert kinds(opened) == ["campaign_created"]
    assert "Campaign('toy'" in repr(opened)


def test_create_keeps_the_spec_as_it_was_written(toy):
    path = toy.write()
    campaign = Campaign.create(path, toy.db)
    assert campaign._row.spec_text == path.read_text()
    assert Campaign.open("toy", toy.db)._row.spec_hash == campaign._row.spec_hash


def test_a_name_is_taken_once(lab, toy, database):
    with pytest.raises(UsageError, match="already"):
        Campaign.create(toy.spec, database)
    assert Campaign.names(database) == ["toy"]


def test_open_what_is_not_there(toy):
    with pytest.raises(UsageError, match="no database"):
        Campaign.open("toy", toy.db)
    Campaign.create(toy.write(), toy.db)
    with pytest.raises(UsageError, match="it has toy"):
        Campaign.open("tyo", toy.db)


def test_a_spec_may_change_its_budget_and_not_its_goals(toy):
    Campaign.create(toy.write(trials=4), toy.db)
    changed = Campaign.create_or_open(toy.write(trials=9), toy.db)
    assert changed.spec.budget.trials == 9
    assert Campaign.open("toy", toy.db).spec.budget.trials == 9
    assert changed.events()[-1]["payload"]["changed"] == ["budget"]
    same = Campaign.create_or_open(toy.spec, toy.db)
    assert kinds(same).count("spec_changed") == 1

    toy.spec.write_text(toy.spec.read_text().replace("maximize", "minimize"))
    with pytest.raises(UsageError, match="differ in objectives"):
        Campaign.create_or_open(toy.spec, toy.db)
    assert Campaign.open("toy", toy.db).spec == changed.spec


def test_a_spec_of_a_later_matloop_is_one_clear_error(toy):
    campaign = Campaign.create(toy.write(), toy.db)
    with campaign.store.write() as session:
        session.merge(campaign._row).spec = {**campaign._row.spec, "from_the_future": 1}
    with pytest.raises(MatloopError, match="cannot be read"):
        Campaign.open("toy", toy.db)


# Proposing


def answer(campaign, trials):
    """What the toy's function would say, by hand."""
    for trial in trials:
        x, y = trial["design"]["x"], trial["design"]["y"]
        campaign.ingest(
            [
                reading(trial["trial"], "hardness", 100 * (1 - (x - 0.6) ** 2 - (y - 0.3) ** 2)),
                reading(trial["trial"], "cost", 1 + x + 2 * y),
                reading(trial["trial"], "serial", float(trial["trial"])),
            ]
        )


def test_proposals_learn_and_are_the_same_bit_for_bit(toy, tmp_path):
    said = []
    for name, order in (("a", 1), ("b", -1)):
        campaign = Campaign.create(
            toy.write(lab=True, trials=30), f"sqlite:///{tmp_path / name}.db"
        )
        # the order in which answers come in makes no difference
        answer(campaign, campaign.propose(9)[::order])
        new = campaign.propose(2) + campaign.propose(1)
        said.append([(t["design"], t["provenance"]["prediction"]) for t in new])
    assert said[0] == said[1]

    trials = campaign.trials()
    assert (trials["method"][9:] != "prior").all()
    assert np.isfinite(trials["hardness_predicted"][9:]).all()
    assert (trials["hardness_predicted_sd"][9:] > 0).all()
    fits = campaign.fits()
    assert [fit["trials"] for fit in fits] == [9, 11]
    assert set(fits[0]["report"]) == set(UNITS)
    assert campaign.generators() == []

    other = toy.write(lab=True).read_text().replace("seed: 3", "seed: 4")
    toy.spec.write_text(other)
    third = Campaign.create(toy.spec, f"sqlite:///{tmp_path / 'c'}.db")
    assert third.propose(1)[0]["design"] != trials["design"][0]


def test_a_proposal_keeps_its_provenance(lab):
    new = lab.propose()
    assert [t["trial"] for t in new] == [0, 1, 2, 3]
    assert all(t["status"] == "candidate" for t in new)
    told = new[0]["provenance"]
    assert told["method"] == "prior"
    assert told["seed"] == lab.events()[-1]["payload"]["seed"]
    assert told["software"]["matloop"] == campaigns.__version__
    assert {"torch", "botorch", "pymatgen"} <= set(told["software"])
    assert json.loads(json.dumps(new)) == new
    assert new[0] == lab.trial(0)
    assert kinds(lab) == ["campaign_created", "trials_proposed"]
    with pytest.raises(UsageError, match="no trial 9"):
        lab.trial(9)


def test_the_budget_counts_all_but_abandoned_trials(lab):
    lab.propose(18)
    lab.ingest([reading(0), reading(1, status="failed", reason="broke")])
    assert len(lab.propose(5)) == 2
    with pytest.raises(UsageError, match="budget of 20 trials is spent"):
        lab.propose(1)
    lab.abandon(3, "the sample was lost")
    assert len(lab.propose(5)) == 1
    with pytest.raises(UsageError, match="one trial or more"):
        lab.propose(0)


def test_an_abandoned_trial_counts_for_nothing_and_stays_abandoned(lab):
    lab.propose(3)
    lab.ingest([reading(0), reading(1)])
    lab.abandon(0, "the furnace was off")
    trials = lab.trials()
    assert trials["status"].tolist() == ["abandoned", "completed", "candidate"]
    assert np.isnan(trials["hardness"][0])
    assert trials["failure"][0] == "the furnace was off"
    for trial, why in ((0, "already"), (7, "no such trial")):
        with pytest.raises(UsageError, match=why):
            lab.abandon(trial, "again")
    with pytest.raises(InputErrors, match="abandoned"):
        lab.ingest([reading(0, mean=2.0)])
    history, _, _ = lab._history()
    assert len(history.designs) == 2
    assert not history.failed.any()


# Ingesting


def test_ingest_a_file(lab, tmp_path):
    lab.propose(3)
    path = tmp_path / "results.csv"
    path.write_text(
        "trial,hardness (MPa),hardness_sem,cost,status,reason\n"
        "0,210,5,1.5,,\n1,,,,failed,it cracked\n2,300,,,,\n"
    )
    before = lab.trials()
    dry = lab.ingest(path, dry_run=True)
    assert (dry.added, dry.completed, dry.failed, dry.dry_run) == (3, [0, 2], [1], True)
    assert lab.trials().equals(before)
    assert kinds(lab)[-1] == "trials_proposed"

    done = lab.ingest(path)
    assert done.as_dict() == dry.as_dict() | {"dry_run": False}
    trials = lab.trials()
    assert trials["status"].tolist() == ["completed", "failed", "completed"]
    assert trials["hardness"][0] == pytest.approx(0.21)
    assert trials["hardness_sem"][0] == pytest.approx(0.005)
    assert trials["failure"][1] == "it cracked"
    assert np.isnan(trials["cost"][2])
    observed = lab.observations()
    assert observed["source"].unique().tolist() == ["results.csv"]
    assert observed["unit"].tolist() == ["GPa", "dimensionless", "GPa"]
    assert kinds(lab)[-4:] == [
        "trial_failed", "trial_completed", "trial_completed", "results_ingested",
    ]  # fmt: skip


def test_the_same_content_twice_is_once(lab, tmp_path):
    lab.propose(2)
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("trial,hardness\n0,1.5\n1,2.5\n")
    second.write_text("trial;hardness (GPa)\r\n1;2.50\r\n0;1.5\r\n")  # the same, saved elsewhere
    lab.ingest(first)
    events = lab.events()
    for path in (first, second):
        again = lab.ingest(path)
        assert again.already_ingested
        assert again.added == again.corrected == 0
    assert lab.events() == events
    assert len(lab.observations()) == 2


def test_a_correction_supersedes(lab):
    lab.propose(1)
    lab.ingest([reading(0, mean=1.0), reading(0, "cost", 5.0)])
    summary = lab.ingest([reading(0, mean=1.25), reading(0, "cost", 5.0)])
    assert (summary.added, summary.corrected, summary.repeated) == (0, 1, 1)
    observed = lab.observations()
    assert observed["mean"].tolist() == [1.0, 5.0, 1.25]
    assert observed["superseded"].tolist() == [True, False, False]
    assert observed["supersedes"].tolist()[2] == observed["id"][0]
    assert lab.trials()["hardness"][0] == 1.25
    assert lab.trial(0)["observations"]["hardness"]["mean"] == 1.25
    assert kinds(lab)[-2:] == ["trial_corrected", "results_ingested"]
    # and a correction of the correction, back to the first value
    lab.ingest([reading(0, mean=1.0)])
    assert lab.observations()["superseded"].tolist() == [True, False, True, False]


def test_metrics_may_come_one_at_a_time(lab):
    lab.propose(1)
    lab.ingest([reading(0, "hardness", 1.0)])
    lab.ingest([reading(0, "cost", 2.0)])
    assert lab.trials()[["hardness", "cost"]].values.tolist() == [[1.0, 2.0]]
    assert kinds(lab).count("trial_completed") == 1


def test_a_failed_trial_may_be_answered_after_all(lab):
    lab.propose(1)
    lab.ingest([reading(0, status="failed", reason="no signal")])
    lab.ingest([reading(0, mean=3.0)])
    assert lab.trials()["status"].tolist() == ["completed"]
    assert lab.trials()["failure"][0] is None


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (reading(7), "no trial 7"),
        (reading(1, "colour"), "no metric 'colour'"),
        (reading(1, mean=float("nan")), "not a finite number"),
        (reading(1, mean=float("inf")), "not a finite number"),
        (reading(1, sem=-1.0), "standard error"),
        (reading(1, unit="kg"), "give it in GPa"),
        (reading(0, status="failed"), "both completed and failed"),
    ],
)
def test_ingest_is_all_or_nothing(lab, bad, says):
    lab.propose(2)
    events = lab.events()
    with pytest.raises(InputErrors) as caught:
        lab.ingest([reading(0), bad, reading(9)])
    assert says in str(caught.value)
    assert "no trial 9" in str(caught.value)  # every error at once
    assert "nothing was taken in" in str(caught.value)
    assert lab.observations().empty
    assert lab.events() == events
    assert not lab.ingest([reading(0)]).already_ingested


def test_a_completed_trial_cannot_fail(lab):
    lab.propose(1)
    lab.ingest([reading(0)])
    with pytest.raises(InputErrors, match="cannot fail any more"):
        lab.ingest([reading(0, status="failed")])
    with pytest.raises(InputErrors, match="no results"):
        lab.ingest([])


def test_two_programs_ingest_at_once(lab, database):
    lab.propose(16)

    def one(trial):
        with Campaign.open("toy", database) as campaign:
            for metric in ("hardness", "cost"):
                campaign.ingest([reading(trial, metric, float(trial))])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(16)))
    assert lab.trials()["hardness"].tolist() == list(range(16))
    assert kinds(lab).count("results_ingested") == 32


# Reading


def test_an_empty_campaign_reads_well(lab):
    assert lab.trials().empty
    assert lab.observations().empty
    assert lab.front().empty
    status = lab.status()
    assert status["counts"] == dict.fromkeys(status["counts"], 0)
    assert status["best"] == {}
    assert status["hypervolume"] is None
    json.dumps(status, allow_nan=False)


def test_front_and_status(lab):
    lab.propose(4)
    values = [(10.0, 5.0, 1.0), (20.0, 9.0, 1.0), (5.0, 6.0, 1.0), (99.0, 0.0, -1.0)]
    for trial, (hardness, cost, serial) in enumerate(values):
        lab.ingest(
            [
                reading(trial, "hardness", hardness),
                reading(trial, "cost", cost),
                reading(trial, "serial", serial),  # the last breaks the constraint
            ]
        )
    assert lab.front().index.tolist() == [0, 1]
    status = lab.status()
    assert status["front"] == [0, 1]
    assert status["best"]["hardness"] == {
        "value": 20.0, "unit": "GPa", "goal": "maximize", "trial": 1,
    }  # fmt: skip
    assert status["best"]["cost"]["trial"] == 0
    assert status["hypervolume"] > 0
    assert status["counts"]["completed"] == 4
    assert len(status["last_events"]) == 5
    assert lab.events(last=2) == lab.events()[-2:]
    assert lab.events(after=lab.events()[3]["id"]) == lab.events()[4:]
    json.dumps(status, allow_nan=False)


def test_a_campaign_is_read_without_its_generator(toy, monkeypatch):
    campaign = Campaign.create(toy.write(lab=True), toy.db)
    crystal = campaign.spec.model_validate(
        campaign._row.spec | {"campaign": "crystal", "space": {"c": {"latent": "no such thing"}}}
    )
    looked_at = Campaign.create(crystal, toy.db)
    assert looked_at.status()["front"] == []
    assert looked_at.front().empty


# Running


def test_run_to_the_budget(toy):
    told = []
    campaign = Campaign.create(toy.write(trials=5, batch=2), toy.db)
    result = campaign.run(on_event=told.append)
    assert (result["reason"], result["counted"]) == ("budget", 5)
    trials = campaign.trials()
    assert trials["status"].tolist() == ["completed"] * 5
    assert trials["attempt"].tolist() == [1] * 5
    assert len(toy.finished()) == 5
    assert not list(toy.results.glob("*.json"))
    stored = [e for e in told if e["id"] is not None]
    assert stored == campaign.events()[1:]
    assert {e["kind"] for e in told if e["id"] is None} == {"proposing", "loading_evaluator"}
    source = campaign.observations()["source"].unique().tolist()
    assert len(source) == 1
    assert source[0].startswith("python ")
    json.dumps(result, allow_nan=False)

    # again: there is nothing to do, and nothing is done
    again = campaign.run()
    assert again["reason"] == "budget"
    assert len(toy.finished()) == 5
    # a larger budget goes on
    assert campaign.run(budget=6)["counted"] == 6
    assert campaign.run(budget=9, max_new=1)["reason"] == "max_new"
    assert len(campaign.trials()) == 7


def test_one_worker_makes_the_same_campaign_again(toy, tmp_path):
    designs, seeds = [], []
    for name in ("a", "b"):
        db = f"sqlite:///{tmp_path / name}.db"
        campaign = Campaign.create(toy.write(trials=4, batch=2, workers=1), db)
        campaign.run()
        designs.append(campaign.trials()["design"].tolist())
        seeds.append([line["seed"] for line in toy.finished()[-4:]])
    assert designs[0] == designs[1]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 4


def test_failed_evaluations_are_failed_trials_with_their_reason(toy):
    campaign = Campaign.create(toy.write(trials=6, batch=3, melts_above=0.5), toy.db)
    campaign.run()
    trials = campaign.trials()
    melted = trials["design"].map(lambda d: d["x"] > 0.5)
    assert melted.any()
    assert not melted.all()
    assert (trials["status"] == np.where(melted, "failed", "completed")).all()
    assert trials["failure"][melted].str.contains("it melted").all()
    assert trials["hardness"][melted].isna().all()


def test_evaluation_after_evaluation_that_fails_stops_the_run(toy):
    campaign = Campaign.create(toy.write(trials=40, batch=2, melts_above=-1.0), toy.db)
    with pytest.raises(MatloopError, match="all failed") as caught:
        campaign.run()
    assert "it melted" in caught.value.why
    counts = campaign.status()["counts"]
    assert 6 <= counts["failed"] <= 8
    assert counts["running"] == 0
    # repaired, it goes on
    toy.write(trials=10, batch=2)
    assert campaign.run(budget=10)["counts"]["completed"] >= 2


def test_an_evaluator_that_cannot_work_costs_no_trial(toy):
    campaign = Campaign.create(toy.write(), toy.db)
    (toy.folder / "measure.py").write_text("def other(design, seed): return {}\n")
    with pytest.raises(UsageError, match="no function measure"):
        campaign.run()
    assert campaign.status()["counts"]["failed"] == 0
    assert campaign.status()["counts"]["running"] == 0


def test_what_comes_in_another_unit_is_converted(toy):
    spec = toy.write(trials=2, batch=2)
    metrics = "{hardness: MPa, cost: dimensionless, serial: dimensionless}"
    spec.write_text(spec.read_text().replace("workers: 2", f"metrics: {metrics}, workers: 2"))
    campaign = Campaign.create(spec, toy.db)
    campaign.run()
    trial = campaign.trial(0)
    x, y = trial["design"]["x"], trial["design"]["y"]
    told = trial["observations"]["hardness"]
    assert told["unit"] == "GPa"
    assert told["mean"] == pytest.approx(0.1 * (1 - (x - 0.6) ** 2 - (y - 0.3) ** 2))


def test_the_stop_rule_ends_the_run(toy, monkeypatch):
    verdict = Verdict("stalled", "nothing new in the last 2 trials")
    monkeypatch.setattr("loop.stopping.stalled", lambda *_, **__: verdict)
    campaign = Campaign.create(toy.write(trials=9, stop="stalled_after: 1"), toy.db)
    result = campaign.run()
    assert result["reason"] == "stalled"
    assert result["message"] == "nothing new in the last 2 trials"
    assert result["counted"] < 9


def test_a_laboratory_is_told_what_to_do(lab):
    result = lab.run()
    assert result["reason"] == "lab"
    assert "matloop ingest toy" in result["message"]
    assert lab.trials()["status"].tolist() == ["candidate"] * 4
    lab.run()
    assert len(lab.trials()) == 4  # nothing was answered: nothing new
    lab.ingest([reading(0), reading(1)])
    lab.run()
    assert lab.trials()["status"].tolist() == ["completed"] * 2 + ["candidate"] * 4
    assert lab.run(budget=6)["counted"] == 6


def test_a_second_runner_is_refused(toy):
    campaign = Campaign.create(toy.write(trials=4, sleep=0.3), toy.db)
    second = Campaign.open("toy", toy.db)
    refused = []

    def intrude(event):
        if event["kind"] == "trial_started" and not refused:
            for attempt in (second.run, second.propose):
                with pytest.raises(MatloopError, match="run by another matloop") as caught:
                    attempt()
                refused.append(caught.value)

    campaign.run(on_event=intrude)
    assert len(refused) == 2
    assert f"process {os.getpid()}" in refused[0].why
    assert len(campaign.trials()) == 4


def test_a_result_that_nobody_heard_of_is_taken_in(toy):
    """The runner was killed after the child had finished, before or after the store heard of it."""
    campaign = Campaign.create(toy.write(trials=2, batch=2), toy.db)
    campaign.propose(2)
    from loop.evaluators import Evaluation, Measurement
    from loop.executor import Outcome, write_result

    def leave(trial, value):
        measured = {m: Measurement(value, None, u) for m, u in UNITS.items()}
        outcome = Outcome(f"{campaign._row.token}-{trial}-1", Evaluation(measured), None, "done")
        toy.results.mkdir(parents=True, exist_ok=True)
        write_result(toy.results, outcome, "0" * 64)

    for trial in (0, 1):
        move(campaign, trial, "running")
        leave(trial, 41.0 + trial)
    campaign.ingest([reading(1, mean=7.0)])  # trial 1 is in the store: its file is only litter
    half = toy.results / f".{campaign._row.token}-0-1.json.123.tmp"
    half.write_text('{"format"')
    assert campaign.run()["reason"] == "budget"
    assert campaign.trials()["hardness"].tolist() == [41.0, 7.0]
    assert toy.finished() == []
    assert not list(toy.results.glob("*.json"))
    assert not half.exists()
    started = next(e for e in campaign.events() if e["kind"] == "run_started")
    assert started["payload"]["taken_in"] == [0]


def test_a_result_of_an_earlier_attempt_that_comes_late_is_taken_in(toy):
    from loop.evaluators import Evaluation, Measurement
    from loop.executor import Outcome, write_result

    campaign = Campaign.create(toy.write(trials=1, batch=1), toy.db)
    campaign.propose(1)
    move(campaign, 0, "running")

    def late(event):
        if event["kind"] == "run_started":
            assert event["payload"]["again"] == [0]
            measured = {m: Measurement(5.0, None, u) for m, u in UNITS.items()}
            key = f"{campaign._row.token}-0-1"
            write_result(toy.results, Outcome(key, Evaluation(measured), None, "done"), "0" * 64)

    campaign.run(on_event=late)
    assert campaign.trials()["hardness"].tolist() == [5.0]
    assert toy.finished() == []


def test_what_a_killed_run_did_not_finish_is_made_again(toy):
    campaign = Campaign.create(toy.write(trials=3, batch=3), toy.db)
    campaign.propose(3)
    move(campaign, 1, "running")
    campaign.run()
    assert campaign.trials()["attempt"].tolist() == [1, 2, 1]
    assert kinds(campaign).count("trial_reset") == 1


def test_an_answer_by_hand_while_it_runs_stands(toy):
    campaign = Campaign.create(toy.write(trials=2, batch=2, sleep=0.4), toy.db)
    hand = Campaign.open("toy", toy.db)

    def answer(event):
        if event["kind"] == "trial_started" and event["payload"]["trial"] == 1:
            hand.ingest([reading(1, mean=77.0)])

    campaign.run(on_event=answer)
    assert campaign.trials()["hardness"][1] == 77.0
    unused = [e for e in campaign.events() if e["kind"] == "result_not_used"]
    assert [e["payload"]["trial"] for e in unused] == [1]
    assert "hardness" in unused[0]["payload"]["measurements"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_a_campaign_that_goes_on(toy, number):
    campaign = Campaign.create(toy.write(trials=4, batch=4, sleep=1.0), toy.db)
    started = threading.Event()

    def interrupt():
        started.wait(60)
        time.sleep(0.3)
        os.kill(os.getpid(), number)

    def tell(event):
        if event["kind"] == "trial_started":
            started.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        campaign.run(on_event=tell)
    thread.join()
    assert signal.getsignal(number) is before
    assert caught.value.why == signal.Signals(number).name
    assert "run the same command again" in caught.value.hint
    counts = campaign.status()["counts"]
    assert counts["running"] == 0
    assert counts["candidate"] + counts["completed"] == 4
    assert kinds(campaign)[-1] == "run_interrupted"
    toy.write(trials=4, batch=4)
    campaign.run()
    assert campaign.status()["counts"]["completed"] == 4
    assert len(toy.finished()) == 4


def test_a_full_disk_stops_the_run_and_it_goes_on_later(toy_on_small_disk, fill_disk):
    toy = toy_on_small_disk
    campaign = Campaign.create(toy.write(trials=3, batch=3), toy.db)
    fillers = []

    def fill(event):
        if event["kind"] == "trial_started" and event["payload"]["trial"] == 1:
            fillers.append(fill_disk(toy.folder))

    with pytest.raises(MatloopError, match="the disk is full") as caught:
        campaign.run(on_event=fill)
    assert str(toy.folder) in caught.value.where
    fillers[0].unlink()
    assert campaign.run()["counts"]["completed"] == 3
    assert kinds(campaign).count("trials_proposed") == 1
    assert kinds(campaign).count("trial_failed") == 0


def test_a_run_goes_on_where_every_waiting_trial_was_answered_by_hand(toy):
    campaign = Campaign.create(toy.write(trials=3, batch=1, workers=1), toy.db)
    hand = Campaign.open("toy", toy.db)

    def answer(event):
        if event["kind"] == "loading_evaluator":
            hand.ingest([reading(0, mean=77.0)])

    assert campaign.run(on_event=answer)["reason"] == "budget"
    assert campaign.trials()["status"].tolist() == ["completed"] * 3
    assert len(toy.finished()) == 2


def test_a_run_goes_on_where_every_waiting_trial_came_late(toy):
    from loop.evaluators import Evaluation, Measurement
    from loop.executor import Outcome, write_result

    campaign = Campaign.create(toy.write(trials=2, batch=1, workers=1), toy.db)
    campaign.propose(1)
    move(campaign, 0, "running")

    def late(event):
        if event["kind"] == "run_started":
            measured = {m: Measurement(5.0, None, u) for m, u in UNITS.items()}
            key = f"{campaign._row.token}-0-1"
            write_result(toy.results, Outcome(key, Evaluation(measured), None, "done"), "0" * 64)

    assert campaign.run(on_event=late)["counts"]["completed"] == 2
    assert len(toy.finished()) == 1


def test_a_laboratory_is_stopped_as_well(toy, monkeypatch):
    campaign = Campaign.create(toy.write(lab=True, trials=3, stop="stalled_after: 1"), toy.db)
    assert "1 trial waits for results: make and measure it" in campaign.run(max_new=1)["message"]
    campaign.ingest([reading(0)])

    def none(*_):
        raise NoDesign("no new design was found", why="all are known")

    monkeypatch.setattr(campaign, "_propose", none)
    assert campaign.run()["message"] == "no new design is left: all are known"
    verdict = Verdict("stalled", "nothing new")
    monkeypatch.setattr("loop.stopping.stalled", lambda *_, **__: verdict)
    assert campaign.run()["reason"] == "stalled"
    assert len(campaign.trials()) == 1


def test_content_that_was_corrected_may_come_again(lab):
    lab.propose(1)
    first, second = [reading(0, mean=1.0)], [reading(0, mean=2.0)]
    for readings, value in ((first, 1.0), (second, 2.0), (first, 1.0)):
        assert not lab.ingest(readings).already_ingested
        assert lab.trials()["hardness"][0] == value
    assert lab.ingest(first).already_ingested
    assert len(lab.observations()) == 3


def test_the_seed_of_the_command_line_stays(toy, database):
    path = toy.write(lab=True)
    Campaign.create_or_open(path, database, seed=7).close()
    assert Campaign.create_or_open(path, database).spec.seed == 7
    toy.write(lab=True, trials=9)
    assert Campaign.create_or_open(path, database).spec.seed == 7  # with the file's new budget
    with pytest.raises(UsageError, match="differ in seed"):
        Campaign.create_or_open(path, database, seed=8)
    path.write_text(path.read_text().replace("seed: 3", "seed: 4"))
    with pytest.raises(UsageError, match="differ in seed"):
        Campaign.create_or_open(path, database)


def test_the_file_of_a_generator_may_move(toy):
    def spec(folder, recipe):
        weights = toy.folder / folder / "mine.safetensors"
        weights.parent.mkdir(exist_ok=True)
        weights.write_bytes(b"")
        card = {"weights_sha256": "0", "recipe": recipe}
        weights.with_suffix(".json").write_text(json.dumps(card))
        data = campaign._row.spec | {
            "campaign": "crystal",
            "space": {"c": {"latent": str(weights)}},
        }
        return campaign.spec.model_validate(data), version_of(card)

    campaign = Campaign.create(toy.write(lab=True), toy.db)
    before, version = spec("before", "a")
    crystal = Campaign.create(before, toy.db)
    with crystal.store.write() as session:
        told = {"generators": {"c": {"name": "mine", "version": version}}}
        session.add(Trial(campaign_id=crystal._row.id, index=0, design={}, provenance=told))
    moved, _ = spec("after", "a")
    assert Campaign.create_or_open(moved, toy.db).spec == moved
    other, _ = spec("other", "b")
    with pytest.raises(UsageError, match="differ in space"):
        Campaign.create_or_open(other, toy.db)
