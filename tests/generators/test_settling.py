"""Moving the atoms of a decoded crystal to where they would rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from generators.crystals.geometry import Placed, place
from generators.crystals.settling import REACH, Settler, fit_settler, settle, surroundings
from generators.crystals.tokens import Tokens, fit_atomic_volumes, tokenize
from generators.crystals.wyckoff import describe
from generators.training import RECIPES, load_recipe
from tests.generators.crystals import crystals

FREE = ("rutile", "quartz", "corundum", "monoclinic", "orthorhombic", "triclinic")


def _tokens(*names: str) -> tuple[Tokens, np.ndarray]:
    found = [describe(crystals()[name]) for name in names or crystals()]
    volumes = fit_atomic_volumes(found)
    return tokenize(found, volumes), volumes


def _settler(seed: int = 0) -> Settler:
    torch.manual_seed(seed)
    return Settler(16).eval()


def test_neighbours_are_pymatgens() -> None:
    placed = place(*_tokens())
    around = surroundings(placed)
    for row, atom in enumerate(around.atom):
        crystal = int(placed.crystal[atom])
        structure = placed.structure(crystal)
        site = structure[int(atom - placed.starts[crystal])]
        near = structure.get_neighbors(site, REACH)
        found = around.apart[around.of == row].norm(dim=1).double().numpy()
        assert np.allclose(np.sort(found), np.sort([n.nn_distance for n in near]), atol=1e-5)
        alike = around.element[around.alike[around.of == row]]
        assert sorted(alike.tolist()) == sorted(n.specie.Z for n in near)


def test_what_is_moved_is_what_other_free_coordinates_give() -> None:
    tokens, volumes = _tokens(*FREE)
    placed = place(tokens, volumes)
    other = place(replace(tokens, free=tokens.free + 0.03 * torch.rand(tokens.free.shape)), volumes)
    step = other.sites - placed.sites
    moved = placed.moved((step - np.round(step))[placed.heads])
    assert np.abs((moved.sites - other.sites + 0.5) % 1 - 0.5).max() < 1e-6


@pytest.mark.parametrize("name", FREE)
def test_symmetry_and_cell_stay(name: str) -> None:
    placed = place(*_tokens(name))
    settled = settle(_settler(), placed)
    assert not np.allclose(settled.sites, placed.sites, atol=1e-4)
    assert np.array_equal(settled.cells, placed.cells)
    assert describe(settled.structure(0)).number == describe(crystals()[name]).number


def test_every_atom_moves_as_the_first_of_its_orbit_does() -> None:
    """Asked about one by one, atoms are pushed where symmetry has them go: nothing is lost by
    asking about one of each orbit."""
    placed = place(*_tokens(*FREE))
    settler = _settler()
    with torch.no_grad():
        first = settler(surroundings(placed)).double().numpy()
        every = replace(placed, heads=np.ones(len(placed.sites), dtype=bool))
        each = settler(surroundings(every)).double().numpy()
    assert np.allclose(each[placed.heads], first, atol=1e-5)
    inverse = np.linalg.inv(placed.cells)
    to_sites = (first[:, None] @ inverse[placed.crystal[placed.heads]])[:, 0]
    step = placed.moved(to_sites).sites - placed.sites
    step = ((step - np.round(step))[:, None] @ placed.cells[placed.crystal])[:, 0]
    assert np.allclose(step, each, atol=1e-4)


def test_what_cannot_move_stays() -> None:
    placed = place(*_tokens("rocksalt", "perovskite"))
    assert not placed.mobile().any()
    assert np.allclose(settle(_settler(), placed).sites, placed.sites)


def test_crystals_do_not_see_each_other() -> None:
    placed = place(*_tokens())
    together = settle(_settler(), placed)
    for i in range(len(placed.cells)):
        alone = settle(_settler(), placed[np.array([i])])
        atoms = slice(placed.starts[i], placed.starts[i + 1])
        assert np.allclose(alone.sites, together.sites[atoms], atol=1e-5)


def test_it_learns_what_brings_atoms_back() -> None:
    tokens, volumes = _tokens("rutile", "quartz", "corundum", "orthorhombic")
    torch.manual_seed(0)
    settler = Settler(16)
    plan = {"steps": 300, "batch": 12, "learning_rate": 5e-3, "noise": 0.3}
    fit_settler(settler, tokens, volumes, plan, torch.Generator().manual_seed(0))
    assert not settler.training
    rest = place(tokens, volumes)
    source = torch.Generator().manual_seed(1)
    free = tokens.free + 0.03 * torch.randn(tokens.free.shape, generator=source)
    away = place(replace(tokens, free=free), volumes)
    assert _apart(settle(settler, away), rest) < 0.5 * _apart(away, rest)


def _apart(a: Placed, b: Placed) -> float:
    step = a.sites - b.sites
    step -= np.round(step)
    return float(np.square(step).mean() ** 0.5)


def test_some_of_the_crystals() -> None:
    placed = place(*_tokens())
    part = placed[np.array([7, 2])]
    for i, whole in enumerate((7, 2)):
        assert part.structure(i) == placed.structure(whole)
    assert part.heads.sum() == placed.heads[np.isin(placed.crystal, (7, 2))].sum()


def test_a_recipe_must_say_how_its_settler_is_trained(tmp_path: Path) -> None:
    recipe = YAML(typ="safe", pure=True).load((RECIPES / "crystals.yaml").read_text())
    del recipe["training"]["settling"]
    path = tmp_path / "mine.yaml"
    YAML(pure=True).dump(recipe, path)
    with pytest.raises(ValueError, match="settling"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({"settler": "wide"}, "settler: wide.*whole number"),
        ({"latent": -3}, "latent: -3"),
        ({"statistics": 1}, "yes or no"),
        ({"depth": 3}, "no `depth`"),
        ("large", "must name sizes"),
    ],
)
def test_a_network_that_cannot_be_is_refused_at_once(
    network: object, told: str, tmp_path: Path
) -> None:
    recipe = YAML(typ="safe", pure=True).load((RECIPES / "crystals.yaml").read_text())
    recipe["network"] = network
    path = tmp_path / "mine.yaml"
    YAML(pure=True).dump(recipe, path)
    with pytest.raises(ValueError, match=told):
        load_recipe(path)
