"""What pages show of a campaign that takes a model or a while: computed by the engine.

`compute` is called whenever something happened in a campaign. What takes minutes (Ax's analyses)
is made in a process of its own (`ax_mirrors`), which keeps its results itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from campaigns.errors import MatloopError
from campaigns.store.models import Observation, Trial

if TYPE_CHECKING:
    import numpy as np

    from campaigns.campaign import Campaign
    from campaigns.facts import Facts

RUNS: Final = 100
"""Random searches whose band is shown."""

LONGEST: Final = 300
"""Trials of each, at most."""

_log = logging.getLogger("matloop.engine")
_known: dict[tuple[str, str], tuple[tuple[int, int], dict[str, Any]]] = {}


def compute(campaign: Campaign) -> dict[str, Any]:
    """What pages show, by name: ``model`` and ``curve``.

    It is fitted anew only where results came in.
    """
    with campaign.store.read() as session:
        now = mark(session, campaign._row.id)
    key = (campaign.store.url, campaign.name)
    kept = _known.get(key)
    if kept is None or kept[0] != now:
        kept = _known[key] = (now, {"model": _model(campaign), "curve": _curve(campaign)})
    return kept[1]


def mark(session: Session, campaign: int) -> tuple[int, int]:
    """What changes with each trial that comes or ends, and each observation."""
    revs = session.scalar(select(func.sum(Trial.rev)).where(Trial.campaign_id == campaign))
    last = session.scalar(
        select(func.max(Observation.id)).join(Trial).where(Trial.campaign_id == campaign)
    )
    return int(revs or 0), int(last or 0)


def _model(campaign: Campaign) -> dict[str, Any]:
    """What the results teach; or why that cannot be worked out here."""
    from campaigns.explaining import learnt

    with campaign.store.read() as session:
        ended = session.scalar(
            select(func.count()).where(
                Trial.campaign_id == campaign._row.id,
                Trial.status.not_in(("candidate", "running", "abandoned")),
            )
        )
    if not ended:
        return {"learnt": [], "importances": {}, "notes": []}
    try:
        return learnt(campaign)
    except MatloopError as error:
        note = f"what was learnt could not be worked out here: {error.what}"
        return {"learnt": [], "importances": {}, "notes": [note]}


def _curve(campaign: Campaign) -> dict[str, Any]:
    from campaigns.facts import read_facts
    from loop.front import hypervolume_trace, reference_point

    facts = read_facts(campaign)
    found: dict[str, Any] = {"hypervolume": None, "random": None}
    if facts.problem.contour:
        return found
    corner, _ = reference_point(facts.problem, facts.outcomes)
    if len(facts.problem.objectives) > 2 and facts.usable.any():
        trace = hypervolume_trace(facts.problem, facts.outcomes[facts.ended], corner)
        found["hypervolume"] = [float(f"{v:.5g}") for v in trace]
    try:
        found["random"] = random_band(campaign, facts, corner)
    except MatloopError as error:
        _log.warning("no band of random searches for %s: %s", campaign.name, error.what)
    return found


def random_band(campaign: Campaign, facts: Facts, corner: np.ndarray) -> dict[str, Any] | None:
    """How far random searches of the same table come; None where no table answers the trials.

    Returns:
        ``of`` (hypervolume, or the objective), ``runs``, ``n`` and the traces ``p10``, ``p50`` and
        ``p90``.

    Raises:
        MatloopError: The table cannot be read.
    """
    import numpy as np

    from loop.front import best_so_far, hypervolume_trace

    several = facts.several
    outcomes = table_outcomes(campaign, facts)
    if outcomes is None or len(outcomes) < 2 or len(facts.problem.objectives) > 2:
        return None
    if several and not np.isfinite(corner).all():
        return None
    rng = np.random.default_rng(campaign.spec.seed)
    length = min(len(outcomes), LONGEST, max(campaign.spec.budget.trials, len(facts.ended)))
    traces = []
    for _ in range(RUNS):
        rows = rng.permutation(len(outcomes))[:length]
        if several:
            traces.append(hypervolume_trace(facts.problem, outcomes[rows], corner))
        else:
            traces.append(best_so_far(facts.problem, outcomes[rows])[:, 0])
    low, middle, high = np.nanpercentile(_filled(np.array(traces)), (10, 50, 90), axis=0)
    return {
        "of": "hypervolume" if several else facts.problem.objectives[0].metric,
        "runs": RUNS,
        "n": length,
        **{
            name: [float(f"{v:.5g}") if np.isfinite(v) else None for v in trace]
            for name, trace in (("p10", low), ("p50", middle), ("p90", high))
        },
    }


def _filled(traces: np.ndarray) -> np.ndarray:
    """Columns of which nothing is known, which have no percentile, as zero."""
    import numpy as np

    traces[:, np.isnan(traces).all(axis=0)] = 0.0
    return traces


def table_outcomes(campaign: Campaign, facts: Facts) -> np.ndarray | None:
    """Outcomes of every row of the table that answers the trials, `n x m`; None without one."""
    import numpy as np

    from campaigns.units import convert
    from loop.evaluators import EvaluatorError
    from loop.evaluators.table import TableEvaluator, number

    config = campaign.spec.evaluator_config()
    if config.get("with") != "table" or campaign.spec.fidelities:
        return None
    try:
        table = TableEvaluator(config)
        units = table.metrics()
        rows = table.rows
    except EvaluatorError as error:
        raise MatloopError("the table cannot be read", why=str(error)) from error
    if not set(facts.metrics) <= set(units):
        return None
    found = np.full((len(rows), len(facts.metrics)), np.nan)
    for j, metric in enumerate(facts.metrics):
        values = [number(row[metric]) for row in rows]
        found[:, j] = [
            np.nan if v is None else convert(v, units[metric], facts.units[metric]) for v in values
        ]
    return found
