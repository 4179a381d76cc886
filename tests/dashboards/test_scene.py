"""What a viewer without symmetry is given, and what else pages work out by themselves."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from pymatgen.core import Lattice, Structure

from campaigns.elements import SYMBOLS
from dashboards.scene import scene
from dashboards.web import periodic, shown
from tests.dashboards.page_campaigns import perovskite


def test_a_perovskite_has_its_octahedra_and_no_atom_twice():
    crystal = perovskite("Sr", "Ti", "O", 3.905)
    one, many = scene(crystal), scene(crystal, times=(2, 2, 2))
    assert one["group"] == {"symbol": "Pm-3m", "number": 221}
    assert one["sites"] == 5
    assert many["sites"] == 40
    assert len({tuple(atom) for atom in many["atoms"]}) == len(many["atoms"])
    # six oxygens around titanium, twelve edges, eight faces; strontium is too far from any
    assert [len(p["corners"]) for p in one["polyhedra"]] == [6]
    assert [len(p["edges"]) for p in one["polyhedra"]] == [12]
    assert len(many["polyhedra"]) == 8
    bonded = Counter(i for bond in one["bonds"] for i in bond)
    titanium = next(
        i for i, (kind, *_) in enumerate(one["atoms"]) if one["kinds"][kind]["element"] == "Ti"
    )
    assert bonded[titanium] == 6
    assert not any(one["kinds"][one["atoms"][i][0]]["element"] == "Sr" for i in bonded)


def test_a_metal_has_no_polyhedra_and_a_huge_box_is_refused():
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]])
    drawn = scene(copper)
    assert (drawn["sites"], drawn["polyhedra"]) == (4, [])
    assert len(drawn["atoms"]) == 14  # corners and faces on every side
    with pytest.raises(ValueError, match="at most are drawn"):
        scene(copper, times=(20, 20, 20))


def test_the_periodic_table_has_a_cell_for_each_element():
    places = {symbol: periodic.place(n) for n, symbol in enumerate(SYMBOLS, 1)}
    assert len(set(places.values())) == len(SYMBOLS) == 118
    expected = {"H": (1, 1), "He": (1, 18), "Al": (3, 13), "Zn": (4, 12), "Hf": (6, 4)}
    expected |= {"La": (9, 3), "Lr": (10, 17), "Og": (7, 18)}
    assert {symbol: places[symbol] for symbol in expected} == expected


def test_what_pages_say_of_a_campaign():
    told = {"state": "waiting", "waiting": 2, "held": 3, "question": None}
    assert shown.state(told) == ("waiting", "Waiting for you: 3")
    assert shown.state(told | {"state": "stopped"})[1] == "Stopped"
    silent = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    lost = told | {"engine": {"seen": silent, "says": "proposing 4"}}
    assert shown.state(lost)[0] == "lost"
    assert "it last said: proposing 4" in shown.engine(lost)[1]
    trial = {
        "trial": 1, "design": {"alloy": {"Pb": 0.5, "Fe": 0.5}}, "lost": 0,
        "provenance": {"feasibility": 0.2}, "prediction": {"k": {"mean": 10.0, "sd": 3.0}},
        "observations": {"k": {"mean": 25.0, "sem": 4.0}},
    }  # fmt: skip
    assert shown.surprise(trial, "k") == pytest.approx(3.0)
    assert shown.cautions(trial, [trial, trial | {"trial": 0}]) == [
        "toxic: Pb",
        "may fail: 20\N{NO-BREAK SPACE}% chance to succeed",
        "the same design as trial 0",
    ]  # fmt: skip
