"""At which fidelity to try a design that was chosen for what is sought of it.

The design is chosen by the acquisition at the target fidelity, as if there were no other. Then the
fidelity is the one that tells most for its cost: the share of the target's posterior variance at
that design which a reading there would remove, divided by what it costs. With covariance c between
reading and target, and variance v and noise s of the reading, the share is c^2 / (v + s) over the
target's variance. As cheap readings come in, they tell less and less of what is left, until the
target is worth its price.

Choosing the design first and the fidelity second is the order of MF-GP-UCB and BOCA
([Kandasamy2016]_, [Kandasamy2017]_), whose thresholds this ratio replaces; information per cost is
that of cost-aware entropy and knowledge-gradient methods ([Takeno2020]_, [Wu2020]_), here of one
design's value in place of the optimum's, in closed form. Three rules more:

- A fidelity that was never tried is tried. So is each at the beginning: `begin`.
- Cheap readings together may cost what those of the target did, and one of those more: where cheap
  ones mislead, about half the money is lost and no more.
- The last trial of a budget, and the last that a cost budget can pay, are of the target.

.. [Kandasamy2016] K. Kandasamy et al., Gaussian Process Bandit Optimisation with Multi-fidelity
   Evaluations. NeurIPS 2016.
.. [Kandasamy2017] K. Kandasamy et al., Multi-fidelity Bayesian Optimisation with Continuous
   Approximations. ICML 2017.
.. [Takeno2020] S. Takeno et al., Multi-fidelity Bayesian Optimization with Max-value Entropy Search
   and its Parallelization. ICML 2020.
.. [Wu2020] J. Wu et al., Practical Multi-fidelity Bayesian Optimization for Hyperparameter Tuning.
   UAI 2020.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loop.beliefs import Beliefs, Reading
from loop.fidelities import Fidelities, Fidelity, Left, own, pending_sources, sources_of
from loop.problem import Problem
from loop.search import good_rows
from loop.space import Design
from surrogates import Surrogate

LOOKED_AT = 32
"""Designs that are weighed for a cheap look in place of the target at the best one."""

TARGETS = 2
"""Readings of the target, at the least, before the surrogate is asked."""

FEW = 8
"""With fewer results of what is sought, a source's correlation is mostly its prior's."""

CLOSELY, PARTLY = 0.8, 0.4
"""Correlations from which on a source is said to go with what is sought, and to do so in part."""


@dataclass(frozen=True)
class Chosen:
    """A design at a fidelity.

    Attributes:
        fidelity: which.
        design: as it is to be tried.
        x: f features of that.
        sources: for each metric the source of the reading, as its model counts them.
        reading: what it would say; None for the target.
        told: for each fidelity that was weighed, the share of the target's variance that it would
            remove.
        why: a sentence.
    """

    fidelity: Fidelity
    design: Design
    x: np.ndarray
    sources: tuple[int | None, ...]
    reading: Reading | None
    told: dict[str, float]
    why: str

    def as_note(self) -> dict[str, Any]:
        """What a candidate's notes say of it."""
        return note(self.fidelity, self.why, self.told)


def note(fidelity: Fidelity, why: str, told: dict[str, float] | None = None) -> dict[str, Any]:
    """A fidelity, as a candidate's notes have it."""
    return {"name": fidelity.label, "cost": fidelity.cost, "why": why, "told": told or {}}


class FidelityRule:
    """What was tried at which fidelity and what it cost, and what to try next."""

    def __init__(self, problem: Problem, history: Any, left: Left | None) -> None:
        """Read it from a history.

        Args:
            problem: has fidelities.
            history: a `loop.proposal.History`.
            left: of the budget, for all that is proposed now; None = no limit.
        """
        assert problem.fidelities is not None
        self._problem, self._left = problem, left or Left()
        self.fidelities: Fidelities = problem.fidelities
        source = sources_of(history)
        rows = np.flatnonzero(own(problem, source))
        self._ended = [(history.designs[i], self._of(history.designs[i], source[i])) for i in rows]
        waiting = zip(history.pending, pending_sources(history), strict=True)
        self._waiting = [(design, self._of(design, s)) for design, s in waiting]
        self._failed = [bool(history.failed[i]) for i in rows]
        self._outcomes = np.asarray(history.outcomes, dtype=np.float64)[rows]
        self._tried: dict[Hashable, list[tuple[Design, str | float]]] = {}
        self._counts: Counter[str | float] = Counter()
        self._spent = {True: 0.0, False: 0.0}  # on the target, on others
        self._chosen = 0
        self.notes: list[str] = []
        for design, fidelity in [*self._ended, *self._waiting]:
            self._remember(design, fidelity)

    def _of(self, design: Design, source: int) -> Fidelity:
        return self.fidelities.of_design(design, int(source))

    def _remember(self, design: Design, fidelity: Fidelity) -> None:
        sought = self.fidelities.at(design, self.fidelities.target)
        key = self._problem.space.key(sought)
        self._tried.setdefault(key, []).append((sought, fidelity.label))
        self._counts[fidelity.label] += 1
        self._spent[fidelity == self.fidelities.target] += fidelity.cost

    def taken(self, every: bool = False) -> list[Design]:
        """Designs that are not to be chosen now, as the target would try them.

        Args:
            every: those tried at any fidelity; else those tried at the target, and those that are
                being evaluated.
        """
        target = self.fidelities.target
        ended = [design for design, f in self._ended if every or f == target]
        return [self.fidelities.at(d, target) for d in (*ended, *(d for d, _ in self._waiting))]

    def _labels(self, design: Design) -> set[str | float]:
        """The fidelities at which a design (as the target would try it) was tried."""
        space = self._problem.space
        found = self._tried.get(space.key(design), ())
        return {label for other, label in found if space.same(design, other)}

    def affordable(self, fidelity: Fidelity) -> bool:
        """Whether what is left pays for it, and for the target after it."""
        left, target = self._left, self.fidelities.target
        if left.trials is not None and left.trials - self._chosen <= 1 and fidelity != target:
            return False
        after = 0.0 if fidelity == target else target.cost
        return left.cost is None or fidelity.cost + after <= left.cost * (1.0 + 1e-9)

    def _goes_on(self) -> bool:
        """Whether what is left pays for the target; without it, nothing that is tried counts."""
        target = self.fidelities.target
        if self.affordable(target):
            return True
        self.notes.append(
            f"what is left of the cost budget, {self._left.cost:.4g}, does not pay for another "
            f"evaluation at {target.label} ({target.cost:.4g})"
        )
        return False

    def _in_proportion(self, fidelity: Fidelity) -> bool:
        spent = self._spent[False] + fidelity.cost
        return spent <= self._spent[True] + self.fidelities.target.cost

    def choose(
        self, beliefs: Beliefs, i: int, design: Design, x: np.ndarray, known: SourcesKnown
    ) -> Chosen | None:
        """The fidelity for a design; None where what is left of the budget pays for none.

        Args:
            beliefs: of which the design is number i.
            i: its number.
            design: as the target would try it.
            x: its features.
            known: which sources the surrogate knows.
        """
        if not self._goes_on():
            return None
        target = self.fidelities.target
        others = self._cheaper(design)
        untried = [f for f in others if not self._counts[f.label] and f.source]
        if untried:
            f = min(untried, key=lambda f: f.cost)
            read = beliefs.reading(i, x, known.of(f.source))
            return self._made(f, design, x, known, read, {}, f"{f.label} was never tried")
        told: dict[str, float] = {}
        best = target
        readings: dict[Fidelity, Reading] = {}
        for f in (target, *others):
            readings[f], told[str(f.label)] = self._look(beliefs, i, design, x, f, known)
            if told[str(f.label)] / f.cost > told[str(best.label)] / best.cost:
                best = f
        why = f"{best.label} tells {told[str(best.label)]:.0%} of what is not known, for a cost of "
        why += f"{best.cost:.3g}"
        if best != target:
            why += f"; {target.label} {told[str(target.label)]:.0%} for {target.cost:.3g}"
        elif not others:
            why = "the cheaper fidelities have said what they can, or the budget is for this one"
        read_there = None if best == target else readings[best]
        return self._made(best, design, x, known, read_there, told, why)

    def _cheaper(self, design: Design) -> list[Fidelity]:
        """The fidelities below the target at which a design may be tried now."""
        done = self._labels(design)
        return [
            f
            for f in self.fidelities.members[1:]
            if f.label not in done and self.affordable(f) and self._in_proportion(f)
        ]

    def _look(
        self,
        beliefs: Beliefs,
        i: int,
        design: Design,
        x: np.ndarray,
        f: Fidelity,
        known: SourcesKnown,
    ) -> tuple[Reading, float]:
        """A reading of design i, and the share of the target's variance that it would remove."""
        at = x if f.source or f == self.fidelities.target else self._features(design, f)
        read = beliefs.reading(i, at, known.of(f.source))
        share = read.covariance.square() / (read.variance + read.noise) / beliefs.variance[i]
        return read, float(share.clamp(0.0, 1.0).mean())

    def instead(
        self,
        beliefs: Beliefs,
        i: int,
        others: Sequence[int],
        gain: np.ndarray,
        fresh: Callable[[int], tuple[Design, np.ndarray] | None],
        known: SourcesKnown,
    ) -> tuple[int, Chosen] | None:
        """A cheap look at another design, where that is worth more than the target at this one.

        A design that looked good at less is at once the best one at the target. But others may
        not have been looked at, and a look costs little. What a reading is worth is the gain that
        is expected of the design, times the share of its variance that the reading removes, for
        its cost.

        Args:
            beliefs: of all designs.
            i: the design that the acquisition chose, and `choose` would try at the target.
            others: designs that may be chosen in its stead, those of the largest gain first.
            gain: what is expected of each design.
            fresh: a design (as the target would try it) and its features; None where it may not
                be chosen.
            known: as `choose` has it.

        Returns:
            The other design and its fidelity, or None.
        """
        target = self.fidelities.target
        least = gain[i] / target.cost
        best: tuple[float, int, Chosen] | None = None
        for j in others[:LOOKED_AT]:
            if not gain[j] > 0 or (found := fresh(j)) is None:
                continue
            design, x = found
            for f in self._cheaper(design):
                read, told = self._look(beliefs, j, design, x, f, known)
                worth = gain[j] * told / f.cost
                if worth > (least if best is None else best[0]):
                    why = (
                        f"a look by {f.label} ({f.cost:.3g}) at a design that was not looked at "
                        f"yet is worth more than {target.label} ({target.cost:.3g}) at the best one"
                    )
                    made = self._made(f, design, x, known, read, {str(f.label): told}, why)
                    best = worth, j, made
        return None if best is None else best[1:]

    def _features(self, design: Design, fidelity: Fidelity) -> np.ndarray:
        at = self.fidelities.at(design, fidelity)
        return np.asarray(self._problem.space.features([at])[0])

    def _made(
        self,
        fidelity: Fidelity,
        design: Design,
        x: np.ndarray,
        known: SourcesKnown,
        reading: Reading | None,
        told: dict[str, float],
        why: str,
    ) -> Chosen:
        there = self.fidelities.at(design, fidelity)
        if there is not design:
            x = self._features(design, fidelity)
        return Chosen(fidelity, there, x, known.of(fidelity.source), reading, told, why)

    def count(self, design: Design, fidelity: Fidelity) -> None:
        """Take note that a design is now proposed at a fidelity."""
        self._remember(design, fidelity)
        self._chosen += 1
        if self._left.cost is not None:
            self._left = Left(self._left.trials, self._left.cost - fidelity.cost)

    def ready(self, first: int) -> bool:
        """Whether enough was tried for a surrogate to be asked.

        That is, something at every fidelity; or so much at the target that no other is needed, as
        where a person measures all at the target.
        """
        target, wanted = self.fidelities.target, self._wanted(first)
        if self._enough(target, (first, first), waiting=False):
            return True
        return all(self._enough(f, wanted, waiting=False) for f in self._at_first)

    @property
    def _at_first(self) -> list[Fidelity]:
        """The fidelities that are tried at the beginning, from the cheapest: of an axis, two."""
        target, *others = self.fidelities.members
        ordered = sorted(others, key=lambda f: f.cost)
        return [*(ordered if target.source or ordered[0].source else ordered[:1]), target]

    def _wanted(self, first: int) -> tuple[int, int]:
        return first, min(first, TARGETS)

    def _hopeless(self, fidelity: Fidelity, tries: int) -> bool:
        """Whether a fidelity failed as often as it is to be tried at first, and never worked."""
        ended = zip(self._ended, self._failed, strict=True)
        failed = [failure for (_, f), failure in ended if f.label == fidelity.label]
        return len(failed) >= tries and all(failed)

    def _enough(self, fidelity: Fidelity, wanted: tuple[int, int], waiting: bool) -> bool:
        """Whether a fidelity was tried often enough.

        Failures count at the cheap ones, so that one that never works is given up.
        """
        at_target = fidelity == self.fidelities.target
        count = self._counts[fidelity.label]
        if not waiting:
            count -= sum(f.label == fidelity.label for _, f in self._waiting)
        if at_target:
            ended = zip(self._ended, self._failed, strict=True)
            count -= sum(failed for (_, f), failed in ended if f == fidelity)
        return count >= wanted[at_target]

    def begin(
        self, fresh: Sequence[Any], n: int, first: int, more: Callable[..., Any]
    ) -> list[Any]:
        """Candidates while there is no surrogate.

        Designs that fill the space are tried at the cheapest fidelity, then the best of them at the
        next, and so on up to the target.

        Args:
            fresh: candidates of new designs, as many as there are up to n.
            n: how many are wanted.
            first: designs wanted at each of the cheaper fidelities.
            more: makes a candidate of a design that was tried at another fidelity, its fidelity and
                its notes.
        """
        unused = list(fresh)
        made: list[Any] = []
        wanted, target = self._wanted(first), self.fidelities.target
        rising = self._rising()
        while len(made) < n and self._goes_on():
            members = [
                f
                for f in self._at_first
                if f == target or (self.affordable(f) and not self._hopeless(f, first))
            ]
            # While all that is wanted is under way, the time goes into what costs least.
            rest = members[0] if self._waiting or made else target
            f = next((f for f in members if not self._enough(f, wanted, waiting=True)), rest)
            again = None
            if f != members[0] or f == target:
                again = next((d for d in rising if f.label not in self._labels(d)), None)
            if again is not None:
                rising.remove(again)
                design, why = again, f"among the best of those tried at less: now at {f.label}"
            elif unused:
                design = unused.pop(0).design
                f = members[0] if self._waiting or made else f
                why = f"to begin with, at {f.label}"
            else:
                break
            made.append(more(self.fidelities.at(design, f), f, why))
            self.count(design, f)
        return made

    def _rising(self) -> list[Design]:
        """Designs that were tried below the target and wait for nothing, the best first."""
        target = self.fidelities.target
        order: list[Design] = []
        for f in sorted(self.fidelities.members[1:], key=lambda f: -f.cost):
            rows = [k for k, (_, g) in enumerate(self._ended) if g == f and not self._failed[k]]
            best = good_rows(self._problem, self._outcomes[rows], len(rows)) if rows else []
            order += [self.fidelities.at(self._ended[rows[k]][0], target) for k in best]
        waiting = [self.fidelities.at(d, target) for d, _ in self._waiting]
        space = self._problem.space
        kept: list[Design] = []
        for design in order:
            if not any(space.same(design, other) for other in (*kept, *waiting)):
                kept.append(design)
        return kept


class SourcesKnown:
    """Which sources of a history each metric's model knows, and how it counts them."""

    def __init__(self, outcomes: np.ndarray, source: np.ndarray) -> None:
        """Of n x m outcomes that were fitted, and their n sources."""
        self._present = [
            np.unique([0, *source[np.isfinite(column)].tolist()]).tolist() for column in outcomes.T
        ]

    def of(self, source: int) -> tuple[int | None, ...]:
        """For each metric its model's number of a source of the history; None = unknown to it."""
        return tuple(p.index(source) if source in p else None for p in self._present)


def foretold(
    surrogate: Surrogate, x: np.ndarray, sources: Sequence[int | None]
) -> dict[str, tuple[float, float, float]]:
    """What a reading at a source will be: metric to mean, standard deviation, and that with noise.

    Metrics that the source never gave are left out.
    """
    unit = surrogate.unit(x[None])
    found: dict[str, tuple[float, float, float]] = {}
    for metric, model, source in zip(surrogate.metrics, surrogate.models, sources, strict=True):
        if source is None:
            continue
        mean, variance = model.marginal(unit, source)
        warp = model.warp_of(source)
        wider = model.inflation**2
        value, spread = warp.moments(mean, wider * variance)
        _, noisy = warp.moments(mean, wider * (variance + model.noise_of(source)))
        found[metric] = (float(value[0]), float(spread[0].sqrt()), float(noisy[0].sqrt()))
    return found


def agreements(
    problem: Problem,
    surrogate: Surrogate,
    source: np.ndarray,
    outcomes: np.ndarray,
    names: Mapping[int, str],
) -> list[str]:
    """How far each other source goes with what is sought, a sentence each.

    Args:
        problem: its fidelities have names of their own.
        surrogate: fitted to the outcomes.
        source: n source numbers.
        outcomes: n x m; nan = not measured.
        names: of other sources, by number (`History.source_names`).
    """
    named = {} if problem.fidelities is None else {
        f.source: str(f.label) for f in problem.fidelities.members if f.source
    }  # fmt: skip
    named |= names
    results = np.isfinite(outcomes[source == 0]).sum(axis=0)
    known, told = SourcesKnown(outcomes, source), []
    for s in sorted(set(source.tolist()) - {0}):
        for j, (model, at) in enumerate(zip(surrogate.models, known.of(s), strict=True)):
            if at is not None:
                share = float(model.structure.coupling(model.theta)[0][at])
                how = _agreement(named.get(s, f"source {s}"), share, int(results[j]))
                told.append(f"{surrogate.metrics[j]}: {how}")
    return told


def _agreement(name: str, share: float, n: int) -> str:
    """How far a source goes with what is sought, by its correlation and n results of the latter."""
    if n < FEW:
        return (
            f"how far {name} goes with what is sought cannot be told by {n} results of that yet"
            f" (correlation {share:.2f}, mostly what is assumed beforehand)"
        )
    how = "tells little of what is sought"
    if share >= PARTLY:
        how = f"goes with what is sought{'' if share >= CLOSELY else ' in part'}"
    return f"{name} {how} (correlation {share:.2f})"
