"""Killed by SIGKILL at random moments and resumed: nothing lost, nothing that finished made
twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from campaigns import Campaign

ROOT = Path(__file__).resolve().parents[2]

# Imports once, then forks a process for every run: what is killed is a whole matloop in the middle
# of `Campaign.run`, and not ten times the import of torch.
STARTER = """
import os, signal, sys
import loop.executor, loop.proposal
from campaigns import Campaign
from campaigns import runner

spec, db = sys.argv[1:]
signal.signal(signal.SIGCHLD, signal.SIG_IGN)

def run():
    Campaign.create_or_open(spec, db).run(on_event=lambda event: print(event["kind"], flush=True))

while sys.stdin.readline():
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            run()
            print("ended", flush=True)
        finally:
            os._exit(0)
    print(child, flush=True)
"""


class Watched:
    """A campaign that is run in another process and killed, and what was seen of it at each
    death."""

    def __init__(self, toy):
        self.toy = toy
        self.spec, self.db, self.folder, self.results = toy.spec, toy.db, toy.folder, toy.results
        self.on_disk: dict[int, float] = {}  # trial -> serial, of every result file ever seen
        self.completed: dict[int, float] = {}  # trial -> serial, of every completed trial ever seen

    def __enter__(self) -> Watched:
        self.errors = (self.folder / "errors.log").open("ab")
        self.starter = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(self.spec), self.db],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        return self

    def __exit__(self, *_) -> None:
        self.starter.kill()
        self.starter.communicate()
        self.errors.close()

    def start(self) -> psutil.Process:
        print("run", file=self.starter.stdin, flush=True)
        while not (line := self.starter.stdout.readline().strip()).isdigit():
            assert line, (self.folder / "errors.log").read_text()
        return psutil.Process(int(line))

    def kill(self, events: int, delay: float) -> None:
        """Run it, wait for some events, then a little, then SIGKILL it."""
        process = self.start()
        for _ in range(events):
            if self.starter.stdout.readline() in ("", "ended\n"):
                break
        time.sleep(delay)
        family = [process]
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
            family += process.children(recursive=True)
            process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, "its children outlived it"
        self.look()

    def look(self) -> None:
        """Check what must hold at any instant, and remember what finished."""
        for file in self.results.glob("*.json"):
            body = json.loads(file.read_text())["body"]  # whole, always
            if body["evaluation"] is not None and body["key"].count("-") == 2:
                serial = body["evaluation"]["measurements"]["serial"]["mean"]
                # a second result of one trial would be a finished evaluation made twice
                assert self.on_disk.setdefault(int(body["key"].split("-")[1]), serial) == serial
        new_file = self.db.startswith("sqlite") and not (self.folder / "matloop.db").exists()
        if new_file or not Campaign.names(self.db):
            return
        trials = Campaign.open("toy", self.db).trials()
        assert list(trials.index) == list(range(len(trials)))
        done = trials[trials["status"] == "completed"]["serial"].to_dict()
        assert {t: done.get(t) for t in self.completed} == self.completed
        self.completed = done

    def finish(self) -> None:
        self.start()
        while (line := self.starter.stdout.readline()) != "ended\n":
            assert line, (self.folder / "errors.log").read_text()
        self.look()


def check_end(watched: Watched, budget: int) -> None:
    campaign = Campaign.open("toy", watched.db)
    trials = campaign.trials()
    assert trials["status"].tolist() == ["completed"] * budget
    assert trials["design"].map(str).is_unique

    observed = campaign.observations()
    assert len(observed) == 3 * budget
    assert not observed["superseded"].any()

    final = trials["serial"].to_dict()
    for trial, serial in watched.on_disk.items():
        assert final[trial] == serial, f"trial {trial} was evaluated again after it had finished"

    # Every evaluation that the function ended: that of the observation, or one whose process was
    # killed in the instant between the function's end and its result file.
    log = watched.toy.finished()
    ended = {float(line["serial"]) for line in log}
    assert len(ended) == len(log)
    assert set(final.values()) <= ended
    attempts = trials["attempt"]
    assert len(log) <= attempts.sum()

    events = campaign.events()
    ids = [e["id"] for e in events]
    assert ids == sorted(set(ids))
    proposed = [t for e in events if e["kind"] == "trials_proposed" for t in e["payload"]["trials"]]
    assert proposed == list(range(budget))
    count = {
        kind: Counter(e["payload"]["trial"] for e in events if e["kind"] == kind)
        for kind in ("trial_started", "trial_completed", "trial_reset")
    }
    for trial in range(budget):
        assert count["trial_completed"][trial] == 1
        assert count["trial_started"][trial] == attempts[trial]
        assert count["trial_reset"][trial] == attempts[trial] - 1
    told = {
        e["payload"]["trial"]: e["payload"]["measurements"]["serial"]["mean"]
        for e in events
        if e["kind"] == "trial_completed"
    }
    assert told == final
    assert not list(watched.results.glob("*.json")), "result files are left"
    assert not list(watched.results.glob(".*.tmp"))


def kill_and_resume(toy, *, kills: int, budget: int, seed: int) -> None:
    rng = random.Random(seed)
    toy.write(trials=budget, batch=3, sleep=0.1)
    with Watched(toy) as watched:
        for _ in range(kills):
            watched.kill(rng.randint(0, 9), rng.uniform(0.0, 0.3))
            if len(watched.completed) >= budget - 3:  # so that every kill interrupts something
                budget += 6
                toy.write(trials=budget, batch=3, sleep=0.1)
        watched.finish()
    check_end(watched, budget)


def test_killed_five_times(toy):
    kill_and_resume(toy, kills=5, budget=6, seed=1)


@pytest.mark.slow
def test_killed_twenty_times(toy):
    kill_and_resume(toy, kills=20, budget=10, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_killed_on_postgresql(toy, database, monkeypatch):
    monkeypatch.setenv("MATLOOP_RESULTS", str(toy.results.parent))
    toy.db = database
    kill_and_resume(toy, kills=5, budget=6, seed=3)
