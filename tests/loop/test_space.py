"""Axes and their products."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from generators.base import EncodeError
from loop import ChoiceAxis, DesignSpace, LatentAxis, LinearConstraint, RangeAxis


@pytest.fixture
def space(points: Any) -> DesignSpace:
    return DesignSpace(
        (
            LatentAxis("point", points),
            RangeAxis("temperature", 900, 1500, unit="K"),
            RangeAxis("pressure", 1e-3, 1e3, log=True),
            RangeAxis("layers", 1, 5, integer=True),
            ChoiceAxis("gas", ("air", "argon", "hydrogen")),
        )
    )


def designs(space: DesignSpace, n: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    return [d for d in space.sample(n, seed) if d is not None]


def test_features_and_codes_have_one_row_a_design(space: DesignSpace) -> None:
    some = designs(space, 20)
    assert space.features(some).shape == (len(some), len(space.feature_names))
    assert space.encode(some).shape == (len(some), space.width)
    assert space.features([]).shape == (0, len(space.feature_names))
    assert space.latent(some).shape == (len(some), 6)
    assert DesignSpace(space.axes[1:]).latent(some).shape == (len(some), 0)


def test_samples_cover_the_axes(space: DesignSpace) -> None:
    some = designs(space, 2000)
    assert all(900 <= d["temperature"] <= 1500 for d in some)
    logs = np.log10([d["pressure"] for d in some])
    assert abs(logs.mean()) < 0.2
    assert logs.min() < -2.8
    layers = Counter(d["layers"] for d in some)
    assert sorted(layers) == [1, 2, 3, 4, 5]
    assert min(layers.values()) > 0.7 * max(layers.values())
    assert set(Counter(d["gas"] for d in some)) == {"air", "argon", "hydrogen"}


def test_decoding_undoes_encoding_on_parameter_axes(space: DesignSpace) -> None:
    parameters = DesignSpace(space.axes[1:])
    for design in designs(parameters, 50):
        (back,) = parameters.decode(parameters.encode([design]))
        assert back is not None
        assert parameters.same(design, back)


def test_json_round_trip(space: DesignSpace) -> None:
    for design in designs(space, 10):
        back = space.from_json(json.loads(json.dumps(space.to_json(design))))
        assert space.same(design, back)
        assert space.key(design) == space.key(back)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", "hot"), ("temperature", True), ("layers", 2.5), ("gas", "neon")],
)
def test_json_that_is_no_design_is_refused(space: DesignSpace, name: str, value: Any) -> None:
    data = space.to_json(designs(space, 5)[0])
    with pytest.raises(ValueError, match=name):
        space.from_json({**data, name: value})
    del data[name]
    with pytest.raises(ValueError, match="axes"):
        space.from_json(data)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_jitter_stays_inside_and_scales(space: DesignSpace, scale: float) -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(space.prior(1, rng), 500, axis=0)
    moved = space.jitter(codes, np.full(500, scale), rng)
    distance = np.linalg.norm(moved[:, :6] - codes[:, :6], axis=1).mean()
    changed = (moved[:, -1] != codes[:, -1]).mean()
    assert ((moved[:, 6:9] >= 0) & (moved[:, 6:9] <= 1)).all()
    if scale == 0:
        np.testing.assert_array_equal(moved, codes)
    else:
        assert 0.5 * scale < distance / np.sqrt(6) < 2.5 * scale
        assert changed == pytest.approx(scale * 2 / 3, abs=0.1)
    assert all(d is None or d["gas"] in ("air", "argon", "hydrogen") for d in space.decode(moved))


def test_jitter_keeps_the_normal_prior(points: Any) -> None:
    axis = LatentAxis("z", points)
    rng = np.random.default_rng(0)
    codes = axis.prior(20000, rng)
    for _ in range(5):
        codes = axis.jitter(codes, np.full(20000, 0.5), rng)
    assert codes.std() == pytest.approx(1.0, abs=0.02)


def test_constraints_beside_a_latent_axis(space: DesignSpace) -> None:
    coupled = DesignSpace(
        space.axes, (LinearConstraint({"temperature": 0.01, "layers": 1}, "==", 14),)
    )
    for design in designs(coupled, 100):
        assert design["temperature"] / 100 + design["layers"] == pytest.approx(14, abs=1e-4)
    rng = np.random.default_rng(0)
    codes = coupled.prior(50, rng)
    wild = codes + rng.standard_normal(codes.shape)
    moved = coupled.project(wild)
    assert coupled.allowed(moved).all()
    np.testing.assert_array_equal(moved[:, :6], wild[:, :6])
    assert not coupled.allowed(wild).all()
    assert not coupled.allowed(np.full((1, coupled.width), np.nan)).any()
    assert coupled.allowed(coupled.jitter(codes, np.full(50, 0.3), rng)).all()
    assert not coupled.direct
    assert coupled.size is None
    with pytest.raises(TypeError, match="point"):
        coupled.features_at(codes)
    # Feature columns: six of the generator's, three ranges, one choice of three.
    assert coupled.feature_groups == (*range(10), 9, 9)
    assert coupled.smooth == ((6, 6), (7, 7))


def test_mixing_takes_from_both_parents(space: DesignSpace) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.repeat(c[None], 200, axis=0) for c in space.prior(2, rng))
    child = space.mix(a, b, rng)
    low, high = np.minimum(a, b), np.maximum(a, b)
    assert ((child >= low - 1e-12) & (child <= high + 1e-12)).all()
    assert set(child[:, -1]) <= {a[0, -1], b[0, -1]}


def test_same_is_the_same_on_every_axis(space: DesignSpace) -> None:
    a = designs(space, 5)[0]
    assert space.same(a, dict(a))
    assert not space.same(a, {**a, "temperature": a["temperature"] + 1.0})
    assert not space.same(a, {**a, "gas": "air" if a["gas"] != "air" else "argon"})
    assert not space.same(a, {**a, "point": (0.5,) * 6})


def test_describe(space: DesignSpace) -> None:
    text = space.describe({**designs(space, 5)[0], "temperature": 1200.0, "gas": "argon"})
    assert "temperature 1200 K" in text
    assert "gas argon" in text


def test_values_off_an_axis_cannot_be_encoded(space: DesignSpace) -> None:
    a, b = designs(space, 5)[:2]
    with pytest.raises(EncodeError, match="gas") as error:
        space.encode([a, {**b, "gas": "neon"}])
    assert error.value.index == 1
    with pytest.raises(EncodeError, match="pressure"):
        space.features([{**a, "pressure": -1.0}])


@pytest.mark.parametrize(
    "make",
    [
        lambda: RangeAxis("x", 2.0, 1.0),
        lambda: RangeAxis("x", 0.0, 1.0, log=True),
        lambda: RangeAxis("x", 0.5, 3.0, integer=True),
        lambda: RangeAxis("x", 0.0, float("inf")),
        lambda: ChoiceAxis("x", ("only",)),
        lambda: ChoiceAxis("x", ("a", "a")),
        lambda: DesignSpace(()),
        lambda: DesignSpace((RangeAxis("x", 0, 1), RangeAxis("x", 0, 2))),
    ],
)
def test_axes_that_make_no_sense(make: Any) -> None:
    with pytest.raises(ValueError, match=r"x|axis"):
        make()
