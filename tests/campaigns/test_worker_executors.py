"""`matloop worker --executor`, as a person starts it, with a real Dask scheduler and with Parsl."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.campaigns.served import PYTHON, until
from tests.campaigns.test_worker import Process

pytestmark = pytest.mark.slow

PARSL = """
from parsl import Config, HighThroughputExecutor
from parsl.concurrent import ParslPoolExecutor
from parsl.providers import LocalProvider


def make():
    provider = LocalProvider(init_blocks=1, max_blocks=1)
    one = HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=2, provider=provider)
    return ParslPoolExecutor(Config(executors=[one], retries=0, run_dir={folder!r}))
"""


def test_a_killed_dask_worker_costs_no_trial(served) -> None:
    distributed = pytest.importorskip("distributed", reason="DASK NOT TESTED: not installed")
    toy = served.toy(4, PYTHON)
    (toy.folder / "wait").touch()
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        where = f"dask:{cluster.scheduler_address}"
        process = Process(served, toy, "--executor", where, "--workers", "4", "--max-trials", "4")
        until(lambda: toy.begun() >= 2)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        (toy.folder / "wait").unlink()
        assert process.end(300) == 0, process.log.read_text()
    assert toy.statuses() == ["completed"] * 4
    assert toy.begun() >= 5  # what the dead worker had was begun again
    with served.client() as client:
        kinds = [event["kind"] for event in client.events(toy.name)]
        assert len(client.observations(toy.name)) == 8
    assert kinds.count("trial_completed") == 4
    assert kinds.count("trial_started") == 4  # of which the server never heard


def test_parsl_evaluates(served, monkeypatch) -> None:
    pytest.importorskip("parsl", reason="PARSL NOT TESTED: not installed")
    # where its programs are, as in an environment that is activated
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    toy = served.toy(3, PYTHON)
    file = toy.folder / "cluster.py"
    file.write_text(PARSL.replace("{folder!r}", repr(str(toy.folder / "parsl"))))
    process = Process(
        served, toy, "--executor", f"{file}:make", "--workers", "2", "--max-trials", "3"
    )
    assert process.end(300) == 0, process.log.read_text()
    assert toy.statuses() == ["completed"] * 3
