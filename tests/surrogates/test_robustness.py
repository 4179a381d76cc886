"""Whatever is put in: a clear error, or a sound surrogate."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from surrogates import fit_feasibility, fit_surrogate
from surrogates.choosing import RECIPES

WILD = st.one_of(
    st.floats(-10, 10),
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-12, 1e6, -1e9, 1e30, 1e-30, 7.0]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
ANYTHING = st.one_of(WILD, st.sampled_from([math.nan, math.inf, -math.inf, 1e200, -1e300]))


def array(shape: tuple[int, ...], values: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return hnp.arrays(np.float64, shape, elements=values)


@st.composite
def inputs(draw: st.DrawFn, values: st.SearchStrategy[float] = WILD) -> dict[str, Any]:
    """Features, outcomes and what belongs to them, in shapes that fit."""
    n, d, m = draw(st.integers(1, 14)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    X, Y = draw(array((n, d), values)), draw(array((n, m), values))
    if n > 1 and draw(st.booleans()):  # one design twice, with whatever outcomes
        X[1:] = np.where(draw(array((n - 1, 1), st.sampled_from([0.0, 1.0]))) > 0, X[:1], X[1:])
    if draw(st.booleans()):  # a column that does not vary
        X[:, 0] = X[0, 0]
    if draw(st.booleans()):
        Y[:, 0] = Y[0, 0]
    missing = draw(hnp.arrays(bool, (n, m)))
    missing[0] = False
    Y = np.where(missing, np.nan, Y)
    noise = None
    if draw(st.booleans()):
        error = st.sampled_from([math.nan, 0.0, 1e-9, 0.1, 1.0, 1e9, 1e200])
        noise = draw(array((n, m), error))
    source = None
    if draw(st.booleans()):
        source = np.array([0, *draw(st.lists(st.integers(0, 2), min_size=n - 1, max_size=n - 1))])
    guides = None
    if draw(st.booleans()):
        guides = [draw(st.none() | st.integers(0, d - 1)) for _ in range(m)]
    groups = draw(st.sampled_from([None, [0] * d]))
    recipes = draw(st.none() | st.just([draw(st.sampled_from(list(RECIPES)))]))
    return {
        "X": X, "Y": Y, "noise": noise, "source": source, "guides": guides, "groups": groups,
        "recipes": recipes,
    }  # fmt: skip


def sound(X: np.ndarray, **more: Any) -> None:
    surrogate = fit_surrogate(X, max_iter=20, **more)
    asked = np.vstack([X, X[:1] + 0.3, np.zeros_like(X[:1])])
    mean, variance = surrogate.posterior(asked)
    assert bool(mean.isfinite().all()), mean
    assert bool((variance > 0).all())
    assert bool(variance.isfinite().all())
    assert bool((surrogate.predictive_sd(asked) >= variance.sqrt() * (1 - 1e-9)).all())
    json.dumps([surrogate.report(), surrogate.state()], allow_nan=False)
    posterior = surrogate.model.posterior(torch.as_tensor(asked))
    assert bool(posterior.mean.isfinite().all())
    assert bool(posterior.rsample().isfinite().all())
    again = fit_surrogate(X, max_iter=3, warm_start=surrogate.state(), **more)
    assert bool(again.posterior(asked)[0].isfinite().all())


@settings(max_examples=150)
@given(inputs())
def test_finite_numbers_give_a_sound_surrogate(given_: dict[str, Any]) -> None:
    sound(**given_)


@settings(max_examples=100)
@given(inputs(ANYTHING))
def test_anything_gives_a_sound_surrogate_or_a_clear_error(given_: dict[str, Any]) -> None:
    try:
        sound(**given_)
    except ValueError as error:
        told = str(error)
        known = ("not finite", "is infinite", "no outcome of", "larger than", "is negative")
        assert any(words in told for words in known), told


@given(st.integers(1, 30), st.floats(-1e20, 1e20))
@example(1, 0.0)
def test_a_metric_that_never_varies(n: int, value: float) -> None:
    X = np.random.default_rng(n).random((n, 2))
    surrogate = fit_surrogate(X, np.full((n, 1), value), max_iter=10)
    mean, _ = surrogate.posterior(X)
    np.testing.assert_allclose(mean[:, 0].numpy(), value, rtol=1e-9, atol=1e-9)
    assert not surrogate.report()["y0"]["informative"]


@pytest.mark.parametrize("unit", [1e-18, 1e-9, 1.0, 1e12])
def test_the_unit_of_a_metric_changes_nothing_but_the_unit(unit: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.random((30, 3))
    Y = np.exp(2.0 * np.sin(4 * X[:, :1]) + X[:, 1:2])
    one = fit_surrogate(X, Y, 0.1 * Y)
    other = fit_surrogate(X, unit * Y, unit * 0.1 * Y)
    assert other.report()["y0"]["model"] == one.report()["y0"]["model"]
    assert other.report()["y0"]["loo_r2"] == pytest.approx(one.report()["y0"]["loo_r2"], rel=1e-3)
    for power, (a, b) in enumerate(zip(one.posterior(X), other.posterior(X), strict=True), 1):
        torch.testing.assert_close(b, unit**power * a, rtol=1e-2, atol=1e-3 * unit**power)


@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e12])
def test_the_unit_of_a_feature_changes_nothing(unit: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.random((30, 3))
    Y = np.sin(4 * X[:, :1]) + X[:, 1:2]
    wanted, got = fit_surrogate(X, Y).posterior(X), fit_surrogate(unit * X, Y).posterior(unit * X)
    torch.testing.assert_close(got[0], wanted[0], rtol=1e-4, atol=1e-4)


def test_duplicates_that_contradict_each_other_are_averaged() -> None:
    X = np.repeat([[0.2], [0.8]], 10, axis=0)
    Y = np.r_[np.tile([0.0, 2.0], 5), np.tile([10.0, 12.0], 5)][:, None]
    mean, variance = fit_surrogate(X, Y).posterior(np.array([[0.2], [0.8]]))
    np.testing.assert_allclose(mean[:, 0].numpy(), [1.0, 11.0], atol=0.5)
    assert bool((variance.sqrt() < 1.0).all())


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (4, 0)])
def test_nothing_to_learn_from_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"no outcome of y0|no feature"):
        fit_surrogate(np.zeros(shape), np.zeros((shape[0], 1)))


def test_bounds_that_are_none_are_refused() -> None:
    X = np.random.default_rng(0).random((5, 2))
    for bounds in ([[0.0, 0.0], [1.0, 0.0]], [[0.0], [1.0]], [[0.0, math.nan], [1.0, 1.0]]):
        with pytest.raises(ValueError, match="bounds: wanted 2 x 2"):
            fit_surrogate(X, X[:, :1], bounds=np.array(bounds))


def test_single_precision_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from surrogates import gaussian_process

    rng = np.random.default_rng(0)
    X, A = rng.random((120, 3)), rng.random((50, 3))
    Y = np.exp(np.sin(4 * X[:, :1]) + X[:, 1:2]) + 0.2 * rng.normal(size=(120, 1))
    for limit in (1000, 100):
        monkeypatch.setattr(gaussian_process, "MAX_EXACT", limit)
        for name in RECIPES:
            double = fit_surrogate(X, Y, recipes=[name]).posterior(A)
            single = fit_surrogate(X, Y, recipes=[name], dtype=torch.float32)
            mean, variance = single.posterior(A)
            assert mean.dtype == variance.dtype == torch.float32
            assert float((mean - double[0]).abs().max()) < 0.1 * float(Y.std()), name
            assert bool((variance > 0).all())
            posterior = single.model.posterior(torch.as_tensor(A, dtype=torch.float32))
            assert bool(posterior.rsample().isfinite().all())
            json.dumps([single.report(), single.state()], allow_nan=False)


@settings(max_examples=100)
@given(st.data())
def test_feasibility_of_anything(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 3))
    X = data.draw(array((n, d), WILD))
    ok = data.draw(hnp.arrays(bool, (n,)))
    model = fit_feasibility(X, ok)
    p = model.probability(np.vstack([X, np.ones((1, d))]))
    assert np.isfinite(p).all()
    assert ((p > 0) & (p < 1)).all()
