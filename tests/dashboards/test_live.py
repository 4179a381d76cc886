"""A campaign as it lives: a server with its engine, a worker, and a person at the page."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.browser import lasso, pixels, ready, window
from tests.dashboards.live import live
from tests.dashboards.watched_browser import browser

SPEC = """
campaign: alive
space:
  x: {range: [0, 1]}
  y: {range: [0, 1], unit: mm}
objectives:
  gain: {goal: maximize, unit: GPa}
  loss: {goal: minimize, unit: dimensionless}
evaluate: {with: python, function: "measure.py:measure", time_limit: 60 s}
approve: true
budget: {trials: 30, batch: 3}
stop: {target_met: {gain: 0.01 GPa}, then: ask}
"""
MEASURE = """
def measure(design, seed):
    x, y = design["x"], design["y"]
    return {"gain": 0.1 + x + y * (1 - x), "loss": x**2 + (y - 0.3) ** 2}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "measure.py").write_text(MEASURE)
    file = tmp_path / "alive.yaml"
    file.write_text(SPEC)
    return file


@pytest.mark.slow
def test_from_a_proposal_to_a_question_and_on(spec: Path, tmp_path: Path) -> None:
    with browser() as made, live(tmp_path, spec) as server:
        base = "/v1/campaigns/alive"
        server.until(base, lambda told: told["counts"]["candidate"] == 3)
        with (
            window(made, server) as (page, heard),
            window(made, server) as (looks, heard_too),
            server.worker("alive", spec, "--allow-python"),
        ):
            looks.goto(f"{server.address}/c/alive")
            ready(looks)
            assert "3 proposals wait for your word" in looks.locator(".needs").inner_text()
            page.goto(f"{server.address}/c/alive/decide")
            ready(page)
            assert page.locator(".proposal").count() == 3
            looks.evaluate("window.stays = true")  # gone where the page were loaded again
            page.locator('.proposal [data-do="approve"]').first.click()

            # the worker has it at once, and its result is on the other page without a reload
            told = server.until(base, lambda told: told["counts"]["completed"] == 1)
            begun = time.monotonic()
            tile = looks.locator(".tile", has_text="completed").locator("b", has_text="1")
            tile.wait_for(timeout=10_000)
            took = time.monotonic() - begun
            # promised of a machine whose cores are not wanted several times over
            calm = os.getloadavg()[0] <= 2 * (os.cpu_count() or 1)
            assert took < (2.0 if calm else 10.0), took
            assert looks.evaluate("window.stays") is True
            best = told["best"]["gain"]["value"]
            text = looks.locator(".tiles").inner_text()
            assert f"{told['counted']} of 30" in text
            assert f"{best:.4g}"[:4] in text
            assert f"{told['hypervolume']:.4g}"[:4] in text
            drawn = _progress(looks, 1)
            assert drawn == server.get(f"{base}/curve")["hypervolume"]

            # its stop rule is met: it pauses, asks, and a person lets it go on
            ask = looks.locator(".ask", has_text="It paused, and asks")
            ask.wait_for()
            assert server.get(base)["state"] == "paused"
            ask.locator('[data-answer="true"]').click()
            ask.wait_for(state="detached")
            told = server.get(base)
            assert told["question"] is None
            assert told["state"] != "paused"

            # more are asked for: the engine's job, and they come without a reload
            before = server.get(base)["counts"]["candidate"]
            page.locator('#more input[name="n"]').fill("2")
            page.locator("#more button").click()
            page.locator(".toast", has_text="2 proposed.").wait_for()
            after = server.get(f"{base}/trials", status="candidate")["trials"]
            assert len(after) >= before + 2
            page.locator(f"#trial-{after[-1]['trial']}").wait_for()

            # and it really goes on: the next one is tried
            page.locator('.proposal [data-do="approve"]').first.click()
            server.until(base, lambda told: told["counts"]["completed"] == 2)
            heard.nothing()
            heard_too.nothing()


def _progress(page: Any, ended: int) -> list[float]:
    """What the progress figure draws, when so many trials have ended."""
    line = page.locator("#progress")
    for _ in range(100):
        found = line.evaluate(
            "box => (box.data || []).filter(t => t.name === 'this campaign').map(t => [...t.y])[0]"
        )
        if found and len(found) == ended:
            return [float(v) for v in found]
        page.wait_for_timeout(100)
    raise AssertionError(found)


@pytest.mark.slow
def test_a_lasso_on_the_map_proposes_there_and_excludes(spec: Path, tmp_path: Path) -> None:
    with browser() as made, live(tmp_path, spec) as server:
        base = "/v1/campaigns/alive"
        server.until(base, lambda told: told["counts"]["candidate"] == 3)
        with window(made, server) as (page, heard):
            page.goto(f"{server.address}/c/alive/map")
            page.locator('#map[data-points="3"]').wait_for()
            told = server.get(f"{base}/latent")
            a, b, other = pixels(page, list(zip(told["x"], told["y"], strict=True)))
            lasso(page, _around(a, b, other))
            page.locator("#chosen-says", has_text="2 selected").wait_for()
            assert page.url.endswith("?sel=0&sel=1")
            places = [t["params"] for t in server.get(f"{base}/trials")["trials"][:2]]
            with page.expect_request(f"**{base}/proposals") as asked:
                page.locator("#near").click()
            assert asked.value.post_data_json == {"near": [0, 1]}
            page.locator(".toast", has_text="Proposed there: trials 3").wait_for()
            new = server.get(f"{base}/trials")["trials"][3:]
            assert new
            for axis in ("x", "y"):
                low = min(p[axis] for p in places) - 0.1
                high = max(p[axis] for p in places) + 0.1
                assert all(low <= t["params"][axis] <= high for t in new), (axis, places, new)
            events = server.get(f"{base}/events")["events"]
            notes = [e["payload"]["notes"] for e in events if e["kind"] == "trials_proposed"][-1]
            assert "asked for near trials 0, 1" in notes[0]
            # they are selected beside the others; all that are open are excluded, with a reason
            count = 2 + len(new)
            page.locator("#chosen-says", has_text=f"{count} selected").wait_for()
            page.locator("#exclude").click()
            page.locator("#exclude-reason").fill("cannot be made there")
            page.locator('#exclude-form button[value="yes"]').click()
            page.locator(".toast", has_text=f"{count} excluded").wait_for()
            gone = server.get(f"{base}/trials", status="abandoned")["trials"]
            assert {t["trial"] for t in gone} == {0, 1, *(t["trial"] for t in new)}
            assert server.get(f"{base}/trials/0")["failure"] == "cannot be made there"
            # and are seen to be: gone from the map, and said on their own page
            page.locator('#chosen tr[data-trial="0"]').wait_for(state="hidden")
            page.goto(f"{server.address}/c/alive/trials/0")
            excluded = page.locator(".notice.error", has_text="Abandoned: cannot be made there")
            excluded.wait_for()
            heard.nothing()


def _around(
    a: tuple[float, float], b: tuple[float, float], other: tuple[float, float]
) -> list[tuple[float, float]]:
    """Corners in pixels around two points; a third lies outside."""
    (ax, ay), (bx, by) = a, b
    length = math.hypot(bx - ax, by - ay)
    ux, uy = (bx - ax) / length, (by - ay) / length
    share = min(max((other[0] - ax) * ux + (other[1] - ay) * uy, 0.0), length)
    far = math.hypot(other[0] - ax - share * ux, other[1] - ay - share * uy)
    pad = min(20.0, 0.5 * far)
    ahead, aside = (pad * ux, pad * uy), (-pad * uy, pad * ux)
    corners = [
        (ax - ahead[0] + aside[0], ay - ahead[1] + aside[1]),
        (bx + ahead[0] + aside[0], by + ahead[1] + aside[1]),
        (bx + ahead[0] - aside[0], by + ahead[1] - aside[1]),
        (ax - ahead[0] - aside[0], ay - ahead[1] - aside[1]),
    ]
    # it has to begin within the axes
    middle = ((ax + bx + other[0]) / 3, (ay + by + other[1]) / 3)
    first = min(range(4), key=lambda k: math.dist(corners[k], middle))
    return corners[first:] + corners[:first]
