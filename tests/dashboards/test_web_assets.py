"""The pages' files: what was taken in from others, how they are served, what browsers may load."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dashboards.web import assets, shell
from dashboards.web.rest import Refused

VENDOR = assets.STATIC / "vendor"
VENDORED = json.loads((VENDOR / "vendor.json").read_text())


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI()
    shell.dress(app)

    @app.get("/refused")
    def refused() -> None:
        raise Refused(422, {"title": "<b>no</b>", "detail": "why", "hint": "do this"})

    with TestClient(app) as made:
        yield made


@pytest.mark.parametrize("one", VENDORED, ids=lambda one: one["name"])
def test_what_was_taken_in_is_what_it_says(one: dict[str, str]) -> None:
    assert hashlib.sha256((VENDOR / one["file"]).read_bytes()).hexdigest() == one["sha256"]
    assert (VENDOR / one["licence_file"]).stat().st_size > 100
    assert one["version"] in one["source"]


def test_nothing_is_vendored_in_silence() -> None:
    known = {"vendor.json"} | {one[key] for one in VENDORED for key in ("file", "licence_file")}
    assert {path.name for path in VENDOR.iterdir()} == known


def test_a_file_is_kept_for_good_under_its_own_address(client: TestClient) -> None:
    for name in ("app.css", "app.js", "vendor/htmx.min.js", "plotly.min.js"):
        answer = client.get(assets.asset(name))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
    old = client.get("/static/0123456789ab/app.css")
    assert old.headers["cache-control"] == "no-cache"
    plain = client.get(assets.asset("app.css"), headers={"Accept-Encoding": "identity"})
    assert plain.content == (assets.STATIC / "app.css").read_bytes()
    for wrong in ("/static/x/../shell.py", "/static/x/none.js", "/static/x/%2e%2e/shell.py"):
        assert client.get(wrong).status_code == 404
    with pytest.raises(KeyError):
        assets.asset("none.js")


def test_the_first_page_is_less_than_two_megabytes() -> None:
    names = ("app.css", "app.js", "vendor/htmx.min.js", "plotly.min.js", "vendor/3Dmol-min.js")
    sizes = {n: len(gzip.compress(assets._files()[n].read_bytes(), 6)) for n in names}
    assert sum(sizes.values()) < 1_900_000, sizes


def test_a_page_may_load_nothing_from_elsewhere(client: TestClient) -> None:
    answer = client.get("/refused")
    assert answer.status_code == 422
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src 'self';" in policy
    assert "<b>no</b>" not in answer.text
    assert "&lt;b&gt;no" in answer.text
    assert "do this" in answer.text
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", answer.text)
    # no script in the page: whatever were to slip into it would not run
    assert not re.findall(r"<script(?![^>]* src=)|\son[a-z]+=", answer.text)


def test_our_scripts_ask_no_other_host() -> None:
    for path in assets.STATIC.rglob("*.js"):
        if path.parent != VENDOR:
            assert not re.findall(r"https?://(?!www\.w3\.org/)", path.read_text()), path


def test_the_theme_that_was_chosen_is_there_before_the_first_paint(client: TestClient) -> None:
    client.cookies.set("theme", "dark")
    assert 'data-theme="dark"' in client.get("/refused").text
    client.cookies.set("theme", '"><script>')
    assert "<script>" not in client.get("/refused").text
