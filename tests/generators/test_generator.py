"""The shipped generator of crystals."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from generators import WEIGHTS, Generator, generator_names, load_generator
from generators.crystals.dataset import is_held_out, parse_cif, read_table
from generators.crystals.generator import CrystalGenerator, is_valid
from generators.crystals.metrics import evaluate_prior, evaluate_reconstruction, wilson
from generators.crystals.refining import refine
from generators.crystals.substitution import alike, replacements
from generators.crystals.tokens import Tokens, tokenize, untokenize
from generators.crystals.training import substitute
from generators.crystals.wyckoff import describe
from tests.generators.crystals import crystals, other_view
from tests.generators.generator_test_case import GeneratorTestCase


@pytest.fixture(scope="module")
def shipped() -> Generator:
    return load_generator("crystals")


class TestCrystalGenerator(GeneratorTestCase):
    @pytest.fixture
    def generator(self, shipped: Generator) -> Generator:
        return shipped

    @pytest.fixture
    def designs(self) -> Sequence[Structure]:
        return [crystals()[name] for name in ("rocksalt", "perovskite", "wurtzite", "monoclinic")]

    @pytest.fixture
    def foreign(self) -> Structure:
        large = crystals()["rocksalt"].copy()
        large.make_supercell([3, 3, 1])
        rng = np.random.default_rng(0)
        shaken = large.frac_coords + rng.normal(0, 0.01, (len(large), 3))
        return Structure(large.lattice, large.species, shaken)  # no symmetry left, 72 atoms


def test_shipped_weights_are_small_and_in_the_list() -> None:
    assert "crystals" in generator_names()
    assert (WEIGHTS / "crystals.safetensors").stat().st_size < 20e6


@pytest.mark.parametrize(
    "name", ["rocksalt", "perovskite", "corundum", "orthorhombic", "triclinic"]
)
def test_encoding_does_not_depend_on_the_view(shipped: Generator, name: str) -> None:
    structure = crystals()[name]
    views = [other_view(structure, seed) for seed in range(6)]
    z = shipped.encode([structure, *views])
    assert torch.allclose(z, z[:1].expand_as(z), atol=1e-3)


@torch.no_grad()
def test_tables_change_nothing(shipped: Generator) -> None:
    """What is looked up is what would be computed."""
    assert isinstance(shipped, CrystalGenerator)
    network, group = shipped.network, torch.tensor([1, 225, 230])
    position = torch.tensor([[0, 1, 27], [0, 27, 27], [3, 27, 27]])
    sites, elements = network._site(group, position), network._elements()
    with network.tabulated():
        torch.testing.assert_close(network._site(group, position), sites)
        assert torch.equal(network._elements(), elements)


def test_common_crystals_come_back(shipped: Generator) -> None:
    wanted = [crystals()[n] for n in ("rocksalt", "zincblende", "perovskite", "rutile", "wurtzite")]
    decoded = shipped.decode(shipped.encode(wanted))
    matched = [d is not None and shipped.same(w, d) for w, d in zip(wanted, decoded, strict=True)]
    assert sum(matched) >= 4


def test_vectors_of_crystals_that_would_not_come_back_are_moved(shipped: Generator) -> None:
    assert isinstance(shipped, CrystalGenerator)
    tokens, network = shipped._tokens(list(crystals().values())), shipped.network

    @torch.no_grad()
    def against(z: torch.Tensor) -> torch.Tensor:
        """Nats against the crystals' groups, positions and elements."""
        losses = network.losses(tokens, z.float())
        return losses["group"] + losses["site"] + losses["element"]

    first, found = shipped.latent(tokens), refine(network, tokens).double()
    lost = against(first) > 1.0
    assert lost.any()  # a made-up crystal among them is like none that was learnt
    assert (against(found)[lost] < 0.7 * against(first)[lost]).all()
    assert (against(found)[~lost] < 1.0).all()
    assert torch.equal(refine(network, tokens, steps=0).double(), first)
    moved = (found - first).norm(dim=1)
    assert (moved < 0.5 * torch.pdist(first).median()).all()  # nearer than another crystal


def test_sampled_crystals_are_valid(shipped: Generator) -> None:
    assert isinstance(shipped, CrystalGenerator)
    found = evaluate_prior(shipped, 200, seed=5)
    assert found["sample_valid"] >= 0.95
    assert found["draws_valid"] >= 0.85
    assert found["distinct_formulas"] > 0.5


@pytest.mark.slow
def test_held_out_crystals_come_back(shipped: Generator, shared_data: Path) -> None:
    assert isinstance(shipped, CrystalGenerator)
    share = shipped.card["recipe"]["held_out"]
    table = read_table(shared_data / "crystals" / "mp20_binary_ternary" / "val.csv.gz")
    held = [s for s, _ in table if is_held_out(s.composition.reduced_formula, share)][:300]
    found = evaluate_reconstruction(shipped, held)
    assert found["encoded"] == len(held)
    assert found["match_rate"] > 0.8


def test_validity_rule() -> None:
    good = crystals()["rocksalt"]
    assert is_valid(good)
    assert not is_valid(Structure(good.lattice, ["Mg", "O"] * 4, np.full((8, 3), 0.1)))
    assert not is_valid(Structure(Lattice.cubic(0.4), ["Mg"], [[0, 0, 0]]))


def test_weights_that_do_not_match_their_card_are_refused(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(WEIGHTS / f"crystals{suffix}", tmp_path / f"mine{suffix}")
    weights = tmp_path / "mine.safetensors"
    assert load_generator(weights).version == load_generator("crystals").version
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="SHA-256"):
        load_generator(weights)
    (tmp_path / "mine.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"mine\.json"):
        load_generator(weights)
    with pytest.raises(FileNotFoundError, match="shipped are"):
        load_generator("cristals")


def _without(card: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in card.items() if k != key}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda card: "{", "is no model card"),
        (lambda card: [card], "is no model card"),
        (lambda card: _without(card, "weights_sha256"), "lacks weights_sha256"),
        (lambda card: {**card, "recipe": _without(card["recipe"], "max_atoms")},
         "lacks recipe.max_atoms"),
        (lambda card: _without(card, "prior"), "of which the card does not tell"),
        (lambda card: {**card, "properties": card["properties"][:1]}, "do not go together"),
        (lambda card: card | {"recipe": card["recipe"] | {"network": {"depth": 3}}},
         "do not go together"),
        (lambda card: card | {"recipe": card["recipe"] | {
            "network": card["recipe"]["network"] | {"latent": 32}}}, "do not go together"),
    ],
)  # fmt: skip
def test_a_card_of_another_version_is_told_with_its_file(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    weights = tmp_path / "mine.safetensors"
    shutil.copy(WEIGHTS / "perovskites.safetensors", weights)
    changed = change(json.loads((WEIGHTS / "perovskites.json").read_text()))
    text = changed if isinstance(changed, str) else json.dumps(changed)
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(ValueError, match=told) as error:
        load_generator(weights)
    assert str(tmp_path / "mine.") in str(error.value)


def test_weights_that_are_no_safetensors_are_told(tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes((WEIGHTS / "perovskites.safetensors").read_bytes()[:1000])
    card = json.loads((WEIGHTS / "perovskites.json").read_text())
    card["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (tmp_path / "mine.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="do not go together"):
        load_generator(weights)


def test_card_tells_where_the_model_comes_from(shipped: Generator) -> None:
    card = shipped.card
    assert json.loads(json.dumps(card)) == card
    assert len(card["data"]["sha256"]) == 64
    assert card["minutes"] > 0
    assert card["metrics"]["held_out"]["crystals"] > 0
    assert all(source["licence"] for source in card["data"]["sources"])


def test_tokens_round_trip() -> None:
    volumes = np.full(101, 15.0)
    described = [describe(s) for s in crystals().values()]
    tokens = tokenize(described, volumes)
    for i, crystal in enumerate(described):
        again = untokenize(tokens, i, volumes)
        assert again is not None
        assert (again.number, again.positions, again.elements) == (
            crystal.number,
            crystal.positions,
            crystal.elements,
        )
        assert np.allclose(again.lattice, crystal.lattice, atol=1e-3)
        assert np.allclose(again.free, crystal.free, atol=1e-5)


def test_substitution_keeps_the_description_canonical() -> None:
    volumes = np.full(101, 15.0)
    described = [describe(s) for s in crystals().values()]
    tokens = tokenize(described * 20, volumes)
    new, changed = substitute(tokens, 1.0, torch.Generator().manual_seed(0))
    assert changed.any()
    for i in range(0, len(tokens), 7):
        before = untokenize(Tokens(*(getattr(new, f) for f in vars(new))), i, volumes)
        assert before is not None
        after = describe(before.structure())
        assert (after.number, after.positions, after.elements) == (
            before.number,
            before.positions,
            before.elements,
        )


def test_substitutes_are_alike() -> None:
    for table in (alike(), replacements()):
        assert np.allclose(table.sum(1), 1)
        # sodium is replaced by potassium rather than by chlorine
        assert table[11, 19] > table[11, 17]
    # promethium is in no ion of the mined table
    assert (replacements()[61] == alike()[61]).all()
    assert replacements()[14, 32] > alike()[14, 32]  # germanium stands for silicon in oxides


def test_plain_cifs_are_read_as_pymatgen_reads_them(shared_data: Path) -> None:
    table = read_table(shared_data / "crystals" / "mp20_binary_ternary" / "val.csv.gz")
    for _, (structure, _) in zip(range(5), table, strict=False):
        text = structure.to(fmt="cif")
        assert parse_cif(text).composition == structure.composition


def test_wilson_interval() -> None:
    low, high = wilson(50, 100)
    assert low == pytest.approx(0.404, abs=1e-3)
    assert high == pytest.approx(0.596, abs=1e-3)
