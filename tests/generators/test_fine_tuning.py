"""Fine-tuning: what each way learns, that nothing is lost, and that collapse is not shipped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pymatgen.core import Structure

from generators import load_generator
from generators.crystals import prior_training
from generators.crystals.generator import CrystalGenerator
from generators.crystals.predictors import load_predictor
from generators.crystals.prior import FittedPrior
from generators.fine_tuning import (
    METHODS,
    Aim,
    Collapsed,
    Examined,
    FineTuneError,
    Floor,
    Recipe,
    Runtime,
    adapting,
)
from generators.fine_tuning import guard as guards
from generators.fine_tuning.adapter import FittedAdapter, make
from generators.fine_tuning.loop import CHECKPOINT, make_fabric, train
from generators.fine_tuning.process import read_job, run_job, start_job, write_job
from generators.fine_tuning.results import read_results
from generators.fine_tuning.rewards import diversified, rank_weights, replay_buffer, rewards
from generators.fine_tuning.teacher import Teacher
from tests.generators.crystals import crystals

DENSE = (Aim("density", "maximize"),)
NO_FLOOR = Floor(0, 0, 0, 0)


@pytest.fixture(scope="module")
def parent() -> CrystalGenerator:
    generator = load_generator("perovskites")
    assert isinstance(generator, CrystalGenerator)
    return generator


@pytest.fixture(scope="module")
def examined(parent: CrystalGenerator) -> Examined:
    designs = [d for d in parent.sample(40, seed=1) if d is not None]
    density = np.array([float(d.density) for d in designs])
    failed = np.zeros(len(designs), dtype=bool)
    failed[3] = True
    return Examined(designs, {"density": np.where(failed, np.nan, density)}, failed)


@pytest.fixture(autouse=True)
def small_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "HELD_OUT", 20)
    monkeypatch.setattr(guards, "DRAWS", 60)
    monkeypatch.setattr(prior_training, "_FOLLOWING", 10)
    monkeypatch.setattr(adapting, "_DREAMT", 300)
    monkeypatch.setattr(adapting, "_AIMED", 100)
    monkeypatch.setattr(adapting, "_TRIED", 40)


def quick(method: str, **other: object) -> Recipe:
    steps = 300 if method == "adapter" else 3
    asked = {"steps": steps, "replay_rows": 20, "batch": 16, "floor": NO_FLOOR, **other}
    return Recipe(method=method, aims=DENSE, **asked)  # type: ignore[arg-type]


# what designs are worth


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e3, 1e3)), st.floats(1e-4, 1))
def test_rank_weights_fall_with_the_rank(reward: np.ndarray, k: float) -> None:
    weights = rank_weights(reward, k, 2 * len(reward))
    assert weights.sum() == pytest.approx(1)
    better = reward[:, None] > reward[None]
    assert (weights[:, None] > weights[None])[better].all()


def test_rank_weights_are_those_of_the_paper() -> None:
    weights = rank_weights(np.array([0.1, 0.9, 0.9]), 1e-3, 1000)
    assert weights / weights[1] == pytest.approx([1 / 3, 1, 1])  # 1/(1+2) to 1/(1+0)


@given(arrays(np.float64, st.integers(2, 30), elements=st.floats(-1e3, 1e3)), st.booleans())
def test_rewards_are_shares_in_the_order_of_the_values(values: np.ndarray, up: bool) -> None:
    failed = np.zeros(len(values), dtype=bool)
    failed[0] = True
    aim = Aim("y", "maximize" if up else "minimize")
    found = rewards(Examined(list(values), {"y": values}, failed), [aim])
    assert ((found >= 0) & (found <= 1)).all()
    assert found[0] == 0
    order = np.argsort(values[1:] if up else -values[1:], kind="stable")
    assert (np.diff(found[1:][order]) >= -1e-12).all()


def test_of_several_aims_the_least_counts_and_what_is_unknown_stays_unknown() -> None:
    values = {"a": np.array([0.0, 1.0, 2.0]), "b": np.array([5.0, 1.0, np.nan])}
    aims = [Aim("a", "maximize"), Aim("b", "at_least", 4.0)]
    found = rewards(Examined([0, 1, 2], values, np.zeros(3, dtype=bool)), aims)
    assert found[0] == 0
    assert 0 < found[1] < 0.5
    assert np.isnan(found[2])


def test_diversity_filter_of_matinvent() -> None:
    names = ["MgO"] * 7 + ["NaCl"]
    found = diversified(np.ones(8), names)
    assert found == pytest.approx([1, 1, 1, 2 / 3, 1 / 3, 0, 0, 1])
    assert replay_buffer(found, names).tolist() == [7]  # MgO is purged
    assert replay_buffer(np.array([0.5, 0.9, 0.05]), ["a", "a", "b"]).tolist() == [1]


# recipes


@pytest.mark.parametrize(
    "wrong",
    [{"method": "magic"}, {"aims": ()}, {"steps": 0}, {"replay": 1.0}, {"learning_rate": -1.0}],
)
def test_recipes_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(FineTuneError):
        Recipe(**{"aims": DENSE, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_recipes_survive_json(method: str) -> None:
    recipe = Recipe(method=method, aims=(Aim("gap", "target", 1.4),))  # type: ignore[arg-type]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


# learning


@pytest.mark.slow
def test_every_way_makes_a_version_with_a_parent(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in parent.network.state_dict().items()}
    versions = {parent.version}
    for method in METHODS:
        out = tmp_path / f"{method}.safetensors"
        new = parent.fine_tune(examined, quick(method), out, Runtime(device="cpu"))
        assert new.parent == parent.version
        assert new.name == parent.name
        told = new.card["fine_tuning"]
        assert told["learned_from"]["designs"] == len(examined)
        assert told["learned_from"]["failed"] == 1
        assert (
            set(told["before"])
            == set(told["after"])
            == {"reconstruction", "valid", "unique", "new"}
        )
        assert load_generator(out).version == new.version
        versions.add(new.version)
    assert len(versions) == 5
    assert all(torch.equal(v, before[k]) for k, v in parent.network.state_dict().items())
    with pytest.raises(FineTuneError, match="never changes"):
        parent.fine_tune(examined, quick("full"), tmp_path / "full.safetensors")
    assert not list(tmp_path.glob(".*"))


def test_adapter_moves_the_prior_and_can_be_asked(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    new = parent.fine_tune(examined, quick("adapter", batch=64), tmp_path / "a.safetensors")

    def density(designs: list[Structure | None]) -> float:
        return float(np.mean([d.density for d in designs if d is not None]))

    usual = density(parent.sample(60, seed=7))
    assert density(new.sample(60, seed=7)) > usual + 1
    assert density(new.sample(60, seed=7, conditions={"properties": {"density": 3.0}})) < usual
    with pytest.raises(ValueError, match="no conditions called"):
        new.sample(1, conditions={"hardness": 1.0})
    # what is a design's latent vector decodes to the design, as with the parent
    known = [crystals()["perovskite"], *examined.designs[:2]]
    for a, b in zip(
        parent.decode(parent.encode(known)), new.decode(new.encode(known)), strict=True
    ):
        assert a is not None
        assert b is not None
        assert new.same(a, b)
    assert new.feature_names == parent.feature_names
    assert torch.allclose(new.features(known), parent.features(known), atol=1e-3)
    assert set(new.predict(known)) == {*parent.predict(known), "density"}


def test_an_adapter_begins_as_the_base_and_asked_for_nothing_stays_it(
    parent: CrystalGenerator,
) -> None:
    prior = parent.learnt_prior
    assert prior is not None
    torch.manual_seed(0)
    module = make(parent.card, ["a", "b"])
    adapter = FittedAdapter(
        module, ("a", "b"), np.zeros(2), np.ones(2), {"a": 1.0, "b": -2.0}, guidance=3.0
    )
    led = replace(prior, adapter=adapter)

    def drawn(prior: FittedPrior, **asked: float) -> torch.Tensor:
        return prior.draw(20, torch.Generator().manual_seed(1), aim=asked or None)

    base = drawn(prior)
    assert torch.allclose(drawn(led), base, atol=1e-4)
    for mixin in (*module.mixins, module.choose):
        torch.nn.init.normal_(mixin.weight, std=0.2)  # type: ignore[arg-type]
    assert not torch.allclose(drawn(led), base, atol=0.1)
    assert not torch.allclose(drawn(led, a=1.0), drawn(led), atol=0.1)
    nothing = replace(prior, adapter=adapter.aimed({}, 3.0))
    assert torch.allclose(drawn(nothing), base, atol=1e-4)


def test_without_a_learnt_prior_there_is_nothing_for_an_adapter_to_lead(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    bare = CrystalGenerator(parent.network, parent.card, parent.version)
    with pytest.raises(FineTuneError, match="fit-prior makes one"):
        bare.fine_tune(examined, quick("adapter"), tmp_path / "no.safetensors")


def test_collapse_is_not_shipped(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    one = examined.designs[0]
    same = Examined([one] * 8, {"density": np.full(8, float(one.density))}, np.zeros(8, dtype=bool))
    harsh = quick("full", steps=25, learning_rate=5e-3, replay=0.0, floor=Floor())
    with pytest.raises(Collapsed, match="below its floor") as caught:
        parent.fine_tune(same, harsh, tmp_path / "one.safetensors")
    assert caught.value.after["unique"] < 0.5 * caught.value.before["unique"] or (
        caught.value.after["reconstruction"] < 0.7 * caught.value.before["reconstruction"]
    )
    assert not list(tmp_path.iterdir())


def test_a_version_that_writes_what_is_known_is_not_shipped(parent: CrystalGenerator) -> None:
    held, _ = guards.begin(parent, [])
    assert held["first"]["new"] == 1
    some = parent.decode(parent.prior(guards.DRAWS, guards._SEED + 1), guards._SEED)
    drawn = [s for s in some if s is not None]
    after = guards.figures(parent, held, drawn)
    assert after["new"] == 0
    with pytest.raises(Collapsed, match="not examined yet: 0 %, the floor is 20 %"):
        guards.check(held["first"], held["first"], after, Floor())
    # a card of before this was looked at
    older = {k: v for k, v in held["first"].items() if k != "new"}
    guards.check(older, older, {**after, "new": 0.5}, Floor())


def test_too_little_to_learn_from_is_said(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    huge = Structure(crystals()["rocksalt"].lattice, ["Mg"], [[0, 0, 0]])
    huge.replace(0, "Og")
    few = Examined(
        [*examined.designs[:2], huge], {"density": np.array([1.0, np.nan, 2.0])}, np.zeros(3, bool)
    )
    with pytest.raises(FineTuneError, match=r"too few.*not measured"):
        parent.fine_tune(few, quick("weighting"), tmp_path / "no.safetensors")


def test_results_that_tell_nothing_lead_nowhere(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).normal(size=len(examined))
    blind = Examined(examined.designs, {"density": noise}, examined.failed)
    with pytest.raises(FineTuneError, match="tell nothing yet"):
        parent.fine_tune(blind, quick("adapter"), tmp_path / "no.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_is_foretold_goes_before_what_a_teacher_learns() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 20)), rng.normal(size=60)
    foretold = -1000 * y + rng.normal(size=60)  # another unit, and the other way round
    told = Teacher(x[:16], y[:16], 20, 0, foretold[:16])
    assert told.r2() > 0.8
    mean, deviation = told(x[16:], foretold[16:])
    assert np.corrcoef(mean, y[16:])[0, 1] > 0.9
    assert (deviation > 0).all()
    plain, nothing = Teacher(x[:16], y[:16], 20, 0), np.full(60, np.nan)
    for same in (nothing, np.ones(60)):  # neither tells anything
        deaf = Teacher(x[:16], y[:16], 20, 0, same[:16])
        assert deaf.r2() == plain.r2() < 0.5
        np.testing.assert_array_equal(deaf(x[16:], same[16:]), plain(x[16:]))


def test_a_predictor_that_does_not_suit_is_told(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    with pytest.raises(FineTuneError, match="do not foretell what perovskites does"):
        parent.fine_tune(examined, quick("adapter", predicted=True), tmp_path / "no.safetensors")


@pytest.mark.slow
def test_a_predictor_teaches_of_crystals(tmp_path: Path) -> None:
    generator = load_generator("crystals")
    assert isinstance(generator, CrystalGenerator)
    designs = [d for d in generator.sample(12, seed=1) if d is not None]
    stiff = 2 * load_predictor("matgl").predict(designs)[:, 2] - 7
    aims = (Aim("bulk_modulus", "maximize"),)
    recipe = Recipe("adapter", aims, steps=60, batch=64, floor=NO_FLOOR, predicted=True)
    known = Examined(designs, {"bulk_modulus": stiff}, np.zeros(len(designs), dtype=bool))
    new = generator.fine_tune(known, recipe, tmp_path / "stiff.safetensors")
    assert new.card["fine_tuning"]["teacher_r2"]["bulk_modulus"] > 0.8


def test_an_adapted_version_searches_beside_its_aim_too(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    new = parent.fine_tune(examined, quick("adapter", batch=64), tmp_path / "a.safetensors")
    found = new.candidates(40, seed=5)
    assert torch.equal(found[::2], new.prior(40, seed=5)[::2])
    assert torch.equal(found[1::2], parent.prior(40, seed=5)[1::2])
    assert torch.equal(parent.candidates(40, seed=5), parent.prior(40, seed=5))


def test_training_data_that_are_not_there_are_told(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    recipe = quick("weighting", data=str(tmp_path / "nowhere"))
    with pytest.raises(FineTuneError, match="draws of the generator stand for them"):
        parent.fine_tune(examined, recipe, tmp_path / "no.safetensors")


# going on after a kill


class _Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x * self.weight).sum(1) - x[:, 0]).square().mean()


def _draw(source: torch.Generator) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(8, 3, generator=source)}


def test_a_training_that_was_cut_ends_with_the_same_bits(tmp_path: Path) -> None:
    fabric = make_fabric(Runtime(device="cpu"))
    whole, cut = _Line(), _Line()
    train(whole, 20, 1e-2, _draw, fabric, seed=3)

    def stop(step: int, loss: float) -> None:
        if step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cut, 20, 1e-2, _draw, fabric, 3, tmp_path, every=0.0, on_step=stop)
    assert (tmp_path / CHECKPOINT).is_file()
    seen: list[int] = []
    again = _Line()
    train(again, 20, 1e-2, _draw, fabric, 3, tmp_path, on_step=lambda s, _: seen.append(s))
    assert seen[0] == 12  # the eleventh was the last that a checkpoint had
    assert torch.equal(again.weight, whole.weight)


def test_a_broken_checkpoint_is_said_and_begun_anew(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    fabric = make_fabric(Runtime(device="cpu"))
    whole, other = _Line(), _Line()
    train(whole, 5, 1e-2, _draw, fabric, seed=3)
    with pytest.warns(UserWarning, match="is no checkpoint"):
        train(other, 5, 1e-2, _draw, fabric, 3, tmp_path)
    assert torch.equal(other.weight, whole.weight)


def test_devices_that_are_not_there_are_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(FineTuneError, match="1 x cuda cannot be used"):
        make_fabric(Runtime(device="cuda"))


def _job(parent: CrystalGenerator, examined: Examined, recipe: Recipe, folder: Path) -> Path:
    as_data = replace(examined, designs=[parent.to_json(d) for d in examined.designs])
    out = folder.parent / "new.safetensors"
    write_job(folder, "perovskites", parent.version, as_data, recipe, out, Runtime(device="cpu"))
    return folder


def test_child_has_limits_and_tells_why_it_failed(
    parent: CrystalGenerator, examined: Examined, tmp_path: Path
) -> None:
    few = Examined(examined.designs[:1], {"density": np.array([1.0])}, np.zeros(1, dtype=bool))
    result = run_job(_job(parent, few, quick("weighting"), tmp_path / "job"))
    assert result["kind"] == "failed"
    assert "too few" in result["message"]
    folder = _job(parent, examined, quick("weighting"), tmp_path / "job")
    assert "its limit" in run_job(folder, time_limit=0.1)["message"]
    assert "of memory" in run_job(folder, memory_limit=1000)["message"]
    assert read_job(folder) is not None  # what was stopped can be gone on with
    begun = json.loads((folder / "job.json").read_text())
    as_data = Examined(begun["designs"], examined.values, examined.failed)
    start_job(folder, "perovskites", parent.version, as_data, quick("weighting"),
              tmp_path / "new.safetensors", Runtime(device="cpu"))  # fmt: skip
    assert (folder / "log").exists()  # it was not begun anew
    assert not (tmp_path / "new.json").exists()


# a table of results


def test_rows_with_what_is_no_crystal_are_named(tmp_path: Path) -> None:
    salt = crystals()["rocksalt"].to(fmt="cif")
    (tmp_path / "salt.cif").write_text(salt)
    (tmp_path / "made_up.cif").write_text(salt.replace("Mg", "Qq"))
    (tmp_path / "nan.cif").write_text(salt.replace("4.21000000", "nan"))
    (tmp_path / "t.csv").write_text("cif,gap\nsalt.cif,5\nmade_up.cif,1\nnan.cif,2\n")
    table = read_results(tmp_path / "t.csv", ["gap"])
    assert len(table.examined) == 1
    assert table.refused[0] == (3, "Qq: no element")
    assert table.refused[1][0] == 4


def test_tables_are_read_row_by_row(tmp_path: Path) -> None:
    crystals()["rocksalt"].to(str(tmp_path / "salt.cif"))
    text = crystals()["perovskite"].to(fmt="cif").replace('"', '""')
    (tmp_path / "t.csv").write_text(
        "status,crystal_cif,gap (eV)\n"
        "completed,salt.cif,5\n"
        f'completed,"{text}",\n'
        "failed,salt.cif,\n"
        "completed,absent.cif,1\n"
        "completed,../outside.cif,1\n"
        "completed,salt.cif,much\n"
    )
    table = read_results(tmp_path / "t.csv", ["gap"])
    assert [d.composition.reduced_formula for d in table.examined.designs][:1] == ["MgO"]
    assert table.examined.values["gap"][0] == 5
    assert table.examined.failed.tolist() == [False, False, True]
    assert [row for row, _ in table.refused] == [5, 6, 7]
    assert table.units == {"gap": "eV"}
    for wrong, why in (("hardness", "no column 'hardness'"), ("status", None)):
        if why:
            with pytest.raises(FineTuneError, match=why):
                read_results(tmp_path / "t.csv", [wrong])
    shutil.copy(tmp_path / "t.csv", tmp_path / "t.csv.gz")
    with pytest.raises(FineTuneError, match="no table"):
        read_results(tmp_path / "t.csv.gz", ["gap"])
