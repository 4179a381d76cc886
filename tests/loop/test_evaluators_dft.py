"""The evaluator `dft`: what it is told, what it refuses, how it tries again, and one real run."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure

from loop.evaluators import EvaluationFailed, EvaluatorError, make_evaluator
from loop.evaluators.dft_calculator import NotConverged, PersistentCalculator, kpoint_grid
from loop.evaluators.dft_settings import LOWEST_CUTOFF, PRESETS, Recipe
from loop.evaluators.geometry import only_volume_is_free, symmetrised, to_cif
from loop.evaluators.measuring import Settings, equation_of_state
from loop.evaluators.prototypes import make_crystal

gpaw = pytest.mark.skipif(
    importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed (docs/evaluators.md)"
)


class Stubborn(PersistentCalculator):
    """Copper by EMT, whose field converges only by the means of a later rung."""

    def __init__(self, converges_at: int, rungs: int = 3) -> None:
        super().__init__(rungs)
        self.converges_at = converges_at
        self.overlaps = False

    def run(self, atoms: Atoms, rung: int, properties: Sequence[str]) -> dict[str, Any]:
        if self.overlaps:
            raise np.linalg.LinAlgError("the 3-th leading minor is not positive definite")
        if rung < self.converges_at:
            raise NotConverged(f"means {rung}")
        bare = atoms.copy()
        bare.calc = EMT()
        found: dict[str, Any] = {"energy": bare.get_potential_energy()}
        if "forces" in properties:
            found |= {"forces": bare.get_forces(), "stress": bare.get_stress()}
        return found

    def gap(self, atoms: Atoms, along: str) -> tuple[float, dict[str, Any]]:
        raise NotImplementedError

    def log(self) -> Path | None:
        return None


def test_a_field_that_does_not_converge_is_tried_again() -> None:
    copper = make_crystal("fcc", ["Cu"])
    calculator = Stubborn(1)
    # Begun 10 % too small, so that the cells have to be moved to the minimum.
    copper.scale_lattice(0.75 * 11.57)
    settings = Settings(eos_points=5, eos_strain=0.04)
    relaxed, energy, modulus, details = equation_of_state(calculator, copper, settings)
    assert relaxed.volume == pytest.approx(11.57, rel=0.01)
    assert modulus == pytest.approx(134.0, rel=0.05)
    assert energy == pytest.approx(-0.006, abs=0.01)
    assert details["rounds"] > 1
    assert calculator.rung == 1
    assert calculator.retries == ["attempt 1: means 0"]  # and not for every cell
    with pytest.raises(EvaluationFailed, match=r"not converged: .* 3 times .*means 2"):
        equation_of_state(Stubborn(3), copper, settings)
    overlapping = Stubborn(0)
    overlapping.overlaps = True
    with pytest.raises(EvaluationFailed, match="too close") as told:
        equation_of_state(overlapping, copper, settings)
    assert told.value.infeasible


def test_presets_and_what_is_refused() -> None:
    cutoffs = [accuracy.cutoff for accuracy, _ in PRESETS.values()]
    assert min(cutoffs) >= LOWEST_CUTOFF  # cells change
    assert cutoffs == sorted(cutoffs)
    recipe = Recipe.of({"preset": "fast", "cutoff": 650, "eos_points": 9, "prerelax": "none"})
    assert (recipe.accuracy.cutoff, recipe.settings.eos_points, recipe.prerelax) == (650, 9, None)
    fast = PRESETS["fast"][0]
    assert fast.digest(code="gpaw") != recipe.accuracy.digest(code="gpaw")
    for config, said in (
        ({"code": "vasp"}, "no code 'vasp'"),
        ({"preset": "quick"}, "no preset 'quick'"),
        ({"cutoff": 50}, "cutoff is 50"),
        ({"smearing": "wide"}, "smearing is 'wide', not a number"),
        ({"spin": "up"}, "spin is 'up'"),
        ({"gap_from": "dos"}, "gap_from is 'dos'"),
        ({"kpoints": 4}, "does not know kpoints"),
        ({"command": ["pw.x"]}, "GPAW takes no command"),
        ({"crystal": {"prototype": "bcc"}}, "a prototype and its elements"),
    ):
        with pytest.raises(EvaluatorError, match=said):
            make_evaluator({"with": "dft", **config})


def test_grids_are_even_and_symmetry_is_exact() -> None:
    salt = make_crystal("rocksalt", ["Mg", "O"])
    assert kpoint_grid(salt, 2.0) == (6, 6, 6)
    assert kpoint_grid(salt, 0.3) == (2, 2, 2)
    slab = Structure(Lattice.orthorhombic(3, 4, 20), ["Mg"], [[0, 0, 0]])
    assert kpoint_grid(slab, 2.0) == (6, 4, 2)
    rng = np.random.default_rng(0)
    shaken = Structure(
        salt.lattice.matrix + 1e-5 * rng.normal(size=(3, 3)),
        salt.species,
        salt.frac_coords + 1e-5 * rng.normal(size=(2, 3)) + 1e-4,
    )
    clean = symmetrised(shaken)
    assert only_volume_is_free(clean, symprec=1e-8)
    assert clean.volume == pytest.approx(shaken.volume, rel=1e-6)


@gpaw
def test_a_real_run() -> None:
    """Silicon, of the size of a test: a lattice, a gap and an element's energy of PBE."""
    from loop.evaluators.gpaw_calculator import elements

    assert len(elements()) >= 80
    assert not elements() & {"Po", "U"}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    evaluator = make_evaluator(
        {
            "with": "dft", "preset": "fast", "cutoff": 300, "kpoint_density": 1.5,
            "prerelax": "none",
        }
    )  # fmt: skip
    crystal = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.45), ["Si"], [[0, 0, 0]])
    wanted = ["bulk_modulus", "volume_per_atom", "band_gap", "energy"]
    found = evaluator.evaluate({"crystal": {"cif": to_cif(crystal)}}, wanted, 0)
    means = {name: m.mean for name, m in found.measurements.items()}
    # PBE: 20.4 angstrom^3/atom, 89 GPa, a gap of 0.6 eV.
    assert means["volume_per_atom"] == pytest.approx(20.4, rel=0.03)
    assert means["bulk_modulus"] == pytest.approx(89.0, rel=0.2)
    assert 0.3 < means["band_gap"] < 1.5
    assert found.provenance["kpoints"] == [4, 4, 4]
    assert found.provenance["band_gap"]["from"] == "grid"
    assert found.provenance["packages"]["gpaw"]
    assert "Fermi" in found.artifacts["gpaw.txt"]
    unknown = Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.4), ["Po"], [[0, 0, 0]])
    with pytest.raises(EvaluationFailed, match="no data set of Po"):
        evaluator.evaluate({"crystal": {"cif": to_cif(unknown)}}, wanted, 0)


PSEUDOPOTENTIALS = Path("/usr/share/espresso/pseudo")  # of Debian's quantum-espresso-data


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("pw.x") is None or not PSEUDOPOTENTIALS.is_dir(),
    reason="QUANTUM ESPRESSO NOT TESTED: apt-get install quantum-espresso quantum-espresso-data",
)
def test_a_real_run_of_quantum_espresso(tmp_path: Path) -> None:
    """Zinc-blende boron nitride: by GPAW 365 GPa and 5.97 angstrom^3/atom."""
    for name in ("B.pbe-n-kjpaw_psl.1.0.0.UPF", "N.pbe-n-kjpaw_psl.1.0.0.UPF"):
        (tmp_path / name).symlink_to(PSEUDOPOTENTIALS / name)
    evaluator = make_evaluator(
        {
            "with": "dft", "code": "espresso", "preset": "fast", "prerelax": "none",
            "pseudopotentials": str(tmp_path),
            "crystal": {"prototype": "zincblende", "elements": ["B", "N"]},
        }
    )  # fmt: skip
    evaluator.check(["bulk_modulus", "volume_per_atom"])
    found = evaluator.evaluate({}, ["bulk_modulus", "volume_per_atom"], 0)
    means = {name: m.mean for name, m in found.measurements.items()}
    assert means["bulk_modulus"] == pytest.approx(365.4, rel=0.03)
    assert means["volume_per_atom"] == pytest.approx(5.972, rel=0.005)
    assert found.provenance["packages"]["pw.x"].startswith("6")
