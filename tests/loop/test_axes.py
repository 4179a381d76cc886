"""Axes one by one: ranges that are fixed, choices with descriptors, compositions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from generators.base import EncodeError
from loop import ChoiceAxis, CompositionAxis, Descriptors, DesignSpace, RangeAxis
from loop.axes.descriptors import element_descriptors, read_descriptors

SOLVENTS = Descriptors.of(
    {
        "water": {"polarity": 1.0, "boiling": 100.0, "liquid": 1.0},
        "ethanol": {"polarity": 0.65, "boiling": 78.0, "liquid": 1.0},
        "hexane": {"polarity": 0.0, "boiling": 69.0, "liquid": 1.0},
    }
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# Ranges


@pytest.mark.parametrize(
    "axis", [RangeAxis("t", 0, 10, fixed=2.5), RangeAxis("t", 0, 10, integer=True, fixed=3)]
)
def test_a_fixed_value_is_the_only_one_proposed(axis: RangeAxis) -> None:
    space = DesignSpace((axis, RangeAxis("u", 0, 1)))
    codes = space.prior(20, rng())
    jittered = space.jitter(codes, np.ones(20), rng())
    for moved in (codes, jittered, space.project(rng().random((20, 2)))):
        assert space.allowed(moved).all()
        assert {d["t"] for d in space.decode(moved) if d is not None} == {axis.fixed}
    assert not space.allowed(np.array([[0.9, 0.5]])).any()
    assert space.smooth == ((1, 1),)
    assert axis.size == 1
    assert axis.allowed(axis.codes_at(np.arange(1))).all()
    # What was observed elsewhere still has its own features.
    assert space.features([{"t": 7.0, "u": 0.5}])[0, 0] != space.features_at(codes)[0, 0]


def test_values_outside_inform_and_are_not_proposed() -> None:
    axis = RangeAxis("t", 0, 10)
    assert axis.features([-5.0, 20.0])[:, 0].tolist() == [-0.5, 2.0]
    outside = axis.encode([-5.0, 20.0])
    assert not axis.allowed(outside).any()
    assert axis.project(outside)[:, 0].tolist() == [0.0, 1.0]
    moved = axis.jitter(outside, np.full(2, 0.01), rng())
    assert axis.allowed(moved).all()
    assert moved[0, 0] < 0.1
    assert moved[1, 0] > 0.9


def test_keys_part_what_is_not_the_same() -> None:
    axis = RangeAxis("t", 0, 1)
    values = np.linspace(0, 1, 1000)
    assert len({axis.key(v) for v in values}) == 1000
    assert axis.same(0.5, 0.5 + 1e-9)
    assert not axis.same(0.5, 0.50001)


# Choices


def test_descriptors_come_before_the_values_and_need_a_spread() -> None:
    axis = ChoiceAxis("solvent", ("water", "ethanol", "hexane"), SOLVENTS)
    assert axis.feature_names == (
        "solvent.polarity", "solvent.boiling",
        "solvent=water", "solvent=ethanol", "solvent=hexane",
    )  # fmt: skip
    assert axis.groups == (0, 1, 2, 2, 2)
    X = axis.features(["hexane", "water"])
    assert X.tolist() == [[0, 0, 0, 0, 1], [1, 1, 1, 0, 0]]


def test_a_retired_value_has_features_and_gives_way_to_what_is_like_it() -> None:
    axis = ChoiceAxis("solvent", ("water", "hexane"), SOLVENTS, retired=("ethanol",))
    assert axis.features(["ethanol"]).shape == (1, 5)
    code = axis.encode(["ethanol"])
    assert not axis.allowed(code).any()
    assert axis.decode(axis.project(code), 0) == ["hexane"]  # boils at nearly the same heat
    assert axis.from_json("ethanol") == "ethanol"
    drawn = axis.prior(100, rng())
    assert axis.allowed(axis.jitter(drawn, np.ones(100), rng())).all()
    assert set(axis.decode(drawn, 0)) == {"water", "hexane"}
    assert axis.size == 2


def test_one_value_will_do_where_others_are_retired() -> None:
    axis = ChoiceAxis("gas", ("air",), retired=("argon",))
    assert axis.sample(5, 0) == ["air"] * 5


def test_a_value_without_descriptors_is_named() -> None:
    with pytest.raises(ValueError, match="no descriptors of benzene"):
        ChoiceAxis("solvent", ("water", "benzene"), SOLVENTS)


def test_encoding_thousands_of_choices_is_quick() -> None:
    import time

    axis = ChoiceAxis("n", tuple(range(2000)))
    values = list(range(2000)) * 10
    before = time.perf_counter()
    axis.encode(values)
    assert time.perf_counter() - before < 1.0


# Descriptors


def test_elements_and_the_mean_of_a_formula() -> None:
    found = element_descriptors(["Fe", "Co", "FeCo", "Fe3Co"])
    assert found.names[:2] == ("atomic number", "atomic mass")
    Z = found.numbers(["Fe", "Co", "FeCo", "Fe3Co"])[:, 0]
    assert Z.tolist() == [26, 27, 26.5, 26.25]
    # Neon has no electronegativity: it is left out for all.
    assert "electronegativity" not in element_descriptors(["Ne", "Fe"]).names
    with pytest.raises(ValueError, match="'water' is neither"):
        element_descriptors(["Fe", "water"])


@pytest.mark.parametrize(
    "text",
    [
        "solvent,polarity,boiling\nwater,1,100\nhexane,0,69\n",
        "\ufeffsolvent;polarity;boiling\n\nwater;1;100\nhexane;0;69\n",
        "water,polarity,1\nwater,boiling,100\nhexane,polarity,0\nhexane,boiling,69\n",
        "choice,descriptor,value\nwater,polarity,1\nwater,boiling,100\nhexane,polarity,0\nhexane,boiling,69\n",
        "s,water,polarity,1\ns,water,boiling,100\ns,hexane,polarity,0\ns,hexane,boiling,69\nother,x,y,3\n",
    ],
)
def test_tables_of_descriptors_wide_and_long(tmp_path, text) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text)
    found = read_descriptors(path, "s")
    assert found.names == ("polarity", "boiling")
    assert found.numbers(["hexane", "water"]).tolist() == [[0, 69], [1, 100]]


def test_numbers_are_found_however_they_are_written(tmp_path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("layers,x\n1,0\n2.0,1\n2.5,3\n")
    axis = ChoiceAxis("layers", (1, 2, 2.5), read_descriptors(path, "layers"))
    np.testing.assert_allclose(axis.features([2])[0, 0], 1 / 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("a\n1\n", "wanted a header"),
        ("s,x\nwater,1\nwater,2\n", "line 3: 'water' is there twice"),
        ("s,x,z\nwater,1,2\nhexane,1\n", "line 3: wanted 3 cells"),
        ("s,x\nwater,wet\n", "line 2, column x: 'wet' is not"),
        ("s,x,y\nwater,1,\n", "column y: a number is missing"),
        ("water,x,1\nwater,x,2\n", "line 2: water has x twice"),
        ("water,x,1\nwater,y,2\nhexane,x,2\n", "'hexane' has no descriptor y"),
        ("t,water,x,1\nt,hexane,x,2\n", "no row begins with s"),
    ],
)
def test_tables_of_descriptors_that_are_none(tmp_path, text, told) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        read_descriptors(path, "s")


def test_the_real_long_table_of_descriptors(shared_data) -> None:
    path = shared_data / "campaigns" / "hybrid_perovskites" / "descriptors.csv"
    organic = read_descriptors(path, "organic")
    assert "ethylammonium" in organic
    assert "homo" in organic.names


# Compositions


def alloy(**more) -> CompositionAxis:
    return CompositionAxis("alloy", ("Fe", "Co", "Ni", "Cr"), **more)


def test_the_prior_draws_few_ingredients_as_often_as_many() -> None:
    drawn = alloy(at_most=3, bounds={"Cr": (0, 0.2)}).prior(3000, rng())
    used = Counter((drawn > 0).sum(axis=1).tolist())
    assert sorted(used) == [1, 2, 3]
    assert used[2] == pytest.approx(used[3], rel=0.15)
    assert used[1] == pytest.approx(used[2] / 2, rel=0.2)
    assert drawn[:, 3].max() <= 0.2
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0, atol=1e-9)


def test_an_ingredient_that_must_be_there_always_is() -> None:
    axis = alloy(at_most=2, bounds={"Fe": (0.3, 0.6)})
    drawn = axis.prior(500, rng())
    assert axis.allowed(drawn).all()
    assert ((drawn[:, 0] >= 0.3 - 1e-9) & (drawn[:, 0] <= 0.6 + 1e-9)).all()


def test_sums_that_are_off_by_rounding_are_put_right() -> None:
    axis = alloy(total=100)
    value = axis.from_json({"Fe": 60.1, "Co": 40.1})
    assert sum(value.values()) == pytest.approx(100)
    assert value["Ni"] == 0.0
    with pytest.raises(ValueError, match=r"add up to 98, not to 100"):
        axis.from_json({"Fe": 58, "Co": 40})
    with pytest.raises(EncodeError, match="add up to 1,"):
        axis.encode([{"Fe": 100}, {"Fe": 1}])


def test_the_real_alloys_can_all_be_read(shared_data) -> None:
    import pandas as pd

    table = pd.read_csv(shared_data / "campaigns" / "hea_hardness" / "hea_hardness_155.csv")
    names = ["Al", "Co", "Cr", "Cu", "Fe", "Ni"]
    axis = CompositionAxis("alloy", tuple(names), total=100.0)
    rows = [r for r in table[names].to_dict("records") if abs(sum(r.values()) - 100) <= 0.5]
    assert len(rows) > 100
    X = axis.features(rows)
    np.testing.assert_allclose(X.sum(axis=1), 1.0, atol=1e-9)


@pytest.mark.parametrize(
    "data",
    [
        3,
        {"Fe": 1, "Xx": 0},
        {"Fe": "1"},
        {"Fe": True},
        {"Fe": -0.1, "Co": 1.1},
        {"Fe": float("nan")},
    ],
)
def test_what_is_no_composition(data) -> None:
    with pytest.raises(ValueError, match="alloy"):
        alloy().from_json(data)


def test_descriptors_are_averaged() -> None:
    axis = alloy(descriptors=element_descriptors(["Fe", "Co", "Ni", "Cr"]))
    at = axis.feature_names.index("alloy.mean atomic number")
    X = axis.features([{"Cr": 1.0}, {"Ni": 1.0}, {"Cr": 0.5, "Ni": 0.5}])
    assert X[:, at].tolist() == [0.0, 1.0, 0.5]
    assert axis.smooth == ()
    assert alloy().smooth == ((0, 0), (1, 1), (2, 2), (3, 3))


def test_a_grid_is_counted_and_numbered() -> None:
    axis = alloy(step=0.1)
    assert axis.size == 286  # 13 over 3
    assert alloy(step=0.1, at_most=2).size == 4 + 6 * 9
    codes = axis.codes_at(np.arange(286))
    assert axis.allowed(codes).all()
    assert len({tuple(np.rint(c * 10)) for c in codes}) == 286
    assert axis.decode(codes[:1], 0)[0].keys() == {"Fe", "Co", "Ni", "Cr"}
    values = [v for value in axis.sample(200, 0) for v in value.values()]
    assert all(round(v * 10) / 10 == v for v in values)


def test_jitter_adds_and_loses_ingredients() -> None:
    axis = alloy()
    codes = np.tile([0.5, 0.45, 0.05, 0.0], (400, 1))
    moved = axis.jitter(codes, np.full(400, 0.2), rng())
    used = (moved > 1e-9).sum(axis=1)
    assert (used == 2).any()
    assert (used == 4).any()
    near = axis.jitter(codes, np.full(400, 0.01), rng())
    assert np.abs(near - codes).max() < 0.1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"at_most": 0}, "at_most is 0"),
        ({"at_most": 5}, "at_most is 5"),
        ({"total": 0.0}, "total"),
        ({"bounds": {"Cu": (0, 1)}}, "no ingredient"),
        ({"bounds": {"Cr": (0.5, 0.2)}}, "Cr from 0.5"),
        ({"bounds": {"Cr": (0.0, 2.0)}}, "Cr from 0.0"),
        ({"bounds": {"Fe": (0.6, 1), "Co": (0.6, 1)}}, "no composition adds up"),
        ({"bounds": dict.fromkeys(("Fe", "Co", "Ni", "Cr"), (0, 0.2))}, "no composition adds up"),
        ({"at_most": 2, "bounds": dict.fromkeys(("Fe", "Co", "Ni"), (0.1, 1))}, "may not be zero"),
        ({"at_most": 2, "bounds": dict.fromkeys(("Fe", "Co", "Ni", "Cr"), (0, 0.4))}, "at most 2"),
        ({"step": 0.3}, "does not divide"),
        ({"step": 0.5, "bounds": {"Cr": (0.1, 0.4)}}, "no multiple"),
    ],
)
def test_compositions_that_make_no_sense(more, told) -> None:
    with pytest.raises(ValueError, match=told):
        alloy(**more)
