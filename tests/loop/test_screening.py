"""What may not be proposed, and why."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from generators.base import Narrowed
from loop import ChoiceAxis, DesignSpace, LatentAxis, ScreenRules
from loop.screening import Seen, check_crystal, check_geometry, screen, screen_in


def rocksalt(cation: str, anion: str, a: float) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


MGO = rocksalt("Mg", "O", 4.21)


@pytest.mark.parametrize(
    ("crystal", "rule"),
    [
        (MGO, None),
        (rocksalt("Mg", "O", 2.0), "volume"),
        (rocksalt("Cs", "I", 4.0), "too close"),
        (rocksalt("Mg", "O", 11.0), "volume"),
        # One atom a cell: only its periodic images can be too close.
        (Structure(Lattice.tetragonal(0.9, 20.0), ["Fe"], [[0, 0, 0]]), "too close"),
    ],
)
def test_geometry(crystal: Structure, rule: str | None) -> None:
    refusal = check_geometry(crystal)
    assert (refusal.rule if refusal else None) == rule


@pytest.mark.parametrize(
    ("rules", "rule"),
    [
        (ScreenRules(), None),
        (ScreenRules(max_atoms=7), "too many atoms"),
        (ScreenRules(exclude=("O",)), "element not allowed"),
        (ScreenRules(include=("Mg", "S")), "element not allowed"),
        (ScreenRules(include=("Mg", "O"), charge_neutral=True, max_atoms=8), None),
    ],
)
def test_rules(rules: ScreenRules, rule: str | None) -> None:
    refusal = check_crystal(MGO, rules)
    assert (refusal.rule if refusal else None) == rule


def test_charge_neutrality() -> None:
    rules = ScreenRules(charge_neutral=True)
    refusal = check_crystal(rocksalt("Mg", "F", 4.4), rules)
    assert refusal is not None
    assert refusal.rule == "not charge-neutral"
    assert refusal.detail == "MgF"
    assert check_crystal(rocksalt("Li", "F", 4.03), rules) is None
    assert check_crystal(rocksalt("Fe", "Al", 5.8), rules) is None  # an alloy


def test_reasons_are_counted() -> None:
    designs: list[Any] = [{"c": MGO}, None, {"c": rocksalt("Pb", "O", 5.0)}, {"c": "not a crystal"}]
    kept, refused = screen(designs, ScreenRules(exclude=("Pb",)))
    assert kept == [0, 3]
    assert refused == {"did not decode": 1, "element not allowed": 1}


def test_seen_before_whatever_the_cell(rocksalt: Any) -> None:
    space = DesignSpace((LatentAxis("c", rocksalt), ChoiceAxis("gas", ("air", "argon"))))
    seen = Seen(space, [{"c": MGO, "gas": "air"}])
    primitive = MGO.get_primitive_structure()
    refusal = seen.check({"c": primitive, "gas": "air"})
    assert refusal is not None
    assert refusal.rule == "seen before"
    assert seen.check({"c": primitive, "gas": "argon"}) is None
    seen.add({"c": primitive, "gas": "argon"})
    assert seen.check({"c": MGO, "gas": "argon"}) is not None


def test_real_crystals_pass_the_geometry(shared_data: Path) -> None:
    path = shared_data / "crystals" / "mp_elasticity" / "elasticity.json.gz"
    rows = json.loads(gzip.decompress(path.read_bytes()))[::10]
    refused = [r["formula"] for r in rows if check_geometry(Structure.from_dict(r["structure"]))]
    assert len(rows) > 300
    assert len(refused) <= 0.003 * len(rows), refused


def test_designs_that_are_not_steady_are_refused(points: Any, monkeypatch: Any) -> None:
    def doubt(designs: Sequence[str]) -> np.ndarray:
        return np.array([d != "odd" for d in designs], dtype=bool)

    monkeypatch.setattr(points, "steady", doubt)
    space = DesignSpace((LatentAxis("word", points), ChoiceAxis("gas", ("air", "argon"))))
    designs: list[Any] = [{"word": "even"}, None, {"word": "odd"}, {"word": "even"}]
    rules = ScreenRules(steady=True)
    assert screen_in(designs, space, rules) == (
        [0, 3],
        {"did not decode": 1, "not steady": 1},
    )
    assert screen_in(designs[:1], space, rules) == ([0], {})
    assert screen_in(designs, space, ScreenRules()) == ([0, 2, 3], {"did not decode": 1})


def test_designs_that_their_generator_is_not_asked_for_are_refused(points: Any) -> None:
    class Even(Narrowed):
        def refusals(self, designs: Sequence[str]) -> list[str | None]:
            return [None if d == "even" else "odd" for d in designs]

    gas = ChoiceAxis("gas", ("air", "argon"))
    space = DesignSpace((gas, LatentAxis("word", Even(points))))
    designs: list[Any] = [{"word": "even"}, None, {"word": "odd"}, {"word": "even"}]
    told = {"did not decode": 1, "odd": 1}
    assert screen_in(designs, space, ScreenRules()) == ([0, 3], told)
    assert screen_in(designs, space, ScreenRules(steady=True)) == ([0, 3], told)
    near_by = DesignSpace((gas, LatentAxis("word", Narrowed(Even(points)))))
    assert screen_in(designs, near_by, ScreenRules()) == ([0, 3], told)
