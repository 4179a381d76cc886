"""What to try next: from everything observed to the next designs, without any state kept.

`propose` is a function of the problem, the history, the seed, the settings and the warm start: the
same five give the same designs bit for bit on one machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from loop import hedge, trust
from loop.acquisition import WITHOUT_SURROGATE, Acquisition, Strategy
from loop.beliefs import Beliefs
from loop.explain import explain_candidates
from loop.fidelities import Fidelity, Left, at_target, own, pending_sources, sources_of
from loop.fidelity_rule import (
    Chosen,
    FidelityRule,
    SourcesKnown,
    agreements,
    foretold,
    note,
)
from loop.fitted import bounds_of, fitted, guides
from loop.front import reference_point
from loop.polish import polish
from loop.pooling import CHUNK, best_of_all
from loop.predicted import told
from loop.problem import Problem
from loop.screening import OXIDATION_STATES, Seen, screen_in
from loop.search import Pool, encodable, evolve, explore, good_rows, sift, spread_out
from loop.space import Design, DesignSpace
from surrogates import Feasibility, Surrogate, fit_feasibility

if TYPE_CHECKING:
    from loop.joint import JointScore
    from loop.preference import Preference

PREFERENCES = 3
"""Pairs that a person has to rank before they choose in place of hypervolume."""


@dataclass(frozen=True)
class ProposalSettings:
    """How hard to look. The defaults look at about 2,800 codes a proposal.

    Attributes:
        strategy: what a design's worth is (see `acquisition`).
        initial: completed trials before the surrogate is asked; until then designs fill the space.
            None = 8 with a latent axis; else as many as there are groups of features, 3 to 5.
            With None, a generator that foretells every metric is asked from the first trial on.
        prior: codes drawn from the prior.
        jitter: moves around the best observed designs.
        cross: crosses between two of them.
        good: best observed designs to move from.
        rounds: rounds of local search on the acquisition.
        children: moves a round.
        trust: leave-one-out R2 that the surrogate of every goal needs for local search in a latent
            space. Below it a search on the acquisition finds the surrogate's errors rather than
            good designs, and the most promising draws from the prior are taken in its place.
        sifted: draws that are looked at for each of these that is decoded (see `sift`).
        doubt: completed trials from which on a surrogate that predicts no better than the mean is
            no longer followed: designs are then chosen where least is known.
        parents: best pool designs that a round moves from.
        regions: moves inside trust regions (see `trust`), in spaces of many dimensions.
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
    sifted: int = 8
    doubt: int = 12
    parents: int = 24
    regions: int = 500
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
            all 0. The first are this campaign's other fidelities, where it has named ones.
        pending_source: the same of `pending`.
        source_names: what other sources are called, by number; fidelities have names of their own.
        names: n names for a person, such as "MgO (trial 3)".
        members: which member of a hedge proposed each of the designs (`member` of its notes); None
            for none. Those of the last designs may be left out: other sources have none.
        preferences: pairs of rows that a person ranked: the better one, the worse one.
        realised: by row, the design as it was really made, where that is not what was asked for.
            The surrogate learns from it; what was asked for is what was tried.
        errors: n x m, the errors of what was foretold of a trial before its result, in the
            standard deviations that the model itself had for a reading (`raw_error`); nan where
            nothing was foretold. None = nothing was.
    """

    designs: list[Design]
    outcomes: np.ndarray
    sem: np.ndarray
    failed: np.ndarray
    pending: list[Design] = field(default_factory=list)
    source: np.ndarray | None = None
    names: list[str] | None = None
    pending_source: np.ndarray | None = None
    members: list[str | None] | None = None
    preferences: list[tuple[int, int]] = field(default_factory=list)
    errors: np.ndarray | None = None
    realised: dict[int, Design] = field(default_factory=dict)
    source_names: dict[int, str] = field(default_factory=dict)

    @property
    def made(self) -> list[Design]:
        """The n designs as they were really made, as far as that was told."""
        return [self.realised.get(row, design) for row, design in enumerate(self.designs)]


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
            `widened` (metric to the factor by which that is wider than the model has it),
            `foretold` (true where what a generator foretells stood in for results),
            `expected_gain` (a share of what was observed, see `Acquisition.expected_gain`),
            `member` (of a hedge, which of its members chose it), `parents` (names of the designs
            that evolution or substitution made it from), `why` (an `Explanation` as data), and
            where there are fidelities `fidelity` (name, cost, why, told).
        fidelity: at which to try it; None where fidelities have no names.
    """

    design: Design
    method: str
    acquisition: float | None
    prediction: dict[str, tuple[float, float]]
    feasibility: float | None
    latent: list[float] | None
    notes: dict[str, Any]
    fidelity: str | None = None


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
    own: np.ndarray
    sought: np.ndarray
    pending_source: np.ndarray
    pending_sought: np.ndarray
    members: list[str | None]
    errors: np.ndarray

    @property
    def measured(self) -> np.ndarray:
        return np.isfinite(self.outcomes).any(axis=1) & ~self.failed

    @property
    def completed(self) -> np.ndarray:
        return self.measured & self.sought


def propose(
    problem: Problem,
    history: History,
    n: int,
    seed: int,
    warm_start: dict[str, Any] | None = None,
    settings: ProposalSettings | None = None,
    among: Sequence[Design] | None = None,
    left: Left | None = None,
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
        left: of the budget, all n of now included, where there are fidelities; None = no limit.

    Raises:
        ValueError: a history whose parts do not fit together, or n below one.
    """
    settings = settings or ProposalSettings()
    _check(problem, history, n)
    if history.failed.any():  # what was read before a trial failed counts for nothing
        unread = np.where(history.failed[:, None], np.nan, history.outcomes)
        history = replace(history, outcomes=unread)
    notes: list[str] = []
    known = _featurise(problem, history, notes)
    # The same campaign seed serves every batch: the history's length makes the draws differ.
    streams = np.random.SeedSequence([seed, len(history.designs), len(history.pending)]).spawn(3)
    ours = np.flatnonzero(own(problem, sources_of(history)))
    first = settings.first(problem.space)
    rule = None if problem.fidelities is None else FidelityRule(problem, history, left)
    if rule is None:
        enough = int(known.completed.sum()) >= first
        seen = Seen(problem.space, [*(history.designs[i] for i in ours), *history.pending])
    else:
        enough = rule.ready(first)
        seen = Seen(problem.space, rule.taken(every=not enough))
    if problem.screen.charge_neutral:
        notes.append(f"charge neutrality by smact with the {OXIDATION_STATES} oxidation states")
    notes += told(problem.screen.predicted)

    pool = Pool(problem, seed=int(streams[1].generate_state(1)[0]))
    rng = np.random.default_rng(streams[2])
    every = bool((np.isfinite(known.outcomes[known.completed]).sum(axis=0) >= 2).all())
    if among is not None:
        pool.add_designs([d for d in among if seen.check(d) is None], "given")
    ready, stand_ins = enough and every, None
    if not ready and among is None and rule is None:
        stand_ins = _stand_ins(problem, known, pool, first, settings, rng, notes)
    if not ready and stand_ins is None:
        why = f"{int(known.completed.sum())} completed, {first} wanted first"
        if rule is not None:
            why += ", and some at each fidelity"
        if enough:
            counts = np.isfinite(known.outcomes[known.completed]).sum(axis=0)
            few = [f"{m} ({c})" for m, c in zip(problem.metrics, counts, strict=True) if c < 2]
            why = f"fewer than two outcomes yet of {', '.join(few)}"
        notes.append(f"drawn from the prior: {why}")
        models = _Models(problem, known, None, warm_start, settings, seed, notes)
        if among is not None or problem.space.direct:
            if among is None:
                pool.add(problem.space.prior(settings.prior, rng), "prior")
            blind = _spread(problem, n, known, pool, models, seen, rng, notes)
        else:
            blind = _from_prior(problem, n, seen, models, streams[0], settings, notes)
        return blind if rule is None else _begin(blind, n, first, rule, models)

    if settings.strategy in WITHOUT_SURROGATE:
        if rule is not None:
            raise ValueError(f"{settings.strategy} cannot choose between fidelities")
        models = _Models(problem, known, None, warm_start, settings, seed, notes)
        return _bred(problem, n, known, pool, models, seen, settings, rng, notes, among is not None)

    whole = among is None and problem.space.size is not None
    whole = whole and (problem.space.size or 0) <= settings.enumerate
    if among is None and stand_ins is None:
        pool.add(problem.space.prior(settings.prior, rng), "prior")
    models = _Models(problem, known, pool.X, warm_start, settings, seed, notes, stand_ins)
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
        *models.seen(known.completed),
        strategy=strategy,
        samples=settings.samples,
        seed=seed % 2**31,
        members=_choosers(problem, known, models.surrogate, strategy, n, rng, notes),
        preference=_preference(problem, history, strategy, seed, notes),
    )
    if acquisition.constrained:
        notes.append("no design has satisfied the constraints yet: looking for one that does")
    elif len(problem.objectives) > 1 and acquisition.preference is None and not problem.contour:
        notes += reference_point(problem, known.outcomes[known.completed])[1]
    turn = len(ours) + len(history.pending)

    if whole:
        scores = partial(models.scores, acquisition, turns=acquisition.turns(turn))
        best_of_all(pool, problem.space, scores, settings.shortlist)
    elif among is None:
        _search(problem, known, pool, models, acquisition, settings, rng, turn, notes)
    chosen = _greedy(known, pool, acquisition, models, seen, n, settings, turn, seed, rule)
    acquisition.forget()  # what a design adds is told against what is known, not against itself
    candidates = [
        models.candidate(
            pool.design(i),
            pool.X[i],
            method=acquisition.name(turn + number),
            acquisition=value,
            origin=pool.origins[i],
            expected=acquisition,
            chosen=at,
        )
        for number, (i, value, at) in enumerate(chosen)
    ]
    for number, candidate in enumerate(candidates):
        if (member := acquisition.member(turn + number)) is not None:
            candidate.notes["member"] = member
    notes += [] if rule is None else rule.notes
    notes += agreements(problem, models.surrogate, known.source[known.measured],
                        known.outcomes[known.measured], history.source_names)  # fmt: skip
    notes.append(f"chosen from {len(pool)} designs of {pool.decoded or len(pool)} looked at")
    return _answer(candidates, n, models, known, notes, pool.refused)


def _begin(blind: Proposal, n: int, first: int, rule: FidelityRule, models: _Models) -> Proposal:
    """A first proposal at fidelities, in place of one at the target alone."""

    def more(design: Design, fidelity: Fidelity, why: str) -> Candidate:
        x, _ = encodable(models.problem.space.features, [design])
        made = models.candidate(design, x[0], method="prior", acquisition=None, origin="prior")
        made.notes["fidelity"] = note(fidelity, why)
        return replace(made, fidelity=fidelity.label if isinstance(fidelity.label, str) else None,
                       prediction={})  # fmt: skip

    candidates = rule.begin(blind.candidates, n, first, more)
    models.explain(candidates, blind=True)
    notes = [*blind.notes, *rule.notes]
    if len(candidates) == n:  # designs that were tried at less count too
        notes = [told for told in notes if not told.startswith("only ")]
    return replace(blind, candidates=candidates, notes=notes)


def _bred(
    problem: Problem,
    n: int,
    known: _Known,
    pool: Pool,
    models: _Models,
    seen: Seen,
    settings: ProposalSettings,
    rng: np.random.Generator,
    notes: list[str],
    given: bool,
) -> Proposal:
    """Designs from the best ones so far, which no surrogate was asked about."""
    from loop.evolution import children

    models.surrogate = None
    rows = np.flatnonzero((known.measured | known.failed) & known.sought)
    designs = [known.designs[i] for i in rows]
    names = known.names or [problem.space.describe(d) for d in known.designs]
    found = children(
        problem, designs, known.outcomes[rows], [names[i] for i in rows], n, pool=pool, seen=seen,
        rng=rng, substitute=settings.strategy == "substitution", given=given,
        tries=settings.max_draws,
    )  # fmt: skip
    method = settings.strategy
    candidates = [
        models.candidate(child.design, child.x, method=method, acquisition=None, origin=method)
        for child in found
    ]
    answer = _answer(candidates, n, models, None, notes, pool.refused)
    for child, candidate in zip(found, candidates, strict=True):
        candidate.notes["parents"] = [names[rows[i]] for i in child.parents]
        if (why := candidate.notes.get("why")) is not None:
            why["sentences"] = [child.told, *why["sentences"][1:]]
            why["text"] = " ".join(why["sentences"])
    return answer


def _choosers(
    problem: Problem,
    known: _Known,
    surrogate: Surrogate,
    strategy: Strategy,
    n: int,
    rng: np.random.Generator,
    notes: list[str],
) -> Sequence[str]:
    """The members of a hedge that choose the next n designs; of other strategies, any."""
    if strategy != "hedge":
        return hedge.MEMBERS
    rows = np.flatnonzero(known.sought)
    members, told = hedge.choosers(
        problem, surrogate, known.X[rows], known.outcomes[rows],
        [known.members[i] for i in rows], n, rng,
    )  # fmt: skip
    notes.append(told)
    return members


def _preference(
    problem: Problem, history: History, strategy: Strategy, seed: int, notes: list[str]
) -> Preference | None:
    """The utility that a person's answers tell of, where there are enough and it is asked for."""
    few = len(history.preferences) < PREFERENCES
    if few or len(problem.objectives) < 2 or problem.contour or strategy == "uncertainty":
        return None
    from loop.preference import Preference

    learnt = Preference(problem, history.outcomes, history.preferences, seed=seed)
    notes += [learnt.told(), *learnt.notes]
    return learnt


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
    assert models.surrogate is not None
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
    if models.stand_ins is not None:  # it would find the errors of what is foretold
        doubted = list(problem.metrics)
    elif doubted:
        notes.append(f"no local search: what is known of {', '.join(doubted)} is too uncertain yet")
    if doubted:
        n, score = rounds * settings.children, partial(models.score, acquisition, turn=turn)
        sift(pool, space, score, n=n, draws=settings.sifted * n, rng=rng)
        rounds = 0
    if settings.regions and not doubted and trust.wanted(space, len(completed)):
        long = trust.length(problem, known.outcomes[known.sought], first=settings.first(space))
        found = trust.regions(
            problem, models.surrogate, [known.designs[i] for i in completed], known.X[completed],
            known.outcomes[completed], long,
        )  # fmt: skip
        pool.add(trust.moves(space, found, settings.regions, rng), "trust region")
    turns = acquisition.turns(turn)
    for at in turns:  # a portfolio looks in turn for one thing and another
        evolve(
            pool,
            space,
            partial(models.score, acquisition, turn=at),
            rounds=rounds // len(turns),
            children=settings.children,
            parents=settings.parents,
            step=settings.step,
            rng=rng,
        )
    surrogate = models.surrogate
    if space.direct and space.smooth and surrogate.smooth:
        for at in turns:
            values = models.score(acquisition, pool.X, at)
            starts = spread_out(pool.X, values, 16, among=64)

            def uphill(X: torch.Tensor, at: int = at) -> torch.Tensor:
                answers = [m.marginal(surrogate.unit(X)) for m in surrogate.models]
                mean = torch.stack([a[0] for a in answers], -1)
                variance = torch.stack([a[1] for a in answers], -1)
                return acquisition.score(mean, variance, at)

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
    if history.errors is not None and np.shape(history.errors) != (rows, m):
        raise ValueError(f"errors: wanted the shape {(rows, m)}, not {np.shape(history.errors)}")
    for source, count in ((sources_of(history), rows),
                          (pending_sources(history), len(history.pending))):  # fmt: skip
        if source.shape != (count,) or (source < 0).any():
            raise ValueError(f"source: wanted {count} numbers of 0 or more")
    if not own(problem, pending_sources(history)).all():
        raise ValueError("what is pending is of this campaign, not of another source")
    if np.isinf(np.asarray(history.outcomes, dtype=np.float64)).any():
        raise ValueError("an outcome is infinite; nan stands for one that was not measured")
    if n < 1:
        raise ValueError(f"a proposal has one design or more, not {n}")


def _featurise(problem: Problem, history: History, notes: list[str]) -> _Known:
    X, kept = encodable(problem.space.features, history.made)
    pending_X, waiting = encodable(problem.space.features, history.pending)
    source, pending = sources_of(history)[kept], pending_sources(history)[waiting]
    designs, members = [history.designs[i] for i in kept], history.members or []
    if len(kept) < len(history.designs):
        lost = len(history.designs) - len(kept)
        notes.append(f"left out of the surrogate: {lost} observed designs that cannot be encoded")
    return _Known(
        designs,
        X,
        np.asarray(history.outcomes, dtype=np.float64)[kept],
        np.asarray(history.sem, dtype=np.float64)[kept],
        np.asarray(history.failed, dtype=bool)[kept],
        pending_X,
        source,
        None if history.names is None else [history.names[i] for i in kept],
        own(problem, source),
        at_target(problem, designs, source),
        pending,
        at_target(problem, [history.pending[i] for i in waiting], pending),
        [members[i] if i < len(members) else None for i in kept],
        _errors(history, len(problem.metrics))[kept],
    )


def _errors(history: History, m: int) -> np.ndarray:
    if history.errors is None:
        return np.full((len(history.designs), m), np.nan)
    return np.asarray(history.errors, dtype=np.float64)


@dataclass(frozen=True)
class _StandIns:
    """Draws with what a generator foretells of them, in place of results that are lacking.

    Attributes:
        X: s x f features.
        outcomes: s x m.
        sem: s x m standard errors.
    """

    X: np.ndarray
    outcomes: np.ndarray
    sem: np.ndarray


def _stand_ins(
    problem: Problem,
    known: _Known,
    pool: Pool,
    first: int,
    settings: ProposalSettings,
    rng: np.random.Generator,
    notes: list[str],
) -> _StandIns | None:
    """What is foretold of as many draws as results are lacking; None where that cannot be.

    A pretrained generator that foretells every metric need not begin blindly: it is asked about
    draws as an evaluator would be, and believed half (an error of half the draws' spread). The
    pool is filled with draws from the prior on the way.
    """
    told = [g for g in guides(problem) if g is not None]
    if len(told) < len(problem.metrics) or settings.strategy in WITHOUT_SURROGATE:
        return None
    if settings.initial is not None:  # so many are to be drawn blindly
        return None
    pool.add(problem.space.prior(settings.prior, rng), "prior")
    lacking = max(first - int(known.completed.sum()), 2)
    if len(pool) < 2 * lacking:
        return None
    outcomes = pool.X[:lacking, told]
    sem = np.broadcast_to(0.5 * pool.X[:, told].std(axis=0), outcomes.shape)
    notes.append(
        f"{int(known.completed.sum())} completed: chosen by what the generator foretells, which"
        f" stands for results until there are {first}"
    )
    return _StandIns(pool.X[:lacking], outcomes, sem)


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
        stand_ins: _StandIns | None = None,
    ) -> None:
        self.problem, self._known, self.stand_ins = problem, known, stand_ins
        done, ended = known.measured, (known.measured | known.failed) & known.own
        if not ended.any() and stand_ins is None:
            return
        bounds = bounds_of(problem, *(known.X,) if reachable is None else (known.X, reachable))
        if ended.any():
            self.feasibility = fit_feasibility(known.X[ended], ~known.failed[ended], bounds=bounds)
            if self.feasibility.informative:
                failed, of = int(known.failed[ended].sum()), int(ended.sum())
                notes.append(f"{failed} of {of} trials failed: designs like those count for less")
        X, outcomes = self.seen(done)
        sem, source = known.sem[done], known.source[done]
        if stand_ins is not None:
            sem = np.vstack([sem, stand_ins.sem])
            source = np.concatenate([source, np.zeros(len(stand_ins.X), dtype=source.dtype)])
        counted = known.outcomes[known.completed] if stand_ins is None else stand_ins.outcomes
        if (np.isfinite(counted).sum(axis=0) >= 2).all():
            self.surrogate = fitted(
                problem,
                X,
                outcomes,
                sem,
                bounds=bounds,
                seed=seed,
                source=source,
                errors=known.errors[known.completed],
                warm_start=warm_start,
                max_iter=settings.max_iter,
            )

    def seen(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and outcomes of some of the known designs, and of what stands in for others."""
        X, outcomes = self._known.X[rows], self._known.outcomes[rows]
        if self.stand_ins is None:
            return X, outcomes
        return np.vstack([X, self.stand_ins.X]), np.vstack([outcomes, self.stand_ins.outcomes])

    def score(self, acquisition: Acquisition, X: np.ndarray, turn: int) -> np.ndarray:
        """Log worth of q designs before any of a batch is chosen."""
        return self.scores(acquisition, X, [turn])[0]

    def scores(
        self, acquisition: Acquisition, X: np.ndarray, turns: Sequence[int]
    ) -> list[np.ndarray]:
        """The `score` of q designs at several turns."""
        assert self.surrogate is not None
        parts = []
        with torch.no_grad():
            for start in range(0, max(len(X), 1), CHUNK):  # q x n covariances can be large
                unit = self.surrogate.unit(X[start : start + CHUNK])
                answers = [m.marginal(unit) for m in self.surrogate.models]
                mean = torch.stack([a[0] for a in answers], -1)
                variance = torch.stack([a[1] for a in answers], -1)
                parts.append(
                    torch.stack([acquisition.score(mean, variance, t) for t in turns]).cpu()
                )
        return list(torch.cat(parts, -1).numpy() + self.log_feasibility(X))

    def log_feasibility(self, X: np.ndarray) -> np.ndarray:
        """Log probability that each of q trials succeeds."""
        if self.feasibility is None:
            return np.zeros(len(X))
        return np.log(self.feasibility.probability(X))

    def explain(self, candidates: list[Candidate], blind: bool) -> None:
        """Note with each candidate why it was chosen."""
        known = self._known
        X, kept = encodable(self.problem.space.features, [c.design for c in candidates])
        rows = np.flatnonzero(known.sought)
        told = explain_candidates(
            self.problem,
            [known.designs[i] for i in rows],
            known.X[rows],
            known.outcomes[rows],
            self.surrogate,
            self.feasibility,
            [(candidates[i].design, x) for i, x in zip(kept, X, strict=True)],
            None if known.names is None else [known.names[i] for i in rows],
            blind=blind,
            foretold=self.stand_ins is not None,
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
        chosen: Chosen | None = None,
    ) -> Candidate:
        """A design with all that is thought of it; what is predicted is what will be read."""
        prediction = {}
        notes: dict[str, Any] = {"origin": origin}
        fidelity = None
        if chosen is not None:
            notes["fidelity"] = chosen.as_note()
            if isinstance(chosen.fidelity.label, str):
                fidelity = chosen.fidelity.label
        if self.surrogate is not None and chosen is not None:
            for metric, (y, sd, noisy) in foretold(
                self.surrogate, chosen.x, chosen.sources
            ).items():
                prediction[metric] = (y, sd)
                notes.setdefault("predictive_sd", {})[metric] = noisy
        elif self.surrogate is not None:
            mean, variance = self.surrogate.posterior(x[None])
            sds, readings = variance.sqrt(), self.surrogate.predictive_sd(x[None])
            metrics = list(enumerate(self.problem.metrics))
            prediction = {metric: (float(mean[0, j]), float(sds[0, j])) for j, metric in metrics}
            notes["predictive_sd"] = {metric: float(readings[0, j]) for j, metric in metrics}
        if prediction and self.surrogate is not None:
            if self.stand_ins is not None:  # what it is off by says nothing of the surrogate
                notes["foretold"] = True
            else:
                inflations = zip(self.surrogate.metrics, self.surrogate.models, strict=True)
                notes["widened"] = {k: m.inflation for k, m in inflations if k in prediction}
        if expected is not None:
            believed = Beliefs(expected.surrogate, x[None])
            if self.problem.constraints:
                chance = expected.log_chance(believed.mean, believed.variance).exp()
                notes["p_constraints"] = float(chance[0])
            gain = float(expected.expected_gain(believed.mean, believed.variance)[0])
            told = np.isfinite(gain) and self.stand_ins is None  # no rule is to stop by hearsay
            notes["expected_gain"] = gain if told else None
        feasibility = None
        if self.feasibility is not None:
            feasibility = float(self.feasibility.probability(x[None])[0])
        latent, encoded = encodable(self.problem.space.latent, [design])
        if chosen is not None:
            design = chosen.design
        return Candidate(
            design,
            method,
            acquisition,
            prediction,
            feasibility,
            latent[0].tolist() if encoded and latent.shape[1] else None,
            notes,
            fidelity,
        )


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
        kept, why = screen_in(drawn, problem.space, problem.screen)
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
    rng: np.random.Generator,
    notes: list[str],
) -> Proposal:
    """Designs of the pool, each the farthest from all that were tried or chosen before it.

    The first of all is drawn from the quarter nearest the middle, so that seeds differ where the
    pool is all there is.
    """
    span = np.maximum(np.ptp(pool.X, axis=0), 1e-9) if len(pool) else 1.0
    points = pool.X / span
    tried = np.vstack([known.X[known.own], known.pending_X]) / span
    center = np.median(points, axis=0, keepdims=True) if len(pool) else points
    order = np.argsort(((points - center) ** 2).sum(1), kind="stable")
    distance = np.full(len(points), -1e9)
    inner = order[: max(1, len(order) // 4)]
    distance[rng.permutation(inner)] += np.arange(len(inner), 0, -1)
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
    rule: FidelityRule | None = None,
) -> list[tuple[int, float, Chosen | None]]:
    """Pick n designs one after the other, each given those before it and those being evaluated.

    Whether a design was seen before is asked only of those about to be picked: comparing crystals
    costs more than scoring them.
    """
    assert models.surrogate is not None
    ranking: list[int] = []
    for values in models.scores(acquisition, pool.X, acquisition.turns(turn)):
        ranking += np.argsort(-values, kind="stable")[: settings.shortlist].tolist()
    rows = np.array(list(dict.fromkeys(ranking)), dtype=int)
    pending = known.pending_X
    sources = SourcesKnown(known.outcomes[known.measured], known.source[known.measured])
    with torch.no_grad():
        beliefs = Beliefs(models.surrogate, np.vstack([pool.X[rows], pending]))

        def believe(i: int) -> None:
            chance = acquisition.log_chance(beliefs.mean[i], beliefs.variance[i])
            beliefs.believe(i)
            if float(chance) > np.log(0.5):
                acquisition.believe(beliefs.mean[i])

        def fresh(j: int) -> tuple[Design, np.ndarray] | None:
            design = pool.design(int(rows[j]))
            return None if seen.check(design) else (design, pool.X[rows[j]])

        for k, i in enumerate(range(len(rows), len(rows) + len(pending))):
            if known.pending_sought[k]:
                believe(i)
            else:
                source = int(known.pending_source[k])
                beliefs.take(beliefs.reading(i, pending[k], sources.of(source)))
        feasible = models.log_feasibility(pool.X[rows])
        joint = _joint(acquisition, known, settings, seed)
        alive = np.ones(len(rows), dtype=bool)
        chosen: list[tuple[int, float, Chosen | None]] = []
        while len(chosen) < n and alive.any():
            mean, variance = beliefs.mean[: len(rows)], beliefs.variance[: len(rows)]
            if acquisition.kind(turn + len(chosen)) == "thompson" and not acquisition.constrained:
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
            row = int(rows[best])
            how: Chosen | None = None
            if rule is not None:
                how = rule.choose(beliefs, best, pool.design(row), pool.X[row], sources)
                if how is None:
                    break
                if how.fidelity == rule.fidelities.target:
                    gain = acquisition.expected_gain(mean, variance) * np.exp(feasible)
                    others = np.argsort(-np.where(alive, gain, -1.0))[: int(alive.sum())].tolist()
                    elsewhere = rule.instead(beliefs, best, others, gain, fresh, sources)
                    if elsewhere is not None:
                        alive[best] = True
                        best, how = elsewhere
                        alive[best], row = False, int(rows[best])
                rule.count(pool.design(row), how.fidelity)
            chosen.append((row, float(values[best]), how))
            seen.add(pool.design(row))
            if how is not None and how.reading is not None:
                beliefs.take(how.reading)
                continue
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
    if not len(X):
        return None
    pending = known.pending_X[known.pending_sought]
    return JointScore(acquisition, X, pending, settings.joint_samples, seed % 2**31)


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
    if models.stand_ins is not None:  # how well it predicts has not been seen
        surrogate = None
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
