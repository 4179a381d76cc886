"""Every promise of a design space, for products of axes with linear constraints and without."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop import (
    ChoiceAxis,
    CompositionAxis,
    DesignSpace,
    LinearConstraint,
    RangeAxis,
)
from loop.space import Infeasible
from tests.loop.spaces import numbers, spaces


@settings(max_examples=120)
@given(spaces(), st.integers(0, 2**16))
def test_what_every_space_promises(space: DesignSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 24
    prior = space.prior(n, rng)
    assert space.allowed(prior).all()

    wild = prior + rng.standard_normal(prior.shape)
    moved = space.project(wild)
    assert space.allowed(moved).all()
    np.testing.assert_array_equal(space.project(moved), moved)

    for codes in (
        space.jitter(prior, rng.random(n), rng),
        space.mix(prior, prior[::-1], rng),
        space.encode([d for d in space.sample(n, seed) if d is not None]),
    ):
        assert space.allowed(codes).all()
    np.testing.assert_array_equal(space.jitter(prior, np.zeros(n), rng), prior)

    for codes in (prior, moved):
        designs = [d for d in space.decode(codes) if d is not None]
        assert len(designs) == n
        X = space.features(designs)
        assert X.shape == (n, len(space.feature_names))
        np.testing.assert_allclose(space.features_at(codes), X, atol=1e-9)
        assert space.allowed(space.encode(designs)).all()
        for design, back in zip(designs, space.decode(space.encode(designs)), strict=True):
            assert back is not None
            assert space.same(design, back)
            assert space.key(design) == space.key(back)
            assert space.from_json(json.loads(json.dumps(space.to_json(design)))) == design
        for constraint in space.constraints:
            values = np.array(
                [
                    sum(f * numbers(space, d)[name] for name, f in
                        constraint.coefficients.items())
                    for d in designs
                ]
            )  # fmt: skip
            off = values - constraint.bound
            # A millionth of the largest change that the numbers in it can make.
            spans = {
                name: float(high - low)
                for axis in space.axes
                if (block := axis.block()) is not None
                for name, low, high in zip(axis.coordinates, block.low, block.high, strict=True)
            }
            slack = 2e-6 * sum(abs(f) * spans[n] for n, f in constraint.coefficients.items())
            worst = {"<=": off.max(), ">=": (-off).max(), "==": np.abs(off).max()}[constraint.op]
            assert worst <= slack + 1e-9


@settings(max_examples=60)
@given(spaces(), st.integers(0, 2**16))
def test_groups_and_smooth_coordinates(space: DesignSpace, seed: int) -> None:
    groups = space.feature_groups
    assert len(groups) == len(space.feature_names)
    assert sorted(set(groups)) == list(range(max(groups) + 1))
    codes = space.prior(1, np.random.default_rng(seed))
    before = space.features_at(codes)
    used = {feature for _, feature in space.smooth}
    for code, feature in space.smooth:
        assert before[0, feature] == pytest.approx(codes[0, code], abs=1e-9)
    if used:
        moved = codes.copy()
        moved[:, [code for code, _ in space.smooth]] += (
            1e-4 * (codes < 0.5)[:, [code for code, _ in space.smooth]]
        )
        others = [f for f in range(len(groups)) if f not in used]
        np.testing.assert_array_equal(space.features_at(moved)[:, others], before[:, others])


@settings(max_examples=60)
@given(spaces())
def test_designs_that_can_be_counted_are_all_there_and_different(space: DesignSpace) -> None:
    if space.size is None:
        with pytest.raises(TypeError, match="counted"):
            space.codes_at(np.arange(1))
        return
    n = min(space.size, 3000)
    codes = space.codes_at(np.arange(n))
    designs = [d for d in space.decode(codes) if d is not None]
    assert len({space.key(d) for d in designs}) == n
    free = DesignSpace(space.axes)
    assert free.allowed(codes).all()
    with pytest.raises(IndexError):
        space.codes_at(np.array([space.size]))
    if space.size <= 3000:
        known = {space.key(d) for d in designs}
        sampled = [d for d in space.sample(50, 1) if d is not None]
        assert all(space.key(d) in known for d in sampled)


def unit_box(d: int, op: str, bound: float) -> DesignSpace:
    axes = tuple(RangeAxis(f"x{i}", 0, 1) for i in range(d))
    return DesignSpace(axes, (LinearConstraint({a.name: 1.0 for a in axes}, op, bound),))


@pytest.mark.parametrize(("op", "bound"), [("==", 1.0), ("<=", 1.0), (">=", 5.0)])
def test_the_prior_covers_the_inside(op: str, bound: float) -> None:
    space = unit_box(6, op, bound)
    x = space.prior(3000, np.random.default_rng(0))
    if op == "==":
        # Uniform on the simplex: means 1/6, and one coordinate above 1/2 with chance 6 / 2^5.
        np.testing.assert_allclose(x.mean(axis=0), 1 / 6, atol=0.02)
        assert (x.max(axis=1) > 0.5).mean() == pytest.approx(6 / 32, abs=0.05)
    else:
        # Of a uniform draw from a corner of the box, few lie near its face.
        depth = 1 - x.sum(axis=1) if op == "<=" else x.sum(axis=1) - 5
        assert (depth > 0.02).mean() > 0.8
        assert depth.mean() == pytest.approx(1 / 7, abs=0.03)
    assert (x > 1e-6).mean() > 0.97


@pytest.mark.parametrize("op", ["<=", "=="])
def test_a_thousand_codes_are_projected_at_once(op: str) -> None:
    space = unit_box(32, op, 10.0)
    codes = np.random.default_rng(0).random((1000, 32))
    space.project(codes)
    seconds = []
    for _ in range(5):
        before = time.perf_counter()
        space.project(codes)
        seconds.append(time.perf_counter() - before)
    # About 0.02 s; a loop over the rows would take a hundred times that.
    assert min(seconds) < 0.2


@pytest.mark.parametrize(
    ("constraints", "named"),
    [
        ([({"a": 1, "b": 1}, "==", 3.0)], ["a + b == 3"]),
        (
            [({"a": 1, "b": 1}, "<=", 0.5), ({"a": 1}, ">=", 0.0), ({"a": 1, "b": 1}, ">=", 1.0)],
            ["a + b <= 0.5", "a + b >= 1"],
        ),
        ([({"i": 2}, "==", 3.0)], ["2 * i == 3"]),
        ([({"m.x": 1, "y": 1, "z": 1}, ">=", 0.9), ({"x": 1}, ">=", 0.4)], None),
    ],
)
def test_constraints_that_exclude_everything_are_named(constraints, named) -> None:
    axes = (
        RangeAxis("a", 0, 1),
        RangeAxis("b", 0, 1),
        RangeAxis("i", 0, 5, integer=True),
        CompositionAxis("m", ("w", "x", "y", "z"), at_most=2),
    )
    made = tuple(LinearConstraint(*c) for c in constraints)
    if named is None:
        DesignSpace(axes, made)
        return
    with pytest.raises(Infeasible) as error:
        DesignSpace(axes, made)
    assert [str(c) for c in error.value.constraints] == named
    assert all(text in str(error.value) for text in named)


def test_few_ingredients_and_a_sum_that_needs_one_of_them() -> None:
    axis = CompositionAxis("alloy", ("Fe", "Co", "Ni", "Cr"), at_most=2, bounds={"Cr": (0, 0.2)})
    space = DesignSpace((axis,), (LinearConstraint({"Fe": 1, "Co": 1}, ">=", 0.5),))
    rng = np.random.default_rng(0)
    # Codes whose two largest ingredients are neither.
    codes = np.column_stack([0.1 * rng.random((50, 2)), 0.5 + rng.random((50, 2))])
    moved = space.project(codes)
    assert space.allowed(moved).all()
    assert ((moved > 1e-9).sum(axis=1) <= 2).all()
    assert (moved[:, :2].sum(axis=1) >= 0.5 - 1e-9).all()


def test_a_sum_on_a_log_scale_is_met_in_the_values() -> None:
    space = DesignSpace(
        (RangeAxis("a", 1e-3, 1e3, log=True), RangeAxis("b", 1e-3, 1e3, log=True)),
        (LinearConstraint({"a": 1, "b": -1}, "<=", 0.0),),
    )
    codes = space.prior(500, np.random.default_rng(0))
    designs = [d for d in space.decode(codes) if d is not None]
    assert all(d["a"] <= d["b"] * (1 + 1e-4) for d in designs)
    # Small values are reached as well as large ones.
    assert min(d["b"] for d in designs) < 0.1
    # Of a small value, the nearest that meets it is small.
    near = space.decode(space.project(np.array([[0.2, 0.1]])))[0]
    assert near is not None
    assert near["a"] < 0.02


def test_whole_numbers_that_add_up() -> None:
    axes = tuple(RangeAxis(n, 0, 10, integer=True) for n in "abc")
    space = DesignSpace(axes, (LinearConstraint({"a": 1, "b": 1, "c": 1}, "==", 10),))
    designs = space.sample(300, 0)
    assert all(d is not None and sum(d.values()) == 10 for d in designs)
    assert len({space.key(d) for d in designs if d is not None}) > 40


def test_a_choice_of_numbers_in_a_sum() -> None:
    space = DesignSpace(
        (ChoiceAxis("layers", (1, 2, 4, 8)), RangeAxis("thickness", 0, 10)),
        (LinearConstraint({"layers": 1, "thickness": 1}, "==", 9),),
    )
    designs = space.sample(100, 0)
    assert {d["layers"] for d in designs if d is not None} == {1, 2, 4, 8}
    assert all(d is not None and abs(d["layers"] + d["thickness"] - 9) < 1e-5 for d in designs)


@pytest.mark.parametrize(
    ("coefficients", "told"),
    [({"q": 1.0}, "no axis has a number 'q'"), ({"Fe": 1.0}, "alloy.Fe or steel.Fe")],
)
def test_names_that_mean_nothing_or_two_things(coefficients, told) -> None:
    axes = (CompositionAxis("alloy", ("Fe", "Co")), CompositionAxis("steel", ("Fe", "C")))
    with pytest.raises(ValueError, match=told):
        DesignSpace(axes, (LinearConstraint(coefficients, "<=", 1),))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearConstraint({}, "<=", 1),
        lambda: LinearConstraint({"a": 0.0}, "<=", 1),
        lambda: LinearConstraint({"a": float("nan")}, "<=", 1),
        lambda: LinearConstraint({"a": 1.0}, "<", 1),
        lambda: LinearConstraint({"a": 1.0}, "<=", float("inf")),
    ],
)
def test_constraints_that_make_no_sense(make) -> None:
    with pytest.raises(ValueError, match=r"constraint|comparison"):
        make()
