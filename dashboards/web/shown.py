"""What pages show of the service's answers: goals with their directions, trials, warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from dashboards import typography, words
from dashboards.web.crystals import elements_of

ENGINE_LOST: Final = 60.0
"""Seconds of silence after which the engine is said to be lost; it speaks every five."""

# Elements that a person should think of before a furnace is switched on.
_TOXIC: Final = frozenset({"As", "Be", "Cd", "Hg", "Pb", "Tl"})
_RADIOACTIVE: Final = frozenset({
    "Tc", "Pm", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk",
    "Cf", "Es", "Fm", "Md", "No", "Lr",
})  # fmt: skip
_SCARCE: Final = frozenset({"Ru", "Rh", "Pd", "Os", "Ir", "Pt", "Re", "Te", "Au", "In"})


@dataclass(frozen=True)
class Goal:
    """A metric as a column: what it is, and what is wanted of it.

    Attributes:
        metric: Its name.
        unit: Its unit.
        arrow: ↑ or ↓ of an objective, ◎ with its target; empty for a constraint.
        wish: The same in words, with bounds.
        objective: Whether it is one.
    """

    metric: str
    unit: str
    arrow: str
    wish: str
    objective: bool


def goals(told: Mapping[str, Any]) -> list[Goal]:
    """The metrics of a campaign, objectives first.

    Args:
        told: `GET /v1/campaigns/{c}`.
    """
    found: dict[str, Goal] = {}
    bounds: dict[str, list[str]] = {}
    for bound in told.get("constraints") or ():
        sign = "≤" if bound["op"] == "<=" else "≥"
        bounds.setdefault(bound["metric"], []).append(f"{sign} {typography.short(bound['bound'])}")
    for o in told.get("objectives") or ():
        arrow = {"maximize": "↑", "minimize": "↓"}.get(o["goal"])
        wish = {"maximize": "more is better", "minimize": "less is better"}.get(o["goal"])
        if arrow is None:
            at = typography.short(o["target"])
            arrow = f"→ {at}"
            wish = f"{'level' if o['goal'] == 'level' else 'wanted'} {at}"
            if o.get("tolerance"):
                wish += f" ± {typography.short(o['tolerance'])}"
        elif o.get("threshold") is not None:
            wish = f"{wish}, worth having from {typography.short(o['threshold'])}"
        more = bounds.pop(o["metric"], [])
        found[o["metric"]] = Goal(
            o["metric"], o["unit"], arrow, ", ".join([wish or "", *more]), True
        )
    for metric, unit in (told.get("metrics") or {}).items():
        if metric not in found:
            wish = ", ".join(bounds.get(metric, []))
            found[metric] = Goal(metric, unit, "", wish, False)
    return list(found.values())


def goal_sentence(columns: Sequence[Goal]) -> str:
    """What is sought, in a sentence."""
    parts = [f"{typography.label(g.metric, g.unit)} {g.arrow}" for g in columns if g.objective]
    bounds = [
        f"{typography.name(g.metric)} {g.wish} {typography.unit(g.unit)}".strip()
        for g in columns
        if not g.objective and g.wish
    ]
    text = typography.listed(parts)
    if bounds:
        text += f", with {typography.listed(bounds)}"
    return f"{text}."


def age(time: str | None) -> float | None:
    """Seconds since a time that the service told; None for none."""
    if not time:
        return None
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())


def engine(told: Mapping[str, Any]) -> tuple[str, str]:
    """The state of the engine, for a pill, and a sentence.

    Args:
        told: `GET /v1/campaigns/{c}`.
    """
    of = told.get("engine") or {}
    silent = age(of.get("seen"))
    says = str(of.get("says") or "")
    if silent is None:
        return "unknown", "No engine has looked at this campaign yet."
    if silent > ENGINE_LOST:
        lost = f"The engine has been silent for {typography.duration(silent)}"
        return "lost", f"{lost}; it last said: {says}." if says else f"{lost}."
    return "good", f"{says[:1].upper()}{says[1:]}." if says else "The engine is alive."


def state(told: Mapping[str, Any]) -> tuple[str, str]:
    """The word of a campaign's state for a pill's colour, and in words.

    Args:
        told: `GET /v1/campaigns/{c}`.
    """
    found = str(told.get("state") or "unknown")
    asks = told.get("question") is not None
    if found == "stopped":
        return "stopped", "Stopped"
    if found == "paused" or asks:
        return "paused", "Paused: it asks"
    if found == "ended":
        return "done", "Ended"
    if told.get("engine") and engine(told)[0] == "lost" and found != "running":
        return "lost", "Engine lost"
    if found == "running":
        return "running", "Running"
    if "waiting" not in told:  # as the list of campaigns tells it
        open_ = int((told.get("counts") or {}).get("candidate") or 0)
        return "idle", f"{open_:,} open" if open_ else "Idle"
    waits = int(told.get("waiting") or 0)
    gate = int(told.get("held") or 0)
    if gate:
        return "waiting", f"Waiting for you: {gate}"
    if waits:
        return "idle", f"{waits:,} ready for a worker"
    return "idle", "Idle"


def method_words(called: str | None) -> str:
    """How a design was chosen, in words."""
    if called is None:
        return "by hand"
    return words.method(called)


def why(trial: Mapping[str, Any]) -> str:
    """Why a trial was proposed, in words."""
    provenance = trial.get("provenance") or {}
    notes = provenance.get("notes") or {}
    found = notes.get("why") if isinstance(notes, Mapping) else None
    if isinstance(found, Mapping) and found.get("text"):
        return str(found["text"]).replace("<=", "≤").replace(">=", "≥")
    text = method_words(provenance.get("method"))
    return f"{text[:1].upper()}{text[1:]}."


def cautions(trial: Mapping[str, Any], others: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """What a person should look at before a trial is made.

    Args:
        trial: As the service tells it, `whole`.
        others: Other open trials, of which it may be a repetition.
    """
    found = []
    elements = elements_of(trial)
    for kind, of in (("toxic", _TOXIC), ("radioactive", _RADIOACTIVE), ("scarce", _SCARCE)):
        if bad := sorted(elements & of):
            found.append(f"{kind}: {', '.join(bad)}")
    provenance = trial.get("provenance") or {}
    chance = provenance.get("feasibility")
    if isinstance(chance, float) and chance < 0.5:
        found.append(f"may fail: {typography.percent(chance)} chance to succeed")
    notes = provenance.get("notes") or {}
    bounds = notes.get("p_constraints") if isinstance(notes, Mapping) else None
    if isinstance(bounds, float) and bounds < 0.5:
        found.append(f"constraints: {typography.percent(bounds)} chance to be met")
    same = [
        o["trial"]
        for o in others
        if o["trial"] != trial["trial"] and o["design"] == trial["design"]
        and o.get("fidelity") == trial.get("fidelity")
    ]  # fmt: skip
    if same:
        found.append(f"the same design as trial {same[0]}")
    if int(trial.get("lost") or 0) > 1:
        found.append(f"{trial['lost']} workers in a row were lost with it")
    return found


def parameters(
    trial: Mapping[str, Any], axes: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """A design's parameters to read: name and value with its unit; no crystals.

    Args:
        trial: As the service tells it.
        axes: The campaign's `parameters`.
    """
    units = {axis["name"]: axis.get("unit") or "" for axis in axes}
    found = []
    for key, value in (trial.get("params") or {}).items():
        axis, _, part = key.partition(".")
        if part and not value:
            continue
        shown = (
            words.quantity_short(value, units.get(axis, ""))
            if isinstance(value, int | float) and not isinstance(value, bool)
            else str(value)
        )
        found.append((f"{axis} {part}" if part else key, shown))
    return found


def surprise(trial: Mapping[str, Any], metric: str) -> float | None:
    """How many standard deviations a result lies from its prediction; None = not known."""
    before = (trial.get("prediction") or {}).get(metric) or {}
    after = (trial.get("observations") or {}).get(metric)
    if after is None or before.get("mean") is None or not before.get("sd"):
        return None
    spread = math.hypot(before["sd"], after.get("sem") or 0.0)
    return float((after["mean"] - before["mean"]) / spread)


def trust(record: Mapping[str, Any], fit: Mapping[str, Any] | None) -> tuple[str, str]:
    """Whether the predictions of a metric can be relied on, and by which rule: good, warn or bad.

    Args:
        record: Predictions that were answered, as `/model` tells them.
        fit: The last report of the surrogate on this metric.
    """
    if record["verdict"] == "few":
        return "warn", "Too few predictions were answered to judge it."
    better = record["guess_error"] is None or record["mean_error"] < record["guess_error"]
    if not better:
        return "bad", "Guessing the mean of what was known would have been closer."
    if fit is not None and fit.get("informative") is False:
        return "bad", "It predicts a left-out result no better than the mean of the others."
    if record["verdict"] == "narrow":
        return "warn", "It is closer than a guess, but too sure of itself: double its intervals."
    if record["verdict"] == "wide":
        return "good", "It is closer than a guess, and more careful than it needs to be."
    return "good", "It is closer than a guess, and its intervals hold what they promise."
