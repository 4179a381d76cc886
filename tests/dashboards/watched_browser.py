"""A browser for tests of pages: what it asks elsewhere, and what its console says, are failures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("MATLOOP_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
HERE = ("http://127.0.0.1", "http://localhost", "data:", "blob:")


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium; the test is skipped, and says so, where there is none."""
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI"):
            pytest.fail(f"there is no browser at {CHROMIUM}: the pages are not tested")
        pytest.skip(f"NO PAGE IS TESTED: there is no browser at {CHROMIUM} (MATLOOP_CHROMIUM)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def watched(made: Browser, **options: Any) -> Iterator[Page]:
    """A page; at the end, nothing may have been asked elsewhere and no error told."""
    context = made.new_context(viewport={"width": 1280, "height": 900}, **options)
    context.set_default_timeout(400_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("request", lambda r: None if r.url.startswith(HERE) else wrong.append(f"asked {r.url}"))
    try:
        yield page
        assert not wrong, wrong
    finally:
        context.close()
