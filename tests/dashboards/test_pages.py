"""The pages in a real browser, against the real service: what they show, and what can be done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from campaigns.store import Store
from campaigns.store.models import CampaignRow
from tests.dashboards import page_campaigns
from tests.dashboards.browser import CHROMIUM, FLAGS, Server, faults, lasso, pixels, ready, window

SCREENS = ("", "/decide", "/front", "/map", "/ingest", "/model", "/elements", "/ax", "/report")
UGLY = ("no-trials", "one-trial", "all-failed", "one-objective", "four-objectives", "big")

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> str:
    """A database with campaigns: one that really proposed, crystals, ugly states, 10,000 trials."""
    found = f"sqlite:///{tmp_path_factory.mktemp('pages') / 'matloop.db'}"
    page_campaigns.make(found, big=10_000, ceramic_rounds=3)
    return found


@pytest.fixture(scope="module")
def server(url) -> Iterator[Server]:
    made = Server(url)
    yield made
    made.api.close()
    made.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not os.access(CHROMIUM, os.X_OK):
        pytest.skip(f"NO PAGE WAS TESTED: there is no browser at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield made
        made.close()


def test_every_screen_of_every_campaign_answers(server):
    """By its HTML alone, without a script: tables, forms and links are there."""
    names = ["ceramic", "perovskites", *UGLY]
    for path in ["/", "/system", *(f"/c/{name}{screen}" for name in names for screen in SCREENS)]:
        answer = server.api.get(path)
        assert answer.status_code == 200, (path, answer.text[-300:])
        assert "<h1>" in answer.text, path
        assert "default-src 'self'" in answer.headers["content-security-policy"], path
    assert server.api.get("/c/nowhere").status_code == 404
    lost = server.api.get("/c/no-trials/trials/0")
    assert lost.status_code == 404
    assert "there is no trial 0" in lost.text
    assert "<b>the oven</b>" not in server.api.get("/c/all-failed/trials/0").text
    stranger = httpx.get(f"{server.address}/c/ceramic", follow_redirects=False)
    assert stranger.status_code == 303
    assert stranger.headers["location"].startswith("/login")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_screens_are_quiet_and_accessible(browser, server, theme):
    """No complaint, no request to anybody else, and nothing serious for who cannot see or point."""
    paths = ["/", "/system", "/c/ceramic", "/c/ceramic/decide", "/c/ceramic/front?sel=5"]
    paths += ["/c/perovskites/trials/5", "/c/perovskites/map", "/c/perovskites/elements"]
    paths += ["/c/ceramic/ingest", "/c/perovskites/model", "/c/ceramic/report"]
    found = {}
    with window(browser, server, theme=theme) as (page, heard):
        for path in paths:
            page.goto(server.address + path)
            ready(page)
            if bad := faults(page):
                found[path] = bad
        assert found == {}
        heard.nothing()


@pytest.mark.parametrize("name", UGLY)
def test_ugly_states_are_drawn_and_quiet(browser, server, name):
    with window(browser, server, width=390, height=844) as (page, heard):
        for screen in ("", "/front", "/map"):
            page.goto(f"{server.address}/c/{name}{screen}")
            ready(page)
            wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, (screen, wide)
            if screen == "/front":
                columns = server.get(f"/v1/campaigns/{name}/candidates.columns")
                points = page.locator("#plot").get_attribute("data-points")
                kinds = [columns["codes"]["kind"][k] for k in columns["columns"]["kind"]]
                drawn = [k for k in kinds if k not in ("failed", "part")]  # with a place to stand
                assert (points or "0") == str(len(drawn)), name
        heard.nothing()


def test_figures_are_those_of_the_service(browser, server):
    told = server.get("/v1/campaigns/ceramic")
    front = server.get("/v1/campaigns/ceramic/front")["front"]
    columns = server.get("/v1/campaigns/ceramic/candidates.columns")
    with window(browser, server) as (page, heard):
        page.goto(f"{server.address}/c/ceramic")
        text = page.locator(".tiles").inner_text()
        assert f"{told['counted']} of {told['budget']}" in text
        assert f"{told['hypervolume']:.1f}" in text
        assert f"{told['best']['hardness']['value']:.2f}\N{NO-BREAK SPACE}GPa" in text
        page.goto(f"{server.address}/c/ceramic/front?sel={front[0]['trial']}")
        ready(page)
        shown = page.locator("#front-table tbody tr").evaluate_all(
            "rows => rows.map(r => [+r.dataset.trial, "
            "...[...r.querySelectorAll('[data-value]')].map(c => +c.dataset.value)])"
        )
        metrics = ("hardness", "cost", "porosity")
        assert shown == [[r["trial"], *(r["values"][m]["mean"] for m in metrics)] for r in front]
        drawn = page.locator("#plot").evaluate(
            "box => Object.fromEntries(box.data.map(t => [t.meta.kind, t.x.length]))"
        )
        kinds = [columns["codes"]["kind"][k] for k in columns["columns"]["kind"]]
        for kind in ("front", "ok", "out", "open"):
            assert drawn.get(kind, 0) == kinds.count(kind)
        assert f"Trial {front[0]['trial']}" in page.locator("#selected").inner_text()
        # all weight on one objective picks its best; a link keeps it
        page.locator('[data-weight="hardness"]').fill("100")
        page.locator('[data-weight="cost"]').fill("0")
        best = max(front, key=lambda r: r["values"]["hardness"]["mean"])["trial"]
        page.locator("#pick a", has_text=f"trial {best}").wait_for()
        assert "w.hardness=100" in page.url
        page.goto(f"{server.address}/c/ceramic/model")
        ready(page)
        for record in server.get("/v1/campaigns/ceramic/model")["records"]:
            row = page.locator(f'#prospective tr[data-metric="{record["metric"]}"]').inner_text()
            assert f"{record['covered']['95']} of {record['of']}" in row
        heard.nothing()
    text = server.api.get("/c/ceramic/trials.csv").text.splitlines()
    assert len(text) == 1 + columns["n"]
    assert "hardness (GPa)" in text[0]


def test_approve_in_one_window_is_a_conflict_in_the_other(browser, server):
    index = _waiting(server, "ceramic")[0]
    row = f"#trial-{index}"
    with window(browser, server) as (mine, heard), window(browser, server) as (other, _):
        mine.goto(f"{server.address}/c/ceramic/decide")
        other.goto(f"{server.address}/c/ceramic/decide?live=0")
        ready(other)
        mine.locator(f'{row} [data-do="approve"]').click()
        mine.locator(f'{row}[data-state="approved"]').wait_for()
        heard.nothing()
        assert server.get(f"/v1/campaigns/ceramic/trials/{index}")["approved"] is True
        other.locator(f'{row} [data-do="approve"]').click()
        told = other.locator(".toast.error").first.inner_text()
        assert "has changed since you looked" in told
        assert "Unchanged" in told
        # and then the window shows what is the case
        other.locator(f'{row}[data-state="approved"]').wait_for()


def test_reject_needs_a_reason_and_works_in_bulk_and_by_keys(browser, server):
    first, second, *_ = _waiting(server, "ceramic")
    with window(browser, server) as (page, heard):
        page.goto(f"{server.address}/c/ceramic/decide")
        ready(page)
        page.locator(f"#trial-{first} input[type=checkbox]").check()
        page.locator(f"#trial-{second}").focus()
        page.keyboard.press("x")
        assert page.locator("#marked").inner_text() == "2 marked"
        page.locator('[data-bulk="reject"]').click()
        page.locator('#reject-form button[value="yes"]').click()
        assert page.locator("#reject-dialog").is_visible()  # no reason: it stays open
        page.locator("#reject-reason").fill("too dear")
        page.locator('#reject-form button[value="yes"]').click()
        page.locator(f"#trial-{first}").wait_for(state="detached")
        page.locator(f"#trial-{second}").wait_for(state="detached")
        heard.nothing()
    for index in (first, second):
        trial = server.get(f"/v1/campaigns/ceramic/trials/{index}")
        assert (trial["status"], trial["failure"]) == ("abandoned", "too dear")


def test_a_design_is_added_by_hand_and_a_wrong_one_is_refused(browser, server):
    with window(browser, server) as (page, heard):
        page.goto(f"{server.address}/c/ceramic/decide")
        ready(page)
        page.locator("#add").click()
        for name, value in (("temperature", "1111"), ("time", "7"), ("dopant", "0.05")):
            page.locator(f"#p-{name}").fill(value)
        page.locator("#p-atmosphere").select_option("argon")
        page.locator('#add-form button[value="yes"]').click()
        page.locator(".proposal", has_text="1111").wait_for()
        heard.nothing()
        page.locator("#add").click()
        page.locator("#add-form").evaluate("form => form.noValidate = true")
        page.locator("#p-temperature").fill("9999")
        page.locator('#add-form button[value="yes"]').click()
        assert "temperature" in page.locator("#add-errors .notice").inner_text()


def test_a_change_shows_at_once_and_after_the_server_was_away(browser, server):
    with window(browser, server) as (page, _):
        page.goto(f"{server.address}/c/perovskites/trials/3")
        ready(page)
        page.locator("#history").wait_for()
        server.post("/v1/campaigns/perovskites/trials/3/notes", {"text": "a first remark"})
        began = time.monotonic()
        page.locator("#history", has_text="a first remark").wait_for()
        assert time.monotonic() - began < 2.0
        server.stop()
        page.locator('body[data-live="lost"]').wait_for()
        assert page.locator("#live").inner_text() == "connection lost, trying again…"
        server.restart()
        page.locator('body[data-live="on"]').wait_for()
        server.post("/v1/campaigns/perovskites/trials/3/notes", {"text": "a second one"})
        page.locator("#history", has_text="a second one").wait_for()


def test_a_bad_row_is_named_and_put_aside(browser, server, tmp_path):
    index = next(i for i in _open(server, "ceramic"))
    file = tmp_path / "oven.csv"
    file.write_text(
        "Trial no,Vickers,cost,porosity\n"
        f"{index},14000,41,12\n"
        "999,13000,40,11\n"
        f"{index + 1000},twelve,40,11\n"
    )
    with window(browser, server) as (page, heard):
        page.goto(f"{server.address}/c/ceramic/ingest")
        ready(page)
        page.locator("#file").set_input_files(file)
        page.locator("#columns tbody tr").first.wait_for()
        page.locator('select[aria-label="column Trial no is"]').select_option("trial")
        page.locator('select[aria-label="column Vickers is"]').select_option("hardness")
        unit = page.locator('input[aria-label="unit of Vickers"]')
        unit.fill("MPa")
        unit.blur()
        problems = page.locator(".problems")
        problems.get_by_text("row 3").first.wait_for()
        assert "999" in problems.inner_text()
        assert "row 4" in problems.inner_text()
        assert page.locator("#take").is_disabled()
        before = server.get(f"/v1/campaigns/ceramic/trials/{index}")["status"]
        assert before == "candidate"  # nothing was taken in
        # the refusals above are what the browser complains of, and nothing else
        assert all("422" in c for c in heard.complaints)
        page.locator("#aside").click()
        page.locator("#take:enabled").wait_for()
        page.locator("#take").click()
        page.locator("#result-title", has_text="Taken in").wait_for()
    trial = server.get(f"/v1/campaigns/ceramic/trials/{index}")
    assert trial["status"] == "completed"
    assert trial["observations"]["hardness"]["mean"] == 14.0


def test_a_crystal_is_drawn_as_the_server_expands_it(browser, server):
    path = "/v1/campaigns/perovskites/trials/5/scene"
    one, many = server.get(path), server.get(path, times="2,2,2")
    assert (one["sites"], many["sites"]) == (5, 40)
    assert one["group"] == {"symbol": "Pm-3m", "number": 221}
    assert len(one["polyhedra"]) == 1
    assert len(one["polyhedra"][0]["corners"]) == 6
    with window(browser, server) as (page, heard):
        page.goto(f"{server.address}/c/perovskites/trials/5?times=2,2,2")
        viewer = page.locator('#viewer[data-drawn="3d"]')
        viewer.wait_for()
        assert viewer.get_attribute("data-atoms") == str(len(many["atoms"]))
        assert page.locator("#sites").inner_text() == "40"
        assert page.locator("#viewer canvas").count() == 1
        page.locator('[data-view="times"]').select_option("1,1,1")
        page.locator(f'#viewer[data-atoms="{len(one["atoms"])}"]').wait_for()
        heard.nothing()


def test_without_webgl_it_is_said_and_all_else_works(browser, server):
    made = browser.browser_type.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-3d-apis"]
    )
    try:
        with window(made, server) as (page, heard):
            page.goto(f"{server.address}/c/perovskites/trials/5")
            page.locator('#viewer[data-drawn="still"] svg.crystal').wait_for()
            assert "WebGL is off" in page.locator("#viewer-says").inner_text()
            page.goto(f"{server.address}/c/big/front")
            page.locator('#plot[data-points="10000"]').wait_for()
            assert page.locator('canvas.cloud[data-points="9800"]').count() == 1
            heard.nothing()
    finally:
        made.close()


def test_a_lasso_drawn_by_hand_selects_what_lies_in_it(browser, server):
    """Of the cloud of 10,000 too; *Propose here* asks for proposals near them."""
    told = server.get("/v1/campaigns/big/latent")
    low, high = (-0.1, -0.2), (0.2, 0.1)
    inside = [
        trial
        for trial, x, y in zip(told["trials"], told["x"], told["y"], strict=True)
        if low[0] < x < high[0] and low[1] < y < high[1]
    ]
    with window(browser, server) as (page, heard):
        page.goto(f"{server.address}/c/big/map")
        page.locator('#map[data-points="10000"]').wait_for()
        corners = [low, (high[0], low[1]), high, (low[0], high[1])]
        lasso(page, pixels(page, corners))
        page.locator("#near").wait_for()
        said = page.locator("#chosen-says").inner_text()
        # what is drawn by hand follows its corners to a pixel or two
        assert abs(int(said.split()[0].replace(",", "")) - len(inside)) <= 0.06 * len(inside)
        assert "sel=" in page.url
        with page.expect_request("**/v1/campaigns/big/proposals") as asked:
            page.locator("#near").click()
        near = asked.value.post_data_json["near"]
        assert len(near) <= 1000
        assert len(set(near) & set(inside)) >= 0.94 * min(len(inside), 1000)
        heard.nothing()


def test_an_engine_that_died_is_told(browser, server, url):
    store = Store(url)
    with store.write() as session:
        row = session.query(CampaignRow).filter_by(name="one-trial").one()
        row.engine_seen = datetime.now(UTC) - timedelta(minutes=7)
        row.engine_says = "waiting for results"
    store.close()
    with window(browser, server) as (page, heard):
        page.goto(f"{server.address}/c/one-trial")
        page.locator("#pill", has_text="Engine lost").wait_for()
        assert "silent for 7 min" in page.locator(".needs").inner_text()
        heard.nothing()


def test_a_campaign_begins_from_yaml_and_errors_name_their_line(browser, server):
    good = page_campaigns.CERAMIC.replace("campaign: ceramic", "campaign: begun-here")
    with window(browser, server) as (page, _):
        page.goto(server.address)
        ready(page)
        page.locator("details.new summary").click()
        page.locator("#spec").fill(good.replace("maximize", "maximise it"))
        page.locator("#new-campaign button").click()
        told = page.locator("#spec-errors .notice").inner_text()
        assert "maximise it" in told
        assert "spec.yaml:8" in told
        page.locator("#spec").fill(good)
        page.locator("#new-campaign button").click()
        page.wait_for_url("**/c/begun-here")
        assert "No trial has been proposed yet" in page.locator("#now").inner_text()


@pytest.mark.parametrize(
    "path", ["/c/ceramic", "/c/ceramic/model", "/c/ceramic/ax", "/c/perovskites/trials/5",
             "/c/big/front", "/c/big/map"],
)  # fmt: skip
def test_first_load_is_small(browser, server, path):
    """Under 2 MB and 10 requests, the event stream's too; 10,000 candidates under 150 kB."""
    with window(browser, server) as (page, _):
        asked: list[Any] = []
        page.on("request", lambda request: asked.append(request))
        page.goto(server.address + path)
        ready(page)
        page.wait_for_load_state("load")
        page.wait_for_timeout(1000)  # what the stream's first word would set off
        urls = [r.url for r in asked if r.url.startswith("http")]
        assert len(urls) < 10, urls
        assert len(set(urls)) == len(urls), urls
        done = [r for r in asked if "/events/stream" not in r.url and r.url.startswith("http")]
        sizes = {r.url: r.sizes()["responseBodySize"] for r in done}
        assert sum(sizes.values()) < 2_000_000, sizes
        big = [size for u, size in sizes.items() if u.endswith("candidates.columns")]
        assert all(size < 150_000 for size in big), sizes


def _open(server: Server, campaign: str) -> list[int]:
    found = server.get(f"/v1/campaigns/{campaign}/trials", status="candidate")["trials"]
    return [t["trial"] for t in found]


def _waiting(server: Server, campaign: str) -> list[int]:
    found = server.get(f"/v1/campaigns/{campaign}/trials", status="candidate")["trials"]
    return [t["trial"] for t in found if not t["approved"] and not t["held"]]
