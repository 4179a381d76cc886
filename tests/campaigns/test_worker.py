from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campaigns.cli_worker import duration
from campaigns.errors import MatloopError, UsageError
from campaigns.leases import Lease
from campaigns.worker import Plan, Worker
from campaigns.worker_folder import WorkerFolder
from campaigns.worker_places import own_task, place, served_task
from tests.campaigns.served import HOUSE, LAB, MATLOOP, PYTHON, Served, Toy, until


def work(served: Served, toy: Toy, where: str = "local", **plan: Any) -> Worker:
    """Run a worker in this process to its end."""
    given = {"workers": 1, "allow_python": True, **plan}
    whole = Plan(toy.name, "tester", toy.folder / "work", **given)
    said: list[str] = []
    with place(where, whole.workers) as pool, served.client(0.0) as client:
        worker = Worker(client, whole, pool, said.append)
        worker.said = said  # type: ignore[attr-defined]
        worker.run()
    return worker


class Process:
    """A worker as a person starts it."""

    def __init__(self, served: Served, toy: Toy, *more: str) -> None:
        self.log = toy.folder / f"worker-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*MATLOOP, "worker", "--server", served.url, "--campaign", toy.name,
                 "--allow-python", "--dir", str(toy.folder / "work"), *more],
                stdout=log, stderr=subprocess.STDOUT, cwd=HOUSE,
                env=os.environ | {"MATLOOP_KEY": served.key, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def end(self, patience: float = 60.0) -> int:
        try:
            return self.process.wait(patience)
        finally:
            self.process.kill()


def test_a_worker_answers_trials_and_leaves_nothing_behind(served) -> None:
    toy = served.toy(3, PYTHON)
    worker = work(served, toy, workers=2, max_trials=2)
    assert worker.tally.completed == 2
    assert toy.statuses() == ["completed", "completed", "candidate"]
    told = toy.trials()[0]["observations"]
    assert told["cost"]["sem"] == 0.1
    assert told["hardness"]["unit"] == "GPa"
    assert not list((toy.folder / "work").iterdir())


@pytest.mark.slow
def test_no_result_is_lost_when_server_and_worker_are_killed(tmp_path) -> None:
    served = Served(tmp_path).begin()
    toy = served.toy(2, PYTHON)
    (toy.folder / "wait").touch()
    first = Process(served, toy, "--workers", "1")
    until(lambda: toy.begun() == 1)
    served.kill()
    (toy.folder / "wait").unlink()
    until(lambda: list(toy.folder.glob("work/*/results/toy-1-0-1.json")))
    first.process.kill()
    first.end()
    assert toy.statuses() == ["running", "candidate"]

    # The next one waits for the server, and reports what the first had finished.
    second = Process(served, toy, "--max-trials", "1")
    until(lambda: "does not answer" in second.log.read_text())
    served.begin()
    assert second.end() == 0, second.log.read_text()
    assert "1 results of it are reported" in second.log.read_text()
    assert toy.statuses() == ["completed", "completed"]
    assert toy.begun() == 2
    served.end()


def test_a_killed_workers_unfinished_trial_is_handed_back_by_the_next(served) -> None:
    toy = served.toy(1, PYTHON)
    about = {"server": served.url, "campaign": toy.name}
    with served.client() as client:
        (lease,) = client.lease(toy.name, worker="dead")
    dead = WorkerFolder.begin(toy.folder / "work", "dead", about)
    dead.keep(f"{toy.name}-0-1", lease)
    os.close(dead._descriptor)  # as the kernel does when a process ends
    worker = work(served, toy, max_trials=1)
    assert (worker.tally.handed_back, worker.tally.completed) == (1, 1)
    assert toy.trials()[0]["attempt"] == 2


def test_a_signal_hands_back_and_no_design_fails(served) -> None:
    toy = served.toy(2, PYTHON)
    (toy.folder / "wait").touch()

    def kill() -> None:
        until(lambda: toy.begun() == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=kill).start()
    with pytest.raises(MatloopError, match="interrupted") as error:
        work(served, toy, workers=2)
    assert error.value.why == "SIGTERM"
    assert toy.statuses() == ["candidate", "candidate"]
    assert not list((toy.folder / "work").iterdir())


def test_a_scheduler_that_signals_every_process_of_the_job_blames_no_design(served) -> None:
    import psutil

    toy = served.toy(2, PYTHON)
    (toy.folder / "wait").touch()
    before = {p.pid for p in psutil.Process().children(recursive=True)}

    def kill() -> None:
        until(lambda: toy.begun() == 2)
        new = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
        for process in [*new, psutil.Process()]:
            process.terminate()

    threading.Thread(target=kill).start()
    with pytest.raises(MatloopError, match="interrupted"):
        work(served, toy, workers=2)
    assert toy.statuses() == ["candidate", "candidate"]


def test_the_wall_time_hands_back(served) -> None:
    toy = served.toy(1, PYTHON)
    (toy.folder / "wait").touch()
    worker = work(served, toy, seconds=4.0)
    assert worker.tally.handed_back == 1
    assert toy.statuses() == ["candidate"]


def test_a_stop_ends_what_runs(served) -> None:
    toy = served.toy(1, PYTHON, ttl="1.5 s")
    (toy.folder / "wait").touch()

    def stop() -> None:
        until(lambda: toy.begun() == 1)
        with served.client() as client:
            client.stop(toy.name)

    threading.Thread(target=stop).start()
    worker = work(served, toy, idle=1.0)
    assert "the campaign was stopped" in " ".join(worker.said)
    assert toy.statuses() == ["candidate"]


def test_a_trial_that_somebody_else_has_meanwhile_is_given_up(served) -> None:
    toy = served.toy(1, PYTHON, ttl="2 s")
    (toy.folder / "wait").touch()

    def take() -> None:
        until(lambda: toy.begun() == 1)
        with served.client() as client, toy.campaign._change() as session:
            from campaigns.store.models import Trial

            row = session.query(Trial).filter_by(campaign_id=toy.campaign._row.id).one()
            row.lease_token += 1
        del client

    threading.Thread(target=take).start()
    worker = work(served, toy, max_trials=1)
    assert worker.tally.refused == 1, worker.said
    assert toy.trials()[0]["observations"] == {}


def test_what_fails_is_told_and_a_bad_machine_ends_before_it_spoils_the_campaign(served) -> None:
    toy = served.toy(9, PYTHON)
    (toy.folder / "melts").touch()
    with pytest.raises(MatloopError, match="last 6 evaluations all failed"):
        work(served, toy)
    assert toy.statuses().count("failed") == 6
    assert toy.trials()[0]["failure"] == "ValueError: it melted"


def test_a_server_cannot_make_a_worker_run_what_it_names(served) -> None:
    toy = served.toy(2, PYTHON)
    with pytest.raises(UsageError, match="with: python"):
        work(served, toy, workers=2, allow_python=False)
    assert toy.begun() == 0
    assert toy.statuses() == ["candidate", "candidate"]


NAMES_CODE: list[dict[str, Any]] = [
    {"with": "python", "function": "os:system"},
    {"with": "command", "command": ["rm"]},
    {"with": "table", "table": "/etc/passwd"},
    {"with": "dft", "code": "espresso", "command": ["rm"]},
    {"with": "potential", "calculator": {"import": "os:getcwd"}},
    {"with": "anything"},
]


@pytest.mark.parametrize("evaluate", NAMES_CODE)
def test_evaluators_that_name_code_need_the_owners_word(evaluate) -> None:
    lease = Lease(0, "toy", 1, evaluate=evaluate, fidelity="low")
    with pytest.raises(UsageError, match=f"with: {evaluate['with']}"):
        served_task(lease, allow_python=False)
    each = {"with": "each", "each": {"low": evaluate, "high": {"with": "dft"}}}
    with pytest.raises(UsageError, match=f"with: {evaluate['with']}"):
        served_task(replace(lease, evaluate=each), allow_python=False)
    assert served_task(lease, allow_python=True).config["with"] == evaluate["with"]
    task = served_task(replace(lease, evaluate=each, fidelity="high"), allow_python=False)
    assert task.config == {"with": "dft"}
    assert not task.at_fidelity


def test_a_laboratorys_trial_gives_a_worker_nothing_to_run() -> None:
    for evaluate in ({"with": "lab"}, {"with": "each", "each": {"high": {"with": "lab"}}}, {}):
        lease = Lease(0, "toy", 1, evaluate=evaluate, fidelity="high")
        with pytest.raises(UsageError, match="laboratory at high"):
            served_task(lease, allow_python=True)


def test_a_worker_uses_its_owners_evaluator_in_a_lab_campaign(served) -> None:
    toy, mine = served.toy(2, LAB), served.toy(0, PYTHON)
    worker = work(served, toy, max_trials=2, task=own_task(mine.spec), allow_python=False)
    assert worker.tally.completed == 2
    assert mine.begun() == 2
    with pytest.raises(UsageError, match="nothing to run"):
        own_task(toy.spec)


def test_a_broken_evaluator_costs_no_trial(served) -> None:
    toy = served.toy(1, PYTHON)
    (toy.folder / "measure.py").write_text("import no_such_module")
    with pytest.raises(UsageError, match="no_such_module"):
        work(served, toy)
    assert toy.statuses() == ["candidate"]


def test_any_executor_of_the_owner_is_a_place(served) -> None:
    toy = served.toy(2, PYTHON)
    (toy.folder / "mine.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def make():\n    return ThreadPoolExecutor(1)\n"
    )
    worker = work(served, toy, f"{toy.folder / 'mine.py'}:make", workers=2, max_trials=2)
    assert worker.tally.completed == 2


@pytest.mark.parametrize("where", ["nowhere", "dask:", "no_such_module_here:make"])
def test_a_place_that_is_none_is_named(where) -> None:
    with pytest.raises(UsageError, match=r"place|function"), place(where, 1):
        raise AssertionError


def test_a_function_that_returns_no_executor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("def make():\n    return 3\n")
    with pytest.raises(UsageError, match="not a concurrent"), place(f"{tmp_path}/wrong.py:make", 1):
        raise AssertionError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("55m", 3300), ("1h30m", 5400), ("90 s", 90), ("00:55:00", 3300), ("2:30", 150),
     ("1-00:00:00", 86400), ("42", 42), ("1.5h", 5400), ("10 min", 600)],
)  # fmt: skip
def test_times_are_as_people_and_slurm_write_them(text, seconds) -> None:
    assert duration(text, "--until-walltime") == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "1h30", "-5m", "0", "1:2:3:4"])
def test_what_is_no_time_is_refused(text) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        duration(text, "--ttl")


def test_two_workers_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    one = WorkerFolder.begin(tmp_path, "same", {})
    with pytest.raises(MatloopError, match="at work here"):
        WorkerFolder.begin(tmp_path, "same", {})
    assert list(WorkerFolder.orphans(tmp_path, {})) == []
    one.close()
    assert not list(tmp_path.iterdir())
