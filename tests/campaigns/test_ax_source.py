"""What may be shown as an Ax experiment, and what is refused, with reasons."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import ax_source
from campaigns.ax_figures import fitted
from campaigns.ax_source import AxSource, check_arithmetic
from campaigns.errors import MatloopError, UsageError
from campaigns.export_ax import quiet


def _refused(given: object, name: str | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        AxSource.find(str(given), name).load()
    return caught.value


def test_wrong_files_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "damaged.json").write_text('{"experiment": {"__type": "Exper')
    (tmp_path / "other.json").write_text('[{"formula": "NaCl"}]')
    (tmp_path / "bytes.json").write_bytes(bytes(range(256)))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE a (b)").connection.close()
    assert _refused(tmp_path / "none.json").what == "there is no such file"
    assert "something else" in _refused(tmp_path).what
    for name in ("damaged", "bytes", "deep"):
        assert _refused(tmp_path / f"{name}.json").what == "the file is not JSON, or damaged"
    assert _refused(tmp_path / "other.json").what == "the file is JSON, but no Ax experiment"
    assert _refused(tmp_path / "other.db").what == "this database is not Ax's"
    assert _refused("sqlite:///nowhere.db").what == "there is no such file"
    assert _refused("://").what == "this is no database URL"
    monkeypatch.setattr(ax_source, "LARGEST", 10)
    assert "too large" in _refused(tmp_path / "other.json").what
    assert not (tmp_path / "nowhere.db").exists()


def test_a_database_that_does_not_answer_is_told_of_without_its_password() -> None:
    with pytest.raises(MatloopError) as caught:
        AxSource.find("postgresql+psycopg://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


def test_a_type_that_ax_does_not_know_is_refused(tmp_path: Path) -> None:
    told = {"__type": "Experiment", "name": "x", "search_space": {"__type": "Popen", "args": "ls"}}
    (tmp_path / "x.json").write_text(json.dumps(told))
    assert _refused(tmp_path / "x.json").what == "Ax cannot read this experiment"


def test_text_that_sympy_would_run_is_not_run(tmp_path: Path) -> None:
    from ax.api.client import Client
    from ax.api.configs import RangeParameterConfig

    client = Client()
    with quiet():  # Ax uses its own old names
        client.configure_experiment(parameters=[RangeParameterConfig("x", (0.0, 1.0), "float")])
        client.configure_optimization(objective="loss")
    file, proof = tmp_path / "x.json", tmp_path / "proof"
    client.save_to_json_file(str(file))
    told = json.loads(file.read_text())
    config = told["experiment"]["optimization_config"]["objective"]
    config["expression"] = f'__import__("pathlib").Path("{proof}").touch()'
    file.write_text(json.dumps(told))
    error = _refused(file)
    assert not proof.exists()
    assert "more than arithmetic" in str(error)


@pytest.mark.parametrize(
    "text", ["a", "-loss", "2*a + b__dot__c", "a, -b", "x**2 + log(y)", "a <= 3.5", "-(a + b)/2"]
)
def test_arithmetic_is_let_through(text: str) -> None:
    check_arithmetic(text)


@pytest.mark.parametrize(
    "text",
    [
        "a.b",
        "f(x)",
        "a[0]",
        "'a'",
        "lambda: 1",
        "9**9**9",
        "1 << 999",
        "[x for x in y]",
        "a; b",
        "",
    ],
)
def test_what_is_more_than_arithmetic_is_not(text: str) -> None:
    with pytest.raises(UsageError):
        check_arithmetic(text)


@given(st.text())
def test_no_text_surprises_the_check(text: str) -> None:
    try:
        check_arithmetic(text)
    except UsageError:
        return
    assert "__import__(" not in text


def test_parallel_coordinates_become_lines_with_their_ends() -> None:
    columns: list[dict[str, Any]] = [
        {"label": "x_1", "values": [1.0, 3.0, None]},
        {"label": "kind", "values": [0, 1, 0], "tickvals": [0, 1], "ticktext": ["a", "b"]},
        {"label": "flat", "values": [2.0, 2.0, 2.0]},
    ]
    blob = json.dumps({"data": [{"type": "parcoords", "dimensions": columns}], "layout": {}})
    drawn = fitted(blob)
    assert [line["y"] for line in drawn["data"]] == [[0, 0, 0.5], [1, 1, 0.5], [None, 0, 0.5]]
    assert {note["text"] for note in drawn["layout"]["annotations"]} == {"1", "3", "a", "b", "2"}
