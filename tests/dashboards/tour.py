"""Take the pictures of the dashboard's tour: `python -m pytest tests/dashboards/tour.py`.

It writes docs/tour/*.webp. It is no test by itself, so pytest runs it only when it is named.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from tests.dashboards.browser import CHROMIUM, FLAGS, Server, ready, window
from tests.dashboards.page_campaigns import make

FOLDER = Path(__file__).parents[2] / "docs" / "tour"
LARGEST = 80_000

# What is shown: name, address, theme, width, height.
PICTURES = (
    ("overview", "/c/ceramic", "light", 1280, 900),
    ("decide", "/c/perovskites/decide", "light", 1280, 720),
    ("decide-phone", "/c/ceramic/decide", "dark", 390, 844),
    ("front", "/c/ceramic/front?sel=10", "light", 1280, 1120),
    ("front-large", "/c/big/front?sel=4200", "dark", 1280, 1080),
    ("map", "/c/perovskites/map?colour=predicted%3Abulk_modulus", "light", 1280, 820),
    ("candidate", "/c/perovskites/trials/5?times=2%2C2%2C2", "dark", 1280, 900),
    ("ingest", "/c/ceramic/ingest", "light", 1280, 900),
    ("model", "/c/perovskites/model", "light", 1280, 900),
    ("elements", "/c/perovskites/elements", "light", 1280, 900),
    ("system", "/system", "dark", 1280, 900),
)


def test_take_the_pictures(tmp_path):
    from playwright.sync_api import sync_playwright

    url = f"sqlite:///{tmp_path / 'matloop.db'}"
    make(url, big=10_000)
    FOLDER.mkdir(parents=True, exist_ok=True)
    server = Server(url)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            for name, path, theme, width, height in PICTURES:
                _take(browser, server, name, path, theme, width, height)
            browser.close()
    finally:
        server.api.close()
        server.stop()
    assert sum(file.stat().st_size for file in FOLDER.glob("*.webp")) < 1_000_000


def _take(
    browser: Any, server: Server, name: str, path: str, theme: str, width: int, height: int
) -> None:
    with window(browser, server, theme=theme, width=width, height=height) as (page, heard):
        page.goto(f"{server.address}{path}{'&' if '?' in path else '?'}live=0")
        ready(page)
        page.locator("#pill .budget, h1").first.wait_for()
        if name == "candidate":
            page.locator('#viewer[data-drawn="3d"]').wait_for()
        if name == "ingest":
            _bad_file(page)
        page.wait_for_timeout(1500)  # what plotly still moves
        picture = Image.open(io.BytesIO(page.screenshot()))
        if name != "ingest":
            heard.nothing()
    for quality in (80, 65, 50, 35):
        picture.convert("RGB").save(FOLDER / f"{name}.webp", quality=quality, method=6)
        if (FOLDER / f"{name}.webp").stat().st_size < LARGEST:
            return
    raise AssertionError(f"{name}.webp is too large")


def _bad_file(page: Any) -> None:
    text = "trial,hardness (MPa),cost,porosity\n16,14000,41,12\n17,13000,40 or so,11\n18,150,40,9\n"
    file = {"name": "oven.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.locator("#file").set_input_files(file)
    page.locator(".problems").wait_for()
