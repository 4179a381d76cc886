"""The pool and its evolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from loop import Problem
from loop.search import Pool, encodable, evolve, explore, good_rows, sift, spread_out


def test_pool_holds_what_decodes_once(problem: Problem, points: Any) -> None:
    pool = Pool(problem, seed=0)
    codes = problem.space.prior(400, np.random.default_rng(0))
    codes[0] = [9, 0, 0, 0, 0, 0]  # stands for nothing
    pool.add(codes, "prior")
    before = len(pool)
    pool.add(codes, "again")
    assert pool.refused["did not decode"] >= 2
    assert len(pool) == before == len(pool.codes) == len(pool.X) == len(pool.origins)
    assert pool.decoded == 800
    assert set(pool.origins) == {"prior"}
    decoded = points.decode(torch.as_tensor(pool.codes))
    designs = [pool.design(i) for i in range(len(pool))]
    assert decoded == [d["point"] for d in designs]
    np.testing.assert_array_equal(pool.X, problem.space.features(designs))


def test_evolution_climbs(problem: Problem) -> None:
    rng = np.random.default_rng(0)

    def score(X: np.ndarray) -> np.ndarray:
        return -((X - 0.9) ** 2).sum(axis=1)

    pool, only_random = Pool(problem, seed=0), Pool(problem, seed=0)
    pool.add(problem.space.prior(200, rng), "prior")
    scores = evolve(
        pool, problem.space, score, rounds=4, children=100, parents=10, step=(0.05, 0.5), rng=rng
    )
    only_random.add(problem.space.prior(600, rng), "prior")
    assert len(scores) == len(pool)
    np.testing.assert_array_equal(scores, score(pool.X))
    assert scores.max() > 0.5 * score(only_random.X).max()  # both are negative
    assert pool.origins[int(np.argmax(scores))] == "local search"


def test_sifted_draws_are_better_than_draws_as_they_come(problem: Problem) -> None:
    def score(X: np.ndarray) -> np.ndarray:
        return -((X - 0.9) ** 2).sum(axis=1)

    pool, as_they_come = Pool(problem, seed=0), Pool(problem, seed=0)
    codes = problem.space.prior(300, np.random.default_rng(0))
    codes[:20] = [9, 0, 0, 0, 0, 0]  # stands for nothing
    pool.add(codes, "prior")
    assert len(pool.lost) == 300 - len(pool) >= 20
    first = len(pool)
    sift(pool, problem.space, score, n=100, draws=1000, rng=np.random.default_rng(1))
    assert pool.decoded == 400
    assert len(pool) > first + 90
    assert {*pool.origins} == {"prior"}
    as_they_come.add(problem.space.prior(1000, np.random.default_rng(1)), "prior")
    usual = score(as_they_come.X)
    assert np.median(score(pool.X[first:])) > np.quantile(usual, 0.8)
    assert score(pool.X).max() >= np.quantile(usual, 0.995)
    again = Pool(problem, seed=0)
    again.add(codes, "prior")
    sift(again, problem.space, score, n=100, draws=1000, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again.codes, pool.codes)


def test_without_a_pool_there_is_nothing_to_sift_by(problem: Problem) -> None:
    pool = Pool(problem, seed=0)
    sift(pool, problem.space, np.sum, n=10, draws=50, rng=np.random.default_rng(1))
    drawn = problem.space.prior(50, np.random.default_rng(1))
    np.testing.assert_array_equal(pool.codes, drawn[:10])


def test_explore_moves_around_good_designs(problem: Problem) -> None:
    rng = np.random.default_rng(0)
    pool = Pool(problem, seed=0)
    good = problem.space.encode([{"point": (0.2,) * 6}, {"point": (0.8,) * 6}])
    explore(pool, problem.space, good, jitter=40, cross=20, step=(0.01, 0.1), rng=rng)
    assert {*pool.origins} == {"jitter", "crossover"}
    explore(pool, problem.space, good[:0], jitter=40, cross=20, step=(0.01, 0.1), rng=rng)


def test_good_rows_are_fronts_then_least_violation(problem: Problem) -> None:
    nan = float("nan")
    outcomes = np.array(
        [[1, 1, 0.9], [1, 1, 0.1], [2, 2, 0.2], [0, 3, 0.1], [nan] * 3, [1, 1, 0.4]], dtype=float
    )
    assert good_rows(problem, outcomes, 9) == [1, 2, 3, 5, 0]
    assert good_rows(problem, outcomes, 2) == [1, 2]


def test_spread_out_takes_the_best_and_avoids_crowds() -> None:
    X = np.array([[0.0], [0.01], [0.02], [5.0], [9.0]])
    scores = np.array([3.0, 2.9, 2.8, 2.7, 0.0])
    assert spread_out(X, scores, 2, among=4).tolist() == [0, 3]


def test_designs_that_cannot_be_encoded_are_left_out(problem: Problem) -> None:
    bad, good = {"point": (2.0,) * 6}, {"point": (0.5,) * 6}
    X, kept = encodable(problem.space.features, [bad, good, bad, good, bad])
    assert kept == [1, 3]
    assert X.shape == (2, 6)
    X, kept = encodable(problem.space.features, [bad])
    assert kept == []
    assert X.shape == (0, 6)
