"""Why a design was proposed: what is expected of it, how sure that is, what it is like.

Everything is worked out from the surrogate's marginal predictions and the designs tried so far, for
a person to judge a proposal by. What made the choice is the acquisition function; this says in
plain words what it saw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.explain_words import number, with_sentences
from loop.front import counts, feasible, utilities
from loop.problem import Problem
from loop.space import Design

if TYPE_CHECKING:
    from surrogates import Feasibility, Surrogate

SAMPLES = 512
MOST_INCUMBENTS = 256
"""Observed designs, the best by their readings, among which the incumbent is sought."""

SLIGHT = 1e-3
"""Expected improvement, as a share of the spread, below which there is all but none."""

EXPLORES, EXPLOITS = 2 / 3, 1 / 3
"""Shares of the expected improvement that are due to uncertainty: above, below."""


@dataclass(frozen=True)
class Outlook:
    """What is expected of one objective.

    Attributes:
        mean: predicted, in the metric's unit.
        sd: standard deviation of the prediction, noise not included.
        unit: of both.
        share_of_spread: `sd` as a share of the standard deviation of what was observed.
        best: the best of the feasible designs tried so far *by the surrogate's mean*, not by its
            reading, which may have been lucky. None while none counts, and of a level.
        gain: how much better than that (worse: below zero), in the metric's unit.
        chance: probability of being better than that.
    """

    mean: float
    sd: float
    unit: str
    share_of_spread: float
    best: float | None
    gain: float | None
    chance: float | None


@dataclass(frozen=True)
class Nearest:
    """The design tried so far that is most like a proposal.

    Attributes:
        row: its position among the known designs.
        name: what it is called.
        distance: root mean square difference of the features, each scaled to run from 0 to 1.
        typical: median distance of a tried design to the nearest other; None for a single one.
        outcomes: by metric, what was measured of it; None = not measured, or the trial failed.
    """

    row: int
    name: str
    distance: float
    typical: float | None
    outcomes: dict[str, float | None]


@dataclass(frozen=True)
class Explanation:
    """Why one design was proposed.

    Attributes:
        kind: `exploitation` (it is expected to be good), `exploration` (it is uncertain), `both`,
            `slight` (hardly any improvement is expected of it), `feasibility` (nothing satisfies
            the constraints yet: it may), `foretold` (chosen for what a generator foretells, before
            anything was measured that it could be compared with), `blind` (drawn without asking a
            surrogate).
        uncertainty_share: share of the expected improvement that is there only because the
            prediction is uncertain; None where there is nothing to improve on.
        expected_gain: expected improvement on the best so far, times the chances that the trial
            succeeds and satisfies the constraints, as a share of the spread (standard deviation) of
            what was observed. For several objectives the improvement is the least by which any
            known design is surpassed in its weakest point ([Svenson2016]_).
        serves: the objective that it serves most, of several.
        joins_front: of several objectives, whether by the surrogate's mean it satisfies the
            constraints and no known design is as good in all of them.
        outlook: by objective.
        constraints: by constraint as it is written, the probability of satisfying it.
        feasibility: probability that the trial succeeds.
        nearest: the most similar design so far.
        sentences: the same in words.

    .. [Svenson2016] J. Svenson and T. Santner, Multiobjective optimization of expensive-to-evaluate
       deterministic computer simulator models. Computational Statistics & Data Analysis 94, 2016.
    """

    kind: str
    uncertainty_share: float | None = None
    expected_gain: float | None = None
    serves: str | None = None
    joins_front: bool | None = None
    outlook: dict[str, Outlook] = field(default_factory=dict)
    constraints: dict[str, float] = field(default_factory=dict)
    feasibility: float | None = None
    nearest: Nearest | None = None
    sentences: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it, JSON-able; `text` is the sentences in one."""
        return {**asdict(self), "sentences": list(self.sentences), "text": " ".join(self.sentences)}


def explain_candidates(
    problem: Problem,
    designs: Sequence[Design],
    X: np.ndarray,
    outcomes: np.ndarray,
    surrogate: Surrogate | None,
    feasibility: Feasibility | None,
    candidates: Sequence[tuple[Design, np.ndarray]],
    names: Sequence[str] | None = None,
    *,
    blind: bool = False,
    foretold: bool = False,
) -> list[Explanation]:
    """Explain proposals.

    Args:
        problem: the goals.
        designs: n designs tried so far, failed ones too.
        X: n x f, their features.
        outcomes: n x m, in the order of `problem.metrics`; nan = not measured, or failed.
        surrogate: fitted to `problem.metrics`; None before there is one.
        feasibility: None before there is one.
        candidates: each a design and its f features.
        names: what the n designs are called; default: `DesignSpace.describe`.
        blind: whether they were drawn without asking the surrogate.
        foretold: whether the surrogate knows more of what a generator foretells than of results.
    """
    X, outcomes = np.asarray(X, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if not candidates:
        return []
    C = np.stack([np.asarray(x, dtype=np.float64) for _, x in candidates])
    nearest = _nearest(problem, designs, X, outcomes, C, names)
    chances: list[float | None] = [None] * len(C)
    if feasibility is not None:
        chances = [float(p) for p in feasibility.probability(C)]
    if surrogate is None:
        return [
            with_sentences(problem, Explanation("blind", feasibility=p, nearest=near))
            for p, near in zip(chances, nearest, strict=True)
        ]
    mean, sd = predicted(surrogate, C)
    known = _Incumbents(problem, X, outcomes, surrogate)
    found = []
    for i in range(len(C)):
        holds = _constraints(problem, mean[i], sd[i])
        explanation = known.explain(mean[i], sd[i], holds, chances[i], nearest[i], blind)
        if foretold and explanation.uncertainty_share is None:
            explanation = replace(explanation, kind="foretold")
        found.append(with_sentences(problem, explanation))
    return found


def predicted(surrogate: Surrogate, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation as numpy arrays: n x m each."""
    mean, variance = surrogate.posterior(X)
    # tensors, of a library that need not be imported here
    means, variances = (np.asarray(t.detach().cpu(), dtype=np.float64) for t in (mean, variance))
    return means, np.sqrt(np.maximum(variances, 0.0))


def spreads(problem: Problem, outcomes: np.ndarray) -> np.ndarray:
    """Standard deviation of what was observed of each of m metrics; one where it does not vary."""
    found = np.ones(len(problem.metrics))
    for j in range(len(found)):
        y = outcomes[np.isfinite(outcomes[:, j]), j]
        if len(y) > 1 and (sd := float(y.std(ddof=1))) > 0:
            found[j] = sd
    return found


def improvement(U: np.ndarray, front: np.ndarray) -> np.ndarray:
    """By how much utilities surpass each of F on a front in its weakest point: ... x k to ... ."""
    best = np.full(U.shape[:-1], np.inf)
    for point in front:
        best = np.minimum(best, (U - point).max(axis=-1))
    return np.maximum(best, 0.0)


class _Incumbents:
    """What a proposal is compared with: nothing where a level is sought, which none is best at."""

    def __init__(
        self, problem: Problem, X: np.ndarray, outcomes: np.ndarray, surrogate: Surrogate
    ) -> None:
        self._problem = problem
        self._spread = spreads(problem, outcomes)
        self._columns = [problem.metrics.index(o.metric) for o in problem.objectives]
        self._scale = self._spread[self._columns]
        rows = np.flatnonzero(counts(problem, outcomes) & (not problem.contour))
        if len(rows) > MOST_INCUMBENTS:
            order = np.argsort(-utilities(problem, outcomes[rows]), axis=0, kind="stable")
            each = max(1, MOST_INCUMBENTS // order.shape[1])
            rows = rows[np.unique(order[:each])]
        self._means = np.empty((0, len(problem.metrics)))
        if len(rows):
            self._means, _ = predicted(surrogate, X[rows])
        values = utilities(problem, self._means) / self._scale
        keep = [
            i
            for i, row in enumerate(values)
            if not ((values >= row).all(axis=1) & (values > row).any(axis=1)).any()
        ]
        self._values, self._front = values, values[keep]

    def explain(
        self,
        mean: np.ndarray,
        sd: np.ndarray,
        constraints: dict[str, float],
        feasibility: float | None,
        nearest: Nearest | None,
        blind: bool,
    ) -> Explanation:
        from scipy.special import ndtr

        problem = self._problem
        draws = mean + sd * _normal_points(SAMPLES, len(mean))
        U = utilities(problem, draws) / self._scale
        expected = (utilities(problem, mean[None]) / self._scale)[0]
        outlook = {}
        for k, (objective, j) in enumerate(zip(problem.objectives, self._columns, strict=True)):
            best = gain = chance = None
            if len(self._values):
                row = int(np.argmax(self._values[:, k]))
                best = float(self._means[row, j])
                gain = float((expected[k] - self._values[row, k]) * self._scale[k])
                chance = float((U[:, k] > self._values[row, k]).mean())
                if objective.target is None:
                    chance = float(ndtr(gain / max(float(sd[j]), 1e-300)))
            outlook[objective.metric] = Outlook(
                float(mean[j]), float(sd[j]), objective.unit, float(sd[j] / self._spread[j]),
                best, gain, chance,
            )  # fmt: skip
        if not len(self._front):
            kind = "feasibility" if constraints and not problem.contour else "exploration"
            return Explanation(
                "blind" if blind else kind,
                outlook=outlook, constraints=constraints, feasibility=feasibility, nearest=nearest,
            )  # fmt: skip
        sure = float(improvement(expected, self._front))
        hoped = float(improvement(U, self._front).mean())
        share = 1.0 if hoped <= 1e-12 else min(1.0, max(0.0, 1.0 - sure / hoped))
        kind = "exploration" if share > EXPLORES else "exploitation" if share < EXPLOITS else "both"
        likely = math.prod(constraints.values()) * (1.0 if feasibility is None else feasibility)
        if hoped * likely < SLIGHT:
            kind = "slight"
        return Explanation(
            "blind" if blind else kind,
            uncertainty_share=share,
            expected_gain=hoped * likely,
            serves=self._serves(expected),
            joins_front=None
            if len(expected) == 1
            else sure > 0 and bool(feasible(problem, mean[None])[0]),
            outlook=outlook,
            constraints=constraints,
            feasibility=feasibility,
            nearest=nearest,
        )

    def _serves(self, expected: np.ndarray) -> str | None:
        """The objective in which a design stands highest between the front's ends."""
        if len(expected) == 1:
            return None
        low, high = self._front.min(axis=0), self._front.max(axis=0)
        width = np.where(high > low, high - low, 1.0)
        return self._problem.objectives[int(np.argmax((expected - low) / width))].metric


def _normal_points(n: int, d: int) -> np.ndarray:
    """Points that fill a standard normal distribution evenly, the same each time: n x d.

    Roberts' sequence: multiples of the powers of the root of x^(d+1) = x + 1, which generalises the
    golden ratio.
    """
    from scipy.special import ndtri

    root = 2.0
    for _ in range(64):
        root = (1.0 + root) ** (1.0 / (d + 1))
    steps = root ** -np.arange(1.0, d + 1)
    return np.asarray(ndtri((0.5 + np.arange(1, n + 1)[:, None] * steps) % 1.0))


def _constraints(problem: Problem, mean: np.ndarray, sd: np.ndarray) -> dict[str, float]:
    from scipy.special import ndtr

    found = {}
    for c in problem.constraints:
        j = problem.metrics.index(c.metric)
        z = (c.bound - mean[j]) / max(float(sd[j]), 1e-300)
        text = f"{c.metric} {c.op} {number(c.bound, c.unit)}"
        found[text] = float(ndtr(z if c.op == "<=" else -z))
    return found


def _nearest(
    problem: Problem,
    designs: Sequence[Design],
    X: np.ndarray,
    outcomes: np.ndarray,
    C: np.ndarray,
    names: Sequence[str] | None,
) -> list[Nearest | None]:
    if not len(X):
        return [None] * len(C)
    every = np.vstack([X, C])
    width = np.ptp(every, axis=0)
    varies = width > 0
    root = math.sqrt(max(1, int(varies.sum())))
    known, asked = (part[:, varies] / width[varies] / root for part in (X, C))
    some = known[:: max(1, len(known) // 300)]
    typical = None
    if len(some) > 1:
        apart = np.linalg.norm(some[:, None] - some[None], axis=2) + np.diag([np.inf] * len(some))
        typical = float(np.median(apart.min(axis=1)))
    found: list[Nearest | None] = []
    for x in asked:
        distances = np.linalg.norm(known - x, axis=1)
        row = int(np.argmin(distances))
        found.append(
            Nearest(
                row,
                problem.space.describe(designs[row]) if names is None else names[row],
                float(distances[row]),
                typical,
                {
                    metric: float(y) if math.isfinite(y) else None
                    for metric, y in zip(problem.metrics, outcomes[row], strict=True)
                },
            )
        )
    return found
