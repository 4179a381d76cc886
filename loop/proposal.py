"""What to try next: from everything observed to the next designs, without any state kept.

`propose` is a function of the problem, the history, the seed, the settings and the warm start: the
same five give the same designs bit for bit on one machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from loop.acquisition import Acquisition, Strategy
from loop.beliefs import Beliefs
from loop.explain import explain_candidates
from loop.front import reference_point
from loop.problem import Problem
from loop.screening import OXIDATION_STATES, Seen, screen
from loop.polish import polish
from loop.pooling import best_of_all
from loop.search import Pool, encodable, evolve, explore, good_rows, spread_out
from loop.space import Design, DesignSpace
from surrogates import Feasibility, Surrogate, feature_bounds, fit_feasibility, fit_surrogate


if TYPE_CHECKING:
    from loop.joint import JointScore


@dataclass(frozen=True)
class ProposalSettings:
    """How hard to look. The defaults look at about 2,800 codes a proposal.

    Attributes:
        strategy: what a design's worth is (see `acquisition`).
        initial: completed trials before the surrogate is asked; until then designs fill the space.
            None = 8 with a latent axis; else as many as there are groups of features, 3 to 5.
        prior: codes drawn from the prior.
        jitter: moves around the best observed designs.
        cross: crosses between two of them.
        good: best observed designs to move from.
        rounds: rounds of local search on the acquisition.
        children: moves a round.
        trust: leave-one-out R2 that the surrogate of every goal needs for local search in a latent
            space. Below it a search on the acquisition finds the surrogate's errors rather than
            good designs, and as many more codes are drawn from the prior in its place.
        doubt: completed trials from which on a surrogate that predicts no better than the mean is
            no longer followed: designs are then chosen where least is known.
        parents: best pool designs that a round moves from.
        step: smallest and largest step size (1 = as good as a fresh draw from the prior).
        polish: steps uphill on the gradient, in spaces that have one.
        shortlist: designs that are compared when a batch is chosen.
        enumerate: spaces with at most so many designs are looked at whole, whatever their kind.
        samples: Monte Carlo samples of an expected improvement.
        joint_samples: Monte Carlo samples of BoTorch's joint acquisition.
        max_draws: draws from the prior, per design wanted, before giving up on the screen.
        max_iter: cap on the surrogate's L-BFGS iterations.
    """

    strategy: Strategy = "portfolio"
    initial: int | None = None
    prior: int = 1000
    jitter: int = 500
    cross: int = 300
    good: int = 16
    rounds: int = 4
    children: int = 250
    trust: float = 0.7
    doubt: int = 12
    parents: int = 24
    step: tuple[float, float] = (0.03, 0.6)
    polish: int = 40
    shortlist: int = 1000
    enumerate: int = 2_000_000
    samples: int = 64
    joint_samples: int = 128
    max_draws: int = 200
    max_iter: int = 75

    def first(self, space: DesignSpace) -> int:
        """Completed trials before the surrogate is asked."""
        if self.initial is not None:
            return self.initial
        return min(5, max(3, 1 + max(space.feature_groups))) if space.direct else 8


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
        source: n numbers: 0 = this campaign, 1 and up = others (earlier campaigns, cheaper levels
            of theory), from which the surrogate learns and which count for nothing else. None =
            all 0.
        names: n names for a person, such as "MgO (trial 3)".
    """

    designs: list[Design]
    outcomes: np.ndarray
    sem: np.ndarray
    failed: np.ndarray
    pending: list[Design] = field(default_factory=list)
    source: np.ndarray | None = None
    names: list[str] | None = None


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
        notes: `origin` (how it was found), `p_constraints` (probability of satisfying them),
            `predictive_sd` (metric to the standard deviation of a reading, noise included),
            `expected_gain` (a share of what was observed, see `Acquisition.expected_gain`) and
            `why` (an `Explanation` as data).
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
    source: np.ndarray
    names: list[str] | None

    @property
    def measured(self) -> np.ndarray:
        return np.isfinite(self.outcomes).any(axis=1) & ~self.failed

    @property
    def completed(self) -> np.ndarray:
        return self.measured & (self.source == 0)


def propose(
    problem: Problem,
    history: History,
    n: int,
    seed: int,
    warm_start: dict[str, Any] | None = None,
    settings: ProposalSettings | None = None,
    among: Sequence[Design] | None = None,
) -> Proposal:
    """Choose the next n designs.

    Args:
        problem: where to look and what to want.
        history: everything tried so far.
        n: designs wanted. Fewer come back, with a note, where the screen leaves no more.
        seed: of every draw.
        warm_start: `Proposal.warm_start` of an earlier call; makes fitting faster.
        settings: how hard to look.
        among: choose from these designs only (those that were tried already are passed over).
            None = from the whole space.

    Raises:
        ValueError: a history whose parts do not fit together, or n below one.
    """
    settings = settings or ProposalSettings()
    _check(problem, history, n)
    notes: list[str] = []
    known = _featurise(problem, history, notes)
    # The same campaign seed serves every batch: the history's length makes the draws differ.
    streams = np.random.SeedSequence([seed, len(history.designs), len(history.pending)]).spawn(3)
    ours = np.flatnonzero(_source(history) == 0)
    seen = Seen(problem.space, [*(history.designs[i] for i in ours), *history.pending])
    if problem.screen.charge_neutral:
        notes.append(f"charge neutrality by smact with the {OXIDATION_STATES} oxidation states")

    pool = Pool(problem, seed=int(streams[1].generate_state(1)[0]))
    rng = np.random.default_rng(streams[2])
    first = settings.first(problem.space)
    enough = int(known.completed.sum()) >= first
    every = bool((np.isfinite(known.outcomes[known.completed]).sum(axis=0) >= 2).all())
    if among is not None:
        pool.add_designs([d for d in among if seen.check(d) is None], "given")
    if not (enough and every):
        why = f"{int(known.completed.sum())} completed, {first} wanted first"
        if enough:
            why = "a metric has fewer than two outcomes yet"
        notes.append(f"drawn from the prior: {why}")
        models = _Models(problem, known, None, warm_start, settings, seed, notes)
        if among is not None or problem.space.direct:
            if among is None:
                pool.add(problem.space.prior(settings.prior, rng), "prior")
            return _spread(problem, n, known, pool, models, seen, notes)
        return _from_prior(problem, n, seen, models, streams[0], settings, notes)

    whole = among is None and problem.space.size is not None
    whole = whole and (problem.space.size or 0) <= settings.enumerate
    if among is None:
        pool.add(problem.space.prior(settings.prior, rng), "prior")
    models = _Models(problem, known, pool.X, warm_start, settings, seed, notes)
    assert models.surrogate is not None
    strategy, informative = settings.strategy, _informative(problem, models, known, settings)
    if not informative:
        strategy = "uncertainty"
        notes.append(
            "chosen where least is known: no surrogate predicts better than the mean does, so"
            " designs fill the space"
        )
    acquisition = Acquisition(
        problem,
        models.surrogate,
        known.X[known.completed],
        known.outcomes[known.completed],
        strategy=strategy,
        samples=settings.samples,
        seed=seed % 2**31,
    )
    if acquisition.constrained:
        notes.append("no design has satisfied the constraints yet: looking for one that does")
    elif len(problem.objectives) > 1:
        notes += reference_point(problem, known.outcomes[known.completed])[1]
    turn = len(ours) + len(history.pending)

    def score(X: np.ndarray, at: int = turn) -> np.ndarray:
        return models.score(acquisition, X, at)

    if whole:
        best_of_all(pool, problem.space, [lambda X: score(X, turn), lambda X: score(X, turn + 1)],
                    settings.shortlist)  # fmt: skip
        pool_scores = score(pool.X)
    elif among is None:
        pool_scores = _search(problem, known, pool, models, acquisition, settings, rng, turn, notes)
    chosen = _greedy(known, pool, acquisition, models, seen, n, settings, turn, seed)
    candidates = [
        models.candidate(
            pool.design(i),
            pool.X[i],
            method=acquisition.name(turn + number),
            acquisition=value,
            origin=pool.origins[i],
            expected=acquisition,
        )
        for number, (i, value) in enumerate(chosen)
    ]
    notes.append(f"chosen from {len(pool)} designs of {pool.decoded or len(pool)} looked at")
    return _answer(candidates, n, models, known, notes, pool.refused)


def _search(
    problem: Problem,
    known: _Known,
    pool: Pool,
    models: _Models,
    acquisition: Acquisition,
    settings: ProposalSettings,
    rng: np.random.Generator,
    turn: int,
    notes: list[str],
) -> np.ndarray:
    """Fill the pool with what is worth most: moves from good designs, evolution, uphill steps."""
    space = problem.space
    completed = np.flatnonzero(known.completed)
    rows = completed[good_rows(problem, known.outcomes[completed], settings.good)]
    good, _ = encodable(space.encode, [known.designs[i] for i in rows])
    explore(
        pool, space, space.project(good), jitter=settings.jitter, cross=settings.cross,
        step=settings.step, rng=rng,
    )  # fmt: skip
    rounds = settings.rounds
    doubted = [] if space.direct else _doubted(problem, models, settings.trust)
    if doubted:
        notes.append(f"no local search: what is known of {', '.join(doubted)} is too uncertain yet")
        pool.add(space.prior(rounds * settings.children, rng), "prior")
        rounds = 0
    for at in range(2):  # a portfolio looks in turn for one thing and another
        evolve(
            pool,
            space,
            lambda X, at=at: models.score(acquisition, X, turn + at),
            rounds=rounds // 2,
            children=settings.children,
            parents=settings.parents,
            step=settings.step,
            rng=rng,
        )
    assert models.surrogate is not None
    surrogate = models.surrogate
    if space.direct and space.smooth and surrogate.smooth:
        for at in range(2):
            values = models.score(acquisition, pool.X, turn + at)
            starts = spread_out(pool.X, values, 16, among=64)

            def uphill(X: torch.Tensor, at: int = at) -> torch.Tensor:
                answers = [m.marginal(surrogate.unit(X)) for m in surrogate.models]
                mean = torch.stack([a[0] for a in answers], -1)
                variance = torch.stack([a[1] for a in answers], -1)
                return acquisition.score(mean, variance, turn + at)

            like = surrogate.scales
            pool.add(polish(space, pool.codes[starts], uphill, settings.polish, like), "gradient")
    return models.score(acquisition, pool.X, turn)


def _check(problem: Problem, history: History, n: int) -> None:
    rows, m = len(history.designs), len(problem.metrics)
    shapes = (np.shape(history.outcomes), np.shape(history.sem), np.shape(history.failed))
    if shapes != ((rows, m), (rows, m), (rows,)):
        raise ValueError(
            f"{rows} designs and {m} metrics: wanted outcomes and sem of shape {(rows, m)} and"
            f" failed of shape {(rows,)}, not {shapes}"
        )
    if _source(history).shape != (rows,) or (_source(history) < 0).any():
        raise ValueError(f"source: wanted {rows} numbers of 0 or more")
    if np.isinf(np.asarray(history.outcomes, dtype=np.float64)).any():
        raise ValueError("an outcome is infinite; nan stands for one that was not measured")
    if n < 1:
        raise ValueError(f"a proposal has one design or more, not {n}")


def _source(history: History) -> np.ndarray:
    rows = len(history.designs)
    return np.zeros(rows, int) if history.source is None else np.asarray(history.source, int)


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
        _source(history)[kept],
        None if history.names is None else [history.names[i] for i in kept],
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
        self._problem, self._known = problem, known
        done, ended = known.measured, (known.measured | known.failed) & (known.source == 0)
        if not ended.any():
            return
        around = known.X if reachable is None else np.vstack([known.X, reachable])
        # Codes of a latent space have tails; those of other axes end where the axis ends.
        bounds = feature_bounds(around, tail=0.0 if problem.space.direct else 0.02)
        self.feasibility = fit_feasibility(known.X[ended], ~known.failed[ended], bounds=bounds)
        if self.feasibility.informative:
            notes.append(
                f"{int(known.failed.sum())} of {int(ended.sum())} trials failed: designs like those"
                " count for less"
            )
        if (np.isfinite(known.outcomes[known.completed]).sum(axis=0) >= 2).all():
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
                groups=problem.space.feature_groups,
                source=known.source[done],
            )

    def score(self, acquisition: Acquisition, X: np.ndarray, turn: int) -> np.ndarray:
        """Log worth of q designs before any of a batch is chosen."""
        assert self.surrogate is not None
        with torch.no_grad():
            unit = self.surrogate.unit(X)
            answers = [m.marginal(unit) for m in self.surrogate.models]
            mean = torch.stack([a[0] for a in answers], -1)
            variance = torch.stack([a[1] for a in answers], -1)
            value = acquisition.score(mean, variance, turn).cpu().numpy()
        return value + self.log_feasibility(X)

    def log_feasibility(self, X: np.ndarray) -> np.ndarray:
        """Log probability that each of q trials succeeds."""
        if self.feasibility is None:
            return np.zeros(len(X))
        return np.log(self.feasibility.probability(X))

    def explain(self, candidates: list[Candidate], blind: bool) -> None:
        """Note with each candidate why it was chosen."""
        known = self._known
        X, kept = encodable(self._problem.space.features, [c.design for c in candidates])
        rows = np.flatnonzero(known.source == 0)
        told = explain_candidates(
            self._problem,
            [known.designs[i] for i in rows],
            known.X[rows],
            known.outcomes[rows],
            self.surrogate,
            self.feasibility,
            [(candidates[i].design, x) for i, x in zip(kept, X, strict=True)],
            None if known.names is None else [known.names[i] for i in rows],
            blind=blind,
        )
        for i, explanation in zip(kept, told, strict=True):
            candidates[i].notes["why"] = explanation.as_dict()

    def candidate(
        self,
        design: Design,
        x: np.ndarray,
        *,
        method: str,
        acquisition: float | None,
        origin: str,
        expected: Acquisition | None = None,
    ) -> Candidate:
        """A design with all that is thought of it."""
        prediction = {}
        notes: dict[str, Any] = {"origin": origin}
        if self.surrogate is not None:
            mean, variance = self.surrogate.posterior(x[None])
            sd, noisy = variance.sqrt(), self.surrogate.predictive_sd(x[None])
            metrics = list(enumerate(self._problem.metrics))
            prediction = {metric: (float(mean[0, j]), float(sd[0, j])) for j, metric in metrics}
            notes["predictive_sd"] = {metric: float(noisy[0, j]) for j, metric in metrics}
        if expected is not None:
            believed = Beliefs(expected.surrogate, x[None])
            if self._problem.constraints:
                chance = expected.log_chance(believed.mean, believed.variance).exp()
                notes["p_constraints"] = float(chance[0])
            gain = float(expected.expected_gain(believed.mean, believed.variance)[0])
            notes["expected_gain"] = gain if np.isfinite(gain) else None
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


def _informative(
    problem: Problem, models: _Models, known: _Known, settings: ProposalSettings
) -> bool:
    """Whether one of the metrics that decide is predicted better than by its mean.

    With few outcomes that cannot be told, and the surrogate is followed: where it knows nothing it
    is as uncertain everywhere.
    """
    assert models.surrogate is not None
    if int(known.completed.sum()) < settings.doubt:
        return True
    report = models.surrogate.report()
    return any(report[metric]["informative"] for metric in problem.metrics)


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
                models.candidate(design, x[0], method="prior", acquisition=None, origin="prior")
            )
            if len(candidates) == n:
                return _answer(candidates, n, models, None, notes, refused)
    return _answer(candidates, n, models, None, notes, refused)


def _spread(
    problem: Problem,
    n: int,
    known: _Known,
    pool: Pool,
    models: _Models,
    seen: Seen,
    notes: list[str],
) -> Proposal:
    """Designs of the pool, each the farthest from all that were tried or chosen before it."""
    span = np.maximum(np.ptp(pool.X, axis=0), 1e-9) if len(pool) else 1.0
    points = pool.X / span
    tried = np.vstack([known.X[known.source == 0], known.pending_X]) / span
    center = np.median(points, axis=0, keepdims=True) if len(pool) else points
    distance = -((points - center) ** 2).sum(1) - 1e9  # the first of all is in the middle
    for x in tried:
        fresh = ((points - x) ** 2).sum(1)
        distance = np.where(distance < -1e8, fresh, np.minimum(distance, fresh))
    candidates: list[Candidate] = []
    while len(candidates) < n and len(pool) and np.isfinite(distance).any():
        i = int(np.argmax(distance))
        fresh = ((points - points[i]) ** 2).sum(1)
        design = pool.design(i)
        refusal = seen.check(design)
        if refusal is None:
            seen.add(design)
            candidates.append(
                models.candidate(
                    design, pool.X[i], method="prior", acquisition=None, origin=pool.origins[i]
                )
            )
            distance = np.where(distance < -1e8, fresh, np.minimum(distance, fresh))
        else:
            pool.refused[refusal.rule] += 1
        distance[i] = -np.inf
    return _answer(candidates, n, models, None, notes, pool.refused)


def _greedy(
    known: _Known,
    pool: Pool,
    acquisition: Acquisition,
    models: _Models,
    seen: Seen,
    n: int,
    settings: ProposalSettings,
    turn: int,
    seed: int,
) -> list[tuple[int, float]]:
    """Pick n designs one after the other, each given those before it and those being evaluated.

    Whether a design was seen before is asked only of those about to be picked: comparing crystals
    costs more than scoring them.
    """
    assert models.surrogate is not None
    ranking: list[int] = []
    for at in range(2):
        values = models.score(acquisition, pool.X, turn + at)
        ranking += np.argsort(-values, kind="stable")[: settings.shortlist].tolist()
    rows = np.array(list(dict.fromkeys(ranking)), dtype=int)
    pending = known.pending_X
    with torch.no_grad():
        beliefs = Beliefs(models.surrogate, np.vstack([pool.X[rows], pending]))

        def believe(i: int) -> None:
            chance = acquisition.log_chance(beliefs.mean[i], beliefs.variance[i])
            beliefs.believe(i)
            if float(chance) > np.log(0.5):
                acquisition.believe(beliefs.mean[i])

        for i in range(len(rows), len(rows) + len(pending)):
            believe(i)
        feasible = models.log_feasibility(pool.X[rows])
        joint = _joint(acquisition, known, settings, seed)
        alive = np.ones(len(rows), dtype=bool)
        chosen: list[tuple[int, float]] = []
        while len(chosen) < n and alive.any():
            mean, variance = beliefs.mean[: len(rows)], beliefs.variance[: len(rows)]
            if acquisition.strategy == "thompson" and not acquisition.constrained:
                mean = beliefs.draw(np.arange(len(rows)), seed % 2**31 + len(chosen))
            values = acquisition.score(mean, variance, turn + len(chosen)).cpu().numpy() + feasible
            if joint is not None:
                values = joint.rescored(pool.X[rows], values, alive, feasible)
            values[~alive] = -np.inf
            best = None
            for i in np.argsort(-values, kind="stable"):
                if not alive[i]:
                    break
                alive[i] = False
                refusal = seen.check(pool.design(int(rows[i])))
                if refusal is None:
                    best = int(i)
                    break
                pool.refused[refusal.rule] += 1
            if best is None:
                break
            chosen.append((int(rows[best]), float(values[best])))
            seen.add(pool.design(int(rows[best])))
            believe(best)
            if joint is not None:
                joint.add(pool.X[rows[best]])
    return chosen


def _joint(
    acquisition: Acquisition, known: _Known, settings: ProposalSettings, seed: int
) -> JointScore | None:
    if acquisition.strategy != "joint" or acquisition.constrained:
        return None
    from loop.joint import JointScore

    X = known.X[known.completed]
    return JointScore(acquisition, X, known.pending_X, settings.joint_samples, seed % 2**31)


def _answer(
    candidates: list[Candidate],
    n: int,
    models: _Models,
    known: _Known | None,
    notes: list[str],
    refused: Counter[str],
) -> Proposal:
    if len(candidates) < n:
        why = ", ".join(f"{count} {rule}" for rule, count in refused.most_common()) or "none left"
        notes.append(f"only {len(candidates)} of {n} designs found (refused: {why})")
    surrogate = models.surrogate
    models.explain(candidates, blind=known is None)
    if surrogate is not None:
        for metric, told in surrogate.report().items():
            notes += [f"{metric}: {note}" for note in told["notes"]]
    return Proposal(
        candidates,
        None if surrogate is None else surrogate.report(),
        None if surrogate is None else surrogate.state(),
        notes,
        {rule: count for rule, count in refused.items() if count},
    )
