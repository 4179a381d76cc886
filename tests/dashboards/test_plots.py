"""Figures and a notebook's summary of every state a campaign can be in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from campaigns import Campaign
from campaigns.errors import UsageError
from campaigns.facts import read_facts
from dashboards import plots
from tests.dashboards import page_campaigns

STATES = ["no-trials", "one-trial", "all-failed", "one-objective", "four-objectives", "perovskites"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('plots') / 'm.db'}"
    page_campaigns.ugly(url)
    page_campaigns.perovskites(url)
    return url


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_drawn_or_refused_with_a_reason(url: str, name: str) -> None:
    reasons: list[str | None] = []
    with Campaign.open(name, url) as campaign:
        for draw in (plots.plot_front, plots.plot_progress, plots.plot_map, plots.plot_parity):
            try:
                figure = draw(campaign)
            except UsageError as refused:
                reasons.append(refused.why)
                continue
            text = figure.to_json()
            assert "NaN" not in text
            for axis in (figure.layout.xaxis, figure.layout.yaxis):
                assert axis.title.text, draw
        html = campaign._repr_html_()
    assert all(reasons), reasons
    ElementTree.fromstring(html)
    assert "<script" not in html
    assert len(html) < 10_000


def test_marks_are_the_campaigns_trials(url: str) -> None:
    with Campaign.open("perovskites", url) as campaign:
        facts, figure = read_facts(campaign), plots.plot_front(campaign)
    assert "(GPa) ↑" in figure.layout.xaxis.title.text
    assert "(g/cm³) ↓" in figure.layout.yaxis.title.text
    marks: dict[str, Any] = {t.meta["kind"]: t for t in figure.data if "kind" in t.meta}
    for kind, trace in marks.items():
        rows = [facts.trials[r]["trial"] for r, one in enumerate(facts.kinds) if one == kind]
        assert set(trace.customdata) <= set(rows)
        if kind in ("front", "ok", "out"):
            at = [t["trial"] for t in facts.trials]
            seen = facts.outcomes[[at.index(t) for t in trace.customdata], 0]
            assert np.allclose(np.array(trace.x, float), seen, rtol=1e-4)


def test_a_wrong_name_is_corrected(url: str) -> None:
    with Campaign.open("perovskites", url) as campaign:
        with pytest.raises(UsageError, match="no metric 'densty'") as caught:
            plots.plot_front(campaign, x="densty")
        assert caught.value.hint == "did you mean 'density'?"
        with pytest.raises(UsageError):
            plots.plot_map(campaign, colour="nothing")
        assert plots.plot_map(campaign, colour="kind").data


def test_importances_are_drawn_as_they_are_given() -> None:
    told = {"importances": {"gain": {"shares": {"a_b": 0.7, "c": 0.3}}, "loss": {"shares": {}}}}
    figure = plots.plot_importances(told)
    (bars,) = figure.data
    assert list(bars.y) == ["c", "a b"]
    assert list(bars.x) == [0.3, 0.7]
    with pytest.raises(UsageError) as caught:
        plots.plot_importances({"importances": {}, "notes": ["too few results"]})
    assert caught.value.why == "too few results"


def test_an_unsafe_name_does_no_harm(tmp_path: Path) -> None:
    spec = page_campaigns.one_axis("x", {"gain": {"goal": "maximize", "unit": "eV"}})
    with page_campaigns._campaign(f"sqlite:///{tmp_path / 'm.db'}", spec) as campaign:
        with campaign.store.write() as session:
            page_campaigns._add(
                session, campaign, 0, {"x": 0.1, "y": 0.2}, "completed", {"gain": (1.0, None)}
            )
            page_campaigns._rows(session, campaign)[0].provenance = {"name": "<img src=x>"}
        assert "&lt;img" in campaign._repr_html_()
        figure = plots.plot_front(campaign)
    assert json.loads(figure.to_json())["data"]
