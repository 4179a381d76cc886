"""Each way of modelling wins on data that were made for it, and none without a reason."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from surrogates import Surrogate, fit_surrogate
from surrogates.choosing import GROWTH, RECIPES, eligible

PLAIN = "gaussian process"


def chosen(X: np.ndarray, y: np.ndarray, **more: object) -> tuple[str, Surrogate]:
    surrogate = fit_surrogate(X, y[:, None], **more)  # type: ignore[arg-type]
    return surrogate.report()["y0"]["model"], surrogate


def error(surrogate: Surrogate, A: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(surrogate.posterior(A)[0][:, 0].numpy() - truth).mean() / truth.std())


def cube(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, d))


def noise(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n)


def sparse(X: np.ndarray) -> np.ndarray:
    """Two of twenty dimensions matter."""
    return np.sin(5.0 * X[:, 3]) + 2.0 * (X[:, 11] - 0.5) ** 2


def additive(X: np.ndarray) -> np.ndarray:
    """A sum of wiggles, one a dimension."""
    return np.sin((6.0 + np.arange(X.shape[1])) * X).sum(axis=1)


def skewed(X: np.ndarray) -> np.ndarray:
    """The exponential of something smooth."""
    return np.exp(3.0 * np.sin(3.0 * X[:, 0]) + 2.0 * X[:, 1])


def steps(X: np.ndarray) -> np.ndarray:
    """Flat between cliffs."""
    return 3.0 * (X[:, 0] > 0.37) + 2.0 * (X[:, 1] > 0.61) * (X[:, 2] < 0.5) + 1.0 * (X[:, 3] > 0.8)


@pytest.mark.parametrize("seed", range(2))
def test_sparse_wins_where_few_of_many_features_matter(seed: int) -> None:
    X, A = cube(80, 20, seed), cube(300, 20, seed=9)
    y = sparse(X) + 0.02 * noise(80)
    name, ours = chosen(X, y, recipes=[PLAIN, "sparse gaussian process"])
    assert name == "sparse gaussian process"
    _, plain = chosen(X, y, recipes=[PLAIN])
    assert error(ours, A, sparse(A)) < error(plain, A, sparse(A))
    (log_scale, *_), *_ = (m.structure.unpack(m.theta) for m in ours.models)
    assert set(log_scale.argsort()[:2].tolist()) == {3, 11}
    others = [j for j in range(20) if j not in (3, 11)]
    assert float(log_scale[others].exp().min()) > 5.0 * float(log_scale[[3, 11]].exp().max())


def test_additive_wins_on_a_sum() -> None:
    X, A = cube(60, 5), cube(300, 5, seed=9)
    y = additive(X) + 0.02 * noise(60)
    name, ours = chosen(X, y)
    assert name == "additive gaussian process"
    _, plain = chosen(X, y, recipes=[PLAIN])
    assert error(ours, A, additive(A)) < 0.7 * error(plain, A, additive(A))


def test_a_warp_wins_on_skewed_outcomes() -> None:
    X, A = cube(40, 2), cube(300, 2, seed=9)
    name, ours = chosen(X, skewed(X))
    assert "warped" in name
    _, plain = chosen(X, skewed(X), recipes=[PLAIN])
    assert error(ours, A, skewed(A)) < 0.7 * error(plain, A, skewed(A))
    assert not ours.models[0].warp.linear
    mean, variance = ours.posterior(A)
    z = (mean[:, 0].numpy() - skewed(A)) / variance[:, 0].sqrt().numpy()
    assert (np.abs(z) < 3).mean() > 0.9


def test_smooth_wins_on_something_smooth() -> None:
    X = cube(40, 2)
    name, _ = chosen(X, np.sin(3.0 * X[:, 0] + 2.0 * X[:, 1]) + 3.0)
    assert "smooth" in name


def test_a_forest_wins_on_steps() -> None:
    X, A = cube(150, 6), cube(500, 6, seed=9)
    y = steps(X) + 0.1 * noise(150)
    name, ours = chosen(X, y)
    assert name == "random forest and gaussian process"
    _, plain = chosen(X, y, recipes=[PLAIN])
    assert error(ours, A, steps(A)) < 0.9 * error(plain, A, steps(A))
    assert not ours.smooth
    assert plain.smooth


def test_plain_stays_where_nothing_is_better() -> None:
    X = cube(60, 3)
    assert chosen(X, noise(60))[0] == PLAIN


def test_the_best_by_leaving_one_out_is_taken_unless_hardly_better() -> None:
    X = cube(40, 2)
    _, surrogate = chosen(X, skewed(X))
    told = surrogate.report()["y0"]
    assert set(told["tried"]) == {r.name for r in eligible(40, 2)}
    best = max(told["tried"], key=told["tried"].__getitem__)
    assert told["model"] == best
    assert told["tried"][best] == pytest.approx(told["n"] * told["loo_log_likelihood"])


def test_few_outcomes_allow_few_recipes() -> None:
    assert [r.name for r in eligible(3, 2)] == [PLAIN]
    names = {r.name for r in eligible(100, 12)}
    assert names >= {PLAIN, "sparse gaussian process", "additive gaussian process"}
    assert "additive gaussian process" not in {r.name for r in eligible(100, 13)}
    assert "sparse gaussian process" not in {r.name for r in eligible(100, 5)}
    for n in range(1, 60):
        assert eligible(n, 20)[0] is RECIPES[PLAIN]


def test_what_was_chosen_stays_until_the_data_have_grown() -> None:
    X = cube(60, 2)
    y = skewed(X)
    first = fit_surrogate(X[:40], y[:40, None])
    state = json.loads(json.dumps(first.state()))
    settled = fit_surrogate(X[:44], y[:44, None], warm_start=state)
    assert settled.report()["y0"]["model"] == first.report()["y0"]["model"]
    assert len(settled.report()["y0"]["tried"]) == 1
    assert settled.models[0].chosen_at == 40
    n = math.ceil(GROWTH * 40)
    anew = fit_surrogate(X[:n], y[:n, None], warm_start=settled.state())
    assert len(anew.report()["y0"]["tried"]) > 1
    assert anew.models[0].chosen_at == n


def test_a_recipe_that_was_settled_on_and_cannot_be_fitted_gives_way() -> None:
    X = cube(40, 2)
    first = fit_surrogate(X, skewed(X)[:, None])
    assert "warped" in first.report()["y0"]["model"]
    flat = fit_surrogate(X, np.full((40, 1), 2.0), warm_start=first.state())
    assert flat.report()["y0"]["model"] == PLAIN
    assert float(flat.posterior(X)[0][0, 0]) == pytest.approx(2.0)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_every_recipe_fits_whatever_there_is(name: str, n: int) -> None:
    X = cube(n, 4)
    surrogate = fit_surrogate(X, skewed(X)[:, None], recipes=[name])
    mean, variance = surrogate.posterior(cube(5, 4, seed=3))
    assert bool(mean.isfinite().all())
    assert bool((variance > 0).all())
    json.dumps([surrogate.report(), surrogate.state()], allow_nan=False)


def test_every_recipe_can_be_searched_uphill_but_the_forest() -> None:
    X = cube(40, 4)
    for name in RECIPES:
        surrogate = fit_surrogate(X, skewed(X)[:, None], recipes=[name])
        x = torch.as_tensor(cube(3, 4, seed=2)).requires_grad_(True)
        mean, variance = surrogate.models[0].marginal(surrogate.unit(x))
        if not surrogate.smooth:
            continue
        (slope,) = torch.autograd.grad((mean + variance).sum(), x)
        step = 1e-6 * torch.eye(4, dtype=torch.float64)
        for j in range(4):
            ends = [
                sum(surrogate.models[0].marginal(surrogate.unit(x.detach() + s * step[j])))
                for s in (1, -1)
            ]
            torch.testing.assert_close(
                slope[:, j], (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-5
            )


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="no such recipe as 'oracle'; there are gaussian process"):
        fit_surrogate(cube(5, 2), cube(5, 1), recipes=["oracle"])
