"""The page that says what was found: it is whole, harmless, and right, in the ugly cases too."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from datetime import timedelta
from html.parser import HTMLParser
from importlib import metadata

import numpy as np
import pytest
from pymatgen.core import Structure
from sqlalchemy import select

from campaigns.errors import MatloopError, UsageError
from campaigns.facts import read_facts
from campaigns.store.models import Trial
from dashboards.provenance import reproduce
from dashboards.report import to_report

EVIL = "<script>alert(1)</script>"
EVIL_ATTRIBUTE = '"><img src=x onerror=alert(1)> \'"&amp;'

RANGES = {
    "campaign": "furnace",
    "space": {
        "temperature": {"range": [900, 1500], "unit": "K"},
        "pressure": {"range": [0.1, 100], "unit": "MPa", "log": True},
        "atmosphere": {"choice": ["air", "argon"]},
    },
    "objectives": {"hardness": {"goal": "maximize", "unit": "GPa"}},
    "evaluate": {"with": "lab"},
}


class Page(HTMLParser):
    """A page's tags, attributes and visible text."""

    void = frozenset({"meta", "link", "br", "input", "img", "hr"})

    def __init__(self, text: str):
        super().__init__()
        self.raw, self.tags, self.words, self.open = text, [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"tags left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag, css=None):
        found = [a for t, a in self.tags if t == tag]
        return [a for a in found if css is None or css in a.get("class", "").split()]

    def marks(self, kind):
        """Marks of trials of a kind, by the kind that their class names."""
        return [a for _, a in self.tags if a.get("class", "").split()[:2] == ["m", kind]]


@pytest.fixture
def page_of(tmp_path):
    """Write and read the report of a campaign; check what holds for every page."""

    def write(campaign) -> Page:
        out = tmp_path / "report.html"
        assert to_report(campaign, out) == out
        text = out.read_text(encoding="utf-8")
        page = Page(text)
        assert text.lower().startswith("<!doctype html>")
        assert len(text) < 1_000_000
        for _, attributes in page.tags:
            for key in ("src", "href", "srcset", "action", "data"):
                assert not re.match(r"(?i)\s*(https?:|//|javascript:)", attributes.get(key) or "")
            assert not [k for k in attributes if k.startswith("on")]
        assert "@import" not in text
        assert "@font-face" not in text
        assert len(page.all("script")) == 1
        assert not page.all("link")
        assert not page.all("img")
        ids = [a["id"] for _, a in page.tags if "id" in a]
        assert len(ids) == len(set(ids))
        for svg in page.all("svg", "plot"):
            assert all(part in ids for part in svg["aria-labelledby"].split())
        for link in page.all("a"):
            assert not link["href"].startswith("#") or link["href"][1:] in ids
        assert not re.search(r"\b(nan|inf|Markup|None(?! yet| of))\b", page.text)
        assert "nan" not in " ".join(a.get("d") or "" for _, a in page.tags)
        return page

    return write


def test_it_is_the_report_format():
    (found,) = metadata.entry_points(group="matloop.exporters", name="report")
    assert found.load() is to_report


# What it shows


def test_a_campaign_of_crystals(crystals, page_of):
    page = page_of(crystals.campaign)
    assert "Maximise bulk modulus (worth having above 20 GPa)" in page.text
    assert "formation energy ≤ \N{MINUS SIGN}0.3 eV/atom" in page.text
    assert "10 trials completed, 1 failed, 1 not answered yet" in page.text
    assert "9 of 10 (90 %) satisfy" in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "91 % (95 % interval 89 % to 93 %) of 900" in page.text.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    for word in (
        "97 % of 1,000",
        "Somebody 2013 (CC-BY-4.0)",
        "27,000 rows",
        "chgnet:0.3.0",
        "torch",
    ):
        assert word in page.text.replace("\N{NO-BREAK SPACE}", " ")
    front = crystals.campaign.front()
    pictures = page.all("svg", "crystal")
    assert len(pictures) == len(front) > 1
    assert all("Fm-3m" in p["aria-label"] for p in pictures)
    assert all(len(p["data-crystal"]) < 4000 for p in pictures)
    # the page's two tables, and each trial's mark in the charts
    listed = [a["data-t"] for a in page.all("tr") if "data-t" in a]
    assert sorted(map(int, listed)) == sorted([*range(12), *front.index])
    assert page.marks("front")
    assert page.marks("out")
    assert page.marks("failed")
    assert page.marks("open")
    titles = " ".join(page.words)
    for title in ("Hypervolume against", "Bulk modulus, trial by trial", "Coloured by density"):
        assert title in titles
    assert "reference point" in page.text
    assert "(threshold)" in page.text
    assert "90 % of the prior" in page.text


def test_the_cif_is_that_of_the_results(crystals, page_of):
    page = page_of(crystals.campaign)
    links = {a["download"]: a["href"] for a in page.all("a") if "download" in a}
    trial = int(crystals.campaign.front().index[0])
    relaxed = next(
        href
        for name, href in links.items()
        if name == f"trial-{trial}-{_formula(crystals, trial)}-relaxed.cif"
    )
    text = base64.b64decode(relaxed.split(",")[1]).decode()
    assert text == crystals.campaign.artifacts(trial)["relaxed.cif"]
    density = crystals.campaign.front().loc[trial, "density"]
    assert Structure.from_str(text, fmt="cif").density == pytest.approx(density, rel=1e-6)
    designed = next(
        h for n, h in links.items() if n.startswith(f"trial-{trial}-") and "designed" in n
    )
    design = crystals.campaign.trial(trial)["design"]["crystal"]["cif"]
    assert base64.b64decode(designed.split(",")[1]).decode() == design


def _formula(made, trial):
    return made.campaign.trial(trial)["name"].split()[0]


def test_predictions_are_held_against_results(crystals, page_of):
    text = page_of(crystals.campaign).text.replace("\N{NO-BREAK SPACE}", " ")
    frame = crystals.campaign.trials()
    known = frame[frame["bulk_modulus"].notna() & frame["bulk_modulus_predicted"].notna()]
    error = (known["bulk_modulus"] - known["bulk_modulus_predicted"]).abs().mean()
    assert f"{len(known)} predictions answered; mean absolute error {error:.3g} GPa" in text
    assert "Too few to judge the intervals by" in text
    assert "90 % were expected to and 91 % did" in text
    assert "Formation energy: not informative" in text
    assert "Bulk modulus: informative" in text


# Ugly states


@pytest.mark.parametrize(("text", "given"), [("seed: 3", " --db"), ("x: 1", " --seed 3")])
def test_the_recipe_has_the_seed_that_the_text_has_not(handmade, text, given):
    made = handmade(RANGES | {"seed": 3}, text)
    assert f"matloop run furnace.yaml{given}" in reproduce(read_facts(made.campaign))["shell"]


def test_no_trial_yet(handmade, page_of):
    page = page_of(handmade(RANGES).campaign)
    assert "No trial has been proposed yet." in page.text
    assert not page.all("svg", "plot")


def test_only_candidates(handmade, page_of):
    made = handmade(RANGES)
    made.add({"temperature": 1000.0, "pressure": 1.0, "atmosphere": "air"}, status="candidate")
    page = page_of(made.campaign)
    assert "No trial has a result yet." in page.text


def test_everything_failed(handmade, page_of):
    made = handmade(
        RANGES
        | {
            "objectives": {
                "a": {"goal": "maximize", "unit": "GPa"},
                "b": {"goal": "minimize", "unit": "K"},
            }
        }
    )
    for _ in range(3):
        made.add(
            {"temperature": 1000.0, "pressure": 1.0, "atmosphere": "air"},
            status="failed", failure="it melted", predicted={"a": (1.0, 0.1), "b": (2.0, 0.1)},
        )  # fmt: skip
    made.add({"temperature": 900.0, "pressure": 1.0, "atmosphere": "air"}, status="abandoned")
    page = page_of(made.campaign)
    assert "0 trials completed, 3 failed, 1 abandoned" in page.text
    assert "the commonest reason (3): it melted" in page.text
    assert page.marks("failed")


def test_nothing_is_feasible(handmade, page_of):
    made = handmade(RANGES | {"constraints": ["hardness >= 5 GPa"]})
    for value in (1.0, 2.0):
        made.add({"temperature": 1000.0, "pressure": 1.0, "atmosphere": "air"}, {"hardness": value})
    page = page_of(made.campaign)
    assert "None of them satisfies hardness ≥ 5" in page.text
    assert page.marks("out")
    assert not page.marks("front")


@pytest.mark.parametrize("several", [False, True])
def test_one_trial(handmade, page_of, several):
    more = {"cost": {"goal": "minimize", "unit": "dimensionless"}} if several else {}
    made = handmade(RANGES | {"objectives": RANGES["objectives"] | more})
    results = {"hardness": 5.0} | ({"cost": 0.0} if several else {})
    made.add({"temperature": 1000.0, "pressure": 1.0, "atmosphere": "air"}, results, name="first")
    page = page_of(made.campaign)
    assert "first" in page.text
    assert page.marks("front")


def test_one_objective_over_parameters(handmade, page_of):
    made = handmade(RANGES)
    rng = np.random.default_rng(0)
    for n in range(14):
        made.add(
            {"temperature": 900.0 + 40 * n, "pressure": 0.1 * 1.6**n, "atmosphere": "argon"},
            {"hardness": (5 + rng.normal(), 0.2)}, name=f"temperature {900 + 40 * n} K",
        )  # fmt: skip
    page = page_of(made.campaign)
    assert "The 10 best trials by hardness, best first." in page.text
    assert "The best is" in page.text
    assert "±" in page.text
    assert "Hardness by pressure" in page.text
    assert "Hardness by atmosphere" in page.text
    assert "ypervolume" not in page.text
    assert not page.all("svg", "crystal")
    values = [float(a["data-v"]) for a in page.all("td") if a.get("data-label") == "hardness (GPa)"]
    assert values == sorted(values, reverse=True)
    assert len(values) == 10


def test_three_objectives(handmade, page_of):
    goals = {
        "a": {"goal": "maximize", "unit": "GPa"},
        "b": {"goal": "minimize", "unit": "K"},
        "c": {"goal": "maximize", "unit": "dimensionless"},
    }
    made = handmade(RANGES | {"objectives": goals})
    rng = np.random.default_rng(0)
    for _ in range(9):
        a, b, c = (float(x) for x in rng.random(3))
        made.add(
            {"temperature": 900 + 600 * a, "pressure": 1.0, "atmosphere": "air"},
            {"a": a, "b": b, "c": c},
        )
    page = page_of(made.campaign)
    for title in ("A and b", "A and c", "B and c", "Hypervolume against"):
        assert title in page.text
    assert "inferred from the results" in page.text
    listed = [a for a in page.all("tr") if "data-t" in a]
    assert len(listed) == 9 + len(made.campaign.front())


def test_a_target(handmade, page_of):
    goal = {"goal": {"target": 1.4, "within": 0.1}, "unit": "eV"}
    made = handmade(RANGES | {"objectives": {"band_gap": goal}})
    for gap in (0.5, 1.45, 2.0):
        made.add(
            {"temperature": 1000.0, "pressure": 1.0, "atmosphere": "air"}, {"band_gap": gap},
            name=f"gap {gap}",
        )  # fmt: skip
    text = page_of(made.campaign).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Bring band gap to 1.4 eV within 0.1 eV." in text
    assert "The best is gap 1.45 (trial 1: 1.450 eV), 0.05 eV from the target" in text
    assert "1 trial came within the wanted 0.1 eV" in text


def test_a_crystal_that_cannot_be_read(crystals, page_of):
    best = {"bulk_modulus": 999.0, "density": 0.1, "formation_energy": -2.0}
    crystals.add({"crystal": {"cif": "data_x\nno crystal"}}, best, name="nonsense")
    page = page_of(crystals.campaign)
    assert "nonsense (trial 12) is best in every objective at once" in page.text


# Harm


def test_nothing_from_data_is_markup(handmade, page_of):
    made = handmade(
        RANGES | {"space": {"atmosphere": {"choice": [EVIL, EVIL_ATTRIBUTE]}}},
        f"# {EVIL}\n# {EVIL_ATTRIBUTE}\n# {{{{ 7 * 7 }}}}\n",
    )
    sources = [{"file": EVIL, "licence": EVIL_ATTRIBUTE}, EVIL]
    card = {"name": EVIL, "description": EVIL_ATTRIBUTE, "data": {"sources": sources}}
    made.generator(card)
    for value in (EVIL, EVIL_ATTRIBUTE):
        made.add(
            {"atmosphere": value}, {"hardness": 1.0}, name=value, method=value,
            predicted={"hardness": (1.0, 0.5)}, software={value: value}, latent=[1.0, 2.0],
        )  # fmt: skip
    made.add({"atmosphere": EVIL}, status="failed", failure=f"{EVIL} {EVIL_ATTRIBUTE}", name=EVIL)
    page = page_of(made.campaign)
    assert EVIL in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert page.raw.count("<script") == 1


def test_a_campaign_named_by_an_enemy(handmade, tmp_path):
    from dataclasses import replace

    from campaigns.facts import read_facts
    from dashboards.report import render

    facts = replace(read_facts(handmade(RANGES).campaign), name=EVIL, database=EVIL_ATTRIBUTE)
    page = Page(render(facts, lambda _: {}))
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert EVIL in page.text


def test_the_script_is_the_only_one_that_may_run(crystals, page_of):
    import hashlib

    page = page_of(crystals.campaign)
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    script = page.raw.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


# Writing


def test_it_is_written_whole_or_not_at_all(crystals, tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("before")
    with pytest.raises(UsageError, match="no folder"):
        to_report(crystals.campaign, tmp_path / "nowhere" / "report.html")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MatloopError, match="No space left"):
        to_report(crystals.campaign, out)
    assert out.read_text() == "before"
    assert [f.name for f in tmp_path.iterdir() if "report" in f.name] == ["report.html"]


def test_it_changes_nothing_and_is_the_same_again(crystals, tmp_path):
    before = crystals.campaign.events()
    texts = []
    for _ in range(2):
        text = to_report(crystals.campaign, tmp_path / "r.html").read_text()
        texts.append(re.sub(r"written [^;]*UTC", "", text))
    assert texts[0] == texts[1]
    assert crystals.campaign.events() == before


@pytest.mark.skipif(shutil.which("chromium") is None, reason="PAGE NOT RUN: no chromium")
def test_the_page_runs_in_a_browser(crystals, tmp_path):
    out = to_report(crystals.campaign, tmp_path / "report.html")
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom", out.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    # only the script makes buttons of the tables' heads, and counts the rows that are shown
    assert done.stdout.count('data-sort="n"><span tabindex="0" role="button">') >= 4
    assert "12 of 12 trials" in done.stdout
    assert "CONSOLE" not in done.stderr


# Why, and what was learnt


def test_why_each_trial_was_proposed_and_what_was_learnt(handmade, page_of):
    made = handmade(RANGES)
    rng = np.random.default_rng(0)
    for n in range(14):
        x = float(rng.uniform(900, 1500))
        made.add(
            {"temperature": x, "pressure": 1.0 + n, "atmosphere": ("air", "argon")[n % 2]},
            {"hardness": 0.01 * x},
            predicted={"hardness": (10.0, 1.0)},
            name=f"design {n}",
            notes={"why": {"text": f"Since {EVIL} of design {n}."}},
        )
    page = page_of(made.campaign)
    assert f"Since {EVIL} of design 3." in page.text
    assert EVIL not in page.raw
    assert "What the campaign has learnt" in page.text
    assert "Hardness depends most on temperature" in page.text
    assert "design 5 (trial 5)" in page.text or "(trial " in page.text


def test_what_was_learnt_where_the_generator_is_no_more(handmade, page_of):
    gone = {
        "campaign": "gone",
        "space": {"crystal": {"latent": "./nowhere.safetensors"}},
        "objectives": {"hardness": {"goal": "maximize", "unit": "GPa"}},
        "evaluate": {"with": "lab"},
    }
    made = handmade(gone)
    made.add({"crystal": {"cif": "data_x"}}, {"hardness": 1.0}, name="X")
    assert "What was learnt could not be worked out here: " in page_of(made.campaign).text


def test_a_campaign_that_paused_says_so(handmade, page_of):
    made = handmade({**RANGES, "stop": {"target_met": {"hardness": 5}, "then": "ask"}})
    made.add({"temperature": 950, "pressure": 1, "atmosphere": "air"}, {"hardness": 9.0})
    with made.campaign.store.write() as session:  # by hand, trials end a little after now
        (trial,) = session.scalars(select(Trial)).all()
        trial.ended -= timedelta(minutes=1)
    assert made.campaign.run()["reason"] == "paused"
    text = page_of(made.campaign).text
    assert "The campaign paused, and asks whether to go on: trial 0 meets the target" in text
    made.campaign.run(go_on=True)
    text = page_of(made.campaign).text
    assert "asks whether to go on" not in text
    assert "Gone on in spite of" in text
