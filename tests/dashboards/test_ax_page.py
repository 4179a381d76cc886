"""Any Ax experiment opens as a page, and the page follows it."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from campaigns.export_ax import quiet
from tests.dashboards.watched_browser import browser, watched

COMMAND = str(Path(sys.executable).with_name("matloop"))


def _branin(x1: float, x2: float) -> float:
    square = (x2 - 5.1 / (4 * math.pi**2) * x1**2 + 5 / math.pi * x1 - 6) ** 2
    return square + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x1) + 10


def _go_on(client: Any, trials: int) -> None:
    for _ in range(trials):
        for index, point in client.get_next_trials(max_trials=1).items():
            outcome = {"branin": _branin(**point), "norm": math.hypot(*point.values())}
            client.complete_trial(index, outcome)


def _tutorial(storage: Any = None) -> Any:
    """As in Ax's tutorial on two objectives."""
    from ax.api.client import Client
    from ax.api.configs import RangeParameterConfig

    client = Client(storage_config=storage, random_seed=1)
    client.configure_experiment(
        name="tutorial",
        parameters=[
            RangeParameterConfig("x1", (-5.0, 10.0), "float"),
            RangeParameterConfig("x2", (0.0, 15.0), "float"),
        ],
    )
    client.configure_optimization(objective="-branin, -norm", outcome_constraints=["branin <= 150"])
    return client


@contextmanager
def served(given: str, folder: Path) -> Iterator[str]:
    """The address at which `matloop dashboard` shows an experiment."""
    process = subprocess.Popen(
        [COMMAND, "dashboard", "--ax", given, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(folder), "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, (process.poll(), line + process.stdout.read())
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a quarter of an hour where much else runs; a minute alone
def test_a_tutorial_experiment_opens_and_the_page_follows_it(tmp_path: Path) -> None:
    file = tmp_path / "tutorial.json"
    with browser() as made:
        with quiet():
            client = _tutorial()
            _go_on(client, 6)
            client.save_to_json_file(str(file))
        with served(str(file), tmp_path) as address, watched(made) as page:
            page.goto(address)
            page.wait_for_selector("#trials")
            assert page.title().startswith("tutorial") or page.inner_text("h1") == "tutorial"
            assert page.locator("#ax-experiment tbody tr").count() == 6
            assert "branin ↓" in page.inner_text(".ax-goal")
            # what the table says is what the file says
            shown = page.locator("#ax-experiment tbody tr").nth(2).inner_text()
            assert f"{client.summarize().branin[2]:.4g}" in shown
            # not all are awaited: slices and contours take a minute
            page.wait_for_selector('[data-key="cross-validation"] h4')
            titles = page.locator(".ax-card h4").all_inner_texts()
            for title in ("Utility Progression", "Cross Validation", "Parallel Coordinates"):
                assert any(title in one for one in titles), titles
            page.locator('[data-key="progress"] .plot').scroll_into_view_if_needed()
            drawn = page.locator('[data-key="progress"] .js-plotly-plot')
            drawn.wait_for()
            assert drawn.evaluate("box => box.calcdata[0].length") == 6
            before = page.evaluate("fetch('/ax/cards').then(r => r.json())")["cards"]

            with quiet():
                _go_on(client, 2)
                client.save_to_json_file(str(file))
            page.wait_for_function(
                "() => document.querySelectorAll('#ax-experiment tbody tr').length === 8"
            )
            page.wait_for_function("() => Number(document.querySelector('#ax').dataset.done) > 3")
            after = page.evaluate("fetch('/ax/cards').then(r => r.json())")["cards"]
            assert [card["key"] for card in after] == [card["key"] for card in before]
            assert not {card["file"] for card in after} & {card["file"] for card in before}

            # half written, then gone: what was read stays, and the page says what is wrong
            file.write_text(file.read_text()[:1000])
            page.wait_for_selector("#ax-experiment [role=alert]")
            assert "not JSON" in page.inner_text("#ax-experiment [role=alert]")
            assert page.locator("#ax-experiment tbody tr").count() == 8


@pytest.mark.slow
def test_an_experiment_in_axs_database_is_followed_too(tmp_path: Path) -> None:
    import urllib.request

    from ax.storage.sqa_store.db import (
        create_all_tables,
        get_engine,
        init_engine_and_session_factory,
    )
    from ax.storage.sqa_store.save import save_experiment

    path = tmp_path / "ax.db"
    with quiet():
        init_engine_and_session_factory(url=f"sqlite:///{path}", force_init=True)
        create_all_tables(get_engine())
        client = _tutorial()
        _go_on(client, 3)
        save_experiment(client._experiment)

        def state() -> dict[str, Any]:
            with urllib.request.urlopen(f"{address}/ax/cards") as answer:
                told: dict[str, Any] = json.load(answer)
                return told

        def wait(trials: int) -> dict[str, Any]:
            for _ in range(600):
                told = state()
                if (told["experiment"] or {}).get("trials") == trials:
                    return told
                time.sleep(0.2)
            raise AssertionError(told)

        with served(str(path), tmp_path) as address:
            assert wait(3)["source"] == "ax.db"
            _go_on(client, 1)
            save_experiment(client._experiment)
            assert wait(4)["experiment"]["by_status"] == {"completed": 4}


def test_what_is_no_experiment_ends_with_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    command = [COMMAND, "dashboard", "--ax", str(tmp_path / "x.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no Ax experiment" in done.stderr
    assert "Traceback" not in done.stderr
