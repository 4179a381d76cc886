"""Propose here: a box around some designs, and all that is proposed lies in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from generators import load_generator
from loop.axes.pool_table import open_pool
from loop.near import Inside, near
from loop.problem import Objective, Problem
from loop.proposal import History, ProposalSettings, propose
from loop.space import (
    ChoiceAxis,
    CompositionAxis,
    DesignSpace,
    LatentAxis,
    PoolAxis,
    RangeAxis,
)

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


def test_latent_vectors_stay_in_the_box(points, monkeypatch):
    space = DesignSpace((LatentAxis("z", points),))
    problem = Problem(space, (Objective("y", "maximize", "J"),))
    some = [d for d in space.sample(40, 3) if d is not None]
    codes = space.encode(some)
    rows = np.argsort(np.linalg.norm(codes - codes[0], axis=1))[:3]
    narrow, words = near(problem, [some[i] for i in rows])
    assert "latent" in words
    inside = narrow.space.axes[0].generator  # type: ignore[attr-defined]
    assert isinstance(inside, Inside)
    monkeypatch.setattr(points, "steady", lambda designs: np.zeros(len(designs), dtype=bool))
    assert not narrow.space.steady(some[:2]).any()  # as the generator itself finds
    for outcomes in ([], codes[:, 0].tolist()):
        tried = some[: len(outcomes)]
        answer = propose(narrow, _history(tried, outcomes), 2, 0, settings=QUICK)
        z = np.array([c.latent for c in answer.candidates])
        assert len(z) == 2
        assert (z >= inside.low - 1e-6).all()
        assert (z <= inside.high + 1e-6).all()


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PoolAxis:
    """400 rows of two numbers and a text."""
    monkeypatch.setenv("MATLOOP_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    rows = [
        f"{a:.4f},{100 * b:.3f},{'xyz'[k % 3]}" for k, (a, b) in enumerate(rng.random((400, 2)))
    ]
    (tmp_path / "pool.csv").write_text("\n".join(["a,b (mm),kind", *rows]) + "\n")
    return PoolAxis("cand", open_pool(tmp_path / "pool.csv"))


@pytest.mark.parametrize("known", [0, 12])
def test_rows_of_a_pool_stay_in_the_box(pool, known):
    space = DesignSpace((pool,))
    problem = Problem(space, (Objective("y", "maximize", "J"),))
    every = [d["cand"] for d in space.decode(space.codes_at(np.arange(400))) if d]
    every.sort(key=lambda row: abs(row["a"] - 0.5) + abs(row["b (mm)"] - 50) / 100)
    shown, tried = every[:3], every[:3] + every[-known:][:known]
    narrow, words = near(problem, [{"cand": row} for row in shown])
    assert "cand.a" in words
    assert "cand.b (mm)" in words
    assert narrow.space.size is not None
    assert 3 < narrow.space.size < 40
    history = _history([{"cand": r} for r in tried], [r["a"] for r in tried])
    answer = propose(narrow, history, 3, 0, settings=QUICK)
    rows = [c.design["cand"] for c in answer.candidates]
    assert len({r["row"] for r in rows}) == 3
    assert not {r["row"] for r in rows} & {r["row"] for r in shown}
    for column, pad in (("a", 0.06), ("b (mm)", 6.0)):
        low, high = (f(r[column] for r in shown) for f in (min, max))
        assert all(low - pad <= r[column] <= high + pad for r in rows), (column, low, high, rows)
    designs = [{"cand": r} for r in every[:20]]
    assert np.array_equal(space.features(designs), narrow.space.features(designs))


def test_rows_that_the_pool_lost_are_left_out(pool):
    problem = Problem(DesignSpace((pool,)), (Objective("y", "maximize", "J"),))
    (there,) = pool.decode(np.array([[7.0]]), 0)
    _, words = near(problem, [{"cand": there}, {"cand": there | {"a": 0.987654}}])
    assert words == near(problem, [{"cand": there}])[1]
    with pytest.raises(ValueError, match="none of the designs can be encoded: cand"):
        near(problem, [{"cand": there | {"a": 0.987654}}])


@pytest.mark.slow
def test_the_strict_rule_leaves_designs_in_a_large_latent_space():
    """A box in 48 dimensions is left by a step in any of them: enough must still come back."""
    crystals = load_generator("crystals")
    assert crystals.dim >= 32
    space = DesignSpace((LatentAxis("crystal", crystals),))
    problem = Problem(space, (Objective("y", "maximize", "J"),))
    some = [d for d in space.sample(6, 3) if d is not None]
    narrow, _ = near(problem, some[:2])
    inside = narrow.space.axes[0].generator  # type: ignore[attr-defined]
    found = [d for d in inside.decode(inside.prior(16, 1)) if d is not None]
    assert len(found) >= 4, len(found)
    z = crystals.embed(found).numpy()  # as `Inside.decode` asks where a design is
    assert ((z >= inside.low) & (z <= inside.high)).all()
