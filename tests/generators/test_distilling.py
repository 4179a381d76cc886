"""A potential's energies of drawn crystals: exact where they can be, and learnt by a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from generators import load_generator
from generators.crystals.predictors import PredictorError, load_predictor
from generators.crystals.predictors.distilling import (
    composition,
    distilled,
    drawn,
    element_energies,
)
from generators.crystals.predictors.known import known_crystal

FORMULAS = ("MgO", "NaCl", "TiN", "AlN", "GaAs", "Cu")


def test_element_energies_are_those_that_make_potential_and_measured_agree() -> None:
    crystals = [known_crystal(f) for f in FORMULAS] * 50
    shares = composition(crystals)
    np.testing.assert_allclose(shares.sum(1), 1.0)
    zero = np.random.default_rng(0).normal(-5.0, 2.0, shares.shape[1])
    measured = np.random.default_rng(1).normal(size=len(crystals))
    potential = measured + shares @ zero
    potential[3] = np.nan  # one that the potential does not know counts for nothing
    found = element_energies(crystals, potential, measured)
    seen = shares.any(0)
    np.testing.assert_allclose(shares[:, seen] @ found[seen], shares @ zero, atol=0.01)
    assert np.isnan(found[~seen]).all()


def test_crystals_are_drawn_as_a_search_meets_them() -> None:
    generator = load_generator("crystals")
    found = drawn(generator, 30, seed=3)
    assert 20 < len(found) <= 30
    again = drawn(generator, 30, seed=3)
    assert [a == b for a, b in zip(found, again, strict=True)] == [True] * len(found)


def test_energies_of_many_are_those_of_the_calculator_one_by_one() -> None:
    pytest.importorskip("sevenn")
    from pymatgen.io.ase import AseAtomsAdaptor

    from generators.crystals.predictors.sevennet import energies, sevennet_calculator

    unknown = Structure(Lattice.cubic(4.0), ["Og"], [[0] * 3])
    crystals = [*(known_crystal(f) for f in FORMULAS), unknown, known_crystal("MgO") * 2]
    found = energies(crystals)
    assert np.isnan(found[6])
    np.testing.assert_allclose(found[7], found[0], atol=1e-4)
    calculator = sevennet_calculator()
    for crystal, energy in zip(crystals[:6], found, strict=False):
        atoms = AseAtomsAdaptor.get_atoms(crystal)
        atoms.calc = calculator
        assert energy == pytest.approx(atoms.get_potential_energy() / len(atoms), abs=1e-4)


def test_a_potential_that_is_absent_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from generators.crystals.predictors import sevennet

    monkeypatch.setattr(sevennet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PredictorError, match="not installed") as caught:
        sevennet.energies([known_crystal("MgO")])
    assert "pip install" in caught.value.hint


def test_weights_that_were_not_tried_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from generators.crystals.predictors import sevennet

    path = tmp_path / "checkpoint.pth"
    path.write_bytes(b"other")
    monkeypatch.setattr(sevennet, "sevennet_file", lambda version: path)
    with pytest.raises(PredictorError, match="others than those"):
        sevennet.sevennet_calculator()


def test_a_few_drawn_crystals_with_energies(shared_data: Path) -> None:
    pytest.importorskip("sevenn")
    from generators.crystals.dataset import read_table

    plan: dict[str, Any] = {
        "generator": "crystals", "draws": 24, "seed": 0, "rows": 40, "highest": 2.0
    }  # fmt: skip
    rows = []
    for row in read_table(shared_data / "crystals" / "mp20_binary_ternary" / "val.csv.gz"):
        rows.append(row)
        if len(rows) == 120:
            break
    measured = np.array([float(columns["formation_energy_per_atom"]) for _, columns in rows])
    crystals, energy, card = distilled(plan, [s for s, _ in rows], measured)
    assert len(crystals) == len(energy) == card["crystals"] > 2
    assert np.isfinite(energy).all()
    assert energy.max() <= 2.0
    assert card["fit_to_rows_mae"] < 0.5


def test_what_comes_apart_is_told_from_what_holds() -> None:
    """A network that learnt from crystals near the hull only holds both to be stable."""
    stretched = [known_crystal(f).apply_strain(0.25) for f in ("MgO", "TiN")]
    whole = [known_crystal(f) for f in ("MgO", "TiN")]
    far, near = (load_predictor("distilled").predict(c)[:, 0] for c in (stretched, whole))
    assert (far > near + 0.5).all()
