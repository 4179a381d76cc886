"""Where to look: a pool of decoded designs that evolves towards the ones most worth evaluating.

Every design is decoded, screened and featurised before it is scored, so the score is always that of
the design that would really be made, never that of the code it came from. (Scoring codes instead is
what misleads latent-space optimisers: see [Moss2025]_.) Moves are made in code space, from the
codes of the best designs: small steps, large steps, and crosses between two of them.

.. [Moss2025] H. B. Moss, S. W. Ober and T. Diethe, Return of the Latent Space COWBOYS: Re-thinking
   the use of VAEs for Bayesian Optimisation of Structured Spaces. ICML 2025.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from generators.base import EncodeError
from loop.front import counts, pareto_mask, utilities
from loop.problem import Problem
from loop.screening import screen_in
from loop.space import Design, DesignSpace

Score = Callable[[np.ndarray], np.ndarray]

_SIFTED_POWER = 4


def encodable(
    function: Callable[[list[Design]], np.ndarray], designs: Sequence[Design]
) -> tuple[np.ndarray, list[int]]:
    """Rows of `function` for the designs that an axis can represent, and their positions."""
    parts: list[np.ndarray] = []
    kept: list[int] = []
    left = list(range(len(designs)))
    while True:
        try:
            parts.append(function([designs[i] for i in left]))
            return np.vstack(parts), kept + left
        except EncodeError as error:
            good = left[: error.index]
            if good:
                parts.append(function([designs[i] for i in good]))
            kept, left = kept + good, left[error.index + 1 :]


class Pool:
    """Designs that passed the screen, no two with the same features.

    Where features follow from codes, designs are decoded only when they are asked for.

    Attributes:
        codes: n x width, what they are decoded from (nan for designs that were given).
        X: n x f features.
        origins: n words: how each was found.
        lost: codes that stand for no design, or for one that was refused.
        refused: how many designs each rule kept out.
        decoded: codes looked at so far.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        space = problem.space
        self._problem, self._seed = problem, seed
        self._designs: list[Design | None] = []
        self.codes = np.empty((0, space.width))
        self.X = np.empty((0, len(space.feature_names)))
        self.origins: list[str] = []
        self.lost = np.empty((0, space.width))
        self.refused: Counter[str] = Counter()
        self.decoded = 0
        self._fingerprints: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._designs)

    def design(self, i: int) -> Design:
        """Design i."""
        known = self._designs[i]
        if known is None:
            (known,) = self._problem.space.decode(self.codes[i : i + 1], self._seed)
            assert known is not None  # every code of a direct space is a design
            self._designs[i] = known
        return known

    def add(self, codes: np.ndarray, origin: str) -> None:
        """Keep the designs of codes that are valid and new to the pool."""
        if not len(codes):
            return
        self.decoded += len(codes)
        space = self._problem.space
        if space.direct:
            codes = codes[space.allowed(codes)]
            self._keep([None] * len(codes), codes, space.features_at(codes), origin)
            return
        found = space.decode(codes, self._seed)
        kept, refused = screen_in(found, space, self._problem.screen)
        self.refused += refused
        self.lost = np.vstack([self.lost, np.delete(codes, kept, axis=0)])
        self._encode([d for d in (found[i] for i in kept) if d is not None], codes[kept], origin)

    def add_designs(self, designs: Sequence[Design], origin: str) -> None:
        """Keep designs that pass the screen and are new to the pool; they have no codes."""
        kept, refused = screen_in(designs, self._problem.space, self._problem.screen)
        self.refused += refused
        nowhere = np.full((len(kept), self._problem.space.width), np.nan)
        self._encode([designs[i] for i in kept], nowhere, origin)

    def _encode(self, designs: list[Design], codes: np.ndarray, origin: str) -> None:
        X, encoded = encodable(self._problem.space.features, designs)
        self.refused["cannot be encoded"] += len(designs) - len(encoded)
        self._keep([designs[i] for i in encoded], codes[encoded], X, origin)

    def _keep(
        self, designs: Sequence[Design | None], codes: np.ndarray, X: np.ndarray, origin: str
    ) -> None:
        rows = []
        finite = np.isfinite(X).all(axis=1)
        for row, rounded in enumerate(np.round(X, 6) + 0.0):
            fingerprint = rounded.tobytes()
            if finite[row] and fingerprint not in self._fingerprints:
                self._fingerprints.add(fingerprint)
                rows.append(row)
        self._designs += [designs[row] for row in rows]
        self.codes = np.vstack([self.codes, codes[rows]])
        self.X = np.vstack([self.X, X[rows]])
        self.origins += [origin] * len(rows)


def good_rows(problem: Problem, outcomes: np.ndarray, n: int) -> list[int]:
    """Positions of the n most promising outcomes: front by front, then by least violation."""
    left = np.array(outcomes, dtype=np.float64)
    chosen: list[int] = []
    while len(chosen) < n and counts(problem, left).any():
        layer = np.flatnonzero(pareto_mask(problem, left))
        chosen += layer.tolist()
        left[layer] = np.nan
    known = np.isfinite(left).sum(axis=1) > 0
    violation = np.zeros(len(left))
    for c in problem.constraints:
        y = np.asarray(outcomes, dtype=np.float64)[:, problem.metrics.index(c.metric)]
        spread = float(np.nanstd(y)) if np.isfinite(y).any() else 0.0
        excess = np.maximum(y - c.bound if c.op == "<=" else c.bound - y, 0.0)
        violation += np.nan_to_num(excess, nan=np.inf) / (spread or 1.0)
    best = np.nan_to_num(utilities(problem, outcomes), nan=-np.inf)[:, 0]
    rest = [i for i in np.lexsort((-best, violation)) if known[i] and i not in chosen]
    return (chosen + [int(i) for i in rest])[:n]


def spread_out(X: np.ndarray, scores: np.ndarray, n: int, among: int) -> np.ndarray:
    """Of the `among` best rows the best one, then those farthest from each other: n positions."""
    elite = np.argsort(-scores, kind="stable")[:among]
    if len(elite) <= n:
        return elite
    points = X[elite] / np.maximum(X.std(axis=0), 1e-9)
    distance = np.full(len(elite), np.inf)
    chosen = [0]
    while len(chosen) < n:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(np.argmax(distance)))
    return elite[chosen]


def steps(n: int, bounds: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """N step sizes, uniform on a log scale: fine and coarse moves in one round."""
    return np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), n))


def explore(
    pool: Pool,
    space: DesignSpace,
    good: np.ndarray,
    *,
    jitter: int,
    cross: int,
    step: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    """Fill the pool with moves around good designs and crosses between them.

    Args:
        pool: filled in place.
        space: the design space.
        good: g x width codes.
        jitter: number of moves.
        cross: number of crosses (none where g < 2).
        step: smallest and largest step size.
        rng: the draws.
    """
    if not len(good):
        return
    origin = good[np.arange(jitter) % len(good)]
    pool.add(space.jitter(origin, steps(jitter, step, rng), rng), "jitter")
    if len(good) > 1:
        pairs = rng.integers(len(good), size=(cross, 2))
        pool.add(space.mix(good[pairs[:, 0]], good[pairs[:, 1]], rng), "crossover")


def sift(
    pool: Pool, space: DesignSpace, score: Score, *, n: int, draws: int, rng: np.random.Generator
) -> None:
    """Add to the pool those of many draws from the prior whose codes promise most.

    To decode a code, and to find out whether its design passes and what a surrogate sees of it,
    costs some forty times what a draw does. So the score is foretold from the code alone, by
    extremely randomised trees ([Geurts2006]_) that learn from the pool and from what was refused.
    All are draws from the prior still: unlike a climb on the score, this does not lead out to where
    only the surrogate's errors are.

    .. [Geurts2006] P. Geurts, D. Ernst and L. Wehenkel, Extremely randomized trees. Machine
       Learning 63, 2006.

    Args:
        pool: filled in place.
        space: the design space.
        score: of n x f features, n numbers; higher is better.
        n: draws that are decoded.
        draws: draws that are looked at.
        rng: the draws.
    """
    codes = space.prior(draws, rng)
    known = np.isfinite(pool.codes).all(axis=1)
    if known.any():
        from scipy.stats import rankdata
        from sklearn.ensemble import ExtraTreesRegressor

        # Ranks, since scores have no scale; their power, since only the best of them matter.
        rank = (rankdata(score(pool.X)[known]) / known.sum()) ** _SIFTED_POWER
        learnt = np.concatenate([rank, np.zeros(len(pool.lost))])
        trees = ExtraTreesRegressor(100, min_samples_leaf=3, random_state=int(rng.integers(2**31)))
        trees.fit(np.vstack([pool.codes[known], pool.lost]), learnt)
        codes = codes[np.argsort(-trees.predict(codes), kind="stable")]
    pool.add(codes[:n], "prior")


def evolve(
    pool: Pool,
    space: DesignSpace,
    score: Score,
    *,
    rounds: int,
    children: int,
    parents: int,
    step: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Move on from the pool's best designs, again and again.

    Args:
        pool: grows in place.
        space: the design space.
        score: features (q x f) to q scores, larger is better.
        rounds: times to repeat.
        children: moves a round; a quarter of them are crosses.
        parents: best designs that each round moves from, chosen apart from each other.
        step: smallest and largest step size.
        rng: the draws.

    Returns:
        Scores of the whole pool.
    """
    scores = score(pool.X)
    for _ in range(rounds):
        best = spread_out(pool.X, scores, parents, among=4 * parents)
        codes = pool.codes[best]
        if not len(codes):
            break
        moves = children - children // 4
        origin = codes[np.arange(moves) % len(codes)]
        pairs = rng.integers(len(codes), size=(children - moves, 2))
        before = len(pool)
        pool.add(space.jitter(origin, steps(moves, step, rng), rng), "local search")
        pool.add(space.mix(codes[pairs[:, 0]], codes[pairs[:, 1]], rng), "local search")
        scores = np.concatenate([scores, score(pool.X[before:])])
    return scores
