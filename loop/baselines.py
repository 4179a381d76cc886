"""Simple ways to choose among given designs: what a campaign should beat.

Random search, a random forest with a confidence bound, and evolution. Each has its usual defaults,
is not tuned, and is told the same as every other method.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loop.backtest.replay import Choice, Prediction
from loop.evolution import ranks
from loop.front import hypervolume, pareto_mask, reference_point, utilities
from loop.problem import Problem
from loop.proposal import History
from loop.space import Design


def _rng(seed: int, history: History, salt: int) -> np.random.Generator:
    return np.random.default_rng([seed, salt, len(history.designs)])


class Random:
    """Random search without replacement."""

    def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
        """N designs, each as likely as any other."""
        rows = _rng(seed, history, 1).choice(len(left), size=n, replace=False)
        return Choice([int(row) for row in rows])


class Forest:
    """A random forest per metric and a confidence bound (as in Liang 2021).

    Each metric has scikit-learn's `RandomForestRegressor` with its defaults (100 trees); mean and
    spread of the trees are its prediction. The score is the best that a design may hopefully be:
    mean and `weight` spreads for one objective; the hypervolume that this hopeful point would add
    to the front for several. Designs of which not even the hopeful bound satisfies a constraint
    come last. A batch is chosen one after the other, each time believing the mean of those chosen
    before (Ginsbourger 2010's kriging believer).

    Reference: Liang et al., npj Comput. Mater. 7, 188 (2021).
    """

    def __init__(self, problem: Problem, trees: int = 100, weight: float = 2.0) -> None:
        self._problem, self._trees, self._weight = problem, trees, weight

    def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
        """N designs, the most hopeful first."""
        space = self._problem.space
        X, pool = space.features(history.designs), space.features(left)
        Y, tie = np.asarray(history.outcomes), _rng(seed, history, 2)
        free, rows, predictions = np.ones(len(left), dtype=bool), [], []
        for step in range(n):
            mean, spread = self._predict(X, Y, pool, seed + step)
            scores = self._scores(Y, mean, spread)
            scores[~free] = -np.inf
            best = np.flatnonzero(scores == scores.max())
            row = int(tie.choice(best))
            rows.append(row)
            predictions.append(
                {
                    metric: Prediction(float(mean[row, j]), float(spread[row, j]))
                    for j, metric in enumerate(self._problem.metrics)
                }
            )
            free[row] = False
            X, Y = np.vstack([X, pool[row]]), np.vstack([Y, mean[row]])
        return Choice(rows, lambda: predictions)

    def _predict(
        self, X: np.ndarray, Y: np.ndarray, pool: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread of the trees: two arrays N x m."""
        from sklearn.ensemble import RandomForestRegressor

        means, spreads = [], []
        for y in Y.T:
            forest = RandomForestRegressor(self._trees, random_state=seed % 2**32, n_jobs=1)
            forest.fit(X, y)
            trees = np.stack([tree.predict(pool) for tree in forest.estimators_])
            means.append(trees.mean(axis=0))
            spreads.append(trees.std(axis=0))
        return np.stack(means, axis=1), np.stack(spreads, axis=1)

    def _scores(self, known: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
        problem, hope = self._problem, self._weight * spread
        hopeful = _hopeful(problem, mean, hope)
        values = utilities(problem, hopeful)
        if len(problem.objectives) == 1:
            scores = values[:, 0].copy()
        else:
            scores = _gains(problem, known, hopeful)
        lacking = _lacking(problem, mean, hope)
        scores[lacking > 0] = scores.min() - 1.0 - lacking[lacking > 0]
        return scores


def _hopeful(problem: Problem, mean: np.ndarray, hope: np.ndarray) -> np.ndarray:
    """Outcomes as good as may be hoped, N x m: the mean moved by at most `hope` to the better."""
    moved = mean.copy()
    for objective in problem.objectives:
        j = problem.metrics.index(objective.metric)
        if objective.target is not None:
            moved[:, j] += np.clip(objective.target - mean[:, j], -hope[:, j], hope[:, j])
        else:
            moved[:, j] += hope[:, j] if objective.goal == "maximize" else -hope[:, j]
    return moved


def _lacking(problem: Problem, mean: np.ndarray, hope: np.ndarray) -> np.ndarray:
    """By how much even the hopeful bounds miss the constraints: N numbers, in spreads of means."""
    lacking = np.zeros(len(mean))
    for constraint in problem.constraints:
        j = problem.metrics.index(constraint.metric)
        sign = 1.0 if constraint.op == "<=" else -1.0
        missed = sign * (mean[:, j] - constraint.bound) - hope[:, j]
        lacking += np.maximum(missed, 0.0) / (np.std(mean[:, j]) or 1.0)
    return lacking


def _gains(problem: Problem, known: np.ndarray, hopeful: np.ndarray) -> np.ndarray:
    """Hypervolume that each hopeful point would add; below zero (its distance) where none."""
    corner, _ = reference_point(problem, known)
    front = known[pareto_mask(problem, known)]
    held = known.copy()
    held = front if len(front) else held[:0]
    base = hypervolume(problem, held, corner)
    j_constraints = [problem.metrics.index(c.metric) for c in problem.constraints]
    gains = np.empty(len(hopeful))
    values = utilities(problem, hopeful)
    scale = np.ptp(values, axis=0)
    scale[scale == 0] = 1.0
    fronts = utilities(problem, held)
    for i, point in enumerate(hopeful):
        # Whether constraints hold is not this function's question.
        point = point.copy()
        for c, j in zip(problem.constraints, j_constraints, strict=True):
            point[j] = c.bound
        better = (values[i] > corner).all() and not (fronts >= values[i]).all(axis=1).any()
        if better:
            gains[i] = hypervolume(problem, np.vstack([held, point]), corner) - base
        else:
            gains[i] = 0.0
    short = np.full(len(hopeful), 0.0)
    if len(fronts):
        short = ((fronts[:, None] - values[None]) / scale).max(axis=2).min(axis=0)
    return np.where(gains > 0, gains, -np.maximum(short, 0.0))


class Evolution:
    """Mutants and crosses of the best designs, as near as there are any left.

    Parents win tournaments of three among the observed: feasible before infeasible, nearer to the
    front first. A child is a cross of two, then a step; the design that is left nearest to it, by
    features, is chosen.
    """

    def __init__(self, problem: Problem, step: float = 0.2) -> None:
        self._problem, self._step = problem, step

    def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
        """N designs, one for each child."""
        space, rng = self._problem.space, _rng(seed, history, 3)
        codes = space.encode(history.designs)
        rank = ranks(self._problem, history.outcomes)
        pool = space.features(left)
        scale = np.ptp(pool, axis=0)
        pool = pool / np.where(scale > 0, scale, 1.0)
        free, rows = np.ones(len(left), dtype=bool), list[int]()
        while len(rows) < n:
            pairs = [min(rng.integers(len(codes), size=3), key=lambda i: rank[i]) for _ in range(2)]
            child = space.mix(codes[pairs[:1]], codes[pairs[1:]], rng)
            child = space.jitter(child, np.array([self._step]), rng)
            (design,) = space.decode(child, int(rng.integers(2**31)))
            if design is None:
                continue
            x = space.features([design]) / np.where(scale > 0, scale, 1.0)
            distance = np.where(free, ((pool - x) ** 2).sum(axis=1), np.inf)
            row = int(np.argmin(distance))
            rows.append(row)
            free[row] = False
        return Choice(rows)
