"""Conditions on what is drawn, parts that stay, and how well a latent vector is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pymatgen.core import Composition, Structure

from campaigns.cli import main
from generators import Generator, load_generator
from generators.crystals.balance import balanced
from generators.crystals.completion import partial_of
from generators.crystals.conditioned import Conditioned
from generators.crystals.conditions import ConditionError, Conditions
from generators.crystals.dataset import Row
from generators.crystals.familiarity import calibrate
from generators.crystals.generator import CrystalGenerator
from generators.crystals.geometry import closeness
from generators.crystals.prior_training import fit_prior
from generators.crystals.tokens import tokenize
from generators.crystals.training import Trained
from generators.crystals.wyckoff import describe
from tests.generators.crystals import crystals
from tests.generators.generator_test_case import GeneratorTestCase

SMALL = {
    "components": 8, "rounds": 5, "width": 64, "layers": 2, "steps": 120, "batch": 64,
    "learning_rate": 3e-3, "copies": 1, "substituted": 0.3, "noise": 0.5, "free": 0.3,
    "fill": ["formation_energy"],
}  # fmt: skip


@pytest.fixture(scope="module")
def known() -> list[Structure]:
    """What the small prior learns: crystals of many kinds, none of them drawn from a file."""
    generator = load_generator("crystals")
    z = torch.randn(70, generator.dim, generator=torch.Generator().manual_seed(5))
    drawn = [s for s in generator.decode(z.double()) if s is not None and len(s) <= 12]
    return [*drawn, *(s for s in crystals().values() if len(s) <= 20)]


@pytest.fixture(scope="module")
def path(known: list[Structure], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network with a small prior of its own."""
    base = load_generator("crystals")
    assert isinstance(base, CrystalGenerator)
    rows = [
        Row("perov5/val.csv.gz", describe(s), {"formation_energy": -1.0 - 0.1 * i}, False, s)
        for i, s in enumerate(known)
    ]
    card = base.card
    recipe = {**card["recipe"], "prior": SMALL}
    mean, scale = np.array(card["property_mean"]), np.array(card["property_scale"])
    trained = Trained(base.network, base.volumes, mean, scale, tuple(card["elements"]), 1.0)
    prior = fit_prior(trained, recipe, rows)
    out = tmp_path_factory.mktemp("prior") / "small.safetensors"
    CrystalGenerator.save(trained, {**card, "recipe": recipe}, out, prior=prior)
    generator = CrystalGenerator.load(out)
    z = generator.latent(tokenize([row.crystal for row in rows], generator.volumes))
    told = {**prior.told, "familiarity": calibrate(generator, z, n=100)}
    CrystalGenerator.save(trained, {**card, "recipe": recipe}, out, prior=replace(prior, told=told))
    return out


@pytest.fixture(scope="module")
def generator(path: Path) -> CrystalGenerator:
    return CrystalGenerator.load(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"colour": "red"}, "no conditions called 'colour'"),
        ({"spacegroup": 225}, "did you mean 'space_group'"),
        ({"chemical_system": "Li-Xx"}, "no element 'Xx'"),
        ({"chemical_system": 5}, "elements are symbols"),
        ({"elements": []}, "no element is named"),
        ({"composition": "Fe2Oq3"}, "no"),
        ({"composition": "Fe1.5O2"}, "not whole numbers"),
        ({"space_group": 231}, "from 1 to 230, not 231"),
        ({"space_group": True}, "whole number"),
        ({"space_group": "Fm-3n"}, "did you mean"),
        ({"crystal_system": "cubik"}, "did you mean 'cubic'"),
        ({"atoms": 0}, "1 or more"),
        ({"atoms": 2.5}, "whole number"),
        ({"properties": {"formation_energy": "low"}}, "is a number"),
        ({"properties": {"formation_energy": float("nan")}}, "is a number"),
        ({"guidance": -1}, "guidance is from 0"),
        ({"temperature": 3}, "temperature is from 0"),
        ({"balanced": 1}, "true or false"),
        ({"steady": "yes"}, "true or false"),
        ({"composition": "NaCl", "chemical_system": "Na-Cl-O"}, "another leaves out: O"),
        ({"composition": "NaCl", "elements": "Na-O"}, "another leaves out: Cl"),
        ({"contains": "Li", "elements": "Na-O"}, "another leaves out: Li"),
        ({"space_group": 225, "crystal_system": "hexagonal"}, "225 is cubic"),
        ({"composition": "Fe2O3", "atoms": 7}, "no multiple of the 5"),
        ({"chemical_system": "Li-Fe-O", "max_atoms": 2}, "2 atoms cannot hold"),
        ({"atoms": 8, "max_atoms": 4}, "more than at most 4"),
    ],
)
def test_conditions_that_mean_nothing_are_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConditionError, match=words):
        Conditions.parse(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"elements": "Lr-O"}, "knows no crystal with Lr"),
        ({"atoms": 40}, "up to 20 atoms"),
        ({"composition": "Mg2Al4Si5O18"}, "up to 20 atoms"),
        ({"properties": {"colour": 1.0}}, "knows no property 'colour'"),
        ({"properties": {"bulk_modulus": -5}}, "above 0"),
        ({"source": "icsd"}, "no source 'icsd'"),
    ],
)
def test_what_a_generator_does_not_know_is_refused(
    generator: CrystalGenerator, data: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConditionError, match=words):
        generator.sample(1, conditions=data)


def test_conditions_are_read_as_people_write_them() -> None:
    read = Conditions.parse(
        {"chemical_system": "O, Fe Li", "space_group": "Fm-3m", "composition": "Li2Fe2O4"}
    )
    assert set(read.chemical_system) == {"Li", "Fe", "O"}
    assert read.space_group == 225
    assert read.composition == "LiFeO2"
    assert Conditions.parse(read.as_dict()) == read


def test_draws_meet_the_conditions(generator: CrystalGenerator) -> None:
    asked = {"chemical_system": "Mg-O", "crystal_system": "cubic", "max_atoms": 8}
    drawn = generator.draw(4, seed=1, conditions=asked)
    assert 0 < len(drawn.designs) <= 4
    for structure in drawn.designs:
        crystal = describe(structure)
        assert {e.symbol for e in structure.composition.elements} == {"Mg", "O"}
        assert crystal.number >= 195
        assert crystal.atoms <= 8
    met = drawn.draws - sum(drawn.misses.values())
    assert met >= len(drawn.designs)
    assert str(met) in drawn.told
    again = generator.draw(4, seed=1, conditions=asked)
    assert [generator.to_json(s) for s in drawn.designs] == [
        generator.to_json(s) for s in again.designs
    ]


def test_charges_balance_unless_others_will_do_too(generator: CrystalGenerator) -> None:
    def share(conditions: dict[str, Any]) -> float:
        drawn = generator.draw(200, seed=3, conditions=conditions).designs
        amounts = [{e.Z: round(n) for e, n in s.composition.items()} for s in drawn]
        return float(np.mean([balanced(a) for a in amounts]))

    assert share({}) == 1.0
    assert 0.8 < share({"balanced": False, "steady": False}) < 1.0
    assert Conditions.parse({"balanced": False}).as_dict()["balanced"] is False
    # what is asked for by its formula is taken as it is
    odd = generator.draw(1, seed=0, conditions={"composition": "Ca4P"})
    assert "without balanced charges" not in odd.misses


def test_draws_come_back_unless_others_will_do_too(generator: CrystalGenerator) -> None:
    assert generator.steady(generator.draw(100, seed=3).designs).all()
    every = generator.draw(200, seed=3, conditions={"steady": False})
    assert 0.2 < generator.steady(every.designs).mean() < 0.8
    assert every.unsteady == 0
    assert "not steady" not in every.misses


def test_where_none_comes_back_the_nearest_are_taken_and_it_is_said(
    generator: CrystalGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CrystalGenerator, "steadiness", -1.0)
    drawn = generator.draw(3, seed=0)
    assert len(drawn.designs) == drawn.unsteady == 3
    assert drawn.misses["not steady"] >= 12
    assert "3 of those returned are not steady" in drawn.told
    away = generator.returns(drawn.designs)
    assert (np.diff(away) >= 0).all()
    every = generator.draw(40, seed=0, conditions={"steady": False}).designs
    # the nearest itself may be among them, and in another batch its figure is rounded otherwise
    others = [s for s in every[:20] if not generator.same(s, drawn.designs[0])]
    assert len(others) >= 15
    assert away[0] <= generator.returns(others).min()


def test_a_composition_is_met_exactly(generator: CrystalGenerator) -> None:
    found = generator.sample(3, seed=0, conditions={"composition": "SrTiO3", "atoms": 5})
    assert any(s is not None for s in found)
    for structure in found:
        if structure is not None:
            assert structure.composition.reduced_composition == Composition("SrTiO3")
            assert describe(structure).atoms == 5


def test_what_cannot_be_met_is_counted_and_not_returned(generator: CrystalGenerator) -> None:
    # no position of this group has fewer atoms than 8 in the primitive cell
    drawn = generator.draw(2, conditions={"space_group": 230, "atoms": 4})
    assert drawn.designs == []
    assert sum(drawn.misses.values()) == drawn.draws >= 40
    assert generator.sample(2, conditions={"space_group": 230, "atoms": 4}) == [None, None]


def test_the_learnt_prior_draws_what_was_learnt(
    generator: CrystalGenerator, known: list[Structure]
) -> None:
    z = generator.latent(tokenize([describe(s) for s in known], generator.volumes))

    def nearest(drawn: torch.Tensor) -> float:
        return float(torch.cdist(drawn, z).min(1).values.median())

    drawn = generator.prior(200, seed=3)
    assert drawn.shape == (200, generator.dim)
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn, generator.prior(200, seed=3))
    noise = torch.randn(200, generator.dim, generator=torch.Generator().manual_seed(3))
    assert nearest(drawn) < nearest(noise.double())


def test_cooler_draws_stray_less(generator: CrystalGenerator) -> None:
    prior = generator.learnt_prior
    assert prior is not None

    def spread(temperature: float) -> float:
        z = prior.draw(200, torch.Generator().manual_seed(5), temperature=temperature)
        return float(prior.surprise(z)[:, 1].mean())

    assert spread(0.3) < spread(0.6) < spread(1.0)


def test_the_prior_belongs_to_the_version(path: Path, generator: CrystalGenerator) -> None:
    base = load_generator("crystals")
    assert generator.version != base.version
    assert generator.learnt_prior is not None
    assert generator.card["prior"]["sources"] == [s["file"] for s in base.card["recipe"]["sources"]]
    assert path.stat().st_size < 20e6


def test_the_a_site_stays_and_the_rest_is_completed(generator: CrystalGenerator) -> None:
    perovskite = crystals()["perovskite"]
    part = partial_of(perovskite, fix=["Sr"], keep_sites=True)
    assert sorted(part.elements) == [0, 0, 38]
    drawn = generator.complete(part, 4, seed=0)
    assert drawn.designs
    kinds = set()
    for structure in drawn.designs:
        assert "Sr" in structure.composition
        assert len(structure) == 5
        kinds.add(structure.composition.reduced_formula)
    assert len(kinds) == len(drawn.designs) > 1


def test_charges_of_the_heaviest_elements_are_not_known() -> None:
    assert balanced({118: 1})
    assert not balanced({118: 1, 8: 1})


def test_what_is_completed_balances_and_has_no_tight_contact(generator: CrystalGenerator) -> None:
    part = partial_of(crystals()["perovskite"], fix=["Sr"])
    drawn = generator.complete(part, 5, seed=1)
    assert drawn.designs
    for structure in drawn.designs:
        assert balanced({e.Z: round(x) for e, x in structure.composition.items()})
        assert closeness(structure, 1.0) > 0.71
    free = generator.complete(part, 5, seed=1, conditions={"balanced": False})
    assert drawn.misses["without balanced charges"] > free.misses["without balanced charges"] == 0


def test_a_fragment_is_completed(generator: CrystalGenerator) -> None:
    part = partial_of(crystals()["perovskite"], fix=["Sr", "Ti"])
    drawn = generator.complete(part, 3, seed=2, conditions={"elements": "Sr-Ti-O-F"})
    assert drawn.designs
    for structure in drawn.designs:
        assert {"Sr", "Ti"} <= {e.symbol for e in structure.composition.elements}
        assert len(structure) > 2
        # where they were: a half of the body's diagonal apart
        strontium, titanium = (
            next(i for i, site in enumerate(structure) if site.specie.symbol == s)
            for s in ("Sr", "Ti")
        )
        off = structure[strontium].frac_coords - structure[titanium].frac_coords
        np.testing.assert_allclose(np.abs(off - np.round(off)), 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("fix", "keep", "conditions", "words"),
    [
        (["Ba"], False, {}, "Ba cannot be fixed"),
        ([], True, {}, "nothing is left"),
        (["Sr"], False, {"space_group": 225}, "of space group 221"),
        (["Sr"], False, {"elements": "Ti-O"}, "the part has Sr"),
        ([], False, {"max_atoms": 5}, "leaves no room"),
    ],
)
def test_parts_that_cannot_be_completed_are_refused(
    generator: CrystalGenerator,
    fix: list[str],
    keep: bool,
    conditions: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(ConditionError, match=words):
        generator.complete(
            partial_of(crystals()["perovskite"], fix, keep), 1, conditions=conditions
        )


def test_familiarity_tells_crystals_from_nowhere(
    generator: CrystalGenerator, known: list[Structure]
) -> None:
    z = generator.encode(known[:60])
    near, far = generator.familiarity(z), generator.familiarity(4.0 * z.flip(0) + 3.0)
    for chances in (near, far):
        assert chances.shape == (60,)
        assert ((chances >= 0) & (chances <= 1)).all()
    assert np.median(near) > np.median(far)
    assert generator.familiarity(z[:0]).shape == (0,)
    assert generator.card["prior"]["familiarity"]["auc"] > 0.5


def test_the_commands(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-n", "2", "--system", "Mg-O", "--atoms", "2", "--json"]
    assert main(["generators", "sample", str(path), *words]) == 0
    told = json.loads(capsys.readouterr().out)["data"]
    assert told["conditions"] == {"chemical_system": "Mg-O", "atoms": 2}
    assert all("2 atoms" in one["name"] for one in told["designs"])
    file = tmp_path / "part.cif"
    crystals()["perovskite"].to(str(file))
    words = ["--fix", "Sr", "--keep-sites", "-n", "2", "--generator", str(path), "--out", "made"]
    assert main(["generators", "complete", str(file), *words]) == 0
    assert "designs meet the conditions" in capsys.readouterr().out
    assert list((tmp_path / "made").glob("*.cif"))
    # the same call writes the same files; another call none over them
    words = ["-n", "2", "--system", "Mg-O", "--out", "drawn"]
    for _ in range(2):
        assert main(["generators", "sample", str(path), *words]) == 0
    before = {f.name: f.read_text() for f in (tmp_path / "drawn").iterdir()}
    assert main(["generators", "sample", str(path), *words, "--atoms", "2"]) == 2
    assert "holds another design" in capsys.readouterr().err
    assert {f.name: f.read_text() for f in (tmp_path / "drawn").iterdir()} == before


def test_one_crystal_is_completed_and_no_folder_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rocksalt", "perovskite"):
        crystals()[name].to(str(tmp_path / f"{name}.cif"))
    assert main(["generators", "complete", str(tmp_path), "-n", "1"]) == 2
    assert "there is more than one crystal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--space-group", "231"], "from 1 to 230"),
        (["--property", "formation_energy"], "no property with a value"),
        (["--conditions", "{"], "no JSON"),
        (["--conditions", '{"atoms": 2}', "--atoms", "3"], "given both"),
    ],
)
def test_the_command_refuses(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generators", "sample", "crystals", *options]) == 2
    assert words in capsys.readouterr().err


class TestConditioned(GeneratorTestCase):
    """The oxides of a shipped generator are a latent space as any other."""

    @pytest.fixture
    def generator(self) -> Generator:
        shipped = load_generator("crystals")
        assert isinstance(shipped, CrystalGenerator)
        return Conditioned(shipped, {"contains": "O", "crystal_system": "cubic"})

    @pytest.fixture
    def designs(self) -> list[Structure]:
        return [crystals()[kind] for kind in ("perovskite", "rocksalt", "rutile")]

    @pytest.fixture
    def foreign(self) -> Structure:
        lattice = crystals()["rocksalt"].lattice
        return Structure(lattice, [{"Na": 0.5}], [[0, 0, 0]])


@pytest.mark.parametrize(
    ("asked", "most"),  # of what is decoded: masks hold all, a guided draw and a check the rest
    [
        ({"chemical_system": "Li-Fe-O"}, 0.4),
        ({"contains": "O", "max_atoms": 6}, 0.7),
        ({"composition": "LiFeO2"}, 1.0),
        ({"elements": "Ti-O-N", "max_atoms": 8}, 1.0),
        ({"elements": "Ti-O-N", "space_group": 225}, 0.7),
    ],
)
def test_whatever_a_conditioned_generator_decodes_is_held_to_the_conditions(
    asked: dict[str, Any], most: float
) -> None:
    shipped = load_generator("crystals")
    assert isinstance(shipped, CrystalGenerator)
    narrowed = Conditioned(shipped, asked)
    assert (narrowed.name, narrowed.version) == (shipped.name, shipped.version)
    rng = np.random.default_rng(0)
    z = narrowed.prior(40, seed=1)
    moved = torch.as_tensor(narrowed.move(z.numpy(), np.full(40, 0.4), rng))
    for vectors in (z, moved):
        found = [s for s in narrowed.decode(vectors) if s is not None]
        met = [why is None for why in narrowed.refusals(found)]
        assert len(found) >= 20
        assert np.mean(met) >= most
    plain = [s for s in shipped.decode(z) if s is not None]
    assert sum(why is None for why in narrowed.refusals(plain)) < len(plain)


def test_a_vector_is_the_same_crystal_whatever_it_is_decoded_beside() -> None:
    shipped = load_generator("crystals")
    assert isinstance(shipped, CrystalGenerator)
    narrowed = Conditioned(shipped, {"composition": "TiO2"})
    z = narrowed.prior(12, seed=2)
    together = narrowed.decode(z)
    sizes = {len(s) for s in together if s is not None}
    assert len(sizes) > 1  # units of the formula, by the vector
    for i in (0, 5, 11):
        (alone,) = narrowed.decode(z[[i]], seed=9)
        one = together[i]
        assert (alone is None) == (one is None)
        assert alone is None or one is None or narrowed.same(alone, one)


def test_a_wish_shifts_what_is_searched() -> None:
    shipped = load_generator("crystals")
    assert isinstance(shipped, CrystalGenerator)

    def gap(wish: float) -> float:
        narrowed = Conditioned(shipped, {"properties": {"band_gap": wish}, "guidance": 2})
        found = [s for s in narrowed.decode(narrowed.candidates(60, seed=3)) if s is not None]
        return float(np.median(shipped.predict(found)["band_gap"]))

    assert gap(4.0) > gap(0.0) + 1.0


def test_a_generator_is_not_conditioned_on_what_it_knows_nothing_of() -> None:
    shipped = load_generator("crystals")
    assert isinstance(shipped, CrystalGenerator)
    for asked, words in (
        ({"properties": {"colour": 1}}, "knows no property 'colour'"),
        ({"atoms": 400}, "asks for 400"),
        ({"steady": True}, "a rule of the screen"),
    ):
        with pytest.raises(ConditionError, match=words):
            Conditioned(shipped, asked)
