"""A campaign as a notebook shows it: counts, the front, how far it has come. No script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from campaigns.store.models import STATUSES

if TYPE_CHECKING:
    import numpy as np

    from campaigns.campaign import Campaign
    from campaigns.facts import Facts

_MOST = 8
_ARROWS = {"maximize": "↑", "minimize": "↓"}


def summary_html(campaign: Campaign) -> str:
    """A small piece of HTML, everything in it escaped.

    Raises:
        MatloopError: The database failed.
    """
    from campaigns.facts import read_facts

    facts = read_facts(campaign)
    by = {s: sum(t["status"] == s for t in facts.trials) for s in STATUSES}
    told = ", ".join(f"{n} {status}" for status, n in by.items() if n) or "no trial yet"
    goals = ", ".join(
        f"{o.metric} {_ARROWS.get(o.goal, '→|')} ({o.unit})" for o in facts.problem.objectives
    )
    head = f"<p><b>{escape(campaign.name)}</b>: {escape(goals)}<br/>{escape(told)}"
    head += f" of a budget of {facts.granted}{_spark(facts)}</p>"
    return f"<div>{head}{_front(facts)}</div>"


def _front(facts: Facts) -> str:
    import numpy as np

    from loop.front import utilities

    rows = np.flatnonzero(facts.front if facts.several else facts.usable)
    if not len(rows):
        return "<p>Nothing is on the front yet.</p>"
    gains = utilities(facts.problem, facts.outcomes)[:, 0]
    ranked = rows[np.argsort(-gains[rows], kind="stable")]
    titles = ["trial", "design", *(f"{m} ({facts.units[m]})" for m in facts.metrics)]
    head = "".join(f"<th>{escape(t)}</th>" for t in titles)
    body = "".join(_row(facts, int(row)) for row in ranked[:_MOST])
    more = f"<p>and {len(ranked) - _MOST} more</p>" if len(ranked) > _MOST else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return table + (more if facts.several else "")


def _row(facts: Facts, row: int) -> str:
    trial = facts.trials[row]
    cells: list[Any] = [trial["trial"], trial["name"] or "unnamed"]
    cells += [f"{value:.4g}" for value in facts.outcomes[row]]
    return f"<tr>{''.join(f'<td>{escape(str(c))}</td>' for c in cells)}</tr>"


def _spark(facts: Facts) -> str:
    """The hypervolume of two objectives, or the best of one, as a line without axes."""
    import numpy as np

    from loop.front import best_so_far, hypervolume_trace, reference_point, utilities

    rows = facts.ended
    if len(rows) < 2 or not facts.usable.any() or facts.problem.contour:
        return ""
    outcomes = facts.outcomes[rows]
    if len(facts.problem.objectives) == 2:
        corner, _ = reference_point(facts.problem, facts.outcomes)
        trace: np.ndarray = hypervolume_trace(facts.problem, outcomes, corner)
    elif facts.several:
        return ""
    else:
        best = best_so_far(facts.problem, outcomes)
        column = facts.problem.metrics.index(facts.problem.objectives[0].metric)
        as_outcomes = np.full((len(best), len(facts.problem.metrics)), np.nan)
        as_outcomes[:, column] = best[:, 0]
        trace = utilities(facts.problem, as_outcomes)[:, 0]
    known = np.flatnonzero(np.isfinite(trace))
    low, high = float(trace[known].min()), float(trace[known].max())
    span = (high - low) or 1.0
    points = " ".join(
        f"{100 * k / (len(trace) - 1):.1f},{18 - 16 * (trace[k] - low) / span:.1f}" for k in known
    )
    return (
        ' <svg width="100" height="20" viewBox="0 0 100 20" role="img" aria-label="progress">'
        f'<polyline points="{points}" fill="none" stroke="#c2410c" stroke-width="1.5"/></svg>'
    )
