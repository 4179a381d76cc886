"""Whatever the results are, the command answers: a proposal, or an error that says what is wrong.

An unexpected exception would end with "failed in a way it should not": no test here may see one.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.cli import main

SPEC = """
campaign: odd
space:
  x: {range: [0, 1]}
  y: {range: [1, 100], log: true, unit: K}
  gas: {choice: [air, argon]}
objectives:
  strength: {goal: maximize, unit: GPa}
  price: {goal: minimize, unit: dimensionless}
constraints: %s
evaluate: %s
budget: {trials: %d, batch: 4}
seed: 1
"""

LAB = "{with: lab}"
PYTHON = "{with: python, function: 'measure.py:measure', workers: 1, time_limit: 30 s}"

MEASURE = '''
"""Answer the trials in turn, however oddly."""

from pathlib import Path

ANSWERS = [%s]


def measure(design, seed):
    nan, inf = float("nan"), float("inf")
    asked = Path(__file__).parent / "asked"
    with asked.open("a") as file:
        file.write(".")
    return eval(ANSWERS[(asked.stat().st_size - 1) %% len(ANSWERS)])
'''

Command = Callable[..., tuple[int, dict[str, Any]]]


@contextlib.contextmanager
def campaign(
    *, constraints: str = "[]", evaluate: str = LAB, trials: int = 60, answers: str = ""
) -> Iterator[Command]:
    """A campaign in a folder of its own; calls of the command there, with what they answer."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("odd.yaml").write_text(SPEC % (constraints, evaluate, trials))
            Path("measure.py").write_text(MEASURE % answers)
            yield call
        finally:
            os.chdir(before)


def call(*arguments: str) -> tuple[int, dict[str, Any]]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*arguments, "--json"])
    told = out.getvalue() + err.getvalue()
    assert "should not" not in told, told
    assert "Traceback" not in told, told
    document = json.loads(out.getvalue(), parse_constant=_no_number)
    assert document["ok"] == (status == 0)
    return status, document


def _no_number(text: str) -> float:
    raise AssertionError(f"{text} in the JSON")


def waiting(matloop: Command) -> list[int]:
    """Trials that wait for results; new ones are proposed where none does."""
    trials = matloop("propose", "odd", "--waiting")[1]["data"]["trials"]
    if not trials:
        status, document = matloop("propose", "odd", "-n", "4")
        assert status == 0, document
        trials = document["data"]["trials"]
    for trial in trials:
        prediction = trial["provenance"]["prediction"]
        assert all(math.isfinite(v) for pair in prediction.values() for v in _numbers(pair))
    return [t["trial"] for t in trials]


def _numbers(told: Any) -> list[float]:
    if isinstance(told, dict):
        told = list(told.values())
    return [v for v in told if isinstance(v, (int, float))] if isinstance(told, list) else []


def ingest(matloop: Command, *lines: str) -> tuple[int, dict[str, Any]]:
    head = "trial,strength,strength_sem,price,status,reason"
    Path("r.csv").write_text("\n".join([head, *lines, ""]))
    return matloop("ingest", "odd", "r.csv")


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(["5", "5", "5", "5"], id="constant"),
        pytest.param(["1e30", "-1e30", "1", "2"], id="far apart"),
        pytest.param(["1e-30", "2e-30", "3e-30", "4e-30"], id="tiny"),
        pytest.param(["", "", "", ""], id="never reported"),
        pytest.param(["1", "", "", ""], id="reported now and then"),
    ],
)
def test_odd_columns_of_a_laboratory(column: list[str]) -> None:
    with campaign() as matloop:
        assert matloop("run", "odd.yaml")[0] == 0  # of a laboratory: proposes, and waits
        for turn in range(4):
            trials = waiting(matloop)
            lines = [f"{t},{column[k]},,{k + turn},," for k, t in enumerate(trials)]
            assert ingest(matloop, *lines)[0] == 0
        assert len(waiting(matloop)) == 4


def test_one_observation_and_all_the_rest_failed() -> None:
    with campaign() as matloop:
        assert matloop("run", "odd.yaml")[0] == 0
        first, *others = waiting(matloop)
        lines = [f"{t},,,,failed,it broke" for t in others]
        assert ingest(matloop, f"{first},3.5,0.1,2,,", *lines)[0] == 0
        for _ in range(3):
            trials = waiting(matloop)
            assert ingest(matloop, *[f"{t},,,,failed,it broke" for t in trials])[0] == 0
        assert len(waiting(matloop)) == 4
        assert matloop("explain", "odd")[0] == 0


def test_corrections_and_contradictions() -> None:
    with campaign() as matloop:
        assert matloop("run", "odd.yaml")[0] == 0
        for value in ("1", "100", "-7"):  # each supersedes the last
            lines = [f"{t},{value},,1,," for t in range(4)]
            assert ingest(matloop, *lines)[0] == 0
        status, document = ingest(matloop, "0,1,,1,,", "0,2,,1,,")  # two at once, of one trial
        assert status == 2
        assert "row 3" in json.dumps(document["error"])
        assert len(waiting(matloop)) == 4


@pytest.mark.parametrize(
    "line",
    ["0,nan,,1,,", "0,inf,,1,,", "0,-inf,,1,,", "0,1e200,,1,,", "0,1,-1,1,,", "0,1,inf,1,,",
     "0,1,nan,1,,", "0,five,,1,,", "99,1,,1,,", "0.5,1,,1,,", "0,1,,1,melted,"],
)  # fmt: skip
def test_a_result_that_cannot_be_is_refused_and_changes_nothing(line: str) -> None:
    with campaign() as matloop:
        assert matloop("run", "odd.yaml")[0] == 0
        before = matloop("status", "odd")[1]["data"]["counts"]
        status, document = ingest(matloop, "1,2,,3,,", line)
        assert status in (1, 2), document
        assert "row 3" in json.dumps(document["error"])
        assert matloop("status", "odd")[1]["data"]["counts"] == before


def test_a_unit_of_the_wrong_dimension() -> None:
    with campaign() as matloop:
        assert matloop("run", "odd.yaml")[0] == 0
        Path("r.csv").write_text("trial,strength (kg),price\n0,1,1\n")
        status, document = matloop("ingest", "odd", "r.csv")
        assert status in (1, 2)
        assert "kg" in json.dumps(document["error"])
        Path("r.csv").write_text("trial,strength (MPa),price\n0,1000,1\n")
        assert matloop("ingest", "odd", "r.csv")[0] == 0
    with campaign(constraints="[strength >= 1 kg]") as matloop:
        assert matloop("run", "odd.yaml")[0] == 2
    with campaign(constraints="[x + y <= 3]") as matloop:  # x has no unit, y is in kelvin
        assert matloop("run", "odd.yaml")[0] in (0, 2)


@pytest.mark.parametrize(
    "constraints", ["[x >= 2]", "['x <= -1']", "['x >= 0.6', 'x <= 0.4']", "['x + x == 3']"]
)
def test_constraints_on_parameters_that_exclude_everything(constraints: str) -> None:
    with campaign(constraints=constraints) as matloop:
        status, document = matloop("run", "odd.yaml")
        assert status == 2
        assert document["error"]["what"]
        assert matloop("validate", "odd.yaml")[0] == 2


def test_constraints_on_metrics_that_nothing_meets() -> None:
    with campaign(constraints="['strength >= 1e9 GPa', 'price <= -1e9 dimensionless']") as matloop:
        assert matloop("run", "odd.yaml")[0] == 0
        for _ in range(3):
            lines = [f"{t},{t},,{t % 3},," for t in waiting(matloop)]
            assert ingest(matloop, *lines)[0] == 0
        assert len(waiting(matloop)) == 4
        best = matloop("status", "odd")[1]["data"]["front"]
        assert best == []


ODD = [
    "{'strength': 1.0, 'price': 2.0}",
    "{'strength': design['x'], 'price': design['y']}",
    "{'strength': nan, 'price': 2.0}",
    "{'strength': inf, 'price': 2.0}",
    "{'strength': 1e200, 'price': 2.0}",
    "{'strength': 'strong', 'price': 2.0}",
    "{'price': 2.0}",
    "{}",
    "None",
    "[1, 2]",
    "{'strength': (1.0, -0.5), 'price': 2.0}",
    "{'strength': (1.0, 0.0), 'price': (2.0, 1e30)}",
    "{'strength': 10**400, 'price': 2.0}",
    "{'strength': True, 'price': 2.0}",
    "1 / 0",
]


@pytest.mark.slow
def test_a_function_that_answers_oddly_fails_its_trials_only() -> None:
    answers = ", ".join(map(repr, [ODD[1], *ODD]))
    with campaign(evaluate=PYTHON, trials=28, answers=answers) as matloop:
        status, document = matloop("run", "odd.yaml")
        assert status in (0, 1), document
        counts = matloop("status", "odd")[1]["data"]["counts"]
        assert counts["completed"] >= 3
        assert counts["failed"] >= 8
        assert matloop("explain", "odd")[0] == 0
        assert matloop("export", "odd", "--format", "csv", "--out", "odd.csv")[0] == 0


@pytest.mark.parametrize("answer", ["{'strength': nan, 'price': 1.0}", "1 / 0", "{}"])
def test_a_function_that_always_fails(answer: str) -> None:
    with campaign(evaluate=PYTHON, trials=12, answers=repr(answer)) as matloop:
        status, _ = matloop("run", "odd.yaml")
        assert status in (0, 1)
        counts = matloop("status", "odd")[1]["data"]["counts"]
        assert counts["completed"] == 0
        assert counts["failed"] >= 1


CELL = st.sampled_from(
    ["", "", "1", "2.5", "-3", "0", "1e30", "-1e12", "1e-30", "nan", "inf", "1e101", "x", "7", "7"]
)


@pytest.mark.slow
@settings(max_examples=12)
@given(st.data())
def test_any_table_of_results_is_taken_or_refused(data: st.DataObject) -> None:
    """As a laboratory would go on: what is refused is left out, and the next batch is asked for."""
    constraints = data.draw(st.sampled_from(["[]", "['price <= 0 dimensionless']"]))
    with campaign(constraints=constraints) as matloop:
        assert matloop("run", "odd.yaml")[0] == 0
        for _ in range(3):
            trials = waiting(matloop)
            for trial in trials:
                cells = [data.draw(CELL) for _ in range(3)]
                failed = data.draw(st.sampled_from(["", "", "", "failed"]))
                status, document = ingest(matloop, f"{trial},{','.join(cells)},{failed},")
                if status:
                    assert document["error"]["what"]
                    done, _ = ingest(matloop, f"{trial},,,,failed,given up")
                    assert done == 0
        assert waiting(matloop)
        assert matloop("status", "odd")[0] == 0
        assert matloop("explain", "odd")[0] == 0
