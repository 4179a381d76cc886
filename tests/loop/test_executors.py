from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loop.evaluators import EvaluatorError
from loop.executor import Outcome, read_result
from loop.executors import ExecutorPool

ANSWER = """
import os, time
from pathlib import Path

HERE = Path(__file__).parent


def answer(design, seed):
    (HERE / f"begun-{time.time_ns()}-{os.getpid()}").touch()
    while (HERE / "wait").exists():
        time.sleep(0.05)
    if design["x"] < 0:
        raise ValueError("negative")
    if design["x"] > 100:
        os._exit(3)
    return {"y": 2.0 * design["x"]}
"""


@pytest.fixture
def config(tmp_path) -> dict[str, Any]:
    (tmp_path / "answer.py").write_text(ANSWER)
    function = f"{tmp_path / 'answer.py'}:answer"
    return {"with": "python", "function": function, "metrics": {"y": "GPa"}}


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def pool(executor: Executor, config: dict[str, Any], folder: Path, **more: Any) -> ExecutorPool:
    limits: dict[str, Any] = {"time_limit": 60.0, "memory_limit": 2 << 30} | more
    return ExecutorPool(executor, config, results_dir=folder / "results", **limits)


def payload(x: float) -> dict[str, Any]:
    return {"design": {"x": x}, "metrics": ["y"], "seed": 0}


def drain(made: ExecutorPool, n: int, patience: float = 120.0) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    deadline = time.monotonic() + patience
    while len(found) < n:
        assert time.monotonic() < deadline, made.running()
        found |= {outcome.key: outcome for outcome in made.wait(1.0)}
    return found


def test_outcomes_are_those_of_a_local_pool_and_on_disk_first(threads, config, tmp_path) -> None:
    with pool(threads, config, tmp_path) as made:
        made.check(["y"])
        for key, x in (("a", 2.0), ("b", -1.0), ("c", 200.0)):
            made.submit(key, payload(x))
        assert sorted(made.running()) == ["a", "b", "c"]
        found = drain(made, 3)
        assert made.wait(0.1) == []
    assert {key: outcome.kind for key, outcome in found.items()} == {
        "a": "done", "b": "failed", "c": "crashed",
    }  # fmt: skip
    evaluation = found["a"].evaluation
    assert evaluation is not None
    assert evaluation.measurements["y"].mean == 4.0
    assert found["b"].failure == "ValueError: negative"
    for key, outcome in found.items():
        assert read_result(tmp_path / "results", key) == outcome

    # Another pool finds it, and runs nothing.
    begun = len(list(tmp_path.glob("begun-*")))
    with pool(threads, config, tmp_path) as again:
        again.submit("a", payload(2.0))
        assert [outcome.key for outcome in again.wait(5.0)] == ["a"]
        again.forget("a")
        assert again.finished(["a", "b"]) == [found["b"]]
    assert len(list(tmp_path.glob("begun-*"))) == begun


def test_a_time_limit_holds_there_too(threads, config, tmp_path) -> None:
    (tmp_path / "wait").touch()
    with pool(threads, config, tmp_path, time_limit=0.5) as made:
        made.submit("slow", payload(1.0))
        assert drain(made, 1)["slow"].kind == "timeout"


def test_a_broken_evaluator_is_told_before_trials_are_spent(threads, config, tmp_path) -> None:
    (tmp_path / "answer.py").write_text("import no_such_module")
    with (
        pool(threads, config, tmp_path) as made,
        pytest.raises(EvaluatorError, match="no_such_module"),
    ):
        made.check(["y"])


class Dying(ThreadPoolExecutor):
    """An executor whose workers die a few times, as a scheduler tells of it."""

    def __init__(self, deaths: int) -> None:
        super().__init__(1)
        self.deaths = deaths

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        if self.deaths > 0:
            self.deaths -= 1
            return super().submit(self._die)
        return super().submit(*args, **kwargs)

    def _die(self) -> str:
        raise RuntimeError("the worker was lost")


@pytest.mark.parametrize(("deaths", "kind"), [(2, "done"), (3, "lost"), (9, "lost")])
def test_a_worker_that_dies_costs_a_retry_and_no_failure(config, tmp_path, deaths, kind) -> None:
    with Dying(deaths) as executor, pool(executor, config, tmp_path) as made:
        made.submit("a", payload(1.0))
        found = drain(made, 1)["a"]
    assert found.kind == kind
    assert (read_result(tmp_path / "results", "a") is not None) == (kind == "done")


def test_an_executor_that_was_shut_down_loses_and_does_not_fail(config, tmp_path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pool(executor, config, tmp_path) as made:
        made.submit("a", payload(1.0))
        assert drain(made, 1)["a"].kind == "lost"
        with pytest.raises(EvaluatorError, match="cannot run trials"):
            made.check(["y"])


@pytest.mark.slow
def test_a_killed_dask_worker_costs_a_retry_and_no_result(config, tmp_path) -> None:
    distributed = pytest.importorskip("distributed", reason="DASK NOT TESTED: not installed")
    (tmp_path / "wait").touch()
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        pool(client.get_executor(pure=False), config, tmp_path) as made,
    ):
        made.check(["y"])
        for x in range(4):
            made.submit(f"t{x}", payload(float(x)))
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("begun-*"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        (tmp_path / "wait").unlink()
        found = drain(made, 4)
    assert {outcome.kind for outcome in found.values()} == {"done"}
    assert {json.loads((tmp_path / "results" / f"t{x}.json").read_text())["body"]["key"]
            for x in range(4)} == set(found)  # fmt: skip
    assert len(list(tmp_path.glob("begun-*"))) >= 5
