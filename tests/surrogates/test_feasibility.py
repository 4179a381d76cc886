"""The probability that a trial succeeds."""

from __future__ import annotations

import numpy as np
import pytest

from surrogates import fit_feasibility


def test_base_rate_with_few_failures() -> None:
    X = np.random.default_rng(0).standard_normal((10, 3))
    ok = np.ones(10, dtype=bool)
    model = fit_feasibility(X, ok)
    assert not model.informative
    assert model.probability(X) == pytest.approx(11 / 12)
    ok[0] = False
    assert fit_feasibility(X, ok).probability(X) == pytest.approx(10 / 12)
    assert fit_feasibility(X[:0], ok[:0]).base_rate == 0.5


def test_learns_a_region_and_is_calibrated() -> None:
    rng = np.random.default_rng(1)
    X, Q = rng.standard_normal((60, 4)), rng.standard_normal((4000, 4))
    truth = 1.0 / (1.0 + np.exp(-(1.0 + 3.0 * Q[:, 0])))
    ok = rng.random(60) < 1.0 / (1.0 + np.exp(-(1.0 + 3.0 * X[:, 0])))
    p = fit_feasibility(X, ok).probability(Q)
    assert np.corrcoef(p, truth)[0, 1] > 0.8
    for low, high in [(0.0, 0.4), (0.4, 0.7), (0.7, 1.0)]:
        inside = (p >= low) & (p < high)
        assert abs(p[inside].mean() - truth[inside].mean()) < 0.15


def test_chance_failures_stay_chance() -> None:
    rng = np.random.default_rng(2)
    X = rng.standard_normal((60, 20))
    p = fit_feasibility(X, rng.random(60) < 0.7).probability(rng.standard_normal((200, 20)))
    assert p.std() < 0.1
    assert abs(p.mean() - 0.7) < 0.12


def test_far_away_is_the_base_rate() -> None:
    X = np.r_[np.zeros((5, 2)), np.ones((5, 2))] + np.arange(10)[:, None] * 1e-3
    model = fit_feasibility(X, np.arange(10) >= 5)
    assert model.informative
    near, far = model.probability(np.array([[1.0, 1.0], [100.0, 100.0]]))
    assert near > 0.7
    assert far == pytest.approx(model.base_rate, abs=0.05)
