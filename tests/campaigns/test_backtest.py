"""Backtests from a spec and a table: reading, parallel replays, resuming, what is shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from campaigns.backtest import Backtest, Done, Options, Task, read_done, run_task
from campaigns.backtest_columns import Columns
from campaigns.backtest_page import write_page
from campaigns.backtest_report import figure, summary
from campaigns.backtest_table import TableRead, read_table
from campaigns.cli import main
from campaigns.errors import InputErrors, MatloopError, UsageError
from campaigns.spec import load_spec

SPEC = """
campaign: toy
space:
  temperature: {range: [300, 1300], unit: K}
  gas: {choice: [air, argon]}
objectives:
  strength: {goal: maximize, unit: MPa}
evaluate: {with: lab}
budget: {trials: 13, batch: 4}
"""
OPTIONS = Options(seeds=2, initial=5, batch=4, budget=13)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _write(name: str, text: str) -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def _spec(text: str = SPEC) -> Path:
    return _write("spec.yaml", text)


def _finished(n: int = 24) -> Path:
    rows = [
        f"{300 + 1000 * i / (n - 1):.1f},{('air', 'argon')[i % 2]},{100 - (i - 0.6 * n) ** 2:.2f}"
        for i in range(n)
    ]
    return _write("table.csv", "\n".join(["temperature,gas,strength", *rows]) + "\n")


def _read(table: str, spec: str = SPEC, skip: bool = False) -> TableRead:
    read = load_spec(_spec(spec))
    return read_table(_write("table.csv", table), read, read.problem(), skip=skip)


def _wrong(table: str, spec: str = SPEC) -> list[str]:
    with pytest.raises(InputErrors) as caught:
        _read(table, spec)
    return [str(problem) for problem in caught.value.problems]


# The table


def test_names_are_matched_with_tolerance_and_units_are_converted() -> None:
    read = _read(
        "\n".join(
            [
                "Sample,Temperature (degC),Gas,STRENGTH (GPa),strength_sem (GPa),remarks",
                "a,126.85,Argon,0.2,0.01,fine",
                "b,226.85,air,0.3,,",
                "b,226.85,air,0.5,,again",
            ]
        )
    )
    assert [d["temperature"] for d in read.table.designs] == pytest.approx([400.0, 500.0])
    assert [d["gas"] for d in read.table.designs] == ["argon", "air"]
    assert read.table.outcomes[:, 0] == pytest.approx([200.0, 400.0])
    assert read.table.sem[0, 0] == pytest.approx(10.0)
    assert read.ignored == ["Sample", "remarks"]
    assert read.notes() == [
        "2 designs from 3 measurements (1 designs measured more than once)",
        "columns that the spec does not name: Sample, remarks",
    ]


def test_every_row_that_is_wrong_is_named_at_once_and_may_be_left_out() -> None:
    table = "\n".join(
        [
            "temperature,gas,strength",
            "400,air,1",
            "hot,air,2",
            "500,helium,3",
            "600,argon,",
            "2000,argon,5",
            "700,argon,nan",
            "",
            "800,argon,7",
            "900",
        ]
    )
    told = _wrong(table)
    assert [text.split(":")[0] for text in told] == [
        f"table.csv, row {row}" for row in (3, 4, 5, 7, 10, 6)
    ]
    assert "'hot' is not a number" in told[0]
    assert "'helium' is none of the choices (one of: air, argon)" in told[1]
    assert "strength is empty" in told[2]
    assert "'nan' is not a finite number" in told[3]
    assert "outside the design space" in told[5]
    read = _read(table, skip=True)
    assert len(read.table) == 2
    assert len(read.left_out) == 6
    assert "left out 6 rows" in read.notes()[-1]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("temperature,strength", "there is no column gas"),
        ("temperature (GPa),gas,strength", "temperature is in K, 'GPa' is no unit of that"),
        ("temperature (parsecs!),gas,strength", "is not a unit"),
        ("temperature,gas,Gas ,strength", ""),
        ("temperature,GAS,Gas,strength", "two columns are gas"),
    ],
)
def test_columns_that_do_not_fit_are_named(header: str, said: str) -> None:
    row = ",".join("400" if "temp" in c else "air" if "gas" in c.lower() else "1"
                   for c in header.split(","))  # fmt: skip
    if said:
        assert said in _wrong(f"{header}\n{row}\n{row}\n")[0]
    else:  # the very name comes first
        assert _read(f"{header}\n{row}\n{row.replace('400', '401')}\n").ignored == ["Gas"]


def test_a_composition_has_a_column_an_ingredient() -> None:
    spec = SPEC.replace("gas: {choice: [air, argon]}", "mix: {composition: [Fe, Ni, Cr]}")
    table = "temperature,fe,Ni (percent),mix.Cr,strength\n"
    read = _read(table + "400,0.5,30,0.2,1\n500,0.2,40,0.399,2\n", spec)
    first, second = (d["mix"] for d in read.table.designs)
    assert first == pytest.approx({"Fe": 0.5, "Ni": 0.3, "Cr": 0.2})
    assert sum(second.values()) == pytest.approx(1.0)
    assert "add up to 0.9" in _wrong(table + "400,0.5,20,0.2,1\n500,0.2,40,0.4,2\n", spec)[0]


def test_percent_without_a_unit_is_seen_by_its_sum() -> None:
    spec = SPEC.replace("gas: {choice: [air, argon]}", "mix: {composition: [Fe, Ni]}")
    read = _read("temperature,Fe,Ni,strength\n400,50,50,1\n500,20,80,2\n", spec)
    assert read.table.designs[1]["mix"] == pytest.approx({"Fe": 0.2, "Ni": 0.8})


def test_a_pool_is_found_by_its_columns() -> None:
    _write("pool.csv", "name,a,b\nx,1.0,0.5\ny,2.0,0.25\nz,3.0,0.75\n")
    spec = SPEC.replace("gas: {choice: [air, argon]}", "p: {pool: pool.csv, columns: [a, b]}")
    table = "temperature,a,b,strength\n400,2,0.250,1\n500,3.00,0.75,2\n"
    read = _read(table, spec)
    assert [d["p"]["row"] for d in read.table.designs] == [1, 2]
    assert "the pool has no row 9, 9" in _wrong(table + "500,9,9,1\n", spec)[0]


def test_numbers_that_are_choices_stay_what_they_are() -> None:
    spec = SPEC.replace("[air, argon]", "[1, 2, 5]")
    read = _read("temperature,gas,strength\n400,1.0,1\n500,5,2\n", spec)
    assert [d["gas"] for d in read.table.designs] == [1, 5]


def test_a_table_cannot_hold_designs_of_a_generator() -> None:
    spec = SPEC.replace("gas: {choice: [air, argon]}", "crystal: {latent: crystals}")
    with pytest.raises(UsageError, match="crystal is the latent space of a generator"):
        _read("temperature,crystal,strength\n400,MgO,1\n500,CaO,2\n", spec)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the table is empty"),
        ("temperature,gas,strength\n", "the table is empty"),
        ('temperature,gas,strength\n400,"air,1\n', "not CSV"),
        ("temperature,gas,strength\n400,air,1\n", "two designs or more"),
        ("temperature,gas,strength\n400,air,1\n400,air,1\n", "two designs or more"),
    ],
)
def test_a_table_without_designs_is_an_error(text: str, said: str) -> None:
    told = _wrong(text)
    assert said in told[0] or "no two rows" in told[0]


def test_the_first_name_that_fits_is_taken() -> None:
    columns = Columns(["mix_Fe", "Fe", "y"], "t.csv")
    found = columns.find("mix.Fe", "mix_Fe", "Fe")
    assert found is not None
    assert found.text == "mix_Fe"
    assert columns.ignored == ["Fe", "y"]


# Replays


def _backtest(*methods: str, options: Options = OPTIONS) -> Backtest:
    return Backtest(load_spec(_spec()), _finished(), methods, options, Path("out"))


@pytest.mark.slow
def test_a_backtest_goes_on_where_it_was() -> None:
    backtest = _backtest("random", "evolution")
    tasks = backtest.tasks()
    assert [(t.method, t.seed) for t in tasks[:3]] == [
        ("matloop", 0), ("random", 0), ("evolution", 0)
    ]  # fmt: skip
    heard: list[Task] = []
    done = backtest.run(2, lambda ended, *_: heard.append(ended.task))
    assert len(done) == len(heard) == 6
    before = {t.file: Path(t.file).stat().st_mtime_ns for t in tasks}
    assert {d.task.method for d in done} == {"matloop", "random", "evolution"}
    # Again: nothing is done. One file lost, and one method again: those only.
    heard.clear()
    assert backtest.run(2, lambda ended, *_: heard.append(ended.task)) == done
    assert heard == []
    Path(tasks[1].file).unlink()
    Path(tasks[2].file).write_text("{")
    again = backtest.run(2, lambda ended, *_: heard.append(ended.task), ["evolution"])
    assert {(t.method, t.seed) for t in heard} == {
        ("random", 0), ("evolution", 0), ("evolution", 1)
    }  # fmt: skip
    assert [d.trace["picked"] for d in again if d.trace] == [
        d.trace["picked"] for d in done if d.trace
    ]
    assert Path(tasks[0].file).stat().st_mtime_ns == before[tasks[0].file]
    # More seeds: only the new ones.
    heard.clear()
    more = _backtest("random", "evolution", options=replace(OPTIONS, seeds=3))
    assert len(more.run(2, lambda ended, *_: heard.append(ended.task))) == 9
    assert {t.seed for t in heard} == {2}


def test_what_a_replay_hangs_on_is_in_its_name() -> None:
    first = {t.file for t in _backtest("random").tasks()}
    assert first == {t.file for t in _backtest("random").tasks()}
    assert not first & {
        t.file for t in _backtest("random", options=replace(OPTIONS, initial=6)).tasks()
    }
    assert first == {t.file for t in _backtest("random", options=replace(OPTIONS, top=0.1)).tasks()}
    _finished(26)
    other = Backtest(load_spec("spec.yaml"), Path("table.csv"), ["random"], OPTIONS, Path("out"))
    assert not first & {t.file for t in other.tasks()}


def test_a_replay_that_raises_is_recorded_and_tried_again(tmp_path: Path) -> None:
    (task, *_) = _backtest("random").tasks()
    Path("out/tasks").mkdir(parents=True)
    ended = run_task(replace(task, table=str(tmp_path / "gone.csv")))
    assert ended.trace is None
    assert ended.error is not None
    assert "the file does not exist" in ended.error
    read = read_done(task)
    assert read is not None
    assert read.error == ended.error
    assert "Traceback" in json.loads(Path(task.file).read_text())["traceback"]
    backtest = _backtest("random", options=replace(OPTIONS, seeds=1))
    told = summary(backtest, [ended])
    assert told["failed"] == [{"method": "matloop", "seed": 0, "error": ended.error}]
    assert told["missing"] == 1
    heard: list[Done] = []
    backtest.run(1, lambda done, *_: heard.append(done))
    assert {(d.task.method, d.error) for d in heard} == {("matloop", None), ("random", None)}


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="leave nothing of a budget of 5"):
        _backtest("random", options=replace(OPTIONS, budget=5))
    with pytest.raises(UsageError, match="no method 'forrest'") as caught:
        _backtest("forrest")
    assert "did you mean 'forest'" in str(caught.value)
    with pytest.raises(UsageError, match="measured more than once"):
        _backtest("random", options=replace(OPTIONS, noise="repeats"))


def test_of_fidelities_only_the_target_is_replayed() -> None:
    text = SPEC + "fidelities: {cheap: {cost: 1}, lab: {cost: 10}}\n"
    options = replace(OPTIONS, seeds=1, initial=8, budget=12)
    backtest = Backtest(load_spec(_spec(text)), _finished(), [], options, Path("out"))
    assert "not replayed: fidelities" in backtest.notes()[-1]
    (done,) = backtest.run(1, lambda *_: None)
    plain = _backtest(options=options).run(1, lambda *_: None)
    assert done.trace is not None
    assert plain[0].trace is not None
    assert done.trace["picked"] == plain[0].trace["picked"]


# What is shown


def test_numbers_are_shown_with_their_intervals() -> None:
    assert figure({"value": 2.13, "low": 1.6, "high": 2.66}) == "2.1 (1.6 to 2.7)"
    assert figure({"value": 0.5, "low": 0.25, "high": 1.0}, percent=True) == "50 (25 to 100 %)"
    assert figure({"value": None, "low": None, "high": None}) == "not reached"
    assert figure({"value": 2.0, "low": None, "high": 3.0}) == "2 (? to 3)"


def test_the_command_prints_a_table_and_writes_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["backtest", str(_spec()), "--table", str(_finished()), "--seeds", "2",
             "--against", "random", "--workers", "2"]  # fmt: skip
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "24 designs" in told
    assert "4 of 4" in told
    assert "matloop" in told
    page = Path("backtest-toy/backtest.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "")
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    data = document["data"]
    assert data["methods"]["matloop"]["figures"]["top"]["value"] >= 0
    assert "curves" not in data["methods"]["matloop"]
    assert set(data["against"]) == {"random"}
    kept = json.loads(Path(data["summary"]).read_text(encoding="utf-8"))
    assert len(kept["methods"]["random"]["curves"]["top"]["mean"]) == 13


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--noise", "loud"], "--noise is mean or repeats"),
        (["--top", "0"], "--top is a percentage"),
        (["--against", "bo"], "no method 'bo'"),
        (["--initial", "13"], "leave nothing"),
    ],
)
def test_wrong_use_is_told_before_anything_is_run(
    more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", str(_spec()), "--table", str(_finished()), *more]) == 2
    assert said in capsys.readouterr().err
    assert not Path("backtest-toy").exists()


def test_a_table_whose_designs_all_tie_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{300 + 40 * i},air,5\n" for i in range(20))
    table = _write("flat.csv", "temperature,gas,strength\n" + rows)
    assert main(["backtest", str(_spec()), "--table", str(table)]) == 2
    assert "all 20 designs of the table tie" in capsys.readouterr().err
    assert not Path("backtest-toy").exists()


def test_several_objectives_have_a_front_and_a_hypervolume() -> None:
    spec = load_spec(
        _spec(SPEC.replace("evaluate:", "  cost: {goal: minimize, unit: eV}\nevaluate:"))
    )
    rng = np.random.default_rng(0)
    rows = [f"{300 + 40 * i},air,{a:.3f},{b:.3f}" for i, (a, b) in enumerate(rng.random((20, 2)))]
    table = _write("table.csv", "\n".join(["temperature,gas,strength,cost", *rows]))
    backtest = Backtest(spec, table, ["random"], replace(OPTIONS, seeds=1), Path("out"))
    Path("out/tasks").mkdir(parents=True)
    told = summary(
        backtest, [run_task(task) for task in backtest.tasks() if task.method == "random"]
    )
    assert set(told["methods"]["random"]["curves"]) == {"top", "hypervolume"}
    page = write_page(Path("page.html"), {**told, "failed": []})
    assert "hypervolume" in page.read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_stopped_backtest_leaves_no_process_and_goes_on(
    how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["backtest", str(_spec()), "--table", str(_finished()), "--seeds", "40", "--workers",
             "2", "--against", "random"]  # fmt: skip
    code = "import sys; from campaigns.cli import main; sys.exit(main(sys.argv[1:]))"
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    tasks = Path("backtest-toy/tasks")
    until = time.monotonic() + 120
    while time.monotonic() < until and len(list(tasks.glob("*.json"))) < 3:
        assert child.poll() is None
        time.sleep(0.1)
    child.send_signal(signal.Signals[how])  # to it alone, not to its children
    _, told = child.communicate(timeout=60)
    if how == "SIGINT":
        assert child.returncode == 130
        assert b"interrupted" in told
        assert b"Traceback" not in told
    until = time.monotonic() + 60
    while time.monotonic() < until and _session(child.pid):
        time.sleep(0.2)
    assert not _session(child.pid)
    kept = {path: path.stat().st_mtime_ns for path in tasks.glob("*-000[01]-*.json")}
    assert kept
    fewer = [*words[:5], "2", *words[6:]]
    assert main(fewer) == 0
    assert "matloop" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())


def _session(leader: int) -> list[int]:
    """Processes of a session that are still there."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            continue
    return found


def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    backtest = _backtest("random")
    monkeypatch.setattr("campaigns.backtest.run_task", _die)
    with pytest.raises(MatloopError, match="a process of the backtest died"):
        backtest.run(1, lambda *_: None)


def _die(task: Task) -> Done:
    os._exit(9)
