"""Propose here: a box around some designs, and all that is proposed lies in it."""

from __future__ import annotations

import numpy as np
import pytest

from loop.near import Inside, near
from loop.problem import Objective, Problem
from loop.proposal import History, ProposalSettings, propose
from loop.space import ChoiceAxis, CompositionAxis, DesignSpace, LatentAxis, RangeAxis

QUICK = ProposalSettings(prior=200, jitter=100, cross=50, rounds=1, children=50, shortlist=50)


def _history(designs, outcomes):
    y = np.asarray(outcomes, dtype=float)[:, None]
    return History(designs, y, np.full_like(y, np.nan), np.zeros(len(designs), dtype=bool))


@pytest.mark.parametrize("known", [0, 12])
def test_numbers_stay_in_the_box(known):
    space = DesignSpace(
        (
            RangeAxis("x", 0, 1),
            RangeAxis("t", 1, 100, log=True),
            RangeAxis("k", 1, 10, integer=True),
            ChoiceAxis("gas", ("air", "argon")),
            CompositionAxis("alloy", ("Fe", "Ni", "Co")),
        )
    )
    problem = Problem(space, (Objective("y", "maximize", "J"),))
    shown = [
        {"x": 0.2, "t": 3.0, "k": 2, "gas": "air", "alloy": {"Fe": 0.5, "Ni": 0.5, "Co": 0.0}},
        {"x": 0.3, "t": 5.0, "k": 3, "gas": "air", "alloy": {"Fe": 0.6, "Ni": 0.4, "Co": 0.0}},
    ]
    narrow, words = near(problem, shown)
    assert "x 0.15 to 0.35" in words
    assert "k 1 to 4" in words
    tried = [d for d in space.sample(known, 1) if d is not None]  # most of them outside
    answer = propose(narrow, _history(tried, [d["x"] for d in tried]), 3, 0, settings=QUICK)
    assert len(answer.candidates) == 3
    for design in (c.design for c in answer.candidates):
        assert 0.15 - 1e-9 <= design["x"] <= 0.35 + 1e-9
        assert 2.3 < design["t"] < 6.4
        assert design["k"] <= 4
        assert design["alloy"].get("Co", 0.0) <= 0.05 + 1e-6
        assert 0.45 - 1e-6 <= design["alloy"]["Fe"] <= 0.65 + 1e-6
    # what a surrogate sees of a design is the same in both
    assert np.array_equal(space.features(shown), narrow.space.features(shown))


def test_latent_vectors_stay_in_the_box(points):
    space = DesignSpace((LatentAxis("z", points),))
    problem = Problem(space, (Objective("y", "maximize", "J"),))
    some = [d for d in space.sample(40, 3) if d is not None]
    codes = space.encode(some)
    rows = np.argsort(np.linalg.norm(codes - codes[0], axis=1))[:3]
    narrow, words = near(problem, [some[i] for i in rows])
    assert "latent" in words
    inside = narrow.space.axes[0].generator  # type: ignore[attr-defined]
    assert isinstance(inside, Inside)
    for outcomes in ([], codes[:, 0].tolist()):
        tried = some[: len(outcomes)]
        answer = propose(narrow, _history(tried, outcomes), 2, 0, settings=QUICK)
        z = np.array([c.latent for c in answer.candidates])
        assert len(z) == 2
        assert (z >= inside.low - 1e-6).all()
        assert (z <= inside.high + 1e-6).all()
