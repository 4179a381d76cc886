"""The generator of perovskites alone, and the rules by which crystals are decoded."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Composition, Lattice, Structure

from generators import WEIGHTS, Generator, load_generator
from generators.crystals.balance import TABLES, balanced
from generators.crystals.choosing import choose
from generators.crystals.dataset import is_held_out, read_table
from generators.crystals.generator import CrystalGenerator, is_valid
from generators.crystals.geometry import contacts, place
from generators.crystals.grounding import ground
from generators.crystals.metrics import evaluate_reconstruction
from generators.crystals.metrics.validity import composition_validity
from generators.crystals.tokens import NO_POSITION, tokenize, untokenize
from generators.crystals.training import mutate
from generators.crystals.wyckoff import describe
from tests.generators.crystals import crystals
from tests.generators.generator_test_case import GeneratorTestCase


def _perovskite(a: str, b: str, x: str, edge: float) -> Structure:
    sites = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(edge), [a, b, x, x, x], sites)


@pytest.fixture(scope="module")
def shipped() -> CrystalGenerator:
    generator = load_generator("perovskites")
    assert isinstance(generator, CrystalGenerator)
    return generator


class TestPerovskites(GeneratorTestCase):
    @pytest.fixture
    def generator(self, shipped: Generator) -> Generator:
        return shipped

    @pytest.fixture
    def designs(self) -> Sequence[Structure]:
        kinds = [("Ca", "Ti", "O", 3.9), ("La", "Al", "O", 3.8), ("K", "Nb", "O", 4.05)]
        return [_perovskite(*kind) for kind in kinds]

    @pytest.fixture
    def foreign(self) -> Structure:
        return crystals()["corundum"]  # ten atoms


def test_weights_are_small_and_the_latent_space_is_too(shipped: CrystalGenerator) -> None:
    assert (WEIGHTS / "perovskites.safetensors").stat().st_size < 20e6
    assert shipped.dim <= 32


def test_what_is_drawn_is_valid_and_balanced(shipped: CrystalGenerator) -> None:
    drawn = shipped.decode(shipped.prior(100, seed=1))
    found = [s for s in drawn if s is not None]
    assert len(found) >= 99
    assert all(is_valid(s) and len(s) <= 5 for s in found)
    formulas = [s.composition.reduced_formula for s in found]
    assert np.mean(list(composition_validity(formulas).values())) >= 0.95


def test_held_out_perovskites_come_back(shipped: CrystalGenerator, shared_data: Path) -> None:
    share = shipped.card["recipe"]["held_out"]
    table = read_table(shared_data / "crystals" / "perov5" / "val.csv.gz")
    rows = (s for s, _ in table if is_held_out(s.composition.reduced_formula, share))
    held = [s for s, _ in zip(rows, range(40), strict=False)]
    assert evaluate_reconstruction(shipped, held, workers=1)["match_rate"] >= 0.97


@pytest.mark.parametrize("table", TABLES)
def test_balance_is_smacts(table: str) -> None:
    formulas = [
        "NaCl",
        "NaCl2",
        "Fe3O4",
        "LiFePO4",
        "MgAl",
        "C",
        "Ti2O3",
        "CaTiO3",
        "ClNa3O7",
        "XeF2",
    ]
    theirs = composition_validity(formulas, table)
    for formula in formulas:
        amounts = {e.Z: int(n) for e, n in Composition(formula).items()}
        assert balanced(amounts, table) == theirs[formula], formula


def test_crystals_are_placed_as_one_by_one() -> None:
    volumes = np.full(101, 15.0)
    tokens = tokenize([describe(s) for s in crystals().values()], volumes)
    placed = place(tokens, volumes)
    closest, _ = contacts(placed)
    for i in range(len(tokens)):
        crystal = untokenize(tokens, i, volumes)
        assert crystal is not None
        one, other = crystal.structure(), placed.structure(i)
        assert np.allclose(one.lattice.matrix, other.lattice.matrix, atol=1e-5)
        away = one.frac_coords - other.frac_coords
        assert np.allclose(away - np.round(away), 0, atol=1e-6)
        _, _, _, distances = one.get_neighbor_list(3.0)
        assert closest[i] > 2.9 or closest[i] == pytest.approx(distances.min(), abs=1e-4)


def test_beams_find_likelier_crystals(shipped: CrystalGenerator) -> None:
    z = shipped.prior(20, seed=5).float()
    network, elements = shipped.network, shipped.card["elements"]
    few, many = network.drafts(z, 5, elements, 1), network.drafts(z, 5, elements, 6)
    best = torch.full((20,), -torch.inf).scatter_reduce(0, many.owner, many.score, "amax")
    assert best[few.owner].mean() >= few.score.mean() - 1e-3
    again = network.drafts(z, 5, elements, 6)
    assert torch.equal(again.tokens.element, many.tokens.element)
    chosen = choose(network, z, 5, elements, shipped.volumes)
    assert len(chosen) == 20


def test_mutated_crystals_can_be_written() -> None:
    tokens = tokenize([describe(s) for s in crystals().values()] * 10, np.full(101, 15.0))
    new, changed = mutate(tokens.trimmed(), 1.0, torch.Generator().manual_seed(0))
    assert changed.any()
    position = new.position
    assert (position.diff(dim=1) >= 0).all()  # ascending, as the decoder writes them
    assert ((position != NO_POSITION) == (new.element > 0)).all()
    assert ((new.free >= 0) & (new.free < 1)).all()


def test_grounded_heads_foretell_what_vectors_decode_to(shipped: CrystalGenerator) -> None:
    def wanted(crystal: Structure) -> list[float]:
        return [2 * (crystal.composition.average_electroneg - 2.2), crystal.volume / 40 - 1.5]

    network = copy.deepcopy(shipped.network)
    known = [s for s in shipped.decode(shipped.prior(250, seed=3)) if s is not None]
    tokens = tokenize([shipped.crystal(s) for s in known], shipped.volumes)
    targets = torch.tensor([wanted(s) for s in known], dtype=torch.float32)
    targets[::5, 1] = torch.nan  # not everything was measured
    z = 1.5 * torch.randn(150, shipped.dim, generator=torch.Generator().manual_seed(5))
    decoded = shipped.decode(z.double())
    at = [i for i, s in enumerate(decoded) if s is not None]
    truth = torch.tensor([wanted(decoded[i]) for i in at])

    def miss() -> torch.Tensor:
        with torch.no_grad():
            return (network.predict(z[at]) - truth).abs().median(0).values

    untaught = miss()
    z_known = shipped.embed(known).float()
    optimizer = torch.optim.Adam(network.property_out.parameters(), 1e-2)
    for _ in range(300):  # heads that know encoded crystals, and nothing else
        error = network.predict(z_known) - targets.nan_to_num()
        error = torch.where(torch.isnan(targets), 0, error)
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
    before = miss()
    plan, source = {"rounds": 2, "draws": 150, "steps": 300}, torch.Generator().manual_seed(0)
    elements = shipped.card["elements"]
    ground(network, tokens, targets, shipped.volumes, shipped.max_atoms, elements, plan, source)
    assert (miss() < 0.8 * before).all()
    assert (miss() < 0.4 * untaught).all()
    other = dict(shipped.network.named_parameters())
    for name, value in network.named_parameters():
        if not name.startswith("property_out"):
            assert torch.equal(value, other[name])
