"""What to try next: from everything observed to the next designs, without any state kept.

`propose` is a function of the problem, the history, the seed, the settings and the warm start: the
same five give the same designs bit for bit on one machine.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loop.acquisition import Acquisition, JointScore
from loop.front import reference_point
from loop.problem import Problem
from loop.screening import OXIDATION_STATES, Seen, screen
from loop.search import Pool, encodable, evolve, explore, good_rows
from loop.space import Design
from surrogates import Feasibility, Surrogate, feature_bounds, fit_feasibility, fit_surrogate


@dataclass(frozen=True)
class ProposalSettings:
    """How hard to look. The defaults decode about 2,800 codes a proposal.

    Attributes:
        initial: completed trials before the surrogate is asked; until then designs come from the
            prior.
        prior: codes drawn from the prior.
        jitter: moves around the best observed designs.
        cross: crosses between two of them.
        good: best observed designs to move from.
        rounds: rounds of local search on the acquisition.
        children: moves a round.
        trust: leave-one-out R2 that the surrogate of every goal needs for local search. Below it a
            search on the acquisition finds the surrogate's errors rather than good designs, and as
            many more codes are drawn from the prior in its place.
        parents: best pool designs that a round moves from.
        step: smallest and largest step size (1 = as good as a fresh draw from the prior).
        shortlist: designs that reach the exact acquisition.
        cheap_samples: Monte Carlo samples of the cheap score.
        exact_samples: Monte Carlo samples of the exact acquisition.
        max_draws: draws from the prior, per design wanted, before giving up on the screen.
        max_iter: cap on the surrogate's L-BFGS iterations.
    """

    initial: int = 8
    prior: int = 1000
    jitter: int = 500
    cross: int = 300
    good: int = 16
    rounds: int = 4
    children: int = 250
    trust: float = 0.7
    parents: int = 24
    step: tuple[float, float] = (0.03, 0.6)
    shortlist: int = 256
    cheap_samples: int = 64
    exact_samples: int = 128
    max_draws: int = 200
    max_iter: int = 75


@dataclass(frozen=True)
class History:
    """All trials so far, in the order of their numbers.

    Attributes:
        designs: n designs of the trials that ended.
        outcomes: n x m in the order of `problem.metrics`, in the metrics' units; nan = not
            measured.
        sem: n x m standard errors; nan = unknown.
        failed: n booleans: the trial failed, its row of outcomes is nan.
        pending: designs being evaluated, or waiting to be.
    """

    designs: list[Design]
    outcomes: np.ndarray
    sem: np.ndarray
    failed: np.ndarray
    pending: list[Design] = field(default_factory=list)


@dataclass(frozen=True)
class Candidate:
    """A design to try, and what was thought of it before the result.

    Attributes:
        design: a value for each axis.
        method: "prior", or the acquisition function's name.
        acquisition: log acquisition value, given the candidates before it; None for "prior".
        prediction: metric to (mean, standard deviation), noise not included; empty before there is
            a surrogate.
        feasibility: probability that the trial succeeds; None before there is a trial.
        latent: latent vector of the design as it will be made (encoded again), None without a
            latent axis or where encoding failed.
        notes: `origin` (how it was found) and `p_constraints` (probability of satisfying them).
    """

    design: Design
    method: str
    acquisition: float | None
    prediction: dict[str, tuple[float, float]]
    feasibility: float | None
    latent: list[float] | None
    notes: dict[str, Any]


@dataclass(frozen=True)
class Proposal:
    """The answer of `propose`.

    Attributes:
        candidates: at most n of them.
        surrogate_report: `Surrogate.report()`, None before there is a surrogate.
        warm_start: JSON-able, for the next call.
        notes: sentences for a person: why this method, what was inferred, what fell short.
        screened: how many decoded designs each rule of the screen refused.
    """

    candidates: list[Candidate]
    surrogate_report: dict[str, dict[str, Any]] | None
    warm_start: dict[str, Any] | None
    notes: list[str]
    screened: dict[str, int]


@dataclass
class _Known:
    """The history as a surrogate sees it: only designs whose features are known."""

    designs: list[Design]
    X: np.ndarray
    outcomes: np.ndarray
    sem: np.ndarray
    failed: np.ndarray
    pending_X: np.ndarray

    @property
    def completed(self) -> np.ndarray:
        return np.isfinite(self.outcomes).any(axis=1) & ~self.failed


def propose(
    problem: Problem,
    history: History,
    n: int,
    seed: int,
    warm_start: dict[str, Any] | None = None,
    settings: ProposalSettings | None = None,
) -> Proposal:
    """Choose the next n designs.

    Args:
        problem: where to look and what to want.
        history: everything tried so far.
        n: designs wanted. Fewer come back, with a note, where the screen leaves no more.
        seed: of every draw.
        warm_start: `Proposal.warm_start` of an earlier call; makes fitting faster.
        settings: how hard to look.

    Raises:
        ValueError: a history whose parts do not fit together, or n below one.
    """
    settings = settings or ProposalSettings()
    _check(problem, history, n)
    notes: list[str] = []
    known = _featurise(problem, history, notes)
    # The same campaign seed serves every batch: the history's length makes the draws differ.
    streams = np.random.SeedSequence([seed, len(history.designs), len(history.pending)]).spawn(3)
    seen = Seen(problem.space, [*history.designs, *history.pending])
    if problem.screen.charge_neutral:
        notes.append(f"charge neutrality by smact with the {OXIDATION_STATES} oxidation states")

    enough = int(known.completed.sum()) >= settings.initial
    every = bool((np.isfinite(known.outcomes[known.completed]).sum(axis=0) >= 2).all())
    if not (enough and every):
        why = f"{int(known.completed.sum())} completed, {settings.initial} wanted first"
        if enough:
            why = "a metric has fewer than two outcomes yet"
        notes.append(f"drawn from the prior: {why}")
        models = _Models(problem, known, None, warm_start, settings, seed, notes)
        return _from_prior(problem, n, seen, models, streams[0], settings, notes)

    pool = Pool(problem, seed=int(streams[1].generate_state(1)[0]))
    rng = np.random.default_rng(streams[2])
    pool.add(problem.space.prior(settings.prior, rng), "prior")
    models = _Models(problem, known, pool.X, warm_start, settings, seed, notes)
    assert models.surrogate is not None
    acquisition = Acquisition(
        problem,
        models.surrogate,
        known.X[known.completed],
        known.outcomes[known.completed],
        samples=settings.exact_samples,
        seed=seed % 2**31,
    )
    if not _informative(problem, models, acquisition):
        notes.append("drawn from the prior: no surrogate predicts better than the mean does")
        return _from_prior(problem, n, seen, models, streams[0], settings, notes)
    if acquisition.method == "qLogPF":
        notes.append("no design has satisfied the constraints yet: looking for one that does")
    elif len(problem.objectives) > 1:
        notes += reference_point(problem, known.outcomes)[1]

    rows = good_rows(problem, known.outcomes, settings.good)
    good, _ = encodable(problem.space.encode, [known.designs[i] for i in rows])
    explore(
        pool,
        problem.space,
        good,
        jitter=settings.jitter,
        cross=settings.cross,
        step=settings.step,
        rng=rng,
    )

    def score(X: np.ndarray) -> np.ndarray:
        return acquisition.cheap(X, settings.cheap_samples) + models.log_feasibility(X)

    rounds = settings.rounds
    doubted = _doubted(problem, models, settings.trust)
    if doubted:
        notes.append(f"no local search: what is known of {', '.join(doubted)} is too uncertain yet")
        pool.add(problem.space.prior(rounds * settings.children, rng), "prior")
        rounds = 0
    scores = evolve(
        pool,
        problem.space,
        score,
        rounds=rounds,
        children=settings.children,
        parents=settings.parents,
        step=settings.step,
        rng=rng,
    )
    joint = JointScore(acquisition, known.pending_X, seed % 2**31)
    chosen = _greedy(pool, scores, joint, models, seen, n, settings.shortlist)
    candidates = [
        models.candidate(
            pool.designs[i],
            pool.X[i],
            method=acquisition.method,
            acquisition=value,
            origin=pool.origins[i],
            chance=float(acquisition.chance(pool.X[i : i + 1])[0]),
        )
        for i, value in chosen
    ]
    notes.append(f"chosen from {len(pool)} designs that {pool.decoded} codes decoded to")
    return _answer(candidates, n, models, notes, pool.refused)


def _check(problem: Problem, history: History, n: int) -> None:
    rows, m = len(history.designs), len(problem.metrics)
    shapes = (np.shape(history.outcomes), np.shape(history.sem), np.shape(history.failed))
    if shapes != ((rows, m), (rows, m), (rows,)):
        raise ValueError(
            f"{rows} designs and {m} metrics: wanted outcomes and sem of shape {(rows, m)} and"
            f" failed of shape {(rows,)}, not {shapes}"
        )
    if n < 1:
        raise ValueError(f"a proposal has one design or more, not {n}")


def _featurise(problem: Problem, history: History, notes: list[str]) -> _Known:
    X, kept = encodable(problem.space.features, history.designs)
    pending_X, _ = encodable(problem.space.features, history.pending)
    if len(kept) < len(history.designs):
        lost = len(history.designs) - len(kept)
        notes.append(f"left out of the surrogate: {lost} observed designs that cannot be encoded")
    return _Known(
        [history.designs[i] for i in kept],
        X,
        np.asarray(history.outcomes, dtype=np.float64)[kept],
        np.asarray(history.sem, dtype=np.float64)[kept],
        np.asarray(history.failed, dtype=bool)[kept],
        pending_X,
    )


class _Models:
    """What is known, fitted: surrogate (where every metric has outcomes) and feasibility."""

    surrogate: Surrogate | None = None
    feasibility: Feasibility | None = None

    def __init__(
        self,
        problem: Problem,
        known: _Known,
        reachable: np.ndarray | None,
        warm_start: dict[str, Any] | None,
        settings: ProposalSettings,
        seed: int,
        notes: list[str],
    ) -> None:
        self._problem = problem
        done, ended = known.completed, known.completed | known.failed
        if not ended.any():
            return
        around = known.X if reachable is None else np.vstack([known.X, reachable])
        bounds = feature_bounds(around)
        self.feasibility = fit_feasibility(known.X[ended], ~known.failed[ended], bounds=bounds)
        if self.feasibility.informative:
            notes.append(
                f"{int(known.failed.sum())} of {int(ended.sum())} trials failed: designs like those"
                " count for less"
            )
        if (np.isfinite(known.outcomes[done]).sum(axis=0) >= 2).all():
            self.surrogate = fit_surrogate(
                known.X[done],
                known.outcomes[done],
                known.sem[done],
                metrics=problem.metrics,
                seed=seed,
                warm_start=warm_start,
                max_iter=settings.max_iter,
                bounds=bounds,
                guides=_guides(problem),
            )

    def log_feasibility(self, X: np.ndarray) -> np.ndarray:
        """Log probability that each of q trials succeeds."""
        if self.feasibility is None:
            return np.zeros(len(X))
        return np.log(self.feasibility.probability(X))

    def candidate(
        self,
        design: Design,
        x: np.ndarray,
        *,
        method: str,
        acquisition: float | None,
        origin: str,
        chance: float | None,
    ) -> Candidate:
        """A design with all that is thought of it."""
        prediction = {}
        if self.surrogate is not None:
            mean, variance = self.surrogate.posterior(x[None])
            sd = variance.sqrt()
            prediction = {
                metric: (float(mean[0, j]), float(sd[0, j]))
                for j, metric in enumerate(self._problem.metrics)
            }
        notes: dict[str, Any] = {"origin": origin}
        if chance is not None and self._problem.constraints:
            notes["p_constraints"] = chance
        feasibility = None
        if self.feasibility is not None:
            feasibility = float(self.feasibility.probability(x[None])[0])
        latent, encoded = encodable(self._problem.space.latent, [design])
        return Candidate(
            design,
            method,
            acquisition,
            prediction,
            feasibility,
            latent[0].tolist() if encoded and latent.shape[1] else None,
            notes,
        )


def _guides(problem: Problem) -> list[int | None]:
    """For each metric the feature named `predicted_METRIC`, by which a generator foretells it."""
    names = [name.rsplit(".", 1)[-1] for name in problem.space.feature_names]
    wanted = [f"predicted_{metric}" for metric in problem.metrics]
    return [names.index(w) if w in names else None for w in wanted]


def _informative(problem: Problem, models: _Models, acquisition: Acquisition) -> bool:
    """Whether one of the metrics that decide now is predicted better than by its mean."""
    assert models.surrogate is not None
    report = models.surrogate.report()
    goals = problem.constraints if acquisition.method == "qLogPF" else problem.objectives
    return any(report[goal.metric]["informative"] for goal in goals)


def _doubted(problem: Problem, models: _Models, trust: float) -> list[str]:
    """Metrics whose surrogate explains less than a share `trust` of their spread."""
    assert models.surrogate is not None
    report = models.surrogate.report()
    return [metric for metric in problem.metrics if (report[metric]["loo_r2"] or 0.0) < trust]


def _from_prior(
    problem: Problem,
    n: int,
    seen: Seen,
    models: _Models,
    stream: np.random.SeedSequence,
    settings: ProposalSettings,
    notes: list[str],
) -> Proposal:
    """Draw designs from the prior until n pass the screen."""
    refused: Counter[str] = Counter()
    candidates: list[Candidate] = []
    size = max(16, 4 * n)
    for chunk_seed in stream.generate_state(max(1, settings.max_draws * n // size)):
        drawn = problem.space.sample(size, int(chunk_seed))
        kept, why = screen(drawn, problem.screen)
        refused += why
        for i in kept:
            design = drawn[i]
            assert design is not None
            refusal = seen.check(design)
            if refusal is not None:
                refused[refusal.rule] += 1
                continue
            x, encoded = encodable(problem.space.features, [design])
            if not encoded:
                refused["cannot be encoded"] += 1
                continue
            seen.add(design)
            candidates.append(
                models.candidate(
                    design, x[0], method="prior", acquisition=None, origin="prior", chance=None
                )
            )
            if len(candidates) == n:
                return _answer(candidates, n, models, notes, refused)
    return _answer(candidates, n, models, notes, refused)


def _greedy(
    pool: Pool,
    scores: np.ndarray,
    joint: JointScore,
    models: _Models,
    seen: Seen,
    n: int,
    shortlist: int,
) -> list[tuple[int, float]]:
    """Pick n designs one after the other, each by the exact score given those before it.

    Whether a design was seen before is asked only of those about to be picked: comparing crystals
    costs more than scoring them.
    """
    ranking = np.argsort(-scores, kind="stable")
    alive, waiting = list(ranking[:shortlist]), list(ranking[shortlist:])
    chosen: list[tuple[int, float]] = []
    while len(chosen) < n and alive:
        X = pool.X[alive]
        values = joint(X) + models.log_feasibility(X)
        for position in np.argsort(-values, kind="stable"):
            i = int(alive[position])
            alive[position] = -1
            refusal = seen.check(pool.designs[i])
            if refusal is None:
                chosen.append((i, float(values[position])))
                seen.add(pool.designs[i])
                joint.add(pool.X[i])
                break
            pool.refused[refusal.rule] += 1
        alive = [i for i in alive if i >= 0]
        if not alive:
            alive, waiting = waiting[:shortlist], waiting[shortlist:]
    return chosen


def _answer(
    candidates: list[Candidate], n: int, models: _Models, notes: list[str], refused: Counter[str]
) -> Proposal:
    if len(candidates) < n:
        why = ", ".join(f"{count} {rule}" for rule, count in refused.most_common()) or "none left"
        notes.append(f"only {len(candidates)} of {n} designs found (refused: {why})")
    surrogate = models.surrogate
    return Proposal(
        candidates,
        None if surrogate is None else surrogate.report(),
        None if surrogate is None else surrogate.state(),
        notes,
        {rule: count for rule, count in refused.items() if count},
    )
