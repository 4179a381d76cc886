"""Every campaign is an Ax experiment: its analyses come by themselves, and hold up nothing."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from campaigns.service import ax_mirror, ax_mirrors
from tests.dashboards.live import live

SPEC = {
    "campaign": "mirrored",
    "space": {
        "x": {"range": [0, 1]},
        "alloy": {"composition": ["Fe", "Ni", "Co"]},
        "gas": {"choice": ["air", "argon"]},
    },
    "objectives": {
        "gain": {"goal": "maximize", "unit": "GPa"},
        "loss": {"goal": "minimize", "unit": "dimensionless"},
    },
    "evaluate": {"with": "lab"},
    "budget": {"trials": 12, "batch": 4},
}


def _answer(told: dict[str, Any]) -> dict[str, float]:
    iron = told["params"].get("alloy.Fe", 0.0)
    return {"gain": 10 * told["params"]["x"] + iron, "loss": told["params"]["x"] ** 2 + 1 - iron}


@pytest.mark.slow
def test_analyses_come_by_themselves_and_hold_up_no_proposal(tmp_path, monkeypatch):
    with live(tmp_path, SPEC) as server:
        for _ in range(8):
            server.answer("mirrored", _answer)
        told = _wait(server, lambda told: told["experiment"])
        # it is being made, and the engine goes on proposing meanwhile
        for _ in range(4):
            server.answer("mirrored", _answer)
        assert server.get("/v1/campaigns/mirrored")["counts"]["completed"] == 12
        told = _wait(
            server, lambda told: told["state"] == "done" and not told["stale"]
        )  # and what came last too
        assert told["experiment"]["by_status"] == {"completed": 12}
        assert "that the ingredients of alloy add up to 1" in told["experiment"]["description"]
        assert {p["name"] for p in told["experiment"]["parameters"]} == {
            "x", "alloy_Fe", "alloy_Ni", "alloy_Co", "gas",
        }  # fmt: skip
        whole = server.get("/v1/campaigns/mirrored/ax/cards", since=0)
        found = {card["key"]: card["analysis"] for card in whole["cards"]}
        for key in ("progress", "scatter-gain-loss", "cross-validation", "observed-gain"):
            assert found[key]["cards"], found[key]["reason"]
        for card in found.values():  # what cannot be made says why
            assert card["cards"] or card["reason"]
        newest = max(card["time"] for card in whole["cards"])
        later = server.get("/v1/campaigns/mirrored/ax/cards", since=newest)
        assert not any("analysis" in card for card in later["cards"])
        page = server.api.get("/c/mirrored/ax").text
        assert "add up to 1" in page
        assert page.count("<tr tabindex") == 12


def _wait(server: Any, seen: Any, seconds: float = 400.0) -> dict[str, Any]:
    ends = time.monotonic() + seconds
    while True:
        told: dict[str, Any] = server.get("/v1/campaigns/mirrored/ax/cards")
        if seen(told):
            return told
        assert time.monotonic() < ends, {k: told[k] for k in ("state", "stale", "error")}
        time.sleep(0.5)


class _Deadly:
    """Cards of which one ends its process, and one never comes."""

    def make(self, wanted: Any) -> dict[str, Any]:
        if wanted.key == "dies":
            os._exit(3)
        if wanted.key == "hangs":
            time.sleep(60)
        return {"key": wanted.key, "group": "", "title": "", "cards": [], "reason": "none"}


def test_an_analysis_that_dies_or_hangs_is_left_out(monkeypatch):
    from campaigns import ax_cards

    wanted = [
        ax_cards.Wanted(key, "g", key, lambda: None) for key in ("a", "dies", "b", "hangs", "c")
    ]
    cards = _Deadly()
    cards.experiment = None  # type: ignore[attr-defined]
    monkeypatch.setattr(ax_cards, "plan", lambda _: wanted)
    found = list(ax_mirror.analyses(cards, wanted, patience=1.5))
    assert [one["key"] for one in found] == ["a", "dies", "b", "hangs", "c"]
    assert found[1]["reason"] == "its process died (status 3)"
    assert "it took longer" in found[3]["reason"]
    assert found[4]["reason"] == "none"


def test_it_is_time_after_results_and_in_quiet(handmade, monkeypatch):
    """By a clock of the test's, and without the process."""
    made = handmade(SPEC)
    begun: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr(ax_mirrors.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ax_mirrors, "_known", {})

    def at_once(campaign: Any) -> None:
        begun.append(clock[0])
        with campaign.store.read() as session:
            ax_mirrors._of(campaign).mark = ax_mirrors.mark(session, campaign._row.id)

    monkeypatch.setattr(ax_mirrors, "begin", at_once)

    def add(count: int) -> None:
        for _ in range(count):
            made.add({"x": 0.5, "alloy": {"Fe": 1.0}, "gas": "air"}, {"gain": 1.0, "loss": 2.0})

    def pass_time(seconds: int, rev: int) -> None:
        for _ in range(seconds):
            clock[0] += 1
            ax_mirrors.tend(made.campaign, rev)

    pass_time(60, 1)
    assert not begun  # nothing was measured yet
    add(2)
    pass_time(15, 2)
    assert not begun  # more may come at once
    add(4)
    pass_time(15, 3)
    assert len(begun) == 1  # six are news enough
    add(1)
    pass_time(19, 4)
    assert len(begun) == 1
    pass_time(10, 4)
    assert len(begun) == 2  # it is quiet
