"""Canonical descriptions of crystals: the same for any choice of cell, and reversible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from generators.crystals.dataset import read_table
from generators.crystals.wyckoff import UndescribableError, WyckoffCrystal, describe

MATCHER = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)


def crystals() -> dict[str, Structure]:
    build = Structure.from_spacegroup
    return {
        "rocksalt": build("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "zincblende": build("F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25] * 3]),
        "perovskite": build(
            "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]
        ),
        "rutile": build(
            "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
        ),
        "wurtzite": build(
            "P6_3mc", Lattice.hexagonal(3.11, 4.98), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
        ),
        "corundum": build(
            "R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]
        ),
        "quartz": build(
            "P3_121", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.47, 0, 1 / 3], [0.413, 0.267, 0.214]]
        ),
        "monoclinic": build(
            "P2_1/c", Lattice.monoclinic(5.15, 5.21, 5.32, 99.2), ["Zr", "O", "O"],
            [[0.275, 0.04, 0.208], [0.07, 0.332, 0.345], [0.45, 0.757, 0.479]],
        ),
        "orthorhombic": build(
            "Pnma", Lattice.orthorhombic(5.4, 7.6, 5.3), ["Ca", "Ti", "O", "O"],
            [[0.03, 0.25, 0.99], [0, 0, 0.5], [0.48, 0.25, 0.07], [0.29, 0.04, 0.71]],
        ),
        "polar monoclinic": build(
            "Cm", Lattice.monoclinic(9.1, 5.2, 6.3, 104.0), ["K", "Cl", "O"],
            [[0.0, 0, 0.0], [0.31, 0, 0.42], [0.17, 0.23, 0.71]],
        ),
        "triclinic": Structure(
            Lattice.from_parameters(4.1, 5.3, 6.2, 81, 97, 103), ["Na", "Cl", "O", "S"],
            [[0.01, 0.02, 0.03], [0.41, 0.33, 0.52], [0.77, 0.61, 0.18], [0.22, 0.85, 0.70]],
        ),
    }


def other_view(structure: Structure, seed: int) -> Structure:
    """The same crystal in another cell, origin, orientation and order of atoms."""
    rng = np.random.default_rng(seed)
    while True:
        axes = rng.integers(-1, 2, (3, 3))
        volume = abs(round(np.linalg.det(axes)))
        if volume in (1, 2):
            break
    moved = structure.copy()
    moved.make_supercell(axes)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if np.linalg.det(rotation) < 0:
        rotation = -rotation
    order = rng.permutation(len(moved))
    return Structure(
        Lattice(moved.lattice.matrix @ rotation),
        [moved[int(i)].specie for i in order],
        (moved.frac_coords + rng.random(3))[order],
        to_unit_cell=True,
    )


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
