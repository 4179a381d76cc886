"""Canonical descriptions of crystals: the same for any choice of cell, and reversible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from generators import EncodeError, load_generator
from generators.crystals.dataset import read_table
from generators.crystals.wyckoff import UndescribableError, WyckoffCrystal, describe
from tests.generators.crystals import crystals, other_view

MATCHER = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)


def assert_same(a: WyckoffCrystal, b: WyckoffCrystal) -> None:
    assert (a.number, a.positions, a.elements) == (b.number, b.positions, b.elements)
    off = a.free - b.free
    assert np.abs(off - np.round(off)).max(initial=0) < 1e-3
    assert np.allclose(a.lattice, b.lattice, atol=1e-3)


@pytest.mark.parametrize("name", crystals())
def test_round_trip_is_exact(name: str) -> None:
    structure = crystals()[name]
    crystal = describe(structure)
    rms = MATCHER.get_rms_dist(structure, crystal.structure())
    assert rms is not None
    assert rms[0] < 1e-3
    assert_same(crystal, describe(crystal.structure()))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(crystals())), seed=st.integers(0, 2**31))
def test_description_does_not_depend_on_the_view(name: str, seed: int) -> None:
    structure = crystals()[name]
    assert_same(describe(structure), describe(other_view(structure, seed)))


def test_cations_come_first() -> None:
    crystal = describe(crystals()["rocksalt"])
    assert crystal.elements == (12, 8)
    assert describe(crystals()["perovskite"]).atoms == 5


def test_disorder_is_refused() -> None:
    alloy = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(UndescribableError, match="disordered"):
        describe(alloy)


@pytest.mark.parametrize(
    ("elements", "edge", "x", "why"),
    [
        (["Qq", "O"], 4.2, 0.5, "Qq: no element"),
        (["Mg", "O"], np.nan, 0.5, "no finite number"),
        (["Mg", "O"], 4.2, np.inf, "no finite number"),
    ],
)
def test_what_is_no_crystal_is_refused(
    elements: list[str], edge: float, x: float, why: str
) -> None:
    structure = Structure(np.eye(3) * edge, elements, [[0, 0, 0], [x, 0.5, 0.5]])
    with pytest.raises(UndescribableError, match=why):
        describe(structure)
    with pytest.raises(EncodeError, match=why):
        load_generator("perovskites").encode([structure])


@pytest.mark.slow
def test_shared_rows_are_described_and_matched(shared_data: Path) -> None:
    taken = matched = seen = 0
    for folder in ("mp20_binary_ternary", "perov5", "carbon24"):
        table = read_table(shared_data / "crystals" / folder / "val.csv.gz")
        for number, (structure, _) in enumerate(table):
            if number % 40 or len(structure) > 20:
                continue
            seen += 1
            try:
                crystal = describe(structure)
            except UndescribableError:
                continue
            taken += 1
            matched += MATCHER.get_rms_dist(structure, crystal.structure()) is not None
    assert taken >= 0.99 * seen
    assert matched >= 0.995 * taken
