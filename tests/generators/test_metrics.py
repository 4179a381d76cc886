"""Metrics of generators of crystals: known answers, and samples that are nobody's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pymatgen.core import Composition, Lattice, Structure

from generators import load_generator
from generators.crystals.metrics import (
    GROUPS,
    Constraint,
    Plan,
    Relaxed,
    Row,
    columns_of,
    evaluate,
    held_out,
    published,
    read_rows,
    wilson,
)
from generators.crystals.metrics.distributions import (
    coverage_figures,
    distance_figures,
    guess_data_set,
)
from generators.crystals.metrics.figures import average, share, wasserstein
from generators.crystals.metrics.fingerprints import (
    MAGPIE,
    OPS,
    composition_fingerprints,
    magpie,
    site_fingerprint,
    structure_fingerprint,
)
from generators.crystals.metrics.novelty import unique_and_novel
from generators.crystals.metrics.optimisation import climb, descend, head_of
from generators.crystals.metrics.stability import rmsd, stability_figures
from generators.crystals.metrics.validity import composition_validity, validity_figures
from generators.crystals.parallel import cached, spread
from tests.generators.crystals import crystals, other_view


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MATLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _rocksalt(a: str, b: str, length: float) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), [a, b], [[0] * 3, [0.5] * 3])


# Numbers and their intervals


def test_intervals_hold_the_value_and_shrink_with_more_data() -> None:
    few, many = share([True] * 8 + [False] * 2), share([True] * 800 + [False] * 200)
    for figure in (few, many):
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < 0.8 < figure.high
    assert many.high - many.low < few.high - few.low  # type: ignore[operator]
    assert share([]).value is None
    values = np.random.default_rng(0).normal(3.0, 1.0, 200)
    mean = average(values, "A")
    assert mean.low < 3.0 < mean.high  # type: ignore[operator]
    assert average([1.0, 2.0, 30.0], "A", median=True).value == 2.0
    assert wasserstein([0.0, 1.0], [2.0, 3.0], "").value == pytest.approx(2.0)
    assert wilson(0, 0) == (0.0, 1.0)


# Fingerprints: values of matminer 0.10.1, which cannot be installed beside pandas 3


def test_site_fingerprint_is_that_of_matminer() -> None:
    octahedral = site_fingerprint(crystals()["rocksalt"], 0)
    tetrahedral = site_fingerprint(crystals()["zincblende"], 0)
    assert octahedral.shape == (OPS,)
    # weight of coordination 6, and how octahedral it is
    assert octahedral[[22, 24]] == pytest.approx([1.0, 1.0], abs=1e-3)
    # of coordination 4, and how tetrahedral
    assert tetrahedral[[12, 14]] == pytest.approx([1.0, 1.0], abs=1e-3)


@pytest.mark.parametrize("name", ["perovskite", "corundum", "rutile"])
def test_structure_fingerprint_does_not_depend_on_the_view(name: str) -> None:
    structure = crystals()[name]
    every = np.mean([site_fingerprint(structure, i) for i in range(len(structure))], axis=0)
    assert structure_fingerprint(structure) == pytest.approx(every, abs=1e-3)
    assert structure_fingerprint(other_view(structure, 1)) == pytest.approx(every, abs=1e-3)


def test_composition_fingerprint_is_magpies() -> None:
    row = magpie(Composition("Fe2O3"))
    assert row.shape == (MAGPIE,)
    # matminer: minimum, maximum, range, mean, mean deviation and mode of the atomic number
    assert row[:6] == pytest.approx([8, 26, 18, 15.2, 8.64, 8])
    # of the covalent radius (pm)
    assert row[36:42] == pytest.approx([66, 132, 66, 92.4, 31.68, 66])
    assert np.isfinite(composition_fingerprints([Composition("NaCl"), Composition("Og")])).all()


# Metrics


def test_validity_counts_what_is_missing_and_what_is_crowded() -> None:
    crowded = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0] * 3, [0.05] * 3])
    figures = validity_figures([crystals()["rocksalt"], crowded, None, None])
    assert figures["structure_valid"].value == 0.25
    assert figures["composition_valid"].value == 0.5
    assert "smact14" in figures["composition_valid"].note
    valid = composition_validity(["NaCl", "NaCl2", "TiAl", "Fe"])
    assert valid == {"NaCl": True, "NaCl2": False, "TiAl": True, "Fe": True}
    for table in ("smact14", "icsd24"):  # smact has no data of oganesson
        assert composition_validity(["NaCl", "OgCl2"], table) == {"NaCl": True, "OgCl2": False}


def test_coverage_of_the_data_by_itself_is_whole_and_by_others_is_none() -> None:
    data = [crystals()[n] for n in ("rocksalt", "zincblende", "perovskite")]
    same = coverage_figures([*data, None], data, "mp20", workers=1)
    assert same["coverage_recall"].value == 1.0
    assert same["coverage_precision"].value == 0.75
    strict = coverage_figures([crystals()["quartz"]], [_rocksalt("Cs", "Pb", 7.0)], "perov5", 1)
    assert strict["coverage_recall"].value == strict["coverage_precision"].value == 0.0


def test_distances_are_nothing_to_oneself() -> None:
    data = list(crystals().values())
    figures = distance_figures(data, data)
    assert {f.value for f in figures.values()} == {0.0}
    apart = distance_figures([_rocksalt("Li", "F", 4.0)], [_rocksalt("Cs", "I", 7.0)])
    assert apart["element_distance"].value == 1.0
    assert apart["element_count_distance"].value == 0.0


def test_unique_and_novel_look_through_the_view() -> None:
    salt, wurtzite = crystals()["rocksalt"], crystals()["wurtzite"]
    samples = [wurtzite, other_view(wurtzite, 2), salt, _rocksalt("Mg", "O", 4.25)]
    unique, novel = unique_and_novel(samples, [other_view(salt, 3)], workers=1)
    assert unique == [True, False, True, False]
    assert novel == [True, True, False, False]


class _Springs:
    """A real, if simple, potential: every rock salt is at rest at 4.2 A; anything else fails."""

    name = "springs:1"

    def relax(self, structure: Structure) -> Relaxed | None:
        if len(structure) != 8:
            return None
        rest = structure.copy()
        rest.scale_lattice(4.2**3)
        return Relaxed(rest, self.energy(rest))

    def energy(self, structure: Structure) -> float:
        per_atom = -2.0 if "F" in structure.symbol_set else -1.0
        return per_atom * len(structure)

    def references(self, symbols: Iterable[str]) -> dict[str, float]:
        return {s: -1.5 for s in symbols if s != "Xe"}


def test_stability_asks_the_hull_of_what_is_known() -> None:
    samples = [
        _rocksalt("Li", "F", 4.2),  # on the hull, and known
        _rocksalt("Na", "F", 4.3),  # on the hull, and new
        _rocksalt("Mg", "O", 4.2),  # 0.5 eV/atom above the elements
        _rocksalt("Xe", "F", 4.2),  # no reference: not stable
        crystals()["quartz"],  # does not come to rest
        None,
    ]
    figures = stability_figures(samples, [_rocksalt("Li", "F", 4.2)], _Springs(), workers=1)
    told = {name: figure.value for name, figure in figures.items()}
    assert told["relaxation_converged"] == pytest.approx(4 / 6)
    assert told["stable"] == told["on_hull"] == pytest.approx(2 / 6)
    assert told["sun"] == pytest.approx(1 / 6)
    assert told["rmsd_median"] == pytest.approx(0.0, abs=1e-6)
    assert "springs" in figures["stable"].note


def test_rmsd_is_in_angstrom_and_bounded() -> None:
    still = crystals()["rutile"]
    moved = still.copy()
    moved.translate_sites([2], [0.1 / 4.59, 0, 0])
    # one of six atoms by 0.1 A, after the best shift of all
    length, same = rmsd(still, moved)
    assert same
    assert length == pytest.approx(0.1 * (1 / 6 - 1 / 36) ** 0.5, abs=0.003)
    length, same = rmsd(still, crystals()["quartz"])
    assert not same
    assert length > 0.5


def test_constraints() -> None:
    bound = Constraint.parse(" density <= 4e0")
    assert bound.met(np.array([3.0, 4.0, 5.0, np.nan])) == [True, True, False, False]
    for wrong in ("density", "density < heavy", "4 > density", "a < 1; b"):
        with pytest.raises(ValueError, match="no constraint"):
            Constraint.parse(wrong)


# Files


def test_rows_that_are_no_crystal_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = crystals()["rocksalt"]
    half = Structure(good.lattice, [{"Mg": 0.5}] * 8, good.frac_coords)
    huge = good.copy()
    huge.make_supercell(4)
    read = (good, half, huge, crystals()["perovskite"])
    rows = [{"structure": s.as_dict(), "energy": i} for i, s in enumerate(read)]
    rows.insert(1, {"structure": {"lattice": "none"}, "energy": 9})
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    found, problems = read_rows(path)
    assert [(r.number, r.columns["energy"]) for r in found] == [(0, 0), (4, 3)]
    assert len(problems) == 3
    assert "row 3" in problems[1]
    assert "partly occupied" in problems[1]
    assert "512 atoms" in problems[2]
    bad = good.copy(), good.copy(), good.copy()
    bad[0].translate_sites([0], [np.nan, 0, 0], to_unit_cell=False)
    bad[1].lattice = Lattice(np.eye(3) * np.nan)
    bad[2].replace_species({"Mg": "Qq"})
    rows = [{"structure": s.as_dict()} for s in (*bad, good)]
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    found, problems = read_rows(path)
    assert [r.number for r in found] == [3]
    assert ["row 1" in problems[0], "row 2" in problems[1], "row 3" in problems[2]] == [True] * 3
    assert "no finite number" in problems[0]
    with pytest.raises(ValueError, match="not a"):
        read_rows(tmp_path / "rows.parquet")


def test_held_out_rows_are_those_of_the_card() -> None:
    card: dict[str, Any] = {
        "recipe": {
            "held_out": 0.5,
            "sources": [{"file": "a/c.csv", "split_by": "row", "properties": {"e": "energy"}}],
        }
    }
    rows = [Row(i, crystals()["rocksalt"], {}) for i in range(40)]
    assert len(held_out(rows, card, Path("other.csv"))) in (0, 40)  # one formula, one fate
    assert 5 < len(held_out(rows, card, Path("x/a/c.csv"))) < 35
    assert columns_of(card, Path("x/a/c.csv")) == {"e": "energy"}


def test_the_cache_is_used_and_a_torn_one_is_not(cache: Path) -> None:
    asked = []

    def volume(structure: Structure) -> Any:
        asked.append(structure)
        return np.array([structure.volume])

    two = [crystals()["rocksalt"], crystals()["rutile"]]
    first = cached("volume", volume, two, 1, workers=1)
    assert cached("volume", volume, two[::-1], 1, workers=1).tolist() == first[::-1].tolist()
    assert len(asked) == 2
    (file,) = (cache / "crystals").glob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert cached("volume", volume, two, 1, workers=1).tolist() == first.tolist()
    assert len(asked) == 4


def _square(x: int) -> int:
    return x * x


def test_work_over_processes_keeps_its_order() -> None:
    assert spread(_square, range(40), workers=2) == [x * x for x in range(40)]


# All together


def test_a_generator_and_nobodys_samples() -> None:
    generator = load_generator("crystals")
    rows = [
        Row(i, s, {"formation_energy_per_atom": str(-i)})
        for i, s in enumerate(crystals()[n] for n in ("rocksalt", "perovskite", "wurtzite"))
    ]
    known = [r.structure for r in rows]
    only = [g for g in GROUPS if g not in ("stability", "optimisation")]
    plan = Plan(generator.sample(12, seed=1), generator, rows, known, "three", only=only)
    found = evaluate(plan)
    assert json.loads(json.dumps(found)) == found
    assert found["data_set"] == "mp20"
    assert not found["unmeasured"]
    assert found["figures"]["match_rate"]["n"] == 3
    assert found["figures"]["match_rate"]["published"][0]["model"] == "FTCP"
    assert "formation_energy < -0.5; of the data" in found["figures"]["efficiency"]["note"]
    alone = evaluate(Plan(list(crystals().values()), only=GROUPS))
    assert set(alone["unmeasured"]) == {
        "reconstruction", "coverage", "distances", "stability", "optimisation",
    }  # fmt: skip
    assert alone["figures"]["structure_valid"]["value"] == 1.0
    plan.only, plan.columns = ["optimisation"], {"formation_energy": "formation_energy_per_atom"}
    few = evaluate(plan)["unmeasured"]["optimisation"]
    assert few.startswith("3 rows of the data have a number in formation_energy_per_atom: a judge")
    wrong = evaluate(Plan(known, constraint=Constraint("beauty", ">", 1), only=["review"]))
    assert "no property 'beauty'" in wrong["unmeasured"]["review"]


def test_both_ways_of_optimising_lower_the_head() -> None:
    generator: Any = load_generator("crystals")
    head = head_of(generator, "formation_energy")
    assert head is not None
    assert head_of(generator, "beauty") is None
    start = generator.encode([crystals()["rocksalt"]])

    class Anything:
        def knows(self, structure: Structure) -> bool:
            return True

    def energy(designs: list[Structure | None]) -> float:
        real = [d for d in designs if d is not None]
        return float(generator.predict(real)["formation_energy"].min())

    before = energy([crystals()["rocksalt"]])
    kept = start.clone()
    for way in (
        climb(generator, start, head, 0, Anything(), rounds=1),  # type: ignore[arg-type]
        descend(generator, start, head, steps=800),
    ):
        assert min(energy(designs) for designs in way if any(designs)) < before
    assert torch.equal(start, kept)


def test_published_figures_name_their_papers() -> None:
    assert {p["model"] for p in published("mp20", "match_rate")} == {"FTCP", "CDVAE"}
    assert all(p["source"] for p in published("mp20", "sun"))
    assert guess_data_set([Structure(Lattice.cubic(3), ["C"], [[0] * 3])]) == "carbon24"
    assert guess_data_set([crystals()["rutile"]]) == "mp20"
