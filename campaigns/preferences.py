"""Which of two trials is better: a person's answers, as events of the store.

An answer is an event ``preference`` and is never deleted; one that is taken back is followed by
``preference_undone``. What counts is the last word on every pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns import fidelities
from campaigns.errors import UsageError
from campaigns.store.models import Event, Trial
from campaigns.store.store import record

if TYPE_CHECKING:
    from campaigns.campaign import Campaign

ENOUGH = 3
"""Ranked pairs from which on they say what is proposed (`loop.proposal.PREFERENCES`)."""

Pair = tuple[int, int]
"""The better trial, the worse one."""


def standing(session: Session, campaign_id: int) -> list[Pair]:
    """The answers that stand, oldest first."""
    found: dict[frozenset[int], Pair] = {}
    for event in session.scalars(
        select(Event)
        .where(
            Event.campaign_id == campaign_id,
            Event.kind.in_(("preference", "preference_undone")),
        )
        .order_by(Event.id)
    ):
        better, worse = int(event.payload["better"]), int(event.payload["worse"])
        found.pop(frozenset((better, worse)), None)
        if event.kind == "preference":
            found[frozenset((better, worse))] = (better, worse)
    return list(found.values())


def rows(pairs: Sequence[Pair], trials: Sequence[Trial], outcomes: np.ndarray) -> list[Pair]:
    """The answers as pairs of rows; those on trials without results (any more) are left out.

    Args:
        pairs: As `standing` gives them.
        trials: N trials.
        outcomes: N x m, what counts as measured of them.
    """
    at = {t.index: i for i, t in enumerate(trials) if np.isfinite(outcomes[i]).all()}
    return [(at[a], at[b]) for a, b in pairs if a in at and b in at]


def status(session: Session, campaign: Campaign) -> dict[str, Any]:
    """What there is of answers, as JSON: ``count``, ``used``, ``pairs``."""
    pairs = standing(session, campaign._row.id)
    used = len(pairs) >= ENOUGH and len(campaign.spec.objectives) > 1
    return {
        "count": len(pairs),
        "used": used,
        "pairs": [{"better": a, "worse": b} for a, b in pairs],
    }


def sentence(told: dict[str, Any]) -> str:
    """The same in words; empty where nothing was answered."""
    count = told["count"]
    if not count:
        return ""
    pairs = "1 ranked pair" if count == 1 else f"{count} ranked pairs"
    if told["used"]:
        return f"preferences: {pairs} of trials say what is better, in place of hypervolume"
    return f"preferences: {pairs}; from {ENOUGH} on they say what is proposed"


def prefer(campaign: Campaign, better: int, worse: int) -> dict[str, Any]:
    """Keep an answer: `better` is preferred to `worse`.

    The same answer twice is once. The opposite of an earlier one takes its place.

    Returns:
        ``changed``: whether it was new; ``replaced``: whether it contradicts an earlier one.

    Raises:
        UsageError: The two cannot be compared.
    """
    _comparable(campaign, better, worse)
    with campaign._change() as session:
        before = standing(session, campaign._row.id)
        if (better, worse) in before:
            return {"changed": False, "replaced": False}
        record(session, campaign._row.id, "preference", better=better, worse=worse)
        return {"changed": True, "replaced": (worse, better) in before}


def undo(campaign: Campaign, pair: Pair | None = None) -> Pair:
    """Take an answer back: that on a pair, or the last one.

    Raises:
        UsageError: There is none.
    """
    with campaign._change() as session:
        before = standing(session, campaign._row.id)
        found = [p for p in before if pair is None or set(p) == set(pair)]
        if not found:
            what = "no pair was ranked" if pair is None else f"trials {pair[0]} and {pair[1]} were"
            raise UsageError(
                what if pair is None else f"{what} not ranked",
                where=campaign.name,
                unchanged="the campaign",
                hint=f"`matloop prefer {campaign.name}` lists what was",
            )
        better, worse = found[-1]
        record(session, campaign._row.id, "preference_undone", better=better, worse=worse)
        return better, worse


def question(campaign: Campaign) -> Pair:
    """The two trials whose ranking would teach most.

    Raises:
        UsageError: There are none that could be compared and were not.
    """
    _several(campaign)
    from loop.preference import question as sought

    with campaign.store.read() as session:
        pairs = standing(session, campaign._row.id)
    trials = campaign._trials()
    outcomes = fidelities.outcomes_that_count(campaign.spec, trials, campaign.goals.metrics)
    known = rows(pairs, trials, campaign._of_goals(trials))
    found = sought(campaign.goals, outcomes, known, seed=campaign.spec.seed)
    if found is None:
        raise UsageError(
            "there is nothing to ask",
            where=campaign.name,
            why="it takes two trials with results, each better in something, not ranked yet",
            hint="ask again when there are more results",
        )
    first, second = (trials[row].index for row in found)
    return first, second


def _several(campaign: Campaign) -> None:
    objectives = campaign.goals.objectives
    if len(objectives) > 1 and not campaign.goals.contour:
        return
    why = f"{objectives[0].metric} alone says which is better"
    if campaign.goals.contour:
        why = f"{objectives[0].metric} is a level: of its contour no design is better than another"
    raise UsageError(
        "preferences are between objectives", where=campaign.name, why=why, unchanged="the campaign"
    )


def _comparable(campaign: Campaign, better: int, worse: int) -> None:
    _several(campaign)
    if better == worse:
        raise UsageError(
            f"trial {better} is as good as itself", where=campaign.name, hint="name two trials"
        )
    trials = {t.index: t for t in campaign._trials()}
    metrics = [o.metric for o in campaign.goals.objectives]
    for index in (better, worse):
        if index not in trials:
            raise UsageError(
                f"there is no trial {index}", where=campaign.name, unchanged="the campaign"
            )
        outcome = fidelities.outcomes_that_count(campaign.spec, [trials[index]], metrics)[0]
        if not np.isfinite(outcome).all():
            lacking = [m for m, y in zip(metrics, outcome, strict=True) if not np.isfinite(y)]
            raise UsageError(
                f"trial {index} has no result of {', '.join(lacking)}",
                where=campaign.name,
                why=f"it is {trials[index].status}",
                unchanged="the campaign",
                hint="trials with results of every objective can be ranked",
            )
