"""Generators that do not learn."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Element, Lattice, Structure
from smact.screening import smact_validity

from generators import Generator, load_generator
from generators.crystals.baselines import operators
from generators.crystals.baselines.base import Baseline
from generators.crystals.baselines.chemistry import Balance, any_ion, charges, substitutes
from generators.crystals.baselines.choices import Choices
from generators.crystals.baselines.genome import Genome
from generators.crystals.baselines.load import load_baseline
from generators.crystals.baselines.recipe import baseline_card, baseline_names, read_recipe
from generators.crystals.baselines.symmetric import GeneticGenerator
from generators.crystals.baselines.templates import PrototypeGenerator, SubstitutionGenerator
from generators.crystals.geometry import closeness
from generators.crystals.wyckoff import describe
from tests.generators.crystals import crystals, other_view
from tests.generators.generator_test_case import GeneratorTestCase

IONS = frozenset((3, 11, 12, 19, 20, 38, 13, 22, 26, 30, 7, 8, 9, 16, 17))
VOLUMES = np.full(101, 15.0)


@cache
def shipped(name: str) -> Baseline:
    return load_baseline(name)


@cache
def sampled(name: str) -> list[Structure]:
    return [s for s in shipped(name).sample(16, seed=1) if s is not None]


@pytest.mark.parametrize("name", baseline_names())
class TestShipped(GeneratorTestCase):
    @pytest.fixture
    def generator(self, name: str) -> Generator:
        return shipped(name)

    @pytest.fixture
    def designs(self, generator: Generator, name: str) -> Sequence[Structure]:
        one_of_each = {s.composition.reduced_formula: s for s in sampled(name)}
        return list(one_of_each.values())[:4]

    @pytest.fixture
    def foreign(self) -> Structure:
        large = crystals()["rocksalt"].copy()
        large.make_supercell([3, 3, 1])
        rng = np.random.default_rng(0)
        shaken = large.frac_coords + rng.normal(0, 0.01, (len(large), 3))
        return Structure(large.lattice, large.species, shaken)  # no symmetry left, 72 atoms

    def test_samples_come_back_from_their_latent_vectors(
        self, generator: Generator, name: str
    ) -> None:
        drawn = sampled(name)
        assert len(drawn) == 16
        decoded = generator.decode(generator.encode(drawn))
        pairs = zip(drawn, decoded, strict=True)
        assert all(d is not None and generator.same(s, d) for s, d in pairs)

    def test_samples_keep_their_distance(self, generator: Generator, name: str) -> None:
        for structure in sampled(name):
            assert closeness(structure, 0.6) >= 0.6 * (1 - 1e-9)
            assert len(structure) <= 20

    def test_it_is_loaded_by_its_name(self, generator: Generator, name: str) -> None:
        assert load_generator(name).version == generator.version
        assert baseline_card(read_recipe(name))["version"] == generator.version


# choices and charges


@settings(max_examples=60)
@given(weights=st.lists(st.floats(0, 10), min_size=1, max_size=30), made=st.integers(0, 29))
def test_a_choice_that_was_written_is_read(weights: list[float], made: int) -> None:
    options = np.array(weights)
    made %= len(weights)
    if not options[made] > 1e-3 * options.sum():
        return
    written = Choices(size=1)
    written.pick(0, options, made)
    assert Choices(written.z).pick(0, options) == made


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    z=st.lists(st.floats(-3, 3), min_size=4, max_size=4),
)
def test_charges_balance_and_come_back(counts: list[int], z: list[float]) -> None:
    balance = Balance([any_ion(IONS)] * len(counts), counts)
    try:
        elements = balance.read(Choices(np.array(z)), 0)
    except ValueError:  # four ions of one sign, say: nothing balances
        return
    assert len(set(elements)) == len(counts)
    written = Choices(size=4)
    balance.write(written, 0, elements)
    assert balance.read(Choices(written.z), 0) == elements


def test_similar_ions_replace_each_other() -> None:
    known = charges(crystals()["rocksalt"].composition)
    assert known == {12: 2, 8: -2}
    first, second = substitutes((12, 8), known, IONS, 0.0)
    weight = {(z, q): w for z, q, w in zip(first.z, first.charge, first.weight, strict=True)}
    assert weight[12, 2] > weight[30, 2] > weight[22, 4]
    assert (9, -1) in zip(second.z, second.charge, strict=True)


# templates


def test_substitution_draws_as_often_as_the_table_says() -> None:
    known = {12: 2, 8: -2}
    balance = Balance(substitutes((12, 8), known, IONS, 0.002), (1, 1), changed=True)
    rng = np.random.default_rng(0)
    drawn = [balance.read(Choices(rng.standard_normal(2)), 0) for _ in range(2000)]
    assert (12, 8) not in drawn
    zinc, titanium = (sum(e[0] == z for e in drawn) for z in (30, 22))
    assert zinc > 5 * titanium


def test_another_parent_file(tmp_path: Path) -> None:
    alloy = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    large = crystals()["corundum"].copy()
    large.make_supercell([3, 3, 2])
    rows = [other_view(crystals()["rocksalt"], 1), crystals()["perovskite"], alloy, large]
    with gzip.open(tmp_path / "mine.csv.gz", "wt", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["id", "cif"])
        for i, structure in enumerate(rows):
            table.writerow([i, structure.to(fmt="cif")])
        table.writerow(["broken", "data_x\n_cell_length_a oops"])
        table.writerow(["empty", ""])
    (tmp_path / "mine.yaml").write_text(
        "kind: substitution\nparents: mine.csv.gz\nexclude: [Cd, Pb]\n"
    )
    generator = load_generator(tmp_path / "mine.yaml")
    assert isinstance(generator, SubstitutionGenerator)
    assert [len(p.structure) for p in generator.parents] == [2, 5]
    reasons = [row.reason for row in generator.refused]
    assert len(reasons) == 4
    assert "disordered" in reasons[0]
    assert "540 atoms" in reasons[1] or "at most 20" in reasons[1]
    assert all("cannot be read" in reason for reason in reasons[2:])
    drawn = [s for s in generator.sample(30, seed=0) if s is not None]
    assert {s.composition.anonymized_formula for s in drawn} == {"AB", "ABC3"}
    assert not {Element("Cd"), Element("Pb")} & {e for s in drawn for e in s.elements}
    assert "MgO" not in {s.composition.reduced_formula for s in drawn}


def test_a_version_is_of_the_contents_and_not_of_the_place(tmp_path: Path) -> None:
    versions = []
    for folder, text in (("a", ""), ("b", ""), ("c", "max_atoms: 4\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.cif").write_text(crystals()["rocksalt"].to(fmt="cif"))
        recipe = tmp_path / f"{folder}.yaml"
        recipe.write_text(f"kind: substitution\nparents: {folder}/{folder}.cif\n{text}")
        versions.append(baseline_card(read_recipe(recipe))["version"])
    assert versions[0] == versions[1] != versions[2]


def test_every_prototype_is_enumerated_once(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(
        "kind: prototypes\nelements: [Na, Mg, O, Cl]\nmax_atoms: 6\ndistinct: 2\n"
    )
    generator = load_generator(tmp_path / "few.yaml")
    assert isinstance(generator, PrototypeGenerator)
    every = list(generator.enumerate())
    pure = {"Na", "Mg", "O2", "Cl2"}
    formulas = {s.composition.reduced_formula for s in every}
    assert {"MgO", "NaCl", "MgCl2", "Na2O"} <= formulas
    for formula in formulas - pure:
        assert smact_validity(formula, oxidation_states_set="icsd24")
    for structure in generator.sample(10, seed=0):
        assert structure is not None
        assert any(generator.same(structure, other) for other in every)


# symmetric crystals


def genome(neutral: bool = False) -> Genome:
    every = frozenset(range(1, 95))
    return Genome(tuple(range(1, 231)), 8, 5, 20, every, neutral, VOLUMES)


@pytest.mark.parametrize("name", crystals())
def test_a_genome_is_read_without_loss(name: str) -> None:
    crystal = describe(crystals()[name])
    again = genome().crystal(genome().vector(crystal))
    assert again is not None
    assert (again.number, again.positions, again.elements) == (
        crystal.number,
        crystal.positions,
        crystal.elements,
    )
    off = again.free - crystal.free
    assert np.abs(off - np.round(off)).max(initial=0) < 2e-4
    assert np.allclose(again.lattice, crystal.lattice, rtol=1e-9)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_random_crystals_balance(seed: int) -> None:
    z = np.random.default_rng(seed).standard_normal(genome().dim)
    crystal = genome(neutral=True).crystal(z)
    if crystal is not None and len(set(crystal.elements)) > 1:
        balance = [any_ion(genome().allowed)] * len(set(crystal.elements))
        counts = dict.fromkeys(crystal.elements, 0)
        for element, n in zip(crystal.elements, crystal.multiplicities, strict=True):
            counts[element] += n
        Balance(balance, list(counts.values())).write(Choices(size=9), 0, list(counts))


def test_random_crystals_have_all_kinds_of_symmetry() -> None:
    z = np.random.default_rng(0).standard_normal((300, genome().dim))
    drawn = [genome(neutral=True).crystal(row) for row in z]
    assert len({c.group.system for c in drawn if c is not None}) == 6


@settings(max_examples=60)
@given(
    names=st.tuples(st.sampled_from(sorted(crystals())), st.sampled_from(sorted(crystals()))),
    seed=st.integers(0, 2**31),
)
def test_children_are_symmetric_crystals(names: tuple[str, str], seed: int) -> None:
    a, b = (describe(crystals()[name]) for name in names)
    rng = np.random.default_rng(seed)
    child = operators.cross(a, b, 20, VOLUMES, rng)
    child = operators.mutate(child, 0.5, range(1, 95), VOLUMES, rng)
    assert child.number == a.number
    assert 0 < child.atoms <= 20
    fixed = [p for p in child.positions if child.group.positions[p].dof == 0]
    assert len(set(fixed)) == len(fixed)
    assert list(child.positions) == sorted(child.positions)
    assert describe(child.structure()).atoms <= child.atoms
    lengths = child.lattice[:3]
    if child.group.system == "cubic":
        assert lengths[0] == lengths[1] == lengths[2]


def test_small_steps_of_the_genetic_algorithm_stay_near() -> None:
    generator = shipped("genetic")
    assert isinstance(generator, GeneticGenerator)
    z = generator.encode([crystals()["perovskite"]] * 40).numpy()
    near = generator.move(z, np.full(40, 0.01), np.random.default_rng(0))
    far = generator.move(z, np.full(40, 0.9), np.random.default_rng(0))
    kept = [
        sum(
            d is not None and generator.same(d, crystals()["perovskite"])
            for d in generator.decode(torch.tensor(codes))
        )
        for codes in (near, far)
    ]
    assert kept[0] > 30 > 15 > kept[1]


# recipes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: magic\n", "its `kind` is one of"),
        ("[1, 2]\n", "its `kind` is one of"),
        ("kind: [\n", "no YAML"),
        ("kind: random\norbit: 3\n", "orbit: Extra inputs"),
        ("kind: random\ngroups: [231]\n", "groups.0"),
        ("kind: random\nexclude: [Xy]\n", "'Xy', which is no element"),
        ("kind: random\nelements: [Og]\n", "leaves no element"),
        ("kind: random\nfeatures: random\n", "random"),
        ("kind: substitution\nparents: nowhere.zip\n", "no file or folder"),
        ("kind: external\nfolder: nowhere\n", "no file or folder"),
        ("kind: external\nfolder: x\ntime_limit: 5\n", "a time with its unit"),
    ],
)
def test_a_wrong_recipe_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_generator(tmp_path / "wrong.yaml")
    assert told in str(caught.value)
