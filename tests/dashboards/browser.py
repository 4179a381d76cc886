"""What tests of pages share: the real service in a thread, and what a browser complained of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from campaigns.service import tokens
from campaigns.store import Store

CHROMIUM = os.environ.get("MATLOOP_CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
AXE = Path(__file__).with_name("vendor") / "axe.min.js"
FAULTS = """async () => {
  const told = await axe.run(document, {iframes: false, resultTypes: ["violations"]});
  return told.violations.map(v => [v.impact, v.id, v.nodes.slice(0, 2).map(n => n.html)]);
}"""
HERE = ("http://127.0.0.1", "http://localhost", "data:", "blob:", "about:")


class Server:
    """`matloop serve` over a database.

    Args:
        url: The database.
        engine: With its engine, as a user has it.
    """

    def __init__(self, url: str, engine: bool = False) -> None:
        self._url, self._more = url, () if engine else ("--no-engine",)
        store = Store(url)
        with store.write() as session:
            self.key, _ = tokens.make(session, "pages", ("admin",))
        store.close()
        self._port = 0
        self.restart()
        self.api = httpx.Client(
            base_url=self.address, headers={"Authorization": f"Bearer {self.key}"}, timeout=60
        )

    def restart(self) -> None:
        """Begin to serve, at the same port as before."""
        command = Path(sys.executable).with_name("matloop")
        self._process = subprocess.Popen(
            [str(command), "serve", *self._more, "--db", self._url, "--port", str(self._port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        told = ""
        while (found := re.search(r"at (http://127\.0\.0\.1:(\d+))", told)) is None:
            line = self._process.stdout.readline()
            assert line, told
            told += line
        self.address, self._port = found[1], int(found[2])

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def get(self, path: str, **params: Any) -> Any:
        """What the service answers."""
        answer = self.api.get(path, params=params)
        assert answer.is_success, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        """What the service answers to a change."""
        answer = self.api.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()


@dataclass
class Heard:
    """What a window's console said, and whom it asked."""

    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def nothing(self) -> None:
        """Fail where something was heard."""
        assert not self.complaints, self.complaints
        assert not self.elsewhere, self.elsewhere


@contextmanager
def window(
    made: Any, server: Server, *, width: int = 1280, height: int = 900, theme: str = "light"
) -> Iterator[tuple[Any, Heard]]:
    """A window whose owner has the key."""
    context = made.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    context.set_default_timeout(60_000)
    context.add_cookies([{"name": "matloop_key", "value": server.key, "url": server.address}])
    page, heard = context.new_page(), Heard()
    # warnings too; but not what the software renderer says of its own speed
    page.on(
        "console",
        lambda m: (
            heard.complaints.append(f"{page.url}: {m.text}")
            if m.type in ("error", "warning") and "GL Driver Message" not in m.text
            else None
        ),
    )
    page.on("pageerror", lambda error: heard.complaints.append(str(error)))
    page.on(
        "request",
        lambda r: None if r.url.startswith(HERE) else heard.elsewhere.append(r.url),
    )
    try:
        yield page, heard
    finally:
        context.close()


def ready(page: Any, seconds: float = 60.0) -> None:
    """Wait until the page's scripts ran and its figures are drawn."""
    page.locator('body[data-ready="1"]').wait_for()
    ends = time.monotonic() + seconds
    while page.locator(".plot .loading:visible").count():
        assert time.monotonic() < ends, "a figure is still loading"
        time.sleep(0.1)


def faults(page: Any) -> list[Any]:
    """What axe finds that is serious for who cannot see or point."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return [v for v in page.evaluate(FAULTS) if v[0] in ("serious", "critical")]


def pixels(page: Any, places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where points of the map are on the screen."""
    page.locator("#map").scroll_into_view_if_needed()
    found = page.locator("#map").evaluate(
        """(box, places) => {
          const {xaxis, yaxis} = box._fullLayout, at = box.getBoundingClientRect();
          return places.map(([x, y]) => [
            at.left + xaxis._offset + xaxis.d2p(x), at.top + yaxis._offset + yaxis.d2p(y)]);
        }""",
        places,
    )
    return [(float(x), float(y)) for x, y in found]


def lasso(page: Any, corners: Sequence[tuple[float, float]]) -> None:
    """Draw a lasso on the map by hand, around corners in pixels."""
    page.locator('#lasso[aria-pressed="false"]').click()
    page.wait_for_function("document.querySelector('#map')._fullLayout.dragmode === 'lasso'")
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in [*corners[1:], corners[0]]:
        page.mouse.move(*corner, steps=8)
    page.mouse.up()
