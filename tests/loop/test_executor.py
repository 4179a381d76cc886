"""The pool: limits, crashes, what is left on disk, and that nothing outlives its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from loop.evaluators import Evaluation, EvaluatorError, Measurement
from loop.executor import LocalPool, Outcome, digest_of, read_result, write_result

MIB = 2**20

LABORATORY = """
import os, resource, signal, subprocess, sys, time
from pathlib import Path

HELD = []

def measure(design, seed):
    what = design["what"]
    Path(design["folder"], "calls").open("a").write(design["name"] + "\\n")
    if what == "sleep":
        time.sleep(design.get("seconds", 60))
    elif what == "eat":
        HELD.append(b"x" * (design["mib"] * 2**20))
        time.sleep(60)
    elif what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "exit":
        os._exit(3)
    elif what == "oom":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "grandchild":
        process = subprocess.Popen(["sleep", "300"])
        Path(design["folder"], "grandchild").write_text(str(process.pid))
        time.sleep(60)
    elif what == "raise":
        raise ValueError("too hot")
    elif what == "print":
        print("a word", file=sys.stderr)
    elif what == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    elif what == "environment":
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert sys.stdin.read() == ""
    elif what == "random":
        import random
        import numpy
        return {"y": random.random() + numpy.random.rand()}
    return {"y": (2.0, 0.5)}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool")
    (path / "laboratory.py").write_text(LABORATORY)
    return path


@pytest.fixture(scope="module")
def config(folder: Path) -> dict[str, Any]:
    return {
        "with": "python",
        "function": f"{folder / 'laboratory.py'}:measure",
        "metrics": {"y": "GPa"},
    }


@pytest.fixture(scope="module")
def pool(folder: Path, config: dict[str, Any]) -> Iterator[LocalPool]:
    with LocalPool(config, 2, 20.0, 4096 * MIB, folder / "results") as pool:
        pool.check(["y"])  # the server has imported everything: times below are of trials alone
        yield pool


def payload(folder: Path, what: str, name: str = "", **more: Any) -> dict[str, Any]:
    design = {"what": what, "folder": str(folder), "name": name or what, **more}
    return {"design": design, "metrics": ["y"], "seed": 5}


def one(pool: LocalPool, key: str, job: dict[str, Any], patience: float = 60.0) -> Outcome:
    pool.submit(key, job)
    assert key in pool.running()
    until = time.monotonic() + patience
    while time.monotonic() < until:
        for outcome in pool.wait(1.0):
            assert outcome.key == key
            assert key not in pool.running()
            return outcome
    raise AssertionError(f"{key} did not end within {patience} s")


def calls(folder: Path, name: str) -> int:
    return (folder / "calls").read_text().split("\n").count(name)


def gone(pid: int, within: float = 2.0) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


# How trials end


def test_a_trial_is_measured_and_on_disk(pool: LocalPool, folder: Path) -> None:
    outcome = one(pool, "good", payload(folder, "good"))
    assert outcome.kind == "done"
    assert outcome.failure is None
    assert outcome.evaluation is not None
    assert outcome.evaluation.measurements == {"y": Measurement(2.0, 0.5, "GPa")}
    assert pool.finished(["good", "never"]) == [outcome]
    assert pool.running() == []
    assert not (folder / "results" / "logs" / "good.log").exists()


def test_the_surroundings_of_a_trial(pool: LocalPool, folder: Path) -> None:
    assert one(pool, "environment", payload(folder, "environment")).kind == "done"


def test_the_seed_settles_random_numbers(pool: LocalPool, folder: Path) -> None:
    first = one(pool, "random-1", payload(folder, "random", "a"))
    second = one(pool, "random-2", payload(folder, "random", "b"))
    assert first.evaluation is not None
    assert second.evaluation is not None
    assert first.evaluation.measurements == second.evaluation.measurements


@pytest.mark.parametrize(
    ("what", "kind", "said"),
    [
        ("raise", "failed", "ValueError: too hot"),
        ("segfault", "crashed", r"ended by SIGSEGV; its log is .*logs/segfault\.log"),
        ("exit", "crashed", r"ended by exit status 3; its log is .*logs/exit\.log"),
        ("oom", "crashed", r"ended by SIGKILL \(the machine may have run out of memory\)"),
        ("full disk", "crashed", "result could not be written to .*results.*File too large"),
    ],
)
def test_a_trial_that_ends_badly(
    pool: LocalPool, folder: Path, what: str, kind: str, said: str
) -> None:
    key = what.replace(" ", "-")
    outcome = one(pool, key, payload(folder, what))
    assert outcome.kind == kind
    assert outcome.evaluation is None
    assert outcome.failure is not None
    assert "\n" not in outcome.failure
    import re

    assert re.search(said, outcome.failure), outcome.failure
    left = [path.name for path in (folder / "results").glob(f"*{key}*")]
    assert left == ([f"{key}.json"] if kind == "failed" else [])
    assert one(pool, f"{key}-after", payload(folder, "good", key)).kind == "done"


def test_what_a_trial_prints_is_kept(pool: LocalPool, folder: Path) -> None:
    assert one(pool, "print", payload(folder, "print")).kind == "done"
    assert (folder / "results" / "logs" / "print.log").read_text() == "a word\n"


def test_time_limit(folder: Path, config: dict[str, Any]) -> None:
    with LocalPool(config, 2, 6.0, 2048 * MIB, folder / "limits") as pool:
        pool.submit("slow", payload(folder, "sleep", "slow"))
        pool.submit("parent", payload(folder, "grandchild", "parent"))
        outcomes: dict[str, Outcome] = {}
        until = time.monotonic() + 60
        while len(outcomes) < 2 and time.monotonic() < until:
            outcomes |= {outcome.key: outcome for outcome in pool.wait(1.0)}
        assert outcomes["slow"].kind == "timeout"
        assert outcomes["slow"].failure == "stopped after 6 s; the limit is 6 s"
        assert outcomes["parent"].kind == "timeout"
        # What a trial started ends with it.
        assert gone(int((folder / "grandchild").read_text()))
        # A limit that was reached is remembered: a parent killed now would not spend it again.
        assert pool.finished(["slow"]) == [outcomes["slow"]]


def test_memory_limit(folder: Path, config: dict[str, Any]) -> None:
    # a time limit that a loaded machine does not reach before the memory is taken
    with LocalPool(config, 1, 120.0, 900 * MIB, folder / "limits") as pool:
        outcome = one(pool, "fat", payload(folder, "eat", "fat", mib=1200))
        assert outcome.kind == "memory"
        assert str(outcome.failure).endswith("the limit is 900 MiB")


def test_more_trials_than_workers(pool: LocalPool, folder: Path) -> None:
    keys = [f"queue-{i}" for i in range(6)]
    started = time.monotonic()
    for key in keys:
        pool.submit(key, payload(folder, "sleep", key, seconds=0.5))
    assert pool.running() == keys
    ended: list[str] = []
    while pool.running():
        ended += [outcome.key for outcome in pool.wait(10.0)]
    assert sorted(ended) == keys
    assert 1.5 <= time.monotonic() - started < 15
    assert pool.wait(30.0) == []  # nothing runs: nothing to wait for


def test_wait_gives_up_in_time(pool: LocalPool, folder: Path) -> None:
    pool.submit("later", payload(folder, "sleep", "later", seconds=1.5))
    started = time.monotonic()
    assert pool.wait(0.3) == []
    assert time.monotonic() - started < 1.0
    assert [outcome.key for outcome in pool.wait(30.0)] == ["later"]


# Nothing is done twice, nothing half


def test_what_has_finished_is_not_run_again(pool: LocalPool, folder: Path) -> None:
    job = payload(folder, "good", "once")
    first = one(pool, "once", job)
    assert one(pool, "once", job) == first
    assert calls(folder, "once") == 1
    other = payload(folder, "raise", "once")  # another payload is another trial
    assert one(pool, "once", other).kind == "failed"
    assert calls(folder, "once") == 2
    pool.forget("once")
    assert pool.finished(["once"]) == []


def test_keys(pool: LocalPool, folder: Path) -> None:
    for key in ("../up", "a/b", "", ".hidden", "x" * 121):
        with pytest.raises(ValueError, match="is no key"):
            pool.submit(key, payload(folder, "good"))
    pool.submit("twice", payload(folder, "sleep", "twice", seconds=0.5))
    with pytest.raises(ValueError, match="running already"):
        pool.submit("twice", payload(folder, "good"))
    pool.wait(30.0)


def test_a_torn_or_altered_result_is_none(tmp_path: Path) -> None:
    outcome = Outcome("t", Evaluation({"y": Measurement(1.0, None, "GPa")}), None, "done")
    write_result(tmp_path, outcome, digest_of({"a": 1}))
    path = tmp_path / "t.json"
    whole = path.read_bytes()
    assert read_result(tmp_path, "t") == outcome
    assert read_result(tmp_path, "t", digest_of({"a": 1})) == outcome
    assert read_result(tmp_path, "t", digest_of({"a": 2})) is None
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert read_result(tmp_path, "t") is None
    path.write_bytes(whole.replace(b'"mean": 1.0', b'"mean": 2.0'))
    assert read_result(tmp_path, "t") is None
    path.write_bytes(b"\xff\xfe")
    assert read_result(tmp_path, "t") is None
    path.write_text(json.dumps([1, 2]))
    assert read_result(tmp_path, "t") is None
    os.replace(path, tmp_path / "u.json")
    (tmp_path / "u.json").write_bytes(whole)
    assert read_result(tmp_path, "u") is None  # another trial's


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_result(tmp_path, Outcome("t", None, "why", "failed"), "")
    assert list(tmp_path.iterdir()) == []


# The evaluator is wrong


def test_a_broken_evaluator_is_told_before_trials_are_spent(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_module\n")
    config = {"with": "python", "function": f"{tmp_path}/mine.py:f", "metrics": {"y": "GPa"}}
    with LocalPool(config, 1, 10.0, 4096 * MIB, tmp_path / "results") as pool:
        with pytest.raises(EvaluatorError, match="No module named 'no_such_module'"):
            pool.check(["y"])
        outcome = one(pool, "t", {"design": {}, "metrics": ["y"], "seed": 0})
        assert outcome.kind == "failed"
        assert "No module named 'no_such_module'" in str(outcome.failure)


def test_a_check_sweeps_up_after_one_that_was_killed(pool: LocalPool) -> None:
    half = pool.results_dir / ".evaluator-check.json.123.tmp"
    half.write_text("{")
    pool.check(["y"])
    assert not half.exists()


def test_wrong_arguments(config: dict[str, Any], tmp_path: Path) -> None:
    for workers, seconds, memory in ((0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0)):
        with pytest.raises(ValueError, match="must be positive"):
            LocalPool(config, workers, seconds, memory, tmp_path)
    with pytest.raises(EvaluatorError, match="a person answers"):
        LocalPool({"with": "lab"}, 1, 1.0, 1, tmp_path)


# Deaths


def test_the_server_is_killed(folder: Path, config: dict[str, Any]) -> None:
    with LocalPool(config, 1, 60.0, 4096 * MIB, folder / "killed") as pool:
        pool.check(["y"])
        pool.submit("doomed", payload(folder, "sleep", "doomed"))
        assert pool._server is not None
        server = psutil.Process(pool._server.pid)
        while not (trials := server.children()):
            time.sleep(0.02)
        server.kill()
        outcome = pool.wait(10.0)[0]
        assert outcome.kind == "crashed"
        assert "ended by SIGKILL; its log is" in str(outcome.failure)
        assert gone(trials[0].pid)
        assert one(pool, "next", payload(folder, "good", "next")).kind == "done"
        # Killed while it does nothing: no trial is blamed.
        os.kill(pool._server.pid, signal.SIGKILL)
        assert gone(pool._server.pid)
        assert one(pool, "last", payload(folder, "good", "last")).kind == "done"


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
print("main runs", flush=True)
from loop.executor import LocalPool
pool = LocalPool({config!r}, 2, 300.0, 4 * 2**30, Path({results!r}))
pool.check(["y"])
pool.submit("quick", {quick!r})
while not any(outcome.key == "quick" for outcome in pool.wait(60.0)): pass
pool.submit("a", {slow!r})
pool.submit("b", {grandchild!r})
print("submitted", flush=True)
while pool.running(): print(pool.wait(60.0), flush=True)
"""


def parent_program(repository: Path, folder: Path, config: dict[str, Any], results: Path) -> str:
    """A main program that has no guard against being imported again."""
    return PARENT.format(
        root=str(repository),
        config=config,
        results=str(results),
        quick=payload(folder, "good", f"quick-{results.name}"),
        slow=payload(folder, "sleep", "slow"),
        grandchild=payload(folder, "grandchild", "grandchild"),
    )


def descendants(process: psutil.Process, at_least: int) -> list[psutil.Process]:
    until = time.monotonic() + 30
    while len(found := process.children(recursive=True)) < at_least:
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("how", ["script", "-c"])
def test_nothing_outlives_a_killed_parent(
    repository: Path, folder: Path, config: dict[str, Any], how: str, tmp_path: Path
) -> None:
    program = parent_program(repository, folder, config, tmp_path / "results")
    script = tmp_path / "main.py"
    script.write_text(program)
    command = [str(script)] if how == "script" else ["-c", program]
    parent = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        # Once: children do not run the user's main program again.
        assert [parent.stdout.readline() for _ in range(2)] == ["main runs\n", "submitted\n"]
        # The server, two trials, and what one of them started.
        family = descendants(psutil.Process(parent.pid), 4)
        assert len(family) == 4
    finally:
        parent.kill()
        parent.wait()
    killed = time.monotonic()
    assert all(gone(process.pid, 2.0 - (time.monotonic() - killed)) for process in family)
    assert "main runs" not in parent.stdout.read()
    parent.stdout.close()
    # The next parent finds what was finished, and only that.
    with LocalPool(config, 1, 30.0, 4096 * MIB, tmp_path / "results") as pool:
        assert [outcome.key for outcome in pool.finished(["quick", "a", "b"])] == ["quick"]
        assert pool.finished(["quick"])[0].kind == "done"


def test_ctrl_c_reaches_the_parent_alone(
    repository: Path, folder: Path, config: dict[str, Any], tmp_path: Path
) -> None:
    program = parent_program(repository, folder, config, tmp_path / "results")
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    for _ in range(2):
        parent.stdout.readline()
    family = descendants(psutil.Process(parent.pid), 4)
    for process in family[:3]:  # not `sleep`, which is the trial's own affair
        if process.name() != "sleep":
            process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert all(process.is_running() for process in family)
    os.killpg(parent.pid, signal.SIGINT)  # what a terminal sends
    _, errors = parent.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert all(gone(process.pid) for process in family)


def test_closing_kills_what_runs(folder: Path, config: dict[str, Any]) -> None:
    pool = LocalPool(config, 1, 60.0, 4096 * MIB, folder / "closing")
    pool.check(["y"])
    pool.submit("endless", payload(folder, "sleep", "endless"))
    assert pool._server is not None
    family = descendants(psutil.Process(pool._server.pid), 1)
    pool.close()
    assert all(gone(process.pid) for process in family)
    assert pool.running() == []
    pool.close()


def test_a_file_of_the_users_shadows_nothing(
    folder: Path, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.chdir(tmp_path)
    with LocalPool(config, 1, 60.0, 4096 * MIB, tmp_path / "results") as pool:
        pool.check(["y"])


# The real thing


@pytest.mark.slow
def test_chgnet_in_two_children(tmp_path: Path) -> None:
    from pymatgen.core import Lattice, Structure

    jobs = {}
    for name, symbols, length in (("MgO", ["Mg", "O"], 4.3), ("NaCl", ["Na", "Cl"], 5.5)):
        structure = Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(length), symbols, [[0, 0, 0], [0.5] * 3]
        )
        jobs[name] = {
            "design": {"crystal": {"cif": structure.to(fmt="cif")}},
            "metrics": ["formation_energy", "density", "bulk_modulus"],
            "seed": 0,
        }
    config = {"with": "potential", "model": "chgnet"}
    outcomes: dict[str, Outcome] = {}
    with LocalPool(config, 2, 120.0, 3 * 2**30, tmp_path) as pool:
        for name, job in jobs.items():
            pool.submit(name, job)
        while pool.running():
            outcomes |= {outcome.key: outcome for outcome in pool.wait(10.0)}
    for name, modulus in (("MgO", 151.0), ("NaCl", 24.0)):
        evaluation = outcomes[name].evaluation
        assert evaluation is not None, outcomes[name].failure
        assert evaluation.measurements["bulk_modulus"].mean == pytest.approx(modulus, rel=0.15)
        assert evaluation.artifacts["relaxed.cif"].startswith("# generated")
        log = tmp_path / "logs" / f"{name}.log"
        assert not log.exists(), log.read_text()  # nothing of the libraries' chatter
    assert (tmp_path / "logs" / "server.log").read_text() == ""
