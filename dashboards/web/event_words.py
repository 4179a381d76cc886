"""Events in words, for a log that people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dashboards.typography import listed, number, plural, quantity


def sentence(event: Mapping[str, Any]) -> str:
    """What happened.

    Args:
        event: kind and payload, as the service tells it; a kind without words keeps its name.
    """
    kind, told = event["kind"], event.get("payload") or {}
    trial = f"Trial {told['trial']}" if "trial" in told else "A trial"
    by = f" by {told['by']}" if told.get("by") else ""
    worker = f" by {told['worker']}" if told.get("worker") else ""
    reason = f": {told['reason']}" if told.get("reason") else ""
    said = {
        "campaign_created": "The campaign began",
        "trials_proposed": _proposed(told),
        "trial_added": f"{trial} was added{by}",
        "trial_approved": f"{trial} was approved{by}",
        "trial_held": f"{trial} is held{by}{reason}",
        "trial_released": f"{trial} was released{by}",
        "trial_started": f"{trial} was begun{worker}",
        "trial_completed": f"{trial} was completed{worker}{_measured(told)}",
        "trial_measured": f"{trial} was measured in part{worker}{_measured(told)}",
        "trial_failed": f"{trial} failed{reason}",
        "trial_abandoned": f"{trial} was given up{by}{reason}",
        "trial_reset": f"{trial} is to be evaluated again{reason}",
        "trial_fidelity": f"{trial} was tried at another fidelity: {told.get('tried')}",
        "lease_lost": f"{trial} was lost{worker}{reason}",
        "report_refused": f"A report on trial {told.get('trial')} was refused: {told.get('why')}",
        "results_ingested": f"Results were taken in from {told.get('source', 'a file')}",
        "campaign_stopped": f"Stopped{by}{reason}",
        "campaign_resumed": f"Goes on{by}{reason}",
        "question_answered": f"{'Go on' if told.get('go_on') else 'Stop'} was answered{by}",
        "run_started": "A run began",
        "run_ended": f"The run ended: {told.get('message') or told.get('reason') or ''}",
        "run_paused": f"It asks: {told.get('question', 'go on?')}",
        "run_resumed": "It goes on, in spite of its stop rule",
        "spec_changed": f"The spec changed in {listed(list(told.get('changed') or []))}",
        "generator_tuned": "The generator was tuned on the results",
        "preference": f"Trial {told.get('better')} is better than trial {told.get('worse')}",
        "note": f"Note on trial {told.get('trial')}{by}: {told.get('text', '')}",
        "state_changed": f"It is {told.get('state')} now",
    }.get(kind)
    return f"{said or kind.replace('_', ' ').capitalize()}."


def _proposed(told: Mapping[str, Any]) -> str:
    trials = list(told.get("trials") or [])
    methods = listed([str(m) for m in told.get("methods") or []])
    which = (
        f"trial {trials[0]}"
        if len(trials) == 1
        else f"trials {trials[0]} to {trials[-1]}"
        if trials
        else "none"
    )
    return f"{plural(len(trials), 'trial')} proposed ({which})" + (
        f", by {methods}" if methods else ""
    )


def _measured(told: Mapping[str, Any]) -> str:
    parts = []
    for metric, value in (told.get("measurements") or {}).items():
        shown = (
            quantity(value["mean"], value["unit"])
            if value.get("unit")
            else number(value.get("mean"))
        )
        parts.append(f"{metric.replace('_', ' ')} {shown}")
    return f": {', '.join(parts[:3])}" if parts else ""
