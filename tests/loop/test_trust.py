"""Trust regions: where they lie, how long they are, and that nothing leaves them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop import (
    ChoiceAxis,
    DesignSpace,
    History,
    LatentAxis,
    Objective,
    Problem,
    ProposalSettings,
    RangeAxis,
    propose,
)
from loop.trust import (
    FIRST,
    LONGEST,
    Region,
    code_weights,
    improved,
    length,
    moves,
    regions,
    wanted,
)
from surrogates import fit_surrogate

MANY = DesignSpace(tuple(RangeAxis(f"x{i}", 0.0, 1.0) for i in range(16)))
ONE = Problem(MANY, (Objective("f", "minimize", ""),))
TWO = Problem(MANY, (Objective("f", "minimize", ""), Objective("g", "minimize", "")))


def test_only_many_dimensions_have_regions() -> None:
    assert not wanted(MANY, 32)
    assert wanted(MANY, 33)
    assert not wanted(DesignSpace(MANY.axes[:15]), 1000)


def test_a_region_grows_with_improvements_and_shrinks_without() -> None:
    falling = np.linspace(1.0, 0.0, 4)[:, None]
    assert length(ONE, falling) == LONGEST
    flat = np.vstack([falling[:2], np.ones((15, 1))])
    assert length(ONE, flat) == FIRST
    assert length(ONE, np.vstack([flat, [[1.0]]])) == FIRST / 2
    failed = np.vstack([flat, [[np.nan]]])
    assert length(ONE, failed) == FIRST / 2
    # one shorter than the shortest begins anew, and what no region proposed does not count
    assert length(ONE, np.vstack([falling[:2], np.ones((16 * 7, 1))])) == FIRST
    assert length(ONE, flat, first=len(flat)) == FIRST


@given(st.lists(st.floats(-5, 5) | st.just(float("nan")), max_size=30), st.integers(1, 3))
@settings(deadline=None)
def test_a_length_is_replayed_from_any_outcomes(values: list[float], k: int) -> None:
    problem = Problem(MANY, tuple(Objective(f"f{j}", "minimize", "") for j in range(k)))
    outcomes = np.repeat(np.array(values).reshape(-1, 1), k, axis=1)
    assert 0.5**7 <= length(problem, outcomes) <= LONGEST
    better = improved(problem, outcomes)
    assert len(better) == len(values)
    assert not better[np.isnan(outcomes).any(axis=1)].any()


def test_moves_stay_inside() -> None:
    rng = np.random.default_rng(0)
    found = [
        Region(np.full(16, 0.5), np.full(16, 0.1), 0.2),
        Region(np.zeros(16), np.full(16, 0.05), 0.1),
    ]
    codes = moves(MANY, found, 200, rng)
    assert MANY.allowed(codes).all()
    assert (np.abs(codes[::2] - 0.5) <= 0.1 + 1e-12).all()
    assert codes[1::2].max() <= 0.05 + 1e-12
    assert len(np.unique(codes, axis=0)) == 200
    assert moves(MANY, [], 5, rng).shape == (0, 16)


def test_moves_of_other_axes_are_theirs(points: Any) -> None:
    space = DesignSpace((LatentAxis("z", points), ChoiceAxis("c", ("a", "b", "c")), MANY.axes[0]))
    centre = space.encode([{"z": (0.5,) * 6, "c": "a", "x0": 0.3}])[0]
    codes = moves(
        space, [Region(centre, np.full(space.width, 0.2), 0.4)], 100, np.random.default_rng(0)
    )
    assert space.allowed(codes).all()
    assert np.abs(codes[:, -1] - 0.3).max() <= 0.2 + 1e-12
    assert 0 < np.abs(codes[:, :6] - centre[:6]).mean() < 0.5


def sphere(X: np.ndarray) -> np.ndarray:
    return ((X[:, :2] - 0.3) ** 2).sum(axis=1, keepdims=True)


def test_a_region_is_around_the_best_and_long_where_nothing_changes() -> None:
    X = np.random.default_rng(0).random((60, 16))
    designs = MANY.decode(X)
    known = [d for d in designs if d is not None]
    Y = sphere(X)
    surrogate = fit_surrogate(X, Y, metrics=("f",))
    weights = code_weights(MANY, surrogate)
    assert weights[:2].max() < weights[2:].min()
    (found,) = regions(ONE, surrogate, known, X, Y, 0.4)
    best = int(np.argmin(np.asarray(surrogate.posterior(X)[0])[:, 0]))
    np.testing.assert_allclose(found.centre, X[best], atol=1e-9)
    assert (found.half <= 1.0).all()
    both = np.hstack([Y, ((X[:, :2] - 0.7) ** 2).sum(axis=1, keepdims=True)])
    several = regions(TWO, fit_surrogate(X, both, metrics=("f", "g")), known, X, both, 0.4)
    assert 1 < len(several) <= 4
    assert len({tuple(r.centre) for r in several}) == len(several)


@pytest.mark.parametrize("problem", [ONE, TWO])
def test_a_search_in_many_dimensions_uses_them(problem: Problem) -> None:
    X = np.random.default_rng(1).random((40, 16))
    designs = [d for d in MANY.decode(X) if d is not None]
    Y = np.hstack([sphere(X), sphere(1.0 - X)])[:, : len(problem.objectives)]
    seen = History(designs, Y, np.full_like(Y, np.nan), np.zeros(40, dtype=bool))
    quick = ProposalSettings(prior=50, jitter=20, cross=10, rounds=0, polish=0, max_iter=20)
    with_regions = propose(problem, seen, 2, seed=0, settings=quick)
    assert "trust region" in {c.notes["origin"] for c in with_regions.candidates}
